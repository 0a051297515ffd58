"""Volume: quiet on what is usual, certain of what is not, and what it takes for usual."""

from __future__ import annotations

import pickle
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from flows.detect.detector import Reading
from flows.detect.detectors.volume import CAPACITY, TASKS
from flows.settings.tasks import DEFAULT_TASKS
from flows.sinks.store import StoredCounts, UnitWriter
from flows.sketches.frequency import BYTES, Frequency
from flows.storage.store import Store
from flows.windows.configured import tasks_of
from flows.windows.sampling import Sampling
from tests.support.jobs import NETWORKS, units_of
from tests.support.naive_flows import random_packets
from tests.support.rates import (
    DAY,
    MBIT,
    MINUTE_NS,
    SECOND,
    START_NS,
    Rates,
    day_and_night,
    detector,
    downloads,
    hosts,
    medium,
    nightly,
    run,
    sketch,
    steady,
    view,
)

TEN_NS = 10 * MINUTE_NS
N = 300
"""Hosts of a run, each a seed of its own."""


def tens(rates: Rates) -> Rates:
    """Means of ten minutes, so that many days take little time."""
    return np.asarray(rates.reshape(len(rates), -1, 10).mean(axis=2))


def number_of(reading: Reading) -> int:
    """Of a host, from its address."""
    parts = [int(part) for part in reading.entity["src_addr"].split(".")]
    return (parts[1] << 16) + (parts[2] << 8) + parts[3]


