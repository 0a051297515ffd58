"""Batches of probes: what is missing, repeated, absurd or silent, found from the log alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.kernels.layout import T_PACKETS
from flows.windows.ledger import hops
from flows.windows.networks import Networks
from flows.windows.partition import PartitionAccumulator, WindowConfig
from flows.windows.receiver import BadMessage, BatchReceiver, ReceiverConfig
from flows.windows.unit import Unit
from schemas.batch import Counters
from schemas.record import Packets
from tests.support.naive_flows import random_packets
from tests.support.sender import Batch, batches, through_the_wire

SECOND = 10**9
PANE_NS = 2 * SECOND


def in_order(packets: Packets) -> Packets:
    return packets[np.argsort(packets["ts_ns"], kind="stable")]


def traffic(seed: int, count: int, span_s: int = 20) -> Packets:
    return in_order(random_packets(np.random.default_rng(seed), count, span_ns=span_s * SECOND))


class Log:
    """A partition that takes batches and keeps the units."""

    def __init__(self, config: ReceiverConfig | None = None) -> None:
        self.accumulator = PartitionAccumulator("log", "0", WindowConfig(), [], Networks({}))
        self.receiver = BatchReceiver(self.accumulator, config or ReceiverConfig())
        self.units: list[Unit] = []
        self.offset = 0

    def take(self, log: Iterable[Batch], log_time_ns: int | None = None) -> Log:
        for header, packets in log:
            at_ns = header.emit_time_ns if log_time_ns is None else log_time_ns
            self.receiver.receive(header, packets, at_ns)
            unit = self.accumulator.end_message(self.offset)
            self.offset += 1
            if unit is not None:
                self.units.append(unit)
        return self

    def end(self) -> Log:
        self.units.append(self.accumulator.end(self.offset))
        return self

    @property
    def stored(self) -> int:
        return sum(int(unit.totals[:, T_PACKETS].sum()) for unit in self.units)

    def ledger(self) -> dict[str, tuple[int, int, dict[str, int]]]:
        """Per hop: seen, delivered, dropped by reason."""
        delivered: Counter[str] = Counter()
        dropped: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for unit in self.units:
            for row in hops(unit):
                assert row.delivered >= 0
                delivered[row.hop] += row.delivered
                dropped[row.hop].update(row.dropped)
        return {
            hop: (count + dropped[hop].total(), count, dict(dropped[hop]))
            for hop, count in delivered.items()
        }


def total(packets: Packets) -> int:
    return int(packets["packets"].sum())


def test_every_hop_of_a_whole_log_balances() -> None:
    """What the probe saw, less what it lost, is what was sent, decoded, aggregated, stored."""
    packets = traffic(1, 3000)
    log = Log().take(batches(packets, dropped=7)).end()
    n, lost = total(packets), 30 * 7
    assert log.ledger() == {
        "capture": (n + lost, n, {"ring_full": lost}),
        "transport": (n, n, {}),
        "decode": (n, n, {}),
        "window": (n, n, {}),
        "store": (n, n, {}),
    }
    assert log.stored == n
    assert log.receiver.counts.gaps == log.receiver.counts.repeats == 0


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_missing_batches_are_counted_to_the_packet(data: st.DataObject) -> None:
    """Whatever is lost between two batches that arrive is known exactly."""
    packets = traffic(2, 2000)
    sent = list(batches(packets, 100))
    lost = data.draw(st.sets(st.integers(1, len(sent) - 2)))
    log = Log().take(batch for number, batch in enumerate(sent) if number not in lost).end()
    gone = sum(total(sent[number][1]) for number in lost)
    n = total(packets)
    ledger = log.ledger()
    assert ledger["transport"] == (n, n - gone, {"gap": gone} if gone else {})
    assert ledger["capture"][:2] == (n, n)
    assert log.stored == n - gone
    counts = log.receiver.counts
    assert (counts.missing_batches, counts.missing_packets) == (len(lost), gone)
    assert counts.gaps == sum(number - 1 not in lost for number in lost)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 19), max_size=12))
def test_a_repeated_batch_counts_once(again: list[int]) -> None:
    """Batches that come a second time, at once or later, change nothing but the tally."""
    packets = traffic(3, 2000)
    sent = list(batches(packets, 100, goodbye=False))
    log = Log()
    for number, batch in enumerate(sent):
        log.take([batch])
        log.take(sent[old] for old in again if old <= number)
    assert log.end().stored == total(packets)
    assert log.receiver.counts.repeats == sum(20 - old for old in again)
    assert log.ledger()["transport"] == (total(packets), total(packets), {})


def test_a_new_start_of_a_probe_is_no_gap() -> None:
    """Sequence and counters begin anew with the boot id, and both starts add up."""
    first, second = traffic(4, 500), traffic(5, 700)
    log = Log().take(batches(first, boot=1, dropped=2)).take(batches(second, boot=2, dropped=3))
    n = total(first) + total(second)
    lost = 5 * 2 + 7 * 3
    assert log.end().ledger()["capture"] == (n + lost, n, {"ring_full": lost})
    assert log.receiver.counts.gaps == 0


def test_a_log_that_begins_in_the_middle_is_no_gap() -> None:
    """What retention removed before our first batch is not counted as lost on the way."""
    packets = traffic(6, 1000)
    log = Log().take(list(batches(packets, 100))[4:]).end()
    assert log.receiver.counts.gaps == 0
    assert log.stored == total(packets[400:])


def test_a_log_whose_first_message_is_not_a_probes_first_has_a_gap() -> None:
    """Nothing was removed before offset 0, so what the probe sent earlier never arrived."""
    packets = traffic(6, 1000)
    log = Log()
    (header, part), *rest = list(batches(packets, 100))[2:]
    log.receiver.receive(header, part, header.emit_time_ns, first=True)
    ledger = log.take(rest).end().ledger()
    n, lost = total(packets), total(packets[:200])
    assert ledger["transport"] == (n, n - lost, {"gap": lost})


def test_the_slowest_active_probe_holds_the_watermark() -> None:
    """Until it says goodbye, however far the others are."""
    packets = traffic(7, 1000)
    fast, slow = (list(batches(packets, 100, probe=name, boot=n)) for n, name in enumerate("ab"))
    log = Log().take(fast[:1]).take(slow[:1]).take(fast[1:9])
    assert log.accumulator.watermark_ns == slow[0][0].watermark_ns - SECOND
    now_ns = fast[8][0].emit_time_ns
    goodbye = replace(slow[1][0], goodbye=True)
    log.take([(goodbye, slow[1][1])], now_ns)
    assert log.accumulator.watermark_ns == fast[8][0].watermark_ns - SECOND


def test_the_last_goodbye_closes_everything() -> None:
    """When no probe is left, nothing waits for packets that nobody will send."""
    packets = traffic(8, 1000)
    log = Log().take(batches(packets, 100, dropped=1))
    assert log.stored == total(packets)
    assert log.ledger()["capture"][0] == total(packets) + 10


def test_a_silent_probe_is_left_behind_by_log_time() -> None:
    """After the idle time of the log's own clock, and not before."""
    packets = traffic(9, 1000)
    fast, slow = (list(batches(packets, 100, probe=name, boot=n)) for n, name in enumerate("ab"))
    log = Log(ReceiverConfig(idle_ns=30 * SECOND))
    start_ns = slow[0][0].emit_time_ns
    log.take(slow[:1], start_ns).take(fast[:9], start_ns + 30 * SECOND)
    held_ns = log.accumulator.watermark_ns
    assert held_ns == slow[0][0].watermark_ns - SECOND
    log.take(fast[9:10], start_ns + 30 * SECOND + 1)
    assert log.accumulator.watermark_ns > held_ns
    log.take(slow[1:2], start_ns + 31 * SECOND)
    assert log.end().stored == total(packets) + total(slow[0][1]) + total(slow[1][1])


