"""What a unit says of probes: from the batches of real headers, through a receiver."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from flows.detect.probe_facts import facts
from flows.detect.window import ProbeFacts
from flows.sources.interface import InterfaceLog
from flows.sources.logs import DemoLog, PacketLog
from flows.sources.partitions import LogPartition
from flows.windows.control import RunControl
from flows.windows.networks import Networks
from flows.windows.partition import PartitionAccumulator, WindowConfig
from flows.windows.unit import Stream, Unit
from probe.synthetic import Traffic
from schemas.batch import Counters
from schemas.record import PACKET
from tests.support.naive_flows import random_packets
from tests.support.probe_log import PANE_NS, SECOND, START, heartbeats, read
from tests.support.sender import batches
from tests.support.synthetic_capture import SyntheticCapture


def said(units: Iterable[Unit], probe: str) -> list[ProbeFacts]:
    return [fact for unit in units for fact in facts(unit) if fact.probe == probe]


def second_of(fact: ProbeFacts) -> int:
    """End of a fact's pane, after the start."""
    return (fact.pane + 1) * PANE_NS // SECOND - START


def test_an_idle_probe_is_alive_in_every_pane() -> None:
    """Heartbeats alone make units that store nothing and say that the probe is there."""
    units = read(heartbeats("p", range(20)))
    assert all(unit.empty for unit in units)
    assert [second_of(fact) for fact in said(units, "p")] == list(range(0, 20, 2))
    assert all(fact.alive and not fact.ended and not fact.arrived for fact in said(units, "p"))


def test_a_probe_that_stops_without_a_word_is_silent_not_ended() -> None:
    """Released as idle, it is named in every further unit, neither alive nor ended."""
    units = read(heartbeats("a", range(60)), heartbeats("b", range(11)))
    alive = [second_of(fact) for fact in said(units, "b") if fact.alive]
    silent = [second_of(fact) for fact in said(units, "b") if not fact.alive]
    assert max(alive) == 8
    assert silent == list(range(20, 60, 2))
    assert not any(fact.ended for fact in said(units, "b"))


def test_a_goodbye_ends_a_probe() -> None:
    """After it nothing is said of the probe any more."""
    units = read(heartbeats("a", range(60)), heartbeats("b", range(11), goodbye=True))
    facts_of_b = said(units, "b")
    assert [second_of(fact) for fact in facts_of_b if fact.ended] == [10]
    assert max(second_of(fact) for fact in facts_of_b) == 10


def test_a_goodbye_that_a_later_start_says_ends_the_earlier_one() -> None:
    """Told for a boot that was released as idle already, it is no longer named as silent."""
    first = heartbeats("b", range(5))
    told = replace(first[-1][0], sequence=5, goodbye=True, emit_time_ns=(START + 30) * SECOND)
    units = read(heartbeats("a", range(60)), first, [(told, np.empty(0, PACKET))])
    assert max(second_of(fact) for fact in said(units, "b") if not fact.ended) == 28
    assert [second_of(fact) for fact in said(units, "b") if fact.ended] == [4]


def test_a_restart_under_the_same_name_is_alive() -> None:
    """The boot that was killed doesn't make the probe silent while another one talks."""
    units = read(
        heartbeats("a", range(60)),
        heartbeats("b", range(11)),
        heartbeats("b", range(12, 60), boot=2),
    )
    assert all(fact.alive for fact in said(units, "b"))


def test_a_probe_that_comes_back_is_alive_again() -> None:
    """Silence ends with the next message of the same boot."""
    beats = heartbeats("b", [*range(11), *range(40, 60)])
    units = read(heartbeats("a", range(60)), beats)
    silent = [second_of(fact) for fact in said(units, "b") if not fact.alive]
    assert (min(silent), max(silent)) == (20, 38)
    assert second_of(said(units, "b")[-1]) == 58


def test_a_silent_probe_is_given_up_after_a_day() -> None:
    """A unit doesn't carry every probe that there ever was."""
    units = read(heartbeats("a", range(0, 90_000, 100)), heartbeats("b", range(11)), idle_s=150)
    assert max(second_of(fact) for fact in said(units, "b")) in range(86_310, 86_412)
    assert units[-1].silent == ()


def test_what_arrived_and_what_is_missing_by_hop_and_reason() -> None:
    """The facts' sums are the ledger's: what was stored, what was lost and where."""
    rng = np.random.default_rng(1)
    packets = random_packets(rng, 2000, span_ns=20 * SECOND)
    packets = packets[np.argsort(packets["ts_ns"], kind="stable")]
    sent = list(batches(packets, 100, dropped=5, rate=10))
    gone = int(sent[7][1]["packets"].sum())
    units = read(batch for number, batch in enumerate(sent) if number != 7)
    total: Counter[str] = Counter()
    for fact in said(units, "p"):
        total.update(fact.dropped)
    assert total == {"capture:ring_full": 100, "transport:gap": gone}
    assert sum(fact.arrived for fact in said(units, "p")) == int(packets["packets"].sum()) - gone


def test_packets_sampled_out_are_not_missing() -> None:
    """They were left out on purpose."""
    (header, packets), *_ = heartbeats("p", range(1))
    counters = Counters(seen=1000, dropped={"sampled_out": 900, "ring_full": 2})
    units = read(
        [(replace(header, counters=counters), packets)], heartbeats("q", range(9)), end=True
    )
    dropped = [fact.dropped for fact in said(units, "p") if fact.dropped]
    assert dropped == [{"capture:ring_full": 2}]


def drive(log: PacketLog, capture: SyntheticCapture | None = None) -> list[Unit]:
    accumulator = PartitionAccumulator("log", "0", WindowConfig(), [], Networks({}))
    control = RunControl()
    partition = LogPartition(log, accumulator, control)
    units: list[Unit] = []
    while True:
        if capture is not None and capture.finished:
            control.stop()
        try:
            units += partition.next_batch()
        except StopIteration:
            return units


def test_an_interface_is_alive_until_its_end() -> None:
    """It says goodbye when it is stopped."""
    traffic = Traffic(seed=3, packets=50_000, packets_per_second=5_000, start_ns=START * SECOND)
    capture = SyntheticCapture(traffic)
    units = drive(InterfaceLog(capture, Stream("t", "p", counted=True)), capture)
    found = said(units, "p")
    assert any(fact.alive for fact in found)
    assert [fact.ended for fact in found] == [False] * (len(found) - 1) + [True]


def test_captures_and_demo_traffic_are_never_alive() -> None:
    """Nothing more is expected of them, so they can't fall silent."""
    traffic = Traffic(seed=3, packets=50_000, packets_per_second=5_000, start_ns=START * SECOND)
    found = said(drive(DemoLog(traffic)), "demo")
    assert sum(fact.arrived for fact in found) == 50_000
    assert not any(fact.alive or fact.ended for fact in found)
