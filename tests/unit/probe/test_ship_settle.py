"""A probe that was killed: what it left is said goodbye to, to the packet."""

from __future__ import annotations

import numpy as np
import pytest

from probe.live import CaptureCounts
from probe.ship import settle
from probe.ship.batcher import Message, home_partition
from probe.unclean import UncleanStop
from schemas.batch import Counters, decode_batch
from tests.support.synthetic_capture import sent_state

BOOT = bytes(range(16))


def unclean(
    sequences: list[int], packets: list[int], counts: CaptureCounts, boot_id: bytes = BOOT
) -> UncleanStop:
    arrays = (np.array(numbers, np.uint64) for numbers in (sequences, packets))
    return UncleanStop(boot_id, counts, *arrays, np.zeros(1, np.uint64))


def farewell(left: UncleanStop, partitions: int = 12) -> tuple[list[Message], int]:
    return settle.farewell(
        left, tenant="t", probe="p", partitions=partitions, emit_time_ns=20, watermark_ns=10
    )


def test_goodbye_is_said_for_the_old_boot() -> None:
    """Every partition that it wrote to gets its next number and its sum, once."""
    left = unclean([4, 0, 6, 0, 0], [40, 0, 60, 0, 0], CaptureCounts(130, {"ring_full": 10}))
    messages, lost = farewell(left)
    assert lost == 20
    home = home_partition("t", "p", 3)
    headers = [decode_batch(message.value)[0] for message in messages]
    assert [header.partition for header in headers] == sorted({0, 2, home})
    for header in headers:
        assert header.boot_id == BOOT
        assert header.goodbye
        assert header.record_count == 0
        assert header.sequence == left.sequences[header.partition]
        assert header.packets_before == left.packets[header.partition]
        assert (header.emit_time_ns, header.watermark_ns) == (20, 10)
    counters = {header.partition: header.counters for header in headers if header.counters}
    assert counters == {home: Counters(seen=130, dropped={"ring_full": 10, "unclean_stop": 20})}


def test_the_old_boots_ledger_balances() -> None:
    """Seen is dropped plus sent, so that only what is missing in transport is left to find."""
    left = unclean([9, 9], [700, 300], CaptureCounts(1234, {"ring_full": 34, "sampled_out": 100}))
    messages, _ = farewell(left)
    (counters,) = filter(None, (decode_batch(m.value)[0].counters for m in messages))
    assert counters.seen == sum(counters.dropped.values()) + 1000


def test_a_boot_that_sent_nothing_is_settled_too() -> None:
    """Killed before its first batch, it still tells what it had seen."""
    (message,), lost = farewell(unclean([0] * 64, [0] * 64, CaptureCounts(7)))
    header, _ = decode_batch(message.value)
    assert header.partition == home_partition("t", "p", 12)
    assert header.counters == Counters(seen=7, dropped={"unclean_stop": 7})
    assert lost == 7


def test_what_is_told_twice_is_the_same() -> None:
    """Starts that don't know whether a goodbye arrived say it again, as the same boot."""
    left = unclean([0] * 64, [0] * 64, CaptureCounts(7))
    (first,), (second,) = farewell(left)[0], farewell(left)[0]
    assert first == second


def test_a_boot_is_settled_with_its_last_acknowledgement() -> None:
    """What was left is marked when each of its goodbyes has arrived."""
    left = unclean([1, 1], [1, 1], CaptureCounts(2))
    told = settle.Told(left, 2)
    assert not left.ended[0]
    told()
    assert not left.ended[0]
    told()
    assert left.ended[0]


def test_counters_that_fell_behind_lose_nothing() -> None:
    """Fewer packets seen than sent, as after a crash of the machine, is no negative loss."""
    messages, lost = farewell(unclean([1], [100], CaptureCounts(50)))
    assert lost == 0
    assert decode_batch(messages[0].value)[0].counters == Counters(
        seen=50, dropped={"unclean_stop": 0}
    )


def test_notes_are_the_next_number_and_the_sum() -> None:
    """What is written down is what a goodbye must say."""
    state = sent_state(4)
    state.sequences[:] = 99
    settle.begin(state, BOOT, 3)
    assert state.boot_id.tobytes() == BOOT
    assert state.sequences.tolist() == [0, 0, 0, 0]
    settle.note(state, Message(2, b"", 6, 1000, 24))
    assert state.sequences.tolist() == [0, 0, 7, 0]
    assert state.packets.tolist() == [0, 0, 1024, 0]


def test_more_partitions_than_the_state_holds_are_refused() -> None:
    """Numbers are never written beyond it."""
    with pytest.raises(ValueError, match=r"5 partitions, .* holds 4"):
        settle.begin(sent_state(4), BOOT, 5)
