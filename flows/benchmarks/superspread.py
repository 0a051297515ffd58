"""SuperSpread against its alternatives: accuracy, speed, merging and memory.

Synthetic traffic: the spreads of the sources follow a Zipf law, every pair of source and peer
occurs once and then again at random. What is asked: which sources have at least as many peers as
the one of rank 100 (400), and how many they have. A source that isn't listed counts as an error
of 100 %.

The memory of ``classic`` and of RGS-Sketch is quoted for registers packed in five bits, which
favours them; ``mergeable`` and the exact set of pairs are quoted with all their arrays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from flows.benchmarks.rivals import ExactPairs, RgsSketch
from flows.sketches.superspread import ClassicSuperSpread, SpreadTop, SuperSpread
from schemas.hashing import DEFAULT_SEED, hash_words

U64 = npt.NDArray[np.uint64]

PACKETS: Final = 5_000_000
SOURCES: Final = 200_000
PAIRS: Final = 2_500_000
RANKS: Final = (100, 400)
MIB: Final = 1 << 20

_WORDS: Final = 2
_CHUNK: Final = 100_000  # packets per update, as a pane's flow table would give them
_LISTED: Final = 4_000
_REGISTERS: Final = 128  # of a bucket of classic, five bits each


class Trace(NamedTuple):
    """Traffic: columns of packets, and the truth by source."""

    name: str
    keys: U64
    key_hashes: U64
    element_hashes: U64
    sources: U64
    spreads: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How well a design finds the largest sources of a trace.

    Attributes:
        trace: skew, order and seed of the traffic.
        design: what was measured.
        memory_bytes: what it takes.
        f1: by rank in ``RANKS``: harmonic mean of precision and recall.
        error: by rank: mean relative error of the largest.
        covered: share of the largest, of those listed, whose interval holds; None without.
        recall_peers: peers that make a source a candidate, as the design states it.
    """

    trace: str
    design: str
    memory_bytes: int
    f1: tuple[float, ...]
    error: tuple[float, ...]
    covered: float | None
    recall_peers: float


@dataclass(frozen=True, slots=True)
class Speed:
    """Updates per CPU second of one core, and the CPU time of a query for the 100 largest."""

    trace: str
    design: str
    memory_bytes: int
    updates_per_s: float
    query_ms: float
    candidates: int


@dataclass(frozen=True, slots=True)
class Merging:
    """A trace split at random among workers: what becomes of the answer."""

    trace: str
    design: str
    memory_bytes: int
    workers: int
    identical: bool
    f1: tuple[float, ...]
    error: tuple[float, ...]


def zipf_spreads(skew: float, sources: int, pairs: int) -> npt.NDArray[np.int64]:
    """Spreads in descending order, proportional to rank^-skew, that sum to about ``pairs``."""
    weights = np.arange(1, sources + 1.0) ** -skew
    low, high = 1.0, float(pairs)
    for _ in range(60):
        scale = (low + high) / 2
        if np.maximum(1, np.floor(scale * weights)).sum() > pairs:
            high = scale
        else:
            low = scale
    return np.maximum(1, np.floor(low * weights)).astype(np.int64)