def days(rates: Rates) -> dict[int, list[Reading]]:
    """What is over, by day; in windows of ten minutes."""
    found: defaultdict[int, list[Reading]] = defaultdict(list)
    for number, over in run(detector(horizon_ns=TEN_NS), rates, horizon_ns=TEN_NS):
        found[number * 10 // DAY] += over
    return found


def test_steady_traffic_is_quiet() -> None:
    """Two hours of 300 hosts whose rates vary by factors: nothing is over."""
    rates = steady(np.random.default_rng(1), N, 150)
    assert not any(over for _, over in run(detector(), rates))


def test_every_surge_is_found_in_its_minute() -> None:
    """300 hosts, each with a surge of 5 to 50 times its rate once all are known: all are found."""
    rng = np.random.default_rng(2)
    rates = steady(rng, N, 100, 3 * MBIT)
    when = rng.integers(70, 100, N)
    usual = np.median(rates[:, :70], axis=1)
    surge = np.maximum(usual * rng.uniform(5, 50, N), 5.1 * MBIT)
    rates[np.arange(N), when] = surge
    found = {(minute, number_of(row)) for minute, over in run(detector(), rates) for row in over}
    planted = set(zip(when.tolist(), range(N), strict=True))
    # A host may just then have been at several times its median.
    peaks = np.array([rates[host, :at].max() for host, at in enumerate(when)])
    certain = {(minute, host) for minute, host in planted if surge[host] > 3 * peaks[host]}
    assert certain <= found <= planted
    assert len(certain) > 0.9 * N


def test_it_fires_as_soon_as_it_is_certain() -> None:
    """In the first pane at which the bytes so far, over the full window, pass the threshold."""
    of, keys = detector(), hosts(1)
    for minute in range(61):
        of.read(view({"top_src_addr": sketch(keys, np.array([2e6]))}, minute * MINUTE_NS), ())
    start_ns = 61 * MINUTE_NS
    values = []
    for pane in range(1, 31):
        sent = sketch(keys, np.array([40e6 * pane / 30]))
        found = of.read(view({"top_src_addr": sent}, start_ns, start_ns + pane * 2 * SECOND), ())
        values += [(pane, row) for row in found.rows]
    pane, first = values[0]
    assert first.threshold == pytest.approx(6e6, rel=0.05)
    assert pane == int(np.ceil(first.threshold / 40e6 * 30))
    assert first.lower == first.value == first.upper == pytest.approx(40e6 * pane / 30)
    assert first.confidence == 1
    assert first.expected == "2 Mbit/s to 2 Mbit/s (usual)"
    assert first.entity == {"src_addr": "10.0.0.0"}
    assert [row.value for _, row in values] == sorted(row.value for _, row in values)


def test_day_and_night_are_usual() -> None:
    """Eight days of hosts that do ten times as much by day, half at the weekend: nothing."""
    rates = day_and_night(np.random.default_rng(3), N, 8 * 144, minutes=10)
    assert sum(map(len, days(rates).values())) == 0


def test_a_nightly_job_is_usual_from_its_third_night() -> None:
    """300 hosts, each at its own hour 20 times its rate: two nights of low severity, then none."""
    found = days(tens(nightly(np.random.default_rng(4), N, 8 * DAY)))
    assert not any(medium(row) for over in found.values() for row in over)
    assert len({number_of(row) for day in (0, 1) for row in found[day]}) > 0.8 * N
    # The second night of some is over midnight.
    assert not any(found[day] for day in range(3, 8))


def test_a_job_around_midnight_is_usual_from_its_third_run() -> None:
    """Two runs on one day of the calendar, and none on the next, are two occasions."""
    runs = [1 * DAY + 2, 2 * DAY - 4, 3 * DAY + 4, 4 * DAY + 2, 5 * DAY - 1]
    rates = np.full((1, 6 * DAY), 1 * MBIT)
    for start in runs:
        rates[0, start : start + 30] = 20 * MBIT
    over = {minute for minute, rows in run(detector(), rates) if rows}
    assert {runs[0], runs[1]} <= over
    assert max(over) < runs[1] + 30


def test_hosts_that_download_now_and_then_are_usual() -> None:
    """300 hosts with ten downloads a day: never medium, and nothing after some days."""
    found = days(tens(downloads(np.random.default_rng(5), N, 8 * DAY)))
    assert not any(medium(row) for over in found.values() for row in over)
    assert not any(found[day] for day in range(4, 8))


def weeks(rates: float, *surges: tuple[int, int, float], n_days: int = 8) -> Rates:
    """One host with a rate, and others from and to some ten minutes."""
    row = np.full((1, n_days * 144), rates) * 2 ** np.random.default_rng(6).normal(
        0, 0.3, n_days * 144
    )
    for start, end, rate in surges:
        row[0, start:end] = rate
    return row


def test_a_lasting_new_level_is_usual_after_half_a_day() -> None:
    """A surge that doesn't end is medium for twelve hours, and then what the host does."""
    start = 5 * 144 + 30
    rates = weeks(4 * MBIT, (start, 8 * 144, 80 * MBIT))
    over = [
        (number, row)
        for number, rows in run(detector(horizon_ns=TEN_NS), rates, horizon_ns=TEN_NS)
        for row in rows
    ]
    assert all(medium(row) for _, row in over)
    assert over[0][0] == start
    assert 72 <= over[-1][0] - start <= 80


def test_one_attack_makes_no_attack_usual() -> None:
    """After eight hours of it, over midnight, the next one is as bad on the next days."""
    first = (5 * 144 - 24, 5 * 144 + 24, 80 * MBIT)
    again = [(day * 144 + 60, day * 144 + 63, 80 * MBIT) for day in (5, 6)]
    found = days(weeks(4 * MBIT, first, *again))
    assert len(found[4]) == len(found[5]) - 3 == 24
    assert all(medium(row) for day in (4, 5) for row in found[day])
    # By then there was one on two days: at least it is no more than unusual for the hour.
    assert not any(medium(row) for row in found[6])


def test_what_is_unusual_for_the_hour_only_is_of_low_severity() -> None:
    """At night as much as by day: over the bound of the hour, under that of the day."""
    rates = day_and_night(np.random.default_rng(7), N, 6 * 144 + 20, 30 * MBIT, minutes=10)
    night = 6 * 144 + 15  # 02:30
    rates[:, night] = np.maximum(5.5 * MBIT, rates[:, night] * 6)
    by_day = rates[:, 4 * 144 : 6 * 144].max(axis=1)
    found = dict(run(detector(horizon_ns=TEN_NS), rates, horizon_ns=TEN_NS))
    rows = found[night]
    assert len(rows) > 0.5 * N
    for row in rows:
        assert row.expected.endswith("(usual for this hour)")
        if row.value < 3 * by_day[number_of(row)]:
            assert not medium(row)


def test_a_new_host_is_judged_by_what_others_do() -> None:
    """Far above what nearly every known host does it is found, in its first minute; below not."""
    rates = np.vstack([steady(np.random.default_rng(8), 100, 90, 2 * MBIT), np.zeros((2, 90))])
    rates[100, 80:] = 8 * MBIT
    rates[101, 80:] = 500 * MBIT
    over = [(minute, row) for minute, rows in run(detector(), rates) for row in rows]
    assert over[0][0] == 80
    assert {number_of(row) for _, row in over} == {101}
    assert "this one is new" in over[0][1].expected
    assert not medium(over[0][1])


def test_nothing_is_judged_while_it_learns() -> None:
    """Before the first hour of traffic nothing is over; a surge in it doesn't hide the next one."""
    rates = steady(np.random.default_rng(9), 5, 70, 2 * MBIT)
    rates[0, 40:45] = rates[0, 62] = 500 * MBIT
    assert {minute for minute, over in run(detector(), rates) if over} == {62}
    early = detector(learn_ns=30 * MINUTE_NS)
    assert {minute for minute, over in run(early, rates) if over} == {*range(40, 45), 62}


def test_a_window_that_was_seen_in_part_teaches_nothing() -> None:
    """After a start in the middle of a window its sums are too small."""
    of = detector()
    keys = hosts(1)
    for minute in range(60):
        seen = view({"top_src_addr": sketch(keys, np.array([2e6]))}, minute * MINUTE_NS)
        of.read(replace(seen, whole=minute != 0), ())
    surge = {"top_src_addr": sketch(keys, np.array([50e6]))}
    assert not of.read(view(surge, 60 * MINUTE_NS), ()).rows
    assert of.read(view(surge, 61 * MINUTE_NS), ()).rows


def test_networks_are_entities_too() -> None:
    """A named network that receives too much is found by its name; no network isn't one."""
    of = detector()
    keys = np.array([[0], [1]], np.uint64)
    for minute in range(61):
        merged = {"_volume_dst_net": sketch(keys, np.array([50e6, 10e6]))}
        of.read(view(merged, minute * MINUTE_NS), ())
    merged = {"_volume_dst_net": sketch(keys, np.array([5e9, 100e6]))}
    (row,) = of.read(view(merged, 61 * MINUTE_NS), ()).rows
    assert row.entity == {"dst_net": "lab"}
    assert row.summary.startswith(
        "lab receives 100 Mbit/s or more; expected is 10 Mbit/s to 10 Mbit/s"
    )


def test_a_watched_entity_is_read_whatever_its_value() -> None:
    """So that its alert can end; one that isn't watched is not listed below its threshold."""
    of, keys = detector(), hosts(2)
    for minute in range(61):
        merged = {"top_src_addr": sketch(keys, np.array([2e6, 2e6]))}
        of.read(view(merged, minute * MINUTE_NS), ())
    key = (0, *keys[1].tolist())
    found = of.read(view(merged, 61 * MINUTE_NS), [key])
    assert [(row.key, row.over()) for row in found.rows] == [(key, False)]
    assert found.over == 0


def test_stopped_and_gone_on_it_reads_the_same() -> None:
    """A snapshot at any window, pickled, changes no reading; another version is refused."""
    rates = weeks(4 * MBIT, (300, 302, 90 * MBIT), (500, 600, 60 * MBIT))
    rates = np.vstack([rates, tens(downloads(np.random.default_rng(10), 20, 8 * DAY))])
    keys = hosts(len(rates))
    whole, pieces = detector(horizon_ns=TEN_NS), detector(horizon_ns=TEN_NS)
    over = 0
    for number in range(rates.shape[1]):
        merged = {"top_src_addr": sketch(keys, rates[:, number], 600)}
        now = view(merged, START_NS + number * TEN_NS, horizon_ns=TEN_NS)
        if number % 7 == 0:
            state = pickle.loads(pickle.dumps(pieces.snapshot()))
            pieces = detector(horizon_ns=TEN_NS)
            pieces.restore(state)
        found = whole.read(now, ())
        assert pieces.read(now, ()) == found
        over += found.over
    assert over > 20
    with pytest.raises(ValueError, match="version 99"):
        pieces.restore((99, *state[1:]))


def test_memory_and_snapshots_are_bounded() -> None:
    """20,000 hosts a window, most of them new: 10,000 are kept, in a few megabytes at most."""
    of = detector()
    rng = np.random.default_rng(11)
    keys = hosts(200_000)
    regular = np.arange(500)
    for minute in range(40):
        chosen = np.r_[regular, 500 + rng.choice(199_500, 1500, replace=False)]
        rates = rng.uniform(0.1, 100, len(chosen)) * MBIT
        rates[: len(regular)] = 10 * MBIT
        of.read(view({"top_src_addr": sketch(keys[chosen], rates)}, minute * MINUTE_NS), ())
    assert len(of._baseline) == CAPACITY
    assert len(pickle.dumps(of.snapshot())) < 2**20
    # Those that are there all the time were never pushed out by those that come and go.
    known = [of._baseline.usual((0, *key), 40 * MINUTE_NS) for key in keys[:500].tolist()]
    assert all(known)
    state = of.snapshot()[-1]
    assert of.snapshot()[-1] is state


def test_a_gap_costs_nothing() -> None:
    """After decades without a packet it goes on, without having looped over them."""
    rates = steady(np.random.default_rng(12), 10, 90)
    of = detector()
    assert not any(over for _, over in run(of, rates))
    later = START_NS + 30 * 365 * DAY * MINUTE_NS
    assert not any(over for _, over in run(of, rates, later))
    rates[0, :] *= 50
    assert any(over for _, over in run(of, rates, later + 90 * MINUTE_NS))


def test_sampling_widens_the_bounds() -> None:
    """The lower bound decides, and allows for what sampling does to a sum."""
    of, keys = detector(), hosts(1)
    for minute in range(61):
        of.read(view({"top_src_addr": sketch(keys, np.array([1e6]))}, minute * MINUTE_NS), ())
    sampling = Sampling(rate=1000)
    merged = {"top_src_addr": sketch(keys, np.array([5.5e6]))}
    plain, sampled = (
        view(merged, 61 * MINUTE_NS), view(merged, 61 * MINUTE_NS, sampling=sampling)
    )  # fmt: skip
    (row,) = of.read(plain, ()).rows
    assert not of.read(sampled, ()).rows
    (wide,) = of.read(sampled, [row.key]).rows
    assert wide.lower < row.lower == row.value == wide.value < wide.upper
    assert (row.confidence, wide.confidence) == (1, 0.95)


def test_hosts_are_fed_by_the_default_tasks() -> None:
    """The detector's tasks of these names are those of the settings, so nothing is fed twice."""
    defaults = {task.name: task for task in tasks_of(DEFAULT_TASKS)}
    assert TASKS[:2] == tuple(defaults[task.name] for task in TASKS[:2])


def test_the_statements_say_what_was_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Run against the store they give the value of each reading, and list all entities."""
    packets = random_packets(np.random.default_rng(13), 3000, hosts=12, span_ns=50 * SECOND)
    packets["ts_ns"] = packets["ts_ns"] - packets["ts_ns"].min() + np.uint64(START_NS)
    units = units_of(packets, tasks=list(TASKS))
    total: dict[str, Frequency] = {}
    for unit in units:
        for (_, task), panes in unit.sketches.items():
            for pane in panes:
                assert isinstance(pane.sketch, Frequency)
                empty = Frequency(pane.sketch.words, seed=pane.sketch.seed)
                total.setdefault(task, empty).merge(pane.sketch)
    of = detector(at_least=1.0, learn_ns=0, network_names=NETWORKS.names)
    for minute in range(-31, 0):
        little = {task: _tenth(each) for task, each in total.items()}
        of.read(view(little, START_NS + minute * MINUTE_NS), ())
    window = view(total, START_NS)
    rows = of.read(window, ()).rows
    assert {name for row in rows for name in row.entity} >= {"src_addr", "dst_addr", "dst_net"}
    with Store.open(f"chdb:{tmp_path_factory.mktemp('volume')}", serve=False) as store:
        writer = UnitWriter(store, StoredCounts())
        for unit in units:
            writer.write(unit)
        for row in rows:
            statement = of.sql(row.entity, "t", START_NS, window.pane_end_ns)
            assert store.query(statement).to_pylist() == [{**row.entity, "value": row.value}]
        every = store.query(of.sql({}, "t", START_NS, window.pane_end_ns)).to_pylist()
    listed = {row["src_addr"]: row["value"] for row in every}
    sources = {row.entity["src_addr"]: row.value for row in rows if "src_addr" in row.entity}
    assert listed.items() >= sources.items()


def _tenth(of: Frequency) -> Frequency:
    """The same keys with a tenth of the bytes."""
    rows = of.over(BYTES, 1)
    keys = np.array([row.key for row in rows], np.uint64)
    return sketch(keys, np.array([row.bytes * 8 / 600 for row in rows]))


@pytest.mark.soak
@pytest.mark.parametrize("made", [steady, day_and_night, downloads, nightly])
def test_eight_days_minute_by_minute(made: Callable[..., Rates]) -> None:
    """300 hosts in windows of a minute: never medium, and nothing at all from the fifth day on."""
    rates = made(np.random.default_rng(14), N, 8 * DAY)
    found: Counter[int] = Counter()
    for minute, over in run(detector(), rates):
        assert not any(map(medium, over))
        found[minute // DAY] += len(over)
    print(made.__name__, "windows over, by day:", dict(sorted(found.items())))
    assert not any(found[day] for day in range(4, 8))
