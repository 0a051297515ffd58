"""Batches: every record once, in order, in its partition, numbered without gaps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.live import CaptureCounts
from probe.ship.batcher import Batcher, Message, home_partition, scatter
from schemas.batch import MAX_RECORDS, Counters, decode_batch
from schemas.hashing import PARTITION_SEED, partitions
from schemas.record import PACKET, PACKET_WORDS, Packets, as_words
from tests.support.batches import check_batches

BOOT = bytes(range(16))
TIMES = {"emit_time_ns": 1_000, "watermark_ns": 900}


def batcher(count: int = 3, **options: Any) -> Batcher:
    return Batcher(partitions=count, tenant="t", probe="p", boot_id=BOOT, **options)


def traffic(count: int, seed: int = 1) -> Packets:
    """Records of random bytes between few addresses, each with its number as its time."""
    random = np.random.default_rng(seed)
    packets = np.frombuffer(random.bytes(count * PACKET.itemsize), PACKET).copy()
    for field in ("src_addr", "dst_addr"):
        packets[field] = 0
        packets[field][:, 15] = random.integers(0, 6, count)
    packets["ts_ns"] = np.arange(count)
    return packets


def check(messages: list[Message], packets: Packets, count: int) -> None:
    """The messages are what they must be, and tell about themselves what they carry."""
    headers = check_batches((message.value for message in messages), packets, count)
    for message, header in zip(messages, headers, strict=True):
        assert (message.partition, message.sequence) == (header.partition, header.sequence)
        assert message.packets_before == header.packets_before
        _, records = decode_batch(message.value)
        assert message.packets == int(records["packets"].sum(dtype=np.uint64))


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 5),
    steps=st.lists(st.integers(0, 12_000) | st.just(-1), max_size=8),
    seed=st.integers(0, 1000),
)
def test_any_split_gives_the_same_records_in_the_same_order(
    count: int, steps: list[int], seed: int
) -> None:
    """However records come and whenever batches are cut (-1), partitions get the same."""
    packets = traffic(sum(step for step in steps if step > 0), seed)
    made = batcher(count)
    messages: list[Message] = []
    start = 0
    for step in steps:
        if step < 0:
            messages += made.cut(**TIMES, counts=None)
        else:
            messages += made.add(packets[start : start + step], **TIMES)
            start += step
        assert made.packets_taken == int(packets["packets"][:start].sum(dtype=np.uint64))
    messages += made.cut(**TIMES, counts=None)
    check(messages, packets, count)
    assert made.packets_sent == made.packets_taken == sum(m.packets for m in messages)


def plain_scatter(
    words: Any, start: int, buffers: Any, fill: Any, packets: Any, place: Callable[[int], int]
) -> int:
    """The kernel as anyone would write it."""
    for i in range(start, len(words)):
        partition = place(i)
        buffers[partition, fill[partition]] = words[i]
        fill[partition] += 1
        packets[partition] += int(words[i].view(PACKET)["packets"][0])
        if fill[partition] == buffers.shape[1]:
            return i + 1
    return len(words)


@settings(max_examples=100, deadline=None)
@given(
    count=st.integers(1, 4),
    size=st.integers(1, 5),
    records=st.integers(0, 20),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_kernel_equals_its_plain_twin(
    count: int, size: int, records: int, seed: int, data: st.DataObject
) -> None:
    """Compiled or not: buffers, counts and the place where it stops are those of plain Python."""
    words = as_words(traffic(records, seed))
    start = data.draw(st.integers(0, records))
    fill = data.draw(st.lists(st.integers(0, size - 1), min_size=count, max_size=count))
    place = partitions(words, count).tolist()
    results = []
    for kernel in (scatter, scatter.py_func, plain_scatter):
        buffers = np.zeros((count, size, PACKET_WORDS), np.uint64)
        filled, packets = np.array(fill, np.int64), np.zeros(count, np.int64)
        seed_and_count = np.uint64(PARTITION_SEED), np.uint64(count)
        last = (place.__getitem__,) if kernel is plain_scatter else seed_and_count
        end = kernel(words, start, buffers, filled, packets, *last)
        results.append((end, buffers.tolist(), filled.tolist(), packets.tolist()))
    assert results[0] == results[1] == results[2]


def test_a_full_partition_is_cut_at_once() -> None:
    """8192 records of a host pair make a message by themselves, what follows waits."""
    packets = np.zeros(2 * MAX_RECORDS + 1, PACKET)
    packets["packets"] = 3
    made = batcher()
    messages = made.add(packets, **TIMES)
    assert [message.packets for message in messages] == [3 * MAX_RECORDS] * 2
    assert made.packets_taken - made.packets_sent == 3
    for message in messages:
        header, _ = decode_batch(message.value)
        assert (header.emit_time_ns, header.watermark_ns) == (1_000, 900)
        assert header.counters is None


def test_a_cut_reaches_every_partition_and_counts_go_home() -> None:
    """Empty batches are sent too; only the home partition's carries the totals."""
    made = batcher(5, sampling_rate=7)
    made.interfaces = {2: "eth0", 3: "eth1"}
    counts = CaptureCounts(10, {"ring_full": 2}, filtered=99)
    headers = [decode_batch(m.value)[0] for m in made.cut(**TIMES, counts=counts, goodbye=True)]
    assert [header.partition for header in headers] == list(range(5))
    for header in headers:
        home = header.partition == made.home
        assert header.counters == (Counters(seen=10, dropped={"ring_full": 2}) if home else None)
        assert (header.tenant, header.probe, header.boot_id) == ("t", "p", BOOT)
        assert (header.sampling_rate, header.goodbye) == (7, True)
        assert header.interfaces == {"eth0": 2, "eth1": 3}


