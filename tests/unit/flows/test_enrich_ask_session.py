"""What was asked before is kept for its user, and forgotten when it should be."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from flows.enrich.ask import session as module
from flows.enrich.ask.dialog import Exchange
from flows.enrich.ask.session import MAX_EXCHANGES, Session, Spent, directory
from flows.errors import UsageError


def test_a_session_is_taken_up(tmp_path: Path) -> None:
    """What was added is there next time, the newest few; other names and stores are apart."""
    where = tmp_path / "a" / "b"
    first = Session(where, "chdb:x", "one")
    for number in range(MAX_EXCHANGES + 2):
        first.add(f"q{number}", f"a{number}")
    again = Session(where, "chdb:x", "one")
    assert again.exchanges[-1] == Exchange(f"q{MAX_EXCHANGES + 1}", f"a{MAX_EXCHANGES + 1}")
    assert len(again.exchanges) == MAX_EXCHANGES
    assert not Session(where, "chdb:x", "two").exchanges
    assert not Session(where, "chdb:y", "one").exchanges
    assert not Session(where, "chdb:x", "one", new=True).exchanges
    again.forget()
    assert not again.exchanges


def test_only_its_user_can_read_it(tmp_path: Path) -> None:
    """Directory and files are for their owner, and nothing half written stays behind."""
    where = tmp_path / "ask"
    Session(where, "chdb:x").add("q", "a")
    Spent(where).add(1, 100)
    assert stat.S_IMODE(where.stat().st_mode) == 0o700
    files = sorted(where.iterdir())
    assert len(files) == 2
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)


def test_one_that_nobody_named_ends_after_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named one lasts."""
    for name in ("", "named"):
        Session(tmp_path, "chdb:x", name).add("q", "a")
    assert Session(tmp_path, "chdb:x").exchanges
    monkeypatch.setattr(module, "UNNAMED_S", -1)
    assert not Session(tmp_path, "chdb:x").exchanges
    assert Session(tmp_path, "chdb:x", "named").exchanges


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"exchanges": 1}', b"\xff", b"x" * 2**21])
def test_a_broken_file_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    """Whatever is in the file, the session begins, and can be kept."""
    Session(tmp_path, "chdb:x").add("q", "a")
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    (tmp_path / "spent.json").write_bytes(content)
    session = Session(tmp_path, "chdb:x")
    assert not session.exchanges
    assert not Spent(tmp_path).read()
    session.add("q", "a")
    assert Session(tmp_path, "chdb:x").exchanges


@pytest.mark.parametrize("name", ["../x", "a/b", "a b", "ü", "x" * 41, "a\n"])
def test_names_that_are_refused(tmp_path: Path, name: str) -> None:
    """A name can't lead out of the directory."""
    with pytest.raises(UsageError, match="--session"):
        Session(tmp_path, "chdb:x", name)


def test_what_was_asked_counts_for_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests and tokens are known to the next command, until they are old."""
    spent = Spent(tmp_path)
    spent.add(0, 0)
    assert not list(tmp_path.iterdir())
    spent.add(2, 500)
    spent.add(1, 50)
    assert [(requests, tokens) for requests, tokens, _ in Spent(tmp_path).read()] == [
        (2, 500),
        (1, 50),
    ]
    monkeypatch.setattr(module, "HOUR_S", -1)
    assert not Spent(tmp_path).read()


def test_where_sessions_are(tmp_path: Path) -> None:
    """Below XDG_STATE_HOME, if that is an absolute path."""
    assert directory({"XDG_STATE_HOME": "/s", "HOME": "/h"}) == Path("/s/netspectra/ask")
    assert directory({"XDG_STATE_HOME": "s", "HOME": "/h"}) == Path(
        "/h/.local/state/netspectra/ask"
    )
