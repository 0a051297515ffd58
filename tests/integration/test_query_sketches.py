"""netspectra query distinct, top and spread: any span, out of sketches in a real store."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from flows.cli import main
from flows.operators.horizons import TaskResults
from flows.sinks.result_rows import Context
from flows.sinks.store import ResultWriter
from flows.sketches.at_rest import seed_id
from flows.sketches.distinct import Distinct
from flows.sketches.frequency import Frequency
from flows.sketches.superspread import SuperSpread
from flows.storage.store import Store
from flows.windows.fields import FieldList
from flows.windows.horizons import WindowResult
from flows.windows.sampling import UNSAMPLED, Sampling
from flows.windows.tasks import Task
from schemas.hashing import DEFAULT_SEED, hash_words
from tests.support.store_rows import rows

SECOND = 10**9
T0 = 1_700_006_400  # 2023-11-15 00:00 UTC, a Wednesday
SRC = Task("distinct_src_addr", "distinct", elements=FieldList(("src_addr",)))
DST = Task("distinct_dst_addr", "distinct", elements=FieldList(("dst_addr",)))
PORTS = Task("top_dst_port", "frequency", FieldList(("dst_port",)))
FAN = Task("fan_out", "spread", FieldList(("src_addr",)), FieldList(("dst_addr",)))
HOSTS = np.random.default_rng(5).integers(0, 2**64, 40_000, np.uint64)

Run = Callable[..., str]


def counted(hosts: np.ndarray) -> Distinct:
    sketch = Distinct()
    sketch.update(hosts)
    return sketch


def ports(packets: dict[int, int]) -> Frequency:
    sketch = Frequency(1)
    keys = np.array([[port] for port in packets], np.uint64)
    weights = np.array(list(packets.values()), np.uint64)
    sketch.update(keys, hash_words(keys, DEFAULT_SEED), weights, weights * np.uint64(100))
    return sketch


def fan(first: int, last: int) -> SuperSpread:
    """10.0.0.9 touches the hosts of these numbers."""
    sketch = SuperSpread(2)
    address = b"\0" * 10 + b"\xff\xff\x0a\0\0\x09"
    keys = np.frombuffer(address, "<u8").astype(np.uint64).reshape(1, 2).repeat(last - first, 0)
    sketch.update(keys, hash_words(keys, DEFAULT_SEED), HOSTS[first:last].copy())
    return sketch


class Filler:
    """Puts windows and their traffic into a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._writer = ResultWriter(store, Context([""]))

    def window(
        self, task: Task, minute: int, sketch: Any, *, tenant: str = "north",
        horizon: int = 60, revision: int = 1, sampling: Sampling = UNSAMPLED, whole: bool = True,
    ) -> None:  # fmt: skip
        start = (T0 + 60 * minute) * SECOND
        result = WindowResult(
            start, horizon * SECOND, revision, sketch, packets=1000, sampling=sampling, whole=whole
        )
        unit = f"log/{tenant}/{task.name}/{minute}"
        self._writer.write([TaskResults(tenant, task, unit, [result])])

    def traffic(self, *minutes: int, tenant: str = "north") -> None:
        starts = [(T0 + 60 * minute + 4) * 1000 for minute in minutes]
        columns = {"window_start": starts, "tenant": tenant}
        self.store.insert("totals", rows("totals", **columns), f"{tenant}{minutes}")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Half an hour: 1,000 hosts a minute, each minute half of them new; minute 7 has no sketch."""
    with Store.open(f"chdb:{tmp_path_factory.mktemp('sketches')}", serve=False) as store:
        fill = Filler(store)
        for minute in range(30):
            if minute != 7:
                hosts = HOSTS[500 * minute : 500 * minute + 1000]
                fill.window(SRC, minute, counted(hosts))
                fill.window(DST, minute, counted(hosts + np.uint64(1)), whole=minute != 3)
        fill.traffic(*range(30))
        for start in (10, 20):
            fill.window(SRC, start, counted(HOSTS[500 * start : 500 * start + 5500]), horizon=600)
        fill.window(SRC, 10, counted(HOSTS[30_000:30_100]), horizon=600, revision=0)
        for start in (0, 10, 20):
            fill.window(PORTS, start, ports({443: 100, 53: 30 + start}), horizon=600)
            fill.window(FAN, start, fan(10 * start, 10 * start + 300), horizon=600)
        fill.window(SRC, 0, counted(HOSTS[:800]), tenant="south")
        fill.traffic(0, tenant="south")
        yield store


@pytest.fixture
def run(store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `netspectra query`; gives what it says on stdout, and keeps the rest in ``notes``."""
    monkeypatch.setenv("NETSPECTRA_STORE", store.setting)

    def run(*arguments: str, code: int = 0) -> str:
        assert main(["query", *arguments]) == code
        shown = capsys.readouterr()
        run.notes = shown.err  # type: ignore[attr-defined]
        return shown.err if code else shown.out

    return run


