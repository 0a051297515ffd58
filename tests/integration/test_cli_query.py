"""netspectra query: what people ask most, of a real store."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flows.cli import answer, main
from flows.cli.answer import Answer
from flows.storage import resolution
from flows.storage.saved import saved
from flows.storage.store import Store
from tests.support.store_rows import T0_MS, address, rows

Run = Callable[..., str]
ALONE = [name for name, query in saved().items() if all(p.default for p in query.parameters)]
"""Queries that run without an argument."""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """An open store with three flows of two panes."""
    with Store.open(f"chdb:{tmp_path_factory.mktemp('query')}", serve=False) as store:
        flows = rows(
            "flows",
            src_addr=[address(a) for a in ("10.0.0.1", "10.0.0.2", "2001:db8::1")],
            dst_addr=[address(a) for a in ("10.0.0.2", "10.0.0.1", "2001:db8::2")],
            window_start=[T0_MS, T0_MS, T0_MS + 2000],
            dst_port=[443, 50_000, 53],
            eth_type=[0x0800, 0x0800, 0x86DD],
            bytes=[1000, 3000, 12_345],
            packets=[1, 2, 3],
            src_net=["", "", "store-only"],
        )
        store.insert("flows", flows, "t")
        store.insert("totals", rows("totals", window_start=[T0_MS, T0_MS + 2000]), "t")
        yield store


@pytest.fixture
def run(filled: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `netspectra query`; gives what it says on stdout, or the one line on stderr."""
    monkeypatch.setenv("NETSPECTRA_STORE", filled.setting)

    def run(*arguments: str, code: int = 0) -> str:
        assert main(["query", *arguments]) == code
        shown = capsys.readouterr()
        if not code:
            return shown.out
        assert (shown.out, shown.err.count("\n")) == ("", 1)
        return shown.err

    return run