@pytest.mark.parametrize("late_ns", [0, 1, 10**18])
def test_times_ahead_of_their_emission_are_refused(late_ns: int) -> None:
    """A packet or watermark over the limit makes the whole batch a dead letter."""
    packets = traffic(10, 100).copy()
    ((header, _),) = batches(packets)
    limit_ns = header.emit_time_ns + 60 * SECOND
    packets["ts_ns"][50] = limit_ns + late_ns
    log = Log()
    ahead = replace(header, watermark_ns=limit_ns + late_ns)
    if late_ns == 0:
        log.take([through_the_wire(header, packets)])
        log.take([through_the_wire(replace(ahead, sequence=1), packets)])
        assert log.receiver.counts.batches == 2
        return
    with pytest.raises(BadMessage, match=r"a packet is .* s ahead of its batch's emit time"):
        log.take([through_the_wire(header, packets)])
    with pytest.raises(BadMessage, match="the watermark is"):
        log.take([through_the_wire(ahead, traffic(10, 100))])
    assert log.end().stored == 0
    assert log.receiver.counts.batches == 0


def test_a_probe_from_the_future_harms_nobody_else() -> None:
    """Clocks 5 s off are taken as they are; one in 2038 is named, and the others' panes close."""
    packets = traffic(15, 2000)
    log = Log()
    good = list(batches(packets, 100, probe="good", boot=1))
    clocks = {"ahead": 5, "behind": -5, "future": 10**9}
    strange = {}
    for boot, (name, seconds) in enumerate(clocks.items(), 2):
        shifted = packets.copy()
        shifted["ts_ns"] = (shifted["ts_ns"].astype(np.int64) + seconds * SECOND).astype(np.uint64)
        strange[name] = list(batches(shifted, 100, probe=name, boot=boot))
    for number, batch in enumerate(good):
        now_ns = batch[0].emit_time_ns
        log.take([batch], now_ns)
        for name in clocks:
            if name == "future":
                with pytest.raises(BadMessage, match="clock is 1,000,000,000 s ahead of the log's"):
                    log.take([strange[name][number]], now_ns)
            else:
                log.take([strange[name][number]], now_ns)
    assert log.stored == 3 * total(packets)
    assert log.end().ledger()["decode"][2] == {"bad_message": total(packets)}
    assert log.accumulator.open_panes() == []