def at(minute: int, second: int = 0) -> str:
    return f"2023-11-15T{minute // 60:02}:{minute % 60:02}:{second:02}"


def count(run: Run, *arguments: str) -> dict[str, Any]:
    (row,) = json.loads(run("distinct", "--format", "json", *arguments))
    assert isinstance(row, dict)
    return row


def brackets(row: dict[str, Any], truth: int) -> bool:
    return bool(row["lower"] <= truth <= row["upper"])


def test_any_span_of_minutes(run: Run) -> None:
    """The union of the minutes of a span brackets the truth and says what it is made of."""
    row = count(run, "--from", at(1), "--to", at(5), "--tenant", "north")
    assert brackets(row, 2500)
    assert row["upper"] - row["lower"] < 150
    assert (row["windows"], row["incomplete_windows"], row["missing"]) == (4, 0, "")
    assert (row["start"], row["end"]) == (f"{at(1)}.000+00:00", f"{at(5)}.000+00:00")


def test_long_windows_where_they_fit(run: Run) -> None:
    """Ten-minute sketches are taken where all of them is asked for, late packets with them."""
    row = count(run, "--from", at(9), "--to", at(31), "--tenant", "north")
    assert row["windows"] == 3
    assert brackets(row, 500 * 21 + 500 + 100)


def test_missing_windows_are_named(run: Run) -> None:
    """A minute with traffic and without a sketch is missing, as is one that the span cuts."""
    row = count(run, "--from", at(5), "--to", at(9, 30), "--tenant", "north")
    assert row["missing"] == f"north:{at(7)}Z/{at(8)}Z north:{at(9)}Z/{at(10)}Z"
    assert "missing: 2 minutes with traffic" in run.notes  # type: ignore[attr-defined]
    assert brackets(row, 500 * 4 + 500)


def test_a_condition_chooses_windows(run: Run) -> None:
    """A condition on time or tenant holds for each minute, not for the start of long windows."""
    row = count(run, "--where", "tenant = 'north' AND toMinute(window_start) IN (10, 11)")
    assert row["windows"] == 2
    assert brackets(row, 1500)
    assert count(run, "--where", "tenant = 'south'")["estimate"] == pytest.approx(800, rel=0.05)


def test_nothing_found(run: Run) -> None:
    """No rows: people are told the time, the tenants and the tasks of what there is."""
    there = (
        "no rows; sketches of distinct_src_addr are from 2023-11-15 00:00:00 to "
        "2023-11-15 00:30:00 UTC, of the tenants north, south; other tasks are distinct_dst_addr"
    )
    assert run("distinct", "--where", "toDayOfWeek(window_start) = 2").startswith(there)
    assert run("distinct", "--tenant", "nobody").startswith(there)
    assert run("distinct", "--tenant", "nobody", "--format", "jsonl") == ""
    assert run("spread", "--since", "1h") == (
        "no rows; sketches of fan_out are from 2023-11-15 00:00:00 to 2023-11-15 00:30:00 UTC, "
        "of the tenant north\n"
    )
    assert "of the tenant north" in run("top", "--task", "top_dst_port", "--tenant", "nobody")


def test_what_was_counted(run: Run) -> None:
    """The row says which addresses were counted."""
    assert count(run, "--tenant", "north")["counted"] == "src_addr"
    both = ("--task", "distinct_src_addr", "--task", "distinct_dst_addr")
    assert count(run, *both, "--tenant", "north")["counted"] == "src_addr dst_addr"
    assert run("distinct").split()[:2] == ["counted", "estimate"]


