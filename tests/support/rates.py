"""Rates of hosts, minute by minute, and a volume detector that is shown them.

A host is a row: as many hosts as a test wants seeds. Everything is in bits per second.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.detect.alert import Severity
from flows.detect.detector import Reading
from flows.detect.detectors.volume import Volume
from flows.detect.window import View
from flows.sketches.frequency import Frequency
from flows.windows.sampling import UNSAMPLED, Sampling
from schemas.hashing import hash_words

SECOND = 10**9
MINUTE_NS = 60 * SECOND
DAY = 1440
"""Minutes."""

START_NS = 1_699_920_000 * SECOND
"""Tuesday 2023-11-14, 00:00 UTC."""

MBIT = 1e6
FIRST_HOST = 10 << 24

Rates = npt.NDArray[np.float64]


def hosts(n: int) -> npt.NDArray[np.uint64]:
    """Keys of hosts 10.0.0.0 and on, as two little-endian words of an address."""
    raw = np.zeros((n, 16), np.uint8)
    raw[:, 10:12] = 0xFF
    raw[:, 12:] = (
        (FIRST_HOST + np.arange(n, dtype=">u4")).astype(">u4").view(np.uint8).reshape(n, 4)
    )
    return raw.view(np.uint64)


def steady(rng: np.random.Generator, n: int, windows: int, mean: float = 10 * MBIT) -> Rates:
    """Log-normal, each window like the one before: a factor of 1.4 either way, and hosts differ."""
    noise = rng.normal(0, 0.5, (n, windows))
    for window in range(1, windows):
        noise[:, window] = 0.8 * noise[:, window - 1] + 0.6 * noise[:, window]
    return np.asarray(mean * 2 ** (noise + rng.normal(0, 1, (n, 1))))


def day_and_night(
    rng: np.random.Generator, n: int, windows: int, mean: float = 10 * MBIT, minutes: int = 1
) -> Rates:
    """The same, a tenth of it at night, and half of it at the weekend; windows of some minutes."""
    minute = np.arange(windows) * minutes + START_NS // MINUTE_NS
    wave = 0.5 * (1 + np.sin(2 * np.pi * (minute / DAY - 0.375)))
    weekend = np.where(np.isin((minute // DAY + 3) % 7, (5, 6)), 0.5, 1.0)
    return steady(rng, n, windows, mean) * 10 ** (wave - 1) * weekend


def downloads(rng: np.random.Generator, n: int, minutes: int, a_day: float = 10.0) -> Rates:
    """Next to nothing, and now and then some minutes at what a line of 10 to 100 Mbit/s gives."""
    rates = np.full((n, minutes), 20e3)
    line = 10 * MBIT * 10 ** rng.random(n)
    for host in range(n):
        for start in rng.integers(0, minutes, rng.poisson(a_day * minutes / DAY)).tolist():
            end = start + 1 + int(rng.exponential(4))
            rates[host, start:end] = line[host] * rng.uniform(0.5, 1)
    return rates


def nightly(
    rng: np.random.Generator, n: int, minutes: int, factor: float = 20.0, length: int = 30
) -> Rates:
    """Steady at 1 Mbit/s, and each night at an hour of its own many times as much."""
    rates = steady(rng, n, minutes, 1 * MBIT)
    at = rng.integers(0, DAY, n)
    for host in range(n):
        for start in range(int(at[host]), minutes, DAY):
            start = max(start + int(rng.integers(-5, 6)), 0)
            rates[host, start : start + length] = factor * MBIT
    return rates


def detector(**other: Any) -> Volume:
    """With the default settings."""
    known: dict[str, Any] = {
        "threshold": 3,
        "at_least": 5 * MBIT,
        "learn_ns": 60 * MINUTE_NS,
        "horizon_ns": MINUTE_NS,
        "network_names": ["", "lab"],
    }
    return Volume(**{**known, **other})


def view(
    sketches: Mapping[str, Frequency],
    start_ns: int,
    end_ns: int | None = None,
    *,
    horizon_ns: int = MINUTE_NS,
    sampling: Sampling = UNSAMPLED,
) -> View:
    """The window that begins then, up to a time; up to its end if none is given."""
    pane_ns = 2 * SECOND
    last_ns = (start_ns + horizon_ns if end_ns is None else end_ns) - pane_ns
    return View("t", last_ns, pane_ns, start_ns, horizon_ns, sketches, {}, (), sampling)


def sketch(keys: npt.NDArray[np.uint64], rates: Rates, seconds: int = 60) -> Frequency:
    """What hosts with these rates sent in a window."""
    summary = Frequency(keys.shape[1])
    sent = np.flatnonzero(rates)
    n_bytes = (rates[sent] * seconds / 8).astype(np.uint64)
    packets = n_bytes // np.uint64(1000)
    summary.update(keys[sent], hash_words(keys[sent], summary.seed), packets, n_bytes)
    return summary


def run(
    of: Volume, rates: Rates, start_ns: int = START_NS, horizon_ns: int = MINUTE_NS
) -> Iterator[tuple[int, list[Reading]]]:
    """Show a detector hosts' rates, window by window; gives what is over, by window."""
    keys = hosts(len(rates))
    watched: list[Hashable] = []
    for number in range(rates.shape[1]):
        merged = {"top_src_addr": sketch(keys, rates[:, number], horizon_ns // SECOND)}
        seen = view(merged, start_ns + number * horizon_ns, horizon_ns=horizon_ns)
        over = [row for row in of.read(seen, watched).rows if row.over()]
        watched = [row.key for row in over]
        yield number, over


def medium(row: Reading) -> bool:
    """Whether a reading is as bad as the rule says, not less certain."""
    return row.severity is None or row.severity >= Severity.medium