def test_tenants_over_the_limit_share_a_name() -> None:
    """The first ones keep theirs; an allow-list admits no others."""
    packets = traffic(11, 50)
    for config, named in (
        (ReceiverConfig(max_tenants=2), {"t0", "t1"}),
        (ReceiverConfig(tenants=frozenset({"t3"})), {"t3"}),
    ):
        log = Log(config)
        for number in range(4):
            log.take(batches(packets, tenant=f"t{number}", boot=number))
        assert {stream.tenant for stream in log.units[-1].streams} == named | {"_other"}
        assert log.end().stored == 4 * total(packets)


def test_counters_that_are_read_unevenly_still_add_up() -> None:
    """A reading in which drops run ahead of what was seen is made up for by the next."""
    packets = traffic(12, 300)
    sent = list(batches(packets, 100))
    n = total(packets)
    readings = [
        Counters(seen=100, dropped={"ring_full": 0}),
        Counters(seen=101, dropped={"ring_full": 5}),
        Counters(seen=n + 5, dropped={"ring_full": 5}),
    ]
    log = Log().take(
        (replace(header, counters=counters), part)
        for (header, part), counters in zip(sent, readings, strict=True)
    )
    assert log.end().ledger()["capture"] == (n + 5, n, {"ring_full": 5})


def test_sampled_batches_are_scaled_in_tables_not_in_the_ledger() -> None:
    """One in ten was kept: flows are multiplied, the ledger tells what was handled."""
    packets = traffic(13, 500)
    n = total(packets)
    log = Log().take(batches(packets, rate=10)).end()
    assert log.stored == 10 * n
    assert {hop: row[:2] for hop, row in log.ledger().items()} == dict.fromkeys(
        ("capture", "transport", "decode", "window", "store"), (n, n)
    )


def test_interfaces_are_named_by_the_header() -> None:
    """The name that a batch gives an index is the stream's."""
    log = Log().take(batches(traffic(14, 10), interfaces={"eth7": 3})).end()
    assert log.units[-1].streams[0].interfaces == {3: "eth7"}