def found(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_table_for_people(run: Run) -> None:
    """Numbers are at the right and have separators; the largest is first."""
    lines = run("top-talkers", "-n", "2").splitlines()
    assert lines[0].split()[:2] == ["host", "total_bytes"]
    assert lines[1].split()[:2] == ["2001:db8::1", "12,345"]
    assert len(lines) == 3


def test_numbers_of_a_column_are_alike(run: Run) -> None:
    """Ports have no separators, and all numbers of a column as many decimals."""
    header, *lines = (line.split() for line in run("largest-flows").splitlines())
    ports = [line[header.index("destination_port")] for line in lines]
    assert sorted(ports) == ["443", "50000", "53"]
    table = [line.split() for line in run("top-talkers").splitlines()]
    percent = [line[table[0].index("percent")] for line in table[1:]]
    assert {len(text.partition(".")[2]) for text in percent} == {2}


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([34_360.127891, 2406.4, 0.5], ["34,360", "2,406", "0"]),
        ([89.321987, 7.5], ["89.32", "7.50"]),
        ([12.5, 0.0012, None], ["12.5000", "0.0012", "-"]),
        ([20_740, 100.0], ["20,740", "100"]),
        ([float("inf"), 0.25], ["inf", "0.25"]),
    ],
)
def test_decimals(
    values: list[float | None], shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What was rounded is shown as it is; of anything else the largest has four digits."""
    answer.show(Answer(["x"], ["Nullable(Float64)"], [[value] for value in values]), "table", "")
    assert [line.strip() for line in capsys.readouterr().out.splitlines()[1:]] == shown


def test_rows_for_programs(run: Run) -> None:
    """JSON, JSON lines and CSV have the same rows."""
    whole = json.loads(run("top-talkers", "--format", "json"))
    assert found(run("top-talkers", "--format", "jsonl")) == whole
    table = list(csv.DictReader(io.StringIO(run("top-talkers", "--format", "csv"))))
    assert [{k: str(v) for k, v in row.items()} for row in whole] == table
    assert whole[2] == {
        "host": "10.0.0.1",
        "total_bytes": 4000,
        "percent": 24.47,
        "sent_bytes": 1000,
        "received_bytes": 3000,
        "total_packets": 3,
        "peers": 1,
    }


def test_nothing_found(run: Run) -> None:
    """No rows: people are told of which time there is traffic, programs get none."""
    assert run("top-talkers", "--since", "1h") == (
        "no rows; the traffic in the store is from 2023-11-14 22:13:20 to 2023-11-14 22:13:24 UTC\n"
    )
    assert run("top-talkers", "--since", "1h", "--format", "jsonl") == ""
    assert run("top-talkers", "--since", "1h", "--format", "csv").startswith("host,")


def test_span_and_condition(run: Run) -> None:
    """Only the span's panes and what the condition lets through are counted."""
    late = ("--from", "2023-11-14 22:13:22", "--format", "jsonl")
    assert {row["host"] for row in found(run("top-talkers", *late))} == {
        "2001:db8::1",
        "2001:db8::2",
    }
    before = ("--to", "2023-11-14 22:13:22", "--where", "src_addr = '10.0.0.1'")
    rows = found(run("top-talkers", *before, "--format", "jsonl"))
    assert {row["total_bytes"] for row in rows} == {1000}
    assert run("top-talkers", "--tenant", "nobody", "--format", "jsonl") == ""


def test_refusals_are_one_line(run: Run) -> None:
    """What can't be used is named in one line."""
    assert "give one" in run("top-talkers", "--since", "1h", "--from", "2023-11-14", code=2)
    assert "before it begins" in run(
        "top-talkers", "--from", "2023-11-14", "--to", "2023-11-13", code=2
    )
    assert "--where" in run("top-talkers", "--where", "1) OR (1", code=2)
    assert "did you mean top-talkers" in run("top-walkers", code=2)
    assert "there is no query 'xyz'" in run("xyz", code=2)


@pytest.mark.parametrize("name", ALONE)
def test_a_condition_on_a_column_that_is_not_there(run: Run, filled: Store, name: str) -> None:
    """The answer is one line with the columns of the query's table, all of which it has."""
    error = run(name, "--where", "bytess > 1", code=2)
    assert f"{name} reads {saved()[name].table}, which has no bytess; it has " in error
    assert "SELECT" not in error
    listed = error.rstrip().partition("it has ")[2]
    filled.run(f"SELECT {listed} FROM {saved()[name].table} LIMIT 0")


@pytest.mark.parametrize("name", ALONE)
def test_the_example_of_a_condition_can_be_used(run: Run, name: str) -> None:
    """What each query's help gives as an example of a condition, its table knows."""
    words = " ".join(run(name, "--help").split())
    shown = re.search(r'--where SQL A condition on columns of (\w+): "(.+?)"\.', words)
    assert shown
    run(name, "--where", shown[2])


@pytest.mark.parametrize("condition", ["fooo(1) = 2", "bytes = = 1", "dst_addr = 'nowhere'"])
def test_a_condition_that_cannot_be_read(run: Run, condition: str) -> None:
    """One line names the condition and the reason, without the statement around it."""
    error = run("top-talkers", "--where", condition, code=2)
    assert f"--where {condition!r}: " in error or f'--where "{condition}": ' in error
    assert "DB::" not in error
    assert "SELECT" not in error


def test_a_network_that_is_not_there(run: Run) -> None:
    """A misspelt name of a network is refused with those that are known."""
    for misspelt in (("peers", "offfice"), ("between", "internal", "offfice")):
        error = run(*misspelt, code=2)
        assert "there is no network offfice; known are internal" in error
    run("peers", "internal")
    run("peers", "store-only")


def test_the_statement_can_be_taken_along(run: Run, filled: Store) -> None:
    """What --sql prints is the statement that was run."""
    sql = run("top-talkers", "-n", "1", "--sql")
    assert filled.query(sql.rstrip().rstrip(";")).num_rows == 1


def test_columns_of_the_rollups(filled: Store) -> None:
    """The lists of what the rollups lack are what they lack."""

    def columns(table: str) -> set[str]:
        return set(filled.run(f"SELECT name FROM system.columns WHERE table = '{table}'").split())

    assert columns("flows") - columns("flows_1m") == resolution.MINUTE_LACKS
    assert columns("flows") - columns("flows_1h") == resolution.HOUR_LACKS
