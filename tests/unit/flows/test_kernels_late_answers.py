"""Tries that are answered after the end of their pane: as the plain twin has it, and by rule."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.kernels.classes import ATTEMPT, INITIATED, SYN
from flows.kernels.late_answers import take_back
from flows.kernels.layout import ENTRY_WORDS, FIRST, LAST, PLACE
from tests.support.naive_classes import naive_classes, naive_take_back
from tests.unit.flows.test_kernels_classes import ACK, FLOWS, ICMP, SYN_FLAG, UDP, A, B, flow

PANE_NS: Final = 2 * 10**9
END_NS: Final = 8 * PANE_NS
MS: Final = 10**6
OWNERS: Final = (0, 0, 1)


def at(row: list[int], first_ns: int, last_ns: int | None = None) -> list[int]:
    """A flow with other times."""
    return [*row[:FIRST], first_ns, last_ns or first_ns, *row[LAST + 1 :]]


def entries_of(rows: Any) -> npt.NDArray[np.uint64]:
    return np.array(rows, np.uint64).reshape(-1, ENTRY_WORDS)


def judged(rows: list[list[int]], later: list[list[int]]) -> list[int]:
    entries, ahead = entries_of(rows), entries_of(later)
    classes = np.array(naive_classes(entries, OWNERS, ()), np.uint8)
    owners = np.array(OWNERS, np.uint64)
    take_back(np.asfortranarray(entries), ahead, owners, np.uint64(PANE_NS), classes)
    found: list[int] = classes.tolist()
    return found


CLOSED = st.builds(at, FLOWS, st.integers(END_NS - 600 * MS, END_NS - 1))
NEXT = st.builds(at, FLOWS, st.integers(END_NS, END_NS + 600 * MS))


@given(st.lists(CLOSED, max_size=30), st.lists(NEXT, max_size=30))
def test_the_kernel_agrees_with_the_plain_twin(rows: Any, later: Any) -> None:
    """Random flows before and after a pane's end get the twin's classes."""
    entries, ahead = entries_of(rows), entries_of(later)
    classes = naive_classes(entries, OWNERS, ())
    expected = naive_take_back(entries, ahead, OWNERS, PANE_NS, classes)
    assert judged(rows, later) == expected


SYN_BEFORE: Final = at(flow(A, B, 5000, 80, flags=SYN_FLAG), END_NS - 50 * MS)


def test_a_connection_cut_by_the_pane_s_end_is_no_attempt() -> None:
    """Its SYN is in one pane and its first acknowledgement in the next."""
    later = at(flow(A, B, 5000, 80, flags=ACK, pane=8), END_NS + 50 * MS)
    assert judged([SYN_BEFORE], [later]) == [INITIATED]


@pytest.mark.parametrize(
    "later",
    [
        at(flow(A, B, 5000, 80, flags=SYN_FLAG, pane=8), END_NS + 50 * MS),
        at(flow(B, A, 80, 5000, flags=SYN_FLAG | ACK, pane=8), END_NS + 50 * MS),
        at(flow(A, B, 5000, 80, flags=ACK, pane=8), END_NS + 451 * MS),
        at(flow(A, B, 5000, 80, flags=ACK, pane=9), END_NS + 50 * MS),
        at(flow(A, B, 5001, 80, flags=ACK, pane=8), END_NS + 50 * MS),
        at(flow(A, B, 5000, 80, flags=ACK, pane=8, stream=2), END_NS + 50 * MS),
    ],
    ids=["asked again", "half open", "too late", "a pane later", "other port", "other tenant"],
)
def test_anything_else_takes_nothing_back(later: list[int]) -> None:
    """What isn't the asker's own acknowledgement, in time, leaves a try one."""
    assert judged([SYN_BEFORE], [later]) == [ATTEMPT | SYN | INITIATED]


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (flow(A, B, 5000, 6000, UDP), flow(B, A, 6000, 5000, UDP, pane=8)),
        (flow(A, B, 0, 8 << 8, ICMP), flow(B, A, 0, 0, ICMP, pane=8)),
    ],
    ids=["UDP", "echo"],
)
def test_a_late_answer_counts(asked: list[int], answer: list[int]) -> None:
    """A datagram or an echo request that is answered in the next pane was no attempt."""
    before = at(asked, END_NS - 1)
    assert judged([before], [at(answer, END_NS)]) == [INITIATED]
    assert judged([before], []) == [ATTEMPT | INITIATED]


def test_several_places_of_one_flow_are_taken_back_together() -> None:
    """A flow that was seen at two interfaces is two rows; both are answered."""
    other = at(flow(A, B, 5000, 80, flags=SYN_FLAG, place=1), END_NS - 50 * MS)
    later = at(flow(A, B, 5000, 80, flags=ACK, pane=8), END_NS)
    assert judged([SYN_BEFORE, other], [later]) == [INITIATED, INITIATED]


def test_many_places_of_one_flow_take_no_longer() -> None:
    """One five-tuple in 300 000 tunnels is one group, before the pane's end and after it."""
    count = 300_000
    before = np.tile(entries_of([SYN_BEFORE]), (count, 1))
    after = np.tile(entries_of([at(flow(A, B, 5000, 80, flags=ACK, pane=8), END_NS)]), (count, 1))
    before[:, PLACE] = after[:, PLACE] = np.arange(count, dtype=np.uint64) << np.uint64(32)
    classes = np.full(count, ATTEMPT | SYN | INITIATED, np.uint8)
    owners = np.array(OWNERS, np.uint64)
    take_back(np.asfortranarray(before), after, owners, np.uint64(PANE_NS), classes)
    assert set(classes.tolist()) == {INITIATED}
