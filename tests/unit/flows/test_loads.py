"""Which captures are loaded: known by content, resumed as they were, replaced without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.errors import UsageError
from flows.sinks.store import StoredCounts, UnitWriter
from flows.storage import loads
from flows.storage.loads import Capture, Load
from flows.storage.store import Store
from flows.windows.unit import Stream
from tests.support.jobs import committed, sums, truth, units_of
from tests.support.naive_flows import random_packets

names = (f"tenant{number}" for number in count())
PACKETS = random_packets(np.random.default_rng(1), 300)
MORE = random_packets(np.random.default_rng(2), 200)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(f"chdb:{tmp_path_factory.mktemp('loads')}", serve=False) as opened:
        yield opened


@pytest.fixture
def tenant() -> str:
    return next(names)


def capture(name: str, content: str, folder: str = "a") -> Capture:
    return Capture(Path(folder) / name, content.ljust(32, "0"), name)


def plan(
    store: Store, tenant: str, *captures: Capture, again: Any = "skip", digest: str = "d"
) -> Load:
    return loads.plan(store, captures, tenant=tenant, digest=digest, again=again)


def carry_out(
    store: Store, tenant: str, load: Load, *, packets: Any = PACKETS, units: int | None = None
) -> None:
    """Load for real: the same packets for each capture; ``units`` cuts it off after so many."""
    record(store, tenant, load, "running")
    for planned in load.captures:
        made = units_of(
            packets,
            topic=load.topic,
            partition=planned.content_id,
            message=100,
            stream=Stream(tenant, planned.probe),
        )
        writer = UnitWriter(store, StoredCounts())
        for unit in made[:units]:
            writer.write(unit)
    record(store, tenant, load, "finished" if units is None else "incomplete")


def record(store: Store, tenant: str, load: Load, state: Any, digest: str = "d") -> None:
    loads.record(store, load, tenant=tenant, digest=digest, state=state)


def rows(store: Store, tenant: str) -> list[dict[str, Any]]:
    sql = (
        "SELECT probe, generation, toString(state) AS state, packets, bytes FROM loads FINAL "
        f"WHERE tenant = '{tenant}' ORDER BY probe, generation"
    )
    return store.query(sql).to_pylist()


def stored(store: Store, tenant: str) -> tuple[int, int]:
    """Packets and bytes of a tenant, on which all additive tables agree."""
    (both,) = set(sums(store, tenant).values())
    return both


def test_a_new_capture_is_loaded(store: Store, tenant: str) -> None:
    """Nothing to tell, and the record says what the store then holds."""
    load = plan(store, tenant, capture("x.pcap", "1"))
    assert [c.probe for c in load.captures] == ["x.pcap"]
    assert (load.generation, load.notes) == (0, ())
    carry_out(store, tenant, load)
    packets, octets = truth(PACKETS)
    assert rows(store, tenant) == [
        {
            "probe": "x.pcap",
            "generation": 0,
            "state": "finished",
            "packets": packets,
            "bytes": octets,
        }
    ]


@pytest.mark.parametrize("name", ["x.pcap", "another.pcap"])
def test_the_same_content_is_skipped(store: Store, tenant: str, name: str) -> None:
    """Under its own name or another one, with a line that says so and what to do."""
    carry_out(store, tenant, plan(store, tenant, capture("x.pcap", "1")))
    load = plan(store, tenant, capture(name, "1", folder="elsewhere"))
    assert (load.topic, load.captures) == ("", ())
    (note,) = load.notes
    assert note.startswith(f"{name} is stored already ({truth(PACKETS)[0]:,} packets, ")
    assert "NETSPECTRA_AGAIN=replace or add" in note


def test_other_tenants_are_not_asked(store: Store) -> None:
    """The same capture for another tenant is loaded whole, under a topic of its own."""
    one, two = next(names), next(names)
    first = plan(store, one, capture("x.pcap", "1"))
    carry_out(store, one, first)
    second = plan(store, two, capture("x.pcap", "1"))
    assert second.topic != first.topic
    assert second.notes == ()
    carry_out(store, two, second)
    assert stored(store, one) == stored(store, two) == truth(PACKETS)


def test_only_what_is_new_is_loaded(store: Store, tenant: str) -> None:
    """Of several captures those that are stored are skipped."""
    carry_out(store, tenant, plan(store, tenant, capture("x.pcap", "1")))
    load = plan(store, tenant, capture("x.pcap", "1"), capture("y.pcap", "2"))
    assert [c.probe for c in load.captures] == ["y.pcap"]
    assert len(load.notes) == 1


def test_replace_leaves_exactly_the_new(store: Store, tenant: str) -> None:
    """What was stored goes, from rollups and commits too; other captures stay."""
    carry_out(store, tenant, plan(store, tenant, capture("x.pcap", "1")))
    carry_out(store, tenant, plan(store, tenant, capture("y.pcap", "2")), packets=MORE)
    load = plan(store, tenant, capture("x.pcap", "1"), again="replace")
    assert stored(store, tenant) == truth(MORE)
    assert load.notes == ("x.pcap was stored before and is replaced",)
    assert [c.probe for c in load.captures] == ["x.pcap"]
    carry_out(store, tenant, load)
    both = tuple(a + b for a, b in zip(truth(PACKETS), truth(MORE), strict=True))
    assert stored(store, tenant) == both
    assert [(row["probe"], row["generation"]) for row in rows(store, tenant)] == [
        ("x.pcap", 1),
        ("y.pcap", 0),
    ]
    assert committed(store, load.topic) == truth(PACKETS)


def test_replace_of_something_new_is_a_load(store: Store, tenant: str) -> None:
    """Nothing to replace, nothing to tell."""
    load = plan(store, tenant, capture("x.pcap", "1"), again="replace")
    assert (load.generation, load.notes) == (0, ())
    carry_out(store, tenant, load)
    assert stored(store, tenant) == truth(PACKETS)


def test_a_kill_while_replacing_loses_nothing(store: Store, tenant: str) -> None:
    """Killed after the old rows went, the next run loads the capture whole."""
    carry_out(store, tenant, plan(store, tenant, capture("x.pcap", "1")))
    plan(store, tenant, capture("x.pcap", "1"), again="replace")  # and no more
    carry_out(store, tenant, plan(store, tenant, capture("x.pcap", "1")))
    assert stored(store, tenant) == truth(PACKETS)


class _Dies(Exception):
    """Stands for a kill."""


class _Mortal:
    """A store that dies at the n-th statement that changes something."""

    def __init__(self, store: Store, statements: int) -> None:
        self.query, self.insert = store.query, store.insert
        self._store, self._left = store, statements

    def command(self, sql: str, parameters: dict[str, Any] | None = None) -> Any:
        if not self._left:
            raise _Dies
        self._left -= 1
        return self._store.command(sql, parameters)


@pytest.mark.parametrize("statements", [1, 6, 10])
def test_a_kill_amid_replacing_is_told_and_mended(
    store: Store, tenant: str, statements: int
) -> None:
    """Killed between two deletions, a plain run refuses and another replacement is exact."""
    carry_out(store, tenant, plan(store, tenant, capture("x.pcap", "1")))
    mortal: Any = _Mortal(store, statements)
    with pytest.raises(_Dies):
        plan(mortal, tenant, capture("x.pcap", "1"), again="replace")
    with pytest.raises(UsageError, match="NETSPECTRA_AGAIN=replace"):
        plan(store, tenant, capture("x.pcap", "1"))
    carry_out(store, tenant, plan(store, tenant, capture("x.pcap", "1"), again="replace"))
    assert stored(store, tenant) == truth(PACKETS)


def windows(store: Store, tenant: str) -> set[tuple[int, int]]:
    """Start, s, and length of the windows that have distinct counts."""
    sql = (
        "SELECT toUnixTimestamp(window_start) AS start, horizon FROM distinct_counts_log "
        f"WHERE tenant = '{tenant}'"
    )
    return {(row["start"], row["horizon"]) for row in store.query(sql).to_pylist()}


def test_replacing_takes_its_own_windows_along(store: Store, tenant: str) -> None:
    """Results of windows that only the replaced capture had go; shared ones stay."""
    carry_out(store, tenant, plan(store, tenant, capture("x.pcap", "1")))
    first = int(PACKETS["ts_ns"].min()) // 10**9
    later = MORE.copy()
    later["ts_ns"] += 300 * 10**9
    carry_out(store, tenant, plan(store, tenant, capture("y.pcap", "2")), packets=later)
    for start, horizon in (
        (first // 2 * 2, 2),
        (first // 60 * 60, 60),
        (first // 600 * 600, 600),
        ((first + 300) // 60 * 60, 60),
    ):
        store.command(
            "INSERT INTO distinct_counts_log (tenant, window_start, horizon, task, revision) "
            f"VALUES ('{tenant}', toDateTime64({start}, 3), {horizon}, 't', 1)"
        )
    plan(store, tenant, capture("x.pcap", "1"), again="replace")
    shared = {((first + 300) // 60 * 60, 60)}
    if first // 600 == (int(later["ts_ns"].min()) // 10**9) // 600:
        shared.add((first // 600 * 600, 600))
    assert windows(store, tenant) == shared


def test_minutes_of_other_loads_are_known(store: Store, tenant: str) -> None:
    """Minutes with packets of other probes of the tenant, and of them only."""
    carry_out(store, tenant, plan(store, tenant, capture("x.pcap", "1")))
    minutes = sorted({int(ts) // (60 * 10**9) for ts in PACKETS["ts_ns"]})
    assert loads.minutes_of_others(store, tenant, ["y.pcap"]).tolist() == minutes
    assert loads.minutes_of_others(store, tenant, ["x.pcap"]).tolist() == []
    assert loads.minutes_of_others(store, "somebody", []).tolist() == []


def test_demo_traffic_is_replaced(store: Store, tenant: str) -> None:
    """An earlier demo goes with all that its tenant has; nothing goes where there was none."""
    prefix = f"demo-{tenant}:"
    assert not loads.forget_demo(store, tenant, prefix)
    for unit in units_of(PACKETS, topic=f"{prefix}1", stream=Stream(tenant, "demo")):
        UnitWriter(store, StoredCounts()).write(unit)
    assert stored(store, tenant) == truth(PACKETS)
    assert loads.forget_demo(store, tenant, prefix)
    assert stored(store, tenant) == (0, 0)
    assert committed(store, f"{prefix}1") == (0, 0)


def test_replaced_again_and_again(store: Store, tenant: str) -> None:
    """Each generation is whole: no token of an earlier one stands in its way."""
    for generation in range(3):
        load = plan(store, tenant, capture("x.pcap", "1"), again="replace")
        assert load.generation == generation
        carry_out(store, tenant, load)
        assert stored(store, tenant) == truth(PACKETS)


def test_add_stores_it_once_more(store: Store, tenant: str) -> None:
    """The sums double, under a probe name of its own."""
    carry_out(store, tenant, plan(store, tenant, capture("x.pcap", "1")))
    load = plan(store, tenant, capture("x.pcap", "1"), again="add")
    assert load.generation == 1
    assert [c.probe for c in load.captures] == ["x.pcap#2"]
    carry_out(store, tenant, load)
    assert stored(store, tenant) == tuple(2 * value for value in truth(PACKETS))
    again = plan(store, tenant, capture("x.pcap", "1"))
    assert again.topic == ""


def test_an_interrupted_add_goes_on(store: Store, tenant: str) -> None:
    """The same command again completes the added load instead of adding a third."""
    carry_out(store, tenant, plan(store, tenant, capture("x.pcap", "1")))
    load = plan(store, tenant, capture("x.pcap", "1"), again="add")
    carry_out(store, tenant, load, units=2)
    on = plan(store, tenant, capture("x.pcap", "1"), again="add")
    assert (on.topic, on.captures) == (load.topic, load.captures)
    carry_out(store, tenant, on)
    assert stored(store, tenant) == tuple(2 * value for value in truth(PACKETS))


def test_two_files_of_one_name_are_told_apart(store: Store, tenant: str) -> None:
    """The second has a probe name of its own, so that it can be replaced alone."""
    first = plan(store, tenant, capture("x.pcap", "1", "a"))
    carry_out(store, tenant, first)
    second = plan(store, tenant, capture("x.pcap", "2", "b"))
    assert [c.probe for c in second.captures] == ["x.pcap#2"]
    carry_out(store, tenant, second, packets=MORE)
    carry_out(
        store,
        tenant,
        plan(store, tenant, capture("x.pcap", "2", "b"), again="replace"),
        packets=MORE,
    )
    sql = f"SELECT probe, sum(packets) AS p FROM flows WHERE tenant = '{tenant}' GROUP BY probe"
    found = {row["probe"]: row["p"] for row in store.query(sql).to_pylist()}
    assert found == {"x.pcap": truth(PACKETS)[0], "x.pcap#2": truth(MORE)[0]}


def test_two_files_of_one_name_in_one_load(store: Store, tenant: str) -> None:
    """Also when a glob finds both at once."""
    load = plan(store, tenant, capture("x.pcap", "1", "a"), capture("x.pcap", "2", "b"))
    assert [c.probe for c in load.captures] == ["x.pcap", "x.pcap#2"]


@pytest.mark.parametrize("state", ["running", "incomplete"])
def test_an_interrupted_load_goes_on(store: Store, tenant: str, state: str) -> None:
    """Stopped or killed: the same topic, and in the end every packet once."""
    both = capture("x.pcap", "1"), capture("y.pcap", "2")
    load = plan(store, tenant, *both)
    carry_out(store, tenant, load, units=1)
    record(store, tenant, load, state)
    before = stored(store, tenant)
    on = plan(store, tenant, *both)
    assert (on.topic, on.captures, on.generation) == (load.topic, load.captures, 0)
    (note,) = on.notes
    assert note.startswith("x.pcap, y.pcap was loaded in part: going on")
    carry_out(store, tenant, on)
    assert before < stored(store, tenant)
    assert stored(store, tenant) == tuple(2 * value for value in truth(PACKETS))
    assert {row["state"] for row in rows(store, tenant)} == {"finished"}
    assert plan(store, tenant, *both).topic == ""


def test_a_renamed_capture_keeps_its_probe(store: Store, tenant: str) -> None:
    """An interrupted load whose file was renamed goes on under the old name."""
    load = plan(store, tenant, capture("x.pcap", "1"))
    carry_out(store, tenant, load, units=1)
    on = plan(store, tenant, capture("renamed.pcap", "1"))
    assert on.topic == load.topic
    assert [c.probe for c in on.captures] == ["x.pcap"]


@pytest.mark.parametrize(
    ("captures", "digest", "what"),
    [
        ((capture("x.pcap", "1"),), "other", "other settings"),
        ((capture("x.pcap", "1"), capture("y.pcap", "2")), "d", "other files beside it"),
    ],
)
def test_going_on_otherwise_is_refused(
    store: Store, tenant: str, captures: tuple[Capture, ...], digest: str, what: str
) -> None:
    """Units would be cut differently; the message says what to do, and doing it works."""
    carry_out(store, tenant, plan(store, tenant, capture("x.pcap", "1")), units=1)
    with pytest.raises(
        UsageError, match=f"x.pcap was loaded in part, with {what}: .*AGAIN=replace"
    ):
        plan(store, tenant, *captures, digest=digest)
    load = plan(store, tenant, *captures, digest=digest, again="replace")
    carry_out(store, tenant, load)
    assert stored(store, tenant) == tuple(len(captures) * value for value in truth(PACKETS))


def test_names_are_data_not_sql(store: Store) -> None:
    """Quotes in names of tenants, files and contents do no harm."""
    tenant = "o'tenant\\"
    odd = Capture(Path("it's.pcap"), "c'0", "it's.pcap")
    carry_out(store, tenant, plan(store, tenant, odd))
    load = plan(store, tenant, odd, again="replace")
    assert len(load.captures) == 1
    query = "SELECT count() AS n FROM flows WHERE tenant = {tenant:String}"
    assert store.query(query, {"tenant": tenant}).to_pylist() == [{"n": 0}]
