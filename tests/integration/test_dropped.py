"""What retention has dropped is told by those who would have read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows.cli import main
from flows.storage.dropped import read_by
from flows.storage.store import Store
from tests.integration.test_space import ROWS, days, manager, put_day

Run = Callable[..., tuple[str, str]]

FIRST, SECOND, LAST = "2024-10-04", "2024-10-05", "2024-10-06"


@pytest.fixture(scope="module")
def thinned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Three days, of which only the last is left in flows, and all in its rollups."""
    with Store.open(f"chdb:{tmp_path_factory.mktemp('dropped')}", serve=False) as store:
        for day in range(3):
            put_day(store, day)
        now_s = int(store.run("SELECT toUnixTimestamp(now())"))
        manager(store, max_age_s=1000).look(now_s + 1100)
        assert (days(store), days(store, "flows_1m")) == ([2], [0, 1, 2])
        store.command(
            "ALTER TABLE flows UPDATE first_seen = window_start, last_seen = window_start "
            "WHERE true SETTINGS mutations_sync = 2"
        )
        yield store


@pytest.fixture
def run(
    thinned: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs a command; gives what it says on stdout and on stderr."""
    monkeypatch.setenv("NETSPECTRA_STORE", thinned.setting)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, code: int = 0) -> tuple[str, str]:
        assert main(arguments) == code
        shown = capsys.readouterr()
        return shown.out, shown.err

    return run


def test_a_query_says_what_is_missing(run: Run) -> None:
    """A query whose span touches what its table lost says so in one line beside its answer."""
    top = ("query", "top-talkers", "-n", "1", "--format", "json")
    out, err = run(*top, "--from", f"{FIRST} 12:00:01")
    assert out.startswith("[")
    assert err.count("\n") == 1
    assert err.startswith("dropped to save space, so missing here (UTC): ")
    assert f"rows of flows from {FIRST} 12:00 to {LAST} 00:00" in err
    _, err = run(*top, "--from", f"{FIRST} 00:00:01", "--to", f"{SECOND} 00:00:01")
    assert f"from {FIRST} 00:00 to {SECOND} 01:00" in err
    assert f"{ROWS:,} rows" not in err


def test_an_answer_that_is_whole_has_no_such_line(run: Run) -> None:
    """Other times, other tenants and tables that were kept are answered without a word."""
    top = ("query", "top-talkers", "-n", "1", "--format", "json")
    assert run(*top, "--from", f"{LAST} 00:00:01")[1] == ""
    assert run(*top, "--from", f"{FIRST} 00:00:01", "--tenant", "other")[1] == ""
    assert run(*top, "--from", FIRST, "--to", LAST)[1] == ""  # by the hour
    assert run("query", "loss")[1] == ""


def test_tables_are_known_by_their_views() -> None:
    """A view of a log reads the log; texts and other tables don't count."""
    assert read_by("SELECT 'flows_1h' FROM spreaders, flows_1m") == {"spreaders_log", "flows_1m"}
    assert read_by("SELECT * FROM totals") == frozenset()


def test_a_report_says_what_is_missing(run: Run, tmp_path: Path) -> None:
    """The page and the command say it in a line; where nothing is left, the refusal does."""
    out, err = run("report")
    assert out.startswith("report.html: ")
    assert err.count("\n") == 1
    assert f"rows of flows from {FIRST} 00:00 to {LAST} 00:00" in err
    assert "Retention has dropped to save space" in (tmp_path / "report.html").read_text()
    _, err = run("report", "--from", FIRST, "--to", SECOND, code=1)
    assert err.count("\n") == 1
    assert "no traffic in that time (dropped to save space" in err
    assert run("report", "--from", f"{LAST} 01:00")[1] == ""
