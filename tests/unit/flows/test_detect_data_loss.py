"""Data loss: what is missing of a probe's packets, and when it has fallen silent."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Hashable, Iterable
from dataclasses import replace

import numpy as np
import pytest

from flows.detect.detector import Readings
from flows.detect.detectors.data_loss import DataLoss
from flows.detect.window import ProbeFacts
from flows.sinks.store import StoredCounts, UnitWriter
from flows.storage.store import Store
from flows.windows.unit import Unit
from schemas.batch import Counters
from tests.support.naive_flows import random_packets
from tests.support.probe_log import SECOND, START, heartbeats, read, views
from tests.support.sender import Batch, batches

LOSS, SILENCE = ("loss", "p"), ("silence", "p")


def detector(threshold: float = 0.001) -> DataLoss:
    return DataLoss(threshold, 100, 60 * SECOND, 60 * SECOND)


def sent(count: int = 20_000, *, dropped: int = 0, seed: int = 1, **probe: str) -> list[Batch]:
    """Batches of a probe over 50 s of one window."""
    packets = random_packets(np.random.default_rng(seed), count, span_ns=50 * SECOND)
    packets["ts_ns"] += np.uint64(START * SECOND) - packets["ts_ns"].min()
    packets = packets[np.argsort(packets["ts_ns"], kind="stable")]
    return list(batches(packets, 200, dropped=dropped, goodbye=False, **probe))


def missing(log: list[Batch], share: float, seed: int = 1) -> list[Batch]:
    """Without some of the batches; the first and the last ones are there."""
    gone = np.random.default_rng(seed).random(len(log)) < share
    return [b for n, b in enumerate(log) if not gone[n] or n in (0, len(log) - 1)]


def readings(
    units: Iterable[Unit], of: DataLoss | None = None, watched: Collection[Hashable] = ()
) -> list[Readings]:
    of = of or detector()
    return [of.read(view, watched) for view in views(units)]


def keys(found: Iterable[Readings]) -> set[Hashable]:
    return {row.key for each in found for row in each.rows if row.over()}


def test_a_whole_log_reads_nothing() -> None:
    """Without a missing packet nothing is over a threshold, and nothing is listed."""
    found = readings(read(sent(), heartbeats("q", range(60))))
    assert found
    assert not any(each.rows or each.over for each in found)


def test_missing_batches_are_a_loss_to_the_packet() -> None:
    """The share is what is missing of what arrived and what is missing, and the reason is told."""
    log = sent()
    kept = missing(log, 0.1)
    units = read(kept, heartbeats("q", range(70)))
    rows = [row for each in readings(units) for row in each.rows]
    total, here = (sum(int(b["packets"].sum()) for _, b in each) for each in (log, kept))
    last = rows[-1]
    assert (last.key, last.entity) == (LOSS, {"probe": "p", "fault": "loss"})
    assert last.lower == last.value == last.upper == (total - here) / total
    assert last.confidence == 1
    assert last.facts == {
        "missing": str(total - here),
        "arrived": str(here),
        "transport:gap": str(total - here),
    }
    assert f"transport:gap {total - here:,}" in last.summary
    assert last.probe == "p"


def test_what_the_capture_lost_counts() -> None:
    """A full ring is a loss too."""
    found = readings(read(sent(dropped=3), heartbeats("q", range(70))))
    assert keys(found) == {LOSS}
    assert any("capture:ring_full" in row.facts for each in found for row in each.rows)


def test_a_few_missing_packets_are_no_matter() -> None:
    """Below the least number a share over the threshold is not read."""
    units = read(sent(2000, dropped=9), heartbeats("q", range(70)))
    assert keys(readings(units)) == set()
    wanting = DataLoss(0.001, 10, 60 * SECOND, 60 * SECOND)
    assert keys(readings(units, wanting)) == {LOSS}


def test_a_share_under_the_threshold_is_not_over() -> None:
    """Three per cent aren't over a threshold of fifty."""
    units = read(missing(sent(), 0.03), heartbeats("q", range(70)))
    assert keys(readings(units, detector(0.5))) == set()
    assert keys(readings(units, detector(0.01))) == {LOSS}


def test_each_window_begins_anew() -> None:
    """What was missing in the last window isn't counted in the next."""
    units = read(missing(sent(), 0.1), heartbeats("p", range(51, 130), boot=2))
    lossy = [
        view.start_ns
        for view, found in zip(views(units), readings(units, watched=[LOSS]), strict=True)
        if any(row.key == LOSS for row in found.rows)
    ]
    assert set(lossy) == {START * SECOND}


def test_a_probe_that_stops_without_a_word_is_silent() -> None:
    """60 s after its last sign it is over the threshold, in seconds, and it goes on."""
    found = readings(read(heartbeats("q", range(200)), heartbeats("p", range(31))))
    over = [row for each in found for row in each.rows]
    assert {row.key for row in over} == {SILENCE}
    assert (over[0].value, over[0].threshold, over[0].unit) == (60, 60, "s")
    assert over[-1].value == 170
    assert over[0].entity == {"probe": "p", "fault": "silence"}