def make_trace(
    skew: float,
    seed: int,
    order: str = "shuffled",
    packets: int = PACKETS,
    sources: int = SOURCES,
    pairs: int = PAIRS,
) -> Trace:
    """Traffic of IPv4 sources.

    Args:
        skew: exponent of the Zipf law.
        seed: of the generator.
        order: ``shuffled``, ``sorted`` by source (largest last), or ``scanner last``: the
            packets of the largest source after all others.
        packets: in all; no pair occurs twice if they are fewer than the pairs.
        sources: different sources.
        pairs: different pairs of source and peer, about.
    """
    rng = np.random.default_rng(seed)
    spreads = zipf_spreads(skew, sources, pairs)
    addresses = rng.choice(1 << 32, sources, replace=False).astype(np.uint64)
    keys = np.zeros((sources, _WORDS), np.uint64)
    keys[:, 1] = np.uint64(0xFFFF0000) | addresses << np.uint64(32)
    total = int(spreads.sum())
    rows = np.concatenate((np.arange(total), rng.integers(0, total, max(packets - total, 0))))
    rng.shuffle(rows)
    source = np.repeat(np.arange(sources), spreads)[rows]
    if order != "shuffled":
        last = np.argsort(-source if order == "sorted" else source == 0, kind="stable")
        rows, source = rows[last], source[last]
    elements = hash_words(rows.astype(np.uint64).reshape(-1, 1), seed)
    packet_keys = keys[source]
    name = f"zipf {skew} {order} seed {seed}{'' if packets > total else ' once'}"
    return Trace(name, packet_keys, hash_words(packet_keys), elements, keys, spreads)


def feed(sketch: Any, trace: Trace, rows: npt.NDArray[np.int64] | None = None) -> float:
    """Feed packets in chunks; returns the CPU seconds that it took."""
    columns = trace.keys, trace.key_hashes, trace.element_hashes
    if rows is not None:
        keys, hashes, elements = (column[rows] for column in columns)
    else:
        keys, hashes, elements = columns
    start = time.process_time()
    for first in range(0, len(hashes), _CHUNK):
        chunk = slice(first, first + _CHUNK)
        sketch.update(keys[chunk], hashes[chunk], elements[chunk])
    return time.process_time() - start


def classic(memory_bytes: int, depth: int = 2) -> ClassicSuperSpread:
    """The published sketch with as many buckets as fit."""
    bucket_bytes = _REGISTERS * 5 / 8 + 8 * _WORDS + 4 + 4  # key, probability, vote
    return ClassicSuperSpread(_WORDS, max(1, int(memory_bytes / bucket_bytes / depth)), depth)


DESIGNS: Final[dict[str, Callable[[int], Any]]] = {
    "mergeable": lambda memory: SuperSpread(_WORDS, memory),
    "classic": classic,
    "rgs": lambda memory: RgsSketch(_WORDS, memory, DEFAULT_SEED),
}


def score(top: SpreadTop, trace: Trace) -> tuple[tuple[float, ...], tuple[float, ...], float]:
    """F1 and mean relative error by rank, and the share of intervals that hold."""
    number = {tuple(key): row for row, key in enumerate(trace.sources.tolist())}
    figures = np.zeros((3, len(trace.spreads)))
    for row in top.rows:
        figures[:, number[row.key]] = row[1:]
    estimate, lower, upper = figures
    f1, errors = [], []
    for rank in RANKS:
        limit = trace.spreads[rank - 1]
        found, wanted = estimate >= limit, trace.spreads >= limit
        f1.append(2 * np.count_nonzero(found & wanted) / (found.sum() + wanted.sum()))
        truth = trace.spreads[:rank]
        errors.append(float(np.mean(np.abs(estimate[:rank] - truth) / truth)))
    listed = estimate[:rank] > 0
    holds = (lower[:rank] <= truth) & (truth <= upper[:rank])
    covered = float(np.mean(holds[listed])) if listed.any() else 1.0
    return tuple(map(float, f1)), tuple(errors), covered


def accuracy(trace: Trace, memories: tuple[int, ...]) -> Iterator[Accuracy]:
    """All designs at all memories on one trace."""
    for memory_bytes in memories:
        for design, make in DESIGNS.items():
            sketch = make(memory_bytes)
            feed(sketch, trace)
            top = sketch.top(_LISTED)
            f1, error, covered = score(top, trace)
            stated = covered if design == "mergeable" else None
            yield Accuracy(trace.name, design, memory_bytes, f1, error, stated, top.recall_peers)


