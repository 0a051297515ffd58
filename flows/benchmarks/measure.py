"""What a measurement is: timings, figures, and the goals they are held against."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a number of items took.

    Attributes:
        items: packets, flows or rows.
        cpu_s: of all threads of the process.
        wall_s: on the clock.
    """

    items: int
    cpu_s: float
    wall_s: float

    @property
    def per_cpu_s(self) -> float:
        """Items per CPU second."""
        return self.items / max(self.cpu_s, 1e-9)

    @property
    def per_wall_s(self) -> float:
        """Items per second on the clock."""
        return self.items / max(self.wall_s, 1e-9)

    def __add__(self, other: Timing) -> Timing:
        return Timing(
            self.items + other.items, self.cpu_s + other.cpu_s, self.wall_s + other.wall_s
        )


class Stopwatch:
    """CPU and wall time since it was made."""

    def __init__(self) -> None:
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def read(self, items: int) -> Timing:
        """What ``items`` items have taken."""
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        return Timing(items, cpu_s - self._cpu_s, wall_s - self._wall_s)


def best(
    run: Callable[[Any], object],
    items: int,
    *,
    repeats: int = 3,
    prepare: Callable[[], Any] = lambda: None,
) -> Timing:
    """Time ``run(prepare())``, preparation left out; the repeat that took the least CPU.

    With two repeats and more, the compilation of kernels isn't counted.
    """
    timings = []
    for _ in range(repeats):
        prepared = prepare()
        watch = Stopwatch()
        run(prepared)
        timings.append(watch.read(items))
    return min(timings, key=lambda timing: timing.cpu_s)


class Goal(NamedTuple):
    """What a figure should be."""

    value: float
    at_least: bool = True


class Baseline(NamedTuple):
    """What a figure is compared with, in the figure's own unit."""

    name: str
    value: float


@dataclass(frozen=True)
class Figure:
    """A measured number with what it is compared with.

    Attributes:
        part: part of the engine.
        name: what was measured.
        value: in ``unit``.
        unit: such as ``packets/CPU s``.
        baselines: measured in the same run.
        goal: of the project, where there is one.
    """

    part: str
    name: str
    value: float
    unit: str
    baselines: tuple[Baseline, ...] = ()
    goal: Goal | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None without a goal."""
        if self.goal is None:
            return None
        if self.goal.at_least:
            return self.value >= self.goal.value
        return self.value <= self.goal.value
