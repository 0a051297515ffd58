"""Where the store is: the setting ``NETSPECTRA_STORE`` taken apart.

We parse it ourselves, because the engine's own connection strings have other meanings for
the same text (``chdb://./x`` is a database named x there, an empty path is memory).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from flows.errors import UsageError

DEFAULT_DATABASE: Final = "netspectra"
"""Database on a server where the setting names none."""

_HINT: Final = "use chdb:DIRECTORY or http(s)://user:password@host:port/database"


@dataclass(frozen=True)
class ChdbAddress:
    """An embedded store: the absolute path of its directory."""

    directory: Path

    def __str__(self) -> str:
        return f"chdb:{self.directory}"


@dataclass(frozen=True)
class ServerAddress:
    """A database on a ClickHouse server. The password is kept out of text and repr."""

    host: str
    port: int
    secure: bool
    database: str = DEFAULT_DATABASE
    user: str = "default"
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' * self.secure}://{self.user}@{host}:{self.port}/{self.database}"


Address = ChdbAddress | ServerAddress


def parse(setting: str) -> Address:
    """Read the setting of the store.

    Args:
        setting: ``chdb:DIR`` (``chdb://DIR`` is the same) or
            ``http(s)://user[:password]@host[:port]/database``.

    Raises:
        UsageError: the text is neither, or names no directory or host.
    """
    scheme, colon, rest = setting.strip().partition(":")
    if colon and scheme == "chdb":
        return _chdb(rest.removeprefix("//"))
    if colon and scheme in ("http", "https"):
        return _server(setting.strip())
    msg = f"the store must begin with chdb:, http: or https:; {_HINT}"
    raise UsageError(msg)


def _chdb(directory: str) -> ChdbAddress:
    if not directory:
        msg = f"the store chdb: names no directory; {_HINT}"
        raise UsageError(msg)
    if directory == ":memory:" or any(c in directory for c in "?\0\n"):
        msg = f"the store can't be kept in {directory!r}; name a directory without '?'"
        raise UsageError(msg)
    try:
        return ChdbAddress(Path(directory).expanduser().resolve())
    except (OSError, RuntimeError) as e:
        msg = f"the store's directory {directory!r} can't be found: {e}"
        raise UsageError(msg) from e


def _server(setting: str) -> ServerAddress:
    try:
        url = urlsplit(setting)
        port = url.port
    except ValueError as e:
        msg = f"the store's address can't be read ({e}); {_HINT}"
        raise UsageError(msg) from e
    if not url.hostname:
        msg = f"the store's address names no host; {_HINT}"
        raise UsageError(msg)
    if url.query or url.fragment:
        msg = f"the store's address must end with the database, without '?' and '#'; {_HINT}"
        raise UsageError(msg)
    return ServerAddress(
        host=url.hostname,
        port=port or (8443 if url.scheme == "https" else 8123),
        secure=url.scheme == "https",
        database=_database(url),
        user=unquote(url.username or "default"),
        password=unquote(url.password or ""),
    )


def _database(url: SplitResult) -> str:
    database = unquote(url.path.strip("/")) or DEFAULT_DATABASE
    if not database.isidentifier():
        msg = f"the store's database {database!r} must be one plain name; {_HINT}"
        raise UsageError(msg)
    return database