def exact(trace: Trace) -> tuple[Accuracy, Speed]:
    """The exact set of pairs."""
    sketch = ExactPairs(_WORDS, DEFAULT_SEED)
    cpu_s = feed(sketch, trace)
    start = time.process_time()
    sketch.top(100)
    query_ms = (time.process_time() - start) * 1e3
    f1, error, covered = score(sketch.top(_LISTED), trace)
    size = sketch.memory_bytes
    rate = len(trace.keys) / cpu_s
    return (
        Accuracy(trace.name, "exact set", size, f1, error, covered, 1.0),
        Speed(trace.name, "exact set", size, rate, query_ms, len(trace.spreads)),
    )


def speed(trace: Trace, memories: tuple[int, ...], repeats: int = 3) -> Iterator[Speed]:
    """Speed of all designs; the best of a few repeats, taken in turn."""
    designs: dict[str, Callable[[int], Any]] = {
        **DESIGNS, "classic, 3 rows": lambda memory: classic(memory, 3)
    }  # fmt: skip
    for memory_bytes in memories:
        cpu_s = dict.fromkeys(designs, np.inf)
        query_s = dict.fromkeys(designs, np.inf)
        candidates = dict.fromkeys(designs, 0)
        for _ in range(repeats):
            for design, make in designs.items():
                sketch = make(memory_bytes)
                cpu_s[design] = min(cpu_s[design], feed(sketch, trace))
                start = time.process_time()
                sketch.top(100)
                query_s[design] = min(query_s[design], time.process_time() - start)
                candidates[design] = sketch.candidates
        for design in designs:
            rate = len(trace.keys) / cpu_s[design]
            yield Speed(
                trace.name, design, memory_bytes, rate, query_s[design] * 1e3, candidates[design]
            )


def merging(trace: Trace, memory_bytes: int, workers: int, seed: int) -> Iterator[Merging]:
    """Packets split at random: the mergeable sketch merged, RGS-Sketch read over all parts."""
    rng = np.random.default_rng(seed)
    worker = rng.integers(0, workers, len(trace.keys))
    parts = [np.flatnonzero(worker == number) for number in range(workers)]
    whole = SuperSpread(_WORDS, memory_bytes)
    feed(whole, trace)
    merged = SuperSpread(_WORDS, memory_bytes)
    for number in rng.permutation(workers):
        sketch = SuperSpread(_WORDS, memory_bytes)
        feed(sketch, trace, parts[number])
        merged.merge(sketch)
    same = merged.to_bytes() == whole.to_bytes() and merged.top(_LISTED) == whole.top(_LISTED)
    f1, error, _ = score(merged.top(_LISTED), trace)
    yield Merging(trace.name, "mergeable", memory_bytes, workers, same, f1, error)
    # The paper gives sketches that will be merged smaller buckets.
    pieces = [RgsSketch(_WORDS, memory_bytes, DEFAULT_SEED, 0.1) for _ in parts]
    for piece, rows in zip(pieces, parts, strict=True):
        feed(piece, trace, rows)
    f1, error, _ = score(RgsSketch.merged_top(pieces, _LISTED), trace)
    yield Merging(trace.name, "rgs", memory_bytes, workers, False, f1, error)


def render(rows: list[Accuracy | Speed | Merging]) -> str:
    """A table of rows of one kind."""
    first = rows[0]
    if isinstance(first, Accuracy):
        head = (
            f"{'trace':<32}{'MiB':>7}  {'design':<16}{'F1 100':>8}{'F1 400':>8}"
            f"{'error 100':>11}{'error 400':>11}{'covered':>9}{'recall':>8}"
        )
    elif isinstance(first, Speed):
        head = (
            f"{'trace':<32}{'MiB':>7}  {'design':<16}{'M updates/s':>12}{'query ms':>10}"
            f"{'candidates':>12}"
        )
    else:
        head = (
            f"{'trace':<32}{'MiB':>7}  {'design':<16}{'workers':>8}{'identical':>11}{'F1 100':>8}"
            f"{'F1 400':>8}{'error 100':>11}{'error 400':>11}"
        )
    return "\n".join([head, *map(_line, rows)])


