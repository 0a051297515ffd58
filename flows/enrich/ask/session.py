"""What was asked and said before, in a file of the user's: so that "and before?" means something.

Only the user can read it. It holds questions, claims as they were shown and how much was asked
within the last hour; no keys, nothing that was struck.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.enrich.ask.dialog import Exchange
from flows.errors import UsageError

MAX_EXCHANGES: Final = 6
"""Questions and answers that are remembered."""

UNNAMED: Final = "default"
UNNAMED_S: Final = 3600
"""For how long a session that nobody named goes on."""

MAX_FILE_BYTES: Final = 1 << 20
HOUR_S: Final = 3600

File = TypeVar("File", bound=BaseModel)


class _Exchange(BaseModel):
    question: Annotated[str, Field(max_length=4000)]
    answer: Annotated[str, Field(max_length=40_000)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    at_s: float = 0.0
    exchanges: list[_Exchange] = []


class _Spent(BaseModel):
    at_s: float
    requests: Annotated[int, Field(ge=0)]
    tokens: Annotated[int, Field(ge=0)]


class _SpentFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    spent: list[_Spent] = []


def directory(env: Mapping[str, str] | None = None) -> Path:
    """Where sessions are kept: below ``XDG_STATE_HOME``."""
    env = os.environ if env is None else env
    base = env.get("XDG_STATE_HOME", "")
    home = Path(env.get("HOME") or "~").expanduser()
    root = Path(base) if base.startswith("/") else home / ".local" / "state"
    return root / "netspectra" / "ask"


class Session:
    """One session, of one store.

    Args:
        where: the directory of sessions.
        store: setting of the store.
        name: of the session; empty for the one that nobody named.
        new: begin anew.

    Raises:
        UsageError: the name can't be one.
    """

    def __init__(self, where: Path, store: str, name: str = "", *, new: bool = False) -> None:
        if not re.fullmatch(r"[\w-]{0,40}", name, re.ASCII):
            msg = f"--session {name[:40]}: wanted at most 40 letters, digits, _ and -"
            raise UsageError(msg)
        self.name = name or UNNAMED
        which = hashlib.sha256(store.encode()).hexdigest()[:12]
        self._path = where / f"{which}-{self.name}.json"
        found = _File() if new else _read(self._path, _File) or _File()
        if not name and time.time() - found.at_s > UNNAMED_S:
            found = _File()
        self._exchanges = [Exchange(each.question, each.answer) for each in found.exchanges]

    @property
    def exchanges(self) -> Sequence[Exchange]:
        """What was asked and said, the oldest first."""
        return tuple(self._exchanges)

    def forget(self) -> None:
        """Begin anew."""
        self._exchanges.clear()

    def add(self, question: str, answer: str) -> None:
        """Remember an exchange.

        Raises:
            OSError: it can't be written.
        """
        exchange = Exchange(question[:4000], answer[:40_000])
        self._exchanges = [*self._exchanges, exchange][-MAX_EXCHANGES:]
        kept = [_Exchange(question=e.question, answer=e.answer) for e in self._exchanges]
        _write(self._path, _File(at_s=time.time(), exchanges=kept))


class Spent:
    """What questions took within the last hour, over all commands of this user.

    Args:
        where: the directory of sessions.
    """

    def __init__(self, where: Path) -> None:
        self._path = where / "spent.json"

    def read(self) -> list[tuple[int, int, float]]:
        """Requests, tokens, and how long ago, s; the oldest first."""
        now_s = time.time()
        return [(e.requests, e.tokens, max(now_s - e.at_s, 0.0)) for e in self._recent()]

    def add(self, requests: int, tokens: int) -> None:
        """Note what a question took.

        Raises:
            OSError: it can't be written.
        """
        if requests:
            spent = [*self._recent(), _Spent(at_s=time.time(), requests=requests, tokens=tokens)]
            _write(self._path, _SpentFile(spent=spent))

    def _recent(self) -> list[_Spent]:
        found = _read(self._path, _SpentFile) or _SpentFile()
        since_s = time.time() - HOUR_S
        return sorted((e for e in found.spent if e.at_s > since_s), key=lambda e: e.at_s)


def _read(path: Path, kind: type[File]) -> File | None:
    """What is in a file; nothing if there is none, or something else is in it."""
    try:
        with path.open("rb") as file:
            return kind.model_validate_json(file.read(MAX_FILE_BYTES))
    except (OSError, ValidationError):
        return None


def _write(path: Path, content: BaseModel) -> None:
    """Put a file in its place in one step, for its user only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:  # mode 0600
        file.write(content.model_dump_json())
    Path(file.name).replace(path)