def test_a_tenants_only_probe_is_found_silent() -> None:
    """Time is moved on by another tenant's probe."""
    log = [heartbeats("q", range(200), tenant="other"), heartbeats("p", range(31))]
    assert keys(readings(read(*log))) == {SILENCE}


@pytest.mark.parametrize("goodbye_at", [31, 35])
def test_a_goodbye_is_no_silence(goodbye_at: int) -> None:
    """A probe that said that it would stop isn't missed, whatever it sent before."""
    beats = heartbeats("p", [*range(31), goodbye_at], goodbye=True)
    units = read(sent(probe="q"), heartbeats("r", range(200)), beats)
    assert keys(readings(units)) == {("silence", "q")}


def test_an_idle_network_is_no_silence() -> None:
    """Heartbeats are enough."""
    units = read(heartbeats("q", range(300)), heartbeats("p", range(300)))
    assert keys(readings(units)) == set()


def test_silence_ends_when_the_probe_is_back() -> None:
    """A watched probe is read with what is now, so that its alert can end."""
    beats = heartbeats("p", [*range(31), *range(120, 200)])
    units = read(heartbeats("q", range(200)), beats)
    found = readings(units, watched=[SILENCE])
    values = [row.value for each in found for row in each.rows if row.key == SILENCE]
    assert max(values) > 60
    assert values[-1] == 0


def test_a_late_goodbye_ends_silence() -> None:
    """Said by a later start for the one that was killed."""
    first = heartbeats("p", range(31))
    told = replace(first[-1][0], sequence=31, goodbye=True, emit_time_ns=(START + 120) * SECOND)
    units = read(heartbeats("q", range(200)), first, [(told, first[-1][1])])
    found = readings(units)
    assert keys(found) == {SILENCE}
    assert not found[-1].rows


def test_a_probe_is_given_up_after_a_day() -> None:
    """Nothing lasts for ever: after that it is no longer missed."""
    units = read(heartbeats("q", range(0, 90_000, 100)), heartbeats("p", range(31)), idle_s=150)
    found = readings(units)
    values = [row.value for each in found for row in each.rows]
    assert 86_000 < max(values) <= 86_400
    assert not found[-1].rows


def test_stopped_and_gone_on_it_reads_the_same() -> None:
    """A snapshot after any view, pickled, changes no reading; another version is refused."""
    units = read(missing(sent(), 0.1), heartbeats("q", range(200)), heartbeats("r", range(20)))
    whole, pieces = detector(), detector()
    for view in views(units):
        state = pickle.loads(pickle.dumps(pieces.snapshot()))
        pieces = detector()
        pieces.restore(state)
        assert pieces.read(view, ()) == whole.read(view, ())
    with pytest.raises(ValueError, match="version 99"):
        pieces.restore((99, *state[1:]))


def test_at_most_a_thousand_are_listed() -> None:
    """The others are counted."""
    (view, *_) = views(read(heartbeats("q", range(9))))
    pane = view.pane_start_ns // view.pane_ns
    of = detector()
    of.read(
        replace(view, probes=[ProbeFacts("t", f"p{n}", pane, alive=True) for n in range(1100)]), ()
    )
    later_ns = view.pane_start_ns + 100 * SECOND
    found = of.read(replace(view, pane_start_ns=later_ns, probes=[]), ())
    assert (len(found.rows), found.over) == (1000, 1100)


def test_the_statements_say_what_was_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Run against the store they give the value of the last reading, of loss and of silence."""
    # Losses on all ways, and one sampled: what is left out on purpose is not missing.
    counters = Counters(seen=5000, dropped={"sampled_out": 4500, "kafka_error": 300})
    extra = replace(heartbeats("s", range(3, 4), goodbye=True)[0][0], counters=counters)
    units = read(
        missing(sent(dropped=2), 0.1),
        sent(seed=2, probe="q"),
        heartbeats("r", range(140)),
        [(extra, sent(200)[0][1][:0])],
    )
    of = detector()
    with Store.open(f"chdb:{tmp_path_factory.mktemp('loss')}", serve=False) as store:
        writer = UnitWriter(store, StoredCounts())
        for unit in units:
            writer.write(unit)
        last = {row.key: (row, view) for view in views(units) for row in of.read(view, ()).rows}
        for row, view in last.values():
            sql = of.sql(row.entity, "t", view.start_ns, view.pane_end_ns)
            (found,) = store.query(sql).to_pylist()
            assert found["value"] == pytest.approx(row.value, rel=1e-12)
            assert {name: found[name] for name in row.entity} == row.entity
        every = of.sql({}, "t", START * SECOND, (START + 60) * SECOND)
        listed = [row["probe"] for row in store.query(every).to_pylist()]
    assert last.keys() >= {LOSS, SILENCE, ("silence", "q")}
    assert sorted(listed) == ["p", "s"]
