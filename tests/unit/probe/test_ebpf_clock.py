"""From monotonic to Unix time: noise is ignored, a step of the wall clock is followed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from probe.ebpf.clock import Clock

DAY_NS = 86_400_000_000_000


class FakeTime:
    """Two clocks of which each reading takes a while; the wall clock can be set."""

    def __init__(self, delays_ns: list[int]) -> None:
        self.now_ns = 7 * DAY_NS
        self.offset_ns = 20_000 * DAY_NS
        self._delays_ns = delays_ns
        self._reading = 0

    def _tick(self) -> None:
        self.now_ns += self._delays_ns[self._reading % len(self._delays_ns)]
        self._reading += 1

    def monotonic_ns(self) -> int:
        self._tick()
        return self.now_ns

    def wall_ns(self) -> int:
        self._tick()
        return self.now_ns + self.offset_ns

    def clock(self) -> Clock:
        return Clock(self.monotonic_ns, self.wall_ns)


@settings(max_examples=100)
@given(st.lists(st.integers(1, 1_000_000), min_size=1, max_size=30))
def test_error_is_at_most_half_the_tightest_reading(delays_ns: list[int]) -> None:
    """However slow single readings are, the tightest of five decides."""
    time = FakeTime(delays_ns)
    start, readings = time.now_ns, []
    clock = time.clock()
    for reading in range(5):
        # The first reading of all is the time of the measurement itself.
        between = [delays_ns[(1 + 3 * reading + k) % len(delays_ns)] for k in (1, 2)]
        readings.append(sum(between))
    assert time.now_ns > start
    assert abs(clock.offset_ns - time.offset_ns) <= min(readings) // 2 + 1


def test_noise_changes_nothing() -> None:
    """Another measurement of the same difference leaves it exactly as it was."""
    time = FakeTime([100, 900, 50, 3000, 20])
    clock = time.clock()
    before_ns = clock.offset_ns
    for _ in range(20):
        time.now_ns += 150_000_000
        assert not clock.update()
    assert clock.offset_ns == before_ns


def test_a_step_is_followed_at_once() -> None:
    """A wall clock that is set, forwards or backwards, is followed by the next measurement."""
    time = FakeTime([40])
    clock = time.clock()
    for step_ns in (5_000, -3_600_000_000_000, 1_000_000_000):
        time.offset_ns += step_ns
        assert not clock.update()  # not yet 100 ms later
        time.now_ns += 100_000_000
        assert clock.update()
        assert abs(clock.offset_ns - time.offset_ns) <= 40


def test_real_clocks() -> None:
    """Of the real clocks, monotonic time plus the difference is Unix time."""
    import time

    clock = Clock()
    before_ns = time.time_ns()
    now_ns = clock.now_ns() + clock.offset_ns
    after_ns = time.time_ns()
    assert before_ns - 1_000_000 <= now_ns <= after_ns + 1_000_000
