"""Partitions of a process stay together in event time, and none waits for nothing."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.sources.pace import Pace

LEAD = 60


def test_others_wait_for_one_that_begins() -> None:
    """Nothing is known of a partition until it says where it is."""
    pace = Pace(LEAD)
    pace.join("0")
    pace.join("1")
    assert not pace.must_wait("0")
    pace.note("0", 1000, caught_up=False)
    assert pace.must_wait("0")
    assert not pace.must_wait("1")
    pace.note("1", 999, caught_up=False)
    assert not pace.must_wait("0")


@pytest.mark.parametrize(("ahead", "waits"), [(LEAD, False), (LEAD + 1, True)])
def test_the_lead_is_bounded_to_the_nanosecond(ahead: int, waits: bool) -> None:
    """So far ahead is allowed and no further; the slowest one never waits."""
    pace = Pace(LEAD)
    for name, watermark_ns in (("0", 100), ("1", 100 + ahead), ("2", 150)):
        pace.join(name)
        pace.note(name, watermark_ns, caught_up=False)
    assert pace.must_wait("1") is waits
    assert not pace.must_wait("0")


def test_one_that_has_read_all_holds_nobody_back() -> None:
    """A silent partition's old watermark counts only while it has something to read."""
    pace = Pace(LEAD)
    for name in ("0", "1"):
        pace.join(name)
    pace.note("0", 10**6, caught_up=False)
    pace.note("1", 0, caught_up=True)
    assert not pace.must_wait("0")
    pace.note("1", 0, caught_up=False)
    assert pace.must_wait("0")


def test_alone_it_never_waits() -> None:
    """One partition has nobody to wait for."""
    pace = Pace(0)
    pace.join("0")
    pace.note("0", 10**18, caught_up=False)
    assert not pace.must_wait("0")


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_backlogs_of_any_shape_are_read_to_their_end(seed: int, count: int) -> None:
    """However turns are given: nobody leads by more than allowed and a step, all get through."""
    rng = np.random.default_rng(seed)
    logs = [np.cumsum(rng.integers(1, 40, int(rng.integers(1, 60)))).tolist() for _ in range(count)]
    pace, at = Pace(LEAD), [0] * count
    for name in range(count):
        pace.join(str(name))
    turns = 0
    while any(at[n] < len(log) for n, log in enumerate(logs)):
        turns += 1
        assert turns < 100_000, "all wait for each other"
        n = int(rng.integers(count)) if rng.random() < 0.3 else turns // 100 % count
        if at[n] == len(logs[n]):
            pace.note(str(n), logs[n][-1], caught_up=True)
        elif not pace.must_wait(str(n)):
            pace.note(str(n), logs[n][at[n]], caught_up=False)
            at[n] += 1
        open_ns = [log[at[m] - 1] if at[m] else 0 for m, log in enumerate(logs) if at[m] < len(log)]
        if open_ns and at[n] and at[n] < len(logs[n]):
            assert logs[n][at[n] - 1] - min(open_ns) <= LEAD + 40


def test_threads_may_join_and_ask_at_once() -> None:
    """Workers share it: nothing is raised, and the lead holds for all of them."""
    pace, steps, errors = Pace(LEAD), 500, []
    names = [str(n) for n in range(4)]
    for name in names:
        pace.join(name)

    def work(name: str) -> None:
        try:
            done = 0
            while done < steps:
                if not pace.must_wait(name):
                    done += 1
                    pace.note(name, done, caught_up=False)
            pace.join(f"{name}-late")
            pace.note(f"{name}-late", 0, caught_up=True)
            pace.note(name, steps, caught_up=True)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert not any(thread.is_alive() for thread in threads)