def test_only_some_partitions_may_be_cut() -> None:
    """A partition left out keeps its records for the next cut."""
    packets = traffic(500)
    made = batcher(4)
    messages = made.add(packets, **TIMES)
    messages += made.cut(**TIMES, counts=None, only=[0, 2])
    assert {message.partition for message in messages} == {0, 2}
    messages += made.cut(**TIMES, counts=None)
    check(messages, packets, 4)


def test_aggregated_records_mark_their_batch_and_no_later_one() -> None:
    """The flag holds from the records until their batch is cut."""
    made = batcher(1)
    flags = []
    for aggregated in (False, True, False):
        made.add(traffic(1), **TIMES, aggregated=aggregated)
        flags += [decode_batch(m.value)[0].aggregated for m in made.cut(**TIMES, counts=None)]
    made.add(traffic(1), **TIMES, aggregated=True)
    made.add(traffic(1), **TIMES)
    flags += [decode_batch(m.value)[0].aggregated for m in made.cut(**TIMES, counts=None)]
    assert flags == [False, True, False, True]


def test_messages_take_a_registrys_framing() -> None:
    """With a schema id they are in the Confluent wire format."""
    (message,) = batcher(1, schema_id=5).cut(**TIMES, counts=None)
    assert message.value[:5] == b"\0\0\0\0\5"


def test_a_buffer_may_be_reused_after_it_was_added() -> None:
    """Records are copied, so what the caller does with its buffer changes nothing."""
    packets = traffic(100)
    buffer = packets.copy()
    made = batcher()
    made.add(buffer, **TIMES)
    buffer[:] = np.zeros(1, PACKET)
    check(made.cut(**TIMES, counts=None), packets, 3)


def test_home_is_the_same_at_every_start() -> None:
    """It depends on tenant, probe and partitions, by values that must not change."""
    assert [home_partition("default", f"edge-{i}", 12) for i in range(4)] == [0, 0, 5, 9]
    assert home_partition("a", "bc", 1 << 60) != home_partition("ab", "c", 1 << 60)


def test_a_topic_without_partitions_is_refused() -> None:
    """There is nowhere to send to."""
    with pytest.raises(ValueError, match="partitions is 0"):
        batcher(0)