def test_two_selections(run: Run) -> None:
    """What two sites share, and what only one has, are estimated with bounds."""
    first = ("--where", "tenant = 'north'", "--from", at(0), "--to", at(1))
    assert brackets(count(run, *first, "--and", "tenant = 'south'"), 800)
    assert brackets(count(run, *first, "--not", "tenant = 'south'"), 200)
    assert brackets(count(run, *first, "--not", "tenant = 'nobody'"), 1000)
    assert "--and and --not" in run("distinct", "--and", "1", "--not", "1", code=2)


def test_several_tasks_are_one_count(run: Run) -> None:
    """Sources and destinations together are hosts; what isn't alike isn't added up."""
    both = ("--task", "distinct_src_addr", "--task", "distinct_dst_addr", "--tenant", "north")
    row = count(run, *both, "--from", at(2), "--to", at(4))
    assert brackets(row, 3000)
    assert row["incomplete_windows"] == 1


def test_top_keys(run: Run) -> None:
    """Sums over windows are exact while keys are few, with the fields' names."""
    found = json.loads(run("top", "--task", "top_dst_port", "--format", "json", "--by", "packets"))
    assert [(r["rank"], r["key"], r["packets"]) for r in found] == [
        (1, "dst_port=443", 300),
        (2, "dst_port=53", 120),
    ]
    assert found[0]["bytes_lower"] == found[0]["bytes_upper"] == 30_000
    assert (found[0]["windows"], found[0]["confidence"]) == (3, 1.0)
    text = run("top", "--task", "top_dst_port", "-n", "1", "--from", at(10), "--to", at(30))
    assert text.splitlines()[1].split()[:3] == ["1", "dst_port=443", "200"]
    assert "2 windows from" in run.notes  # type: ignore[attr-defined]


def test_spreaders(run: Run) -> None:
    """A target that is touched in several windows counts once."""
    table = list(csv.DictReader(io.StringIO(run("spread", "--format", "csv"))))
    assert [(r["key"], r["estimate"], r["upper"]) for r in table] == [
        ("src_addr=10.0.0.9", "500.0", "500.0")
    ]


def test_tasks_without_sketches_are_refused(run: Run) -> None:
    """The message names the tasks that can be asked."""
    assert "distinct_dst_addr, distinct_src_addr" in run("distinct", "--task", "nope", code=2)
    assert "there are those of fan_out" in run("spread", "--task", "top_dst_port", code=2)


def test_bad_conditions_are_one_line(run: Run) -> None:
    """A condition that the store can't read, or that would end the statement, is a line."""
    assert run("distinct", "--where", "nothing = 1", code=1).count("\n") == 1
    assert "wanted one condition" in run("distinct", "--where", "1) OR (1", code=2)
    assert "wanted one condition" in run("distinct", "--not", "1; SELECT 2", code=2)


def test_versions_seeds_and_fields_are_checked(run: Run, store: Store) -> None:
    """Sketches of another version, seed or key aren't merged with others."""
    image = counted(HOSTS[:10]).to_bytes()
    base = {
        "tenant": "odd",
        "kind": "cpc",
        "horizon": 60,
        "sketch": image,
        "fields": [["src_addr"]],
    }
    for task, first, second, told in (
        ("versions", {}, {"version": 9}, "version 9 can't be read, only version 1"),
        ("seeds", {"seed_id": seed_id(1)}, {"seed_id": seed_id(2)}, "seed was changed"),
        ("keys", {}, {"fields": [["dst_port"]]}, "had the fields src_addr and later dst_port"),
    ):
        for minute, change in enumerate((first, second)):
            start = (T0 + 60 * minute) * 1000
            row = base | {"task": task, "window_start": start, "seed_id": 0} | change
            store.insert("sketches_log", rows("sketches_log", **row), f"{task}{minute}")
        assert told in run("distinct", "--task", task, "--tenant", "odd", code=1)


def test_sampled_counts_are_lower_bounds(run: Run, store: Store) -> None:
    """Of sampled traffic there may be as many different hosts as packets."""
    sampled = Task("sampled", "distinct", elements=FieldList(("src_addr",)))
    Filler(store).window(sampled, 0, counted(HOSTS[:50]), tenant="s", sampling=Sampling(10))
    row = count(run, "--task", "sampled", "--tenant", "s")
    assert row["lower"] <= 50
    assert row["upper"] >= 1000