def _line(row: Accuracy | Speed | Merging) -> str:
    start = f"{row.trace:<32}{row.memory_bytes / MIB:>7.2f}  {row.design:<16}"
    if isinstance(row, Speed):
        return f"{start}{row.updates_per_s / 1e6:>12.1f}{row.query_ms:>10.1f}{row.candidates:>12}"
    f1 = "".join(f"{value:>8.3f}" for value in row.f1)
    error = "".join(f"{value:>11.4f}" for value in row.error)
    if isinstance(row, Merging):
        return f"{start}{row.workers:>8}{'yes' if row.identical else 'no':>11}{f1}{error}"
    covered = f"{row.covered:>9.3f}" if row.covered is not None else f"{'none':>9}"
    peers = f"{row.recall_peers:>8.0f}" if np.isfinite(row.recall_peers) else f"{'none':>8}"
    return f"{start}{f1}{error}{covered}{peers}"


def run(quick: bool, seed: int, out: Callable[[str], object] = print) -> None:
    """Measure and print all tables.

    Args:
        quick: one seed and three memories, under a minute; else three seeds, seven memories and
            all orders, some minutes.
        seed: of the traffic; later seeds count up from it.
        out: receives each piece of text.
    """
    memories = (MIB // 4, MIB, 4 * MIB) if quick else tuple(MIB * k // 4 for k in _QUARTERS)
    compiling = make_trace(1.0, seed, packets=20_000, sources=1_000, pairs=10_000)
    exact(compiling)
    list(speed(compiling, memories[:1], 1))
    list(merging(compiling, MIB // 4, 2, seed))

    speeds: list[Any] = []
    for skew in (0.7, 1.0, 1.3):
        rows: list[Any] = []
        for number in range(seed, seed + (1 if quick else 3)):
            trace = make_trace(skew, number)
            rows += accuracy(trace, memories)
            if number == seed and (skew == 1.0 or not quick):
                exact_row, exact_speed = exact(trace)
                rows.append(exact_row)
                speeds += speed(trace, (4 * MIB,) if quick else (MIB, 4 * MIB), 2)
                speeds.append(exact_speed)
                # As the dataflow feeds it: once per flow.
                speeds += speed(make_trace(skew, seed, packets=0), (4 * MIB,), 2)
        if not quick:
            for order in ("sorted", "scanner last"):
                rows += accuracy(make_trace(skew, seed, order), (4 * MIB,))
        out(render(rows) + "\n")
        if not quick:
            out(_means(rows) + "\n")
    out(render(speeds) + "\n")
    trace = make_trace(1.0, seed)
    merges: list[Any] = []
    for workers in (4,) if quick else (2, 4, 8):
        merges += merging(trace, MIB, workers, seed)
    out(render(merges) + "\n")


_QUARTERS: Final = (1, 2, 4, 8, 16, 32, 64)


def _means(rows: list[Accuracy]) -> str:
    """Means over the seeds of the shuffled order."""
    groups: dict[tuple[int, str], list[Accuracy]] = {}
    for row in rows:
        if "shuffled" in row.trace and row.design in DESIGNS:
            groups.setdefault((row.memory_bytes, row.design), []).append(row)
    means = []
    for (memory_bytes, design), group in groups.items():
        f1 = tuple(np.mean([row.f1 for row in group], axis=0).tolist())
        error = tuple(np.mean([row.error for row in group], axis=0).tolist())
        covered = [row.covered for row in group if row.covered is not None]
        mean = float(np.mean(covered)) if covered else None
        trace = f"{group[0].trace.split(' seed')[0]} mean of {len(group)}"
        peers = float(np.mean([row.recall_peers for row in group]))
        means.append(Accuracy(trace, design, memory_bytes, f1, error, mean, peers))
    return render(list(means))
