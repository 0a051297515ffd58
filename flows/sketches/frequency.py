"""Heavy hitters by packets and by bytes, with bounds that always hold.

Up to ``EXACT_KEYS`` keys are kept with their exact sums. Beyond that, for each metric:

- Apache DataSketches' frequent-items sketch names the candidates. It is a Misra-Gries summary
  (Misra and Gries, 1982; Anderson et al., "A high-performance algorithm for identifying
  frequent items in data streams", 2017): what it was fed of a key lies between the key's
  counter and the counter plus the sketch's *offset*.
- It is fed only the heaviest keys of each update, ranked by their exact sums. A key left out
  weighs no more than the heaviest one left out; *unfed* is the sum of these over all updates.
  With N the total and K keys fed per update it is at most N / (K + 1), by the argument of
  Misra and Gries.
- Count-Min is fed everything and tightens the upper bound.

So for every key: counter <= weight <= min(counter + offset + unfed, Count-Min), the counter
being 0 for a key that the sketch doesn't hold. A merge adds all four and keeps this true. Which
of the light keys are held depends on the order of updates and merges; the bounds don't fail.
"""

from __future__ import annotations

import copy
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import datasketches
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flows.errors import SketchError
from flows.kernels.group import (
    NOTHING_DROPPED,
    Grouped,
    Heaviest,
    group_sum,
    heaviest,
    likely_heaviest,
)
from flows.sketches import seal, unseal
from flows.sketches.count_min import DEPTH, WIDTH, CountMin, CountMinPair
from schemas.hashing import DEFAULT_SEED, hash_words

U64 = npt.NDArray[np.uint64]

EXACT_KEYS: Final = 2048
"""Up to so many keys are kept exactly."""

CANDIDATES: Final = 2048
"""So many keys by packets, and by bytes, of one update reach the frequent-items sketches."""

MANY_ROWS: Final = 8 * CANDIDATES
"""Above so many rows at once the light ones are told by a first look."""

_ITEM_BYTES: Final = 96  # a counter, a state and a text of up to 64 digits

LG_MAX: Final = 13
"""Base-2 logarithm of the frequent-items map, which holds three quarters as many keys."""

PACKETS: Final = 0
BYTES: Final = 1

_KIND: Final = b"NSF2"
# words, lg_max, exact, width, hash seed, totals, unfed
_HEAD: Final = struct.Struct("<BBBxIQ2Q2Q")
_SIZES: Final = struct.Struct("<4I")
_RAW_SIZE: Final = struct.Struct("<Q")
# Half of the time of zlib, and smaller.
_CODEC: Final = pa.Codec("zstd", compression_level=1)
_ABSENT: Final = "-"  # never held: keys are hexadecimal digits


class Hitter(NamedTuple):
    """A key (its 64-bit words) with both weights and their bounds."""

    key: tuple[int, ...]
    packets: int
    packets_lower: int
    packets_upper: int
    bytes: int
    bytes_lower: int
    bytes_upper: int


class Ranking(NamedTuple):
    """Hitters, heaviest first; no key that is not among them weighs more than ``error``."""

    rows: list[Hitter]
    error: int


class Top(NamedTuple):
    """Both rankings; ``confidence`` is 1 because the bounds always hold."""

    by_packets: Ranking
    by_bytes: Ranking
    confidence: float = 1.0


class Frequency:
    """The heaviest keys of a stream of (key, packets, bytes).

    Args:
        words: 64-bit words of a key, 1 to 255.
        width: buckets a row of the Count-Min counters, a power of two.
        lg_max: base-2 logarithm of the frequent-items map, 3 to 20.
        seed: seed with which the caller hashes keys (``schemas.hashing.hash_words``).
    """

    __slots__ = ("_exact", "_sketched", "_totals", "lg_max", "seed", "width", "words")

    def __init__(
        self, words: int, width: int = WIDTH, lg_max: int = LG_MAX, seed: int = DEFAULT_SEED
    ) -> None:
        if not 1 <= words <= 255 or not 3 <= lg_max <= 20:
            msg = f"keys have 1 to 255 words and lg_max is 3 to 20, not {words} and {lg_max}"
            raise SketchError(msg)
        CountMin(DEPTH, width)  # refuses widths that it can't have
        self.words = words
        self.width = width
        self.lg_max = lg_max
        self.seed = seed
        self._totals = [0, 0]
        self._exact: Grouped | None = None
        self._sketched: _Sketched | None = None

    @property
    def exact(self) -> bool:
        """Whether all keys are still kept exactly."""
        return self._sketched is None

    @property
    def total_packets(self) -> int:
        """Exact sum over all keys."""
        return self._totals[PACKETS]

    @property
    def total_bytes(self) -> int:
        """Exact sum over all keys."""
        return self._totals[BYTES]

    def update(self, keys: U64, hashes: U64, packets: U64, n_bytes: U64) -> None:
        """Add different keys with their sums, as ``kernels.group.group_sum`` gives them.

        Args:
            keys: (n, words), no two alike.
            hashes: ``hash_words(keys, seed)``, (n,).
            packets: (n,).
            n_bytes: (n,).

        Raises:
            SketchError: the keys have another number of words, or columns differ in length.
        """
        self._count(keys, hashes, packets, n_bytes)
        self._add(Grouped(keys, hashes, packets, n_bytes))

    def update_rows(self, keys: U64, hashes: U64, packets: U64, n_bytes: U64) -> None:
        """Add rows whose keys may repeat; arguments as for ``update``.

        Of very many at once, those of keys that are light for certain reach Count-Min only, which
        saves summing them by key; the upper bounds are somewhat wider for it.

        Raises:
            SketchError: as ``update``.
        """
        self._count(keys, hashes, packets, n_bytes)
        likely = None
        if len(hashes) > MANY_ROWS:
            likely = likely_heaviest(hashes, packets, n_bytes, 2 * CANDIDATES)
        if likely is None or len(likely.rows) == len(hashes):
            self._add(group_sum(keys, hashes, packets, n_bytes))
            return
        sketched = self._spilled()
        sketched.counts.update(hashes, packets, n_bytes)
        columns = (np.take(column, likely.rows, axis=0) for column in (keys, hashes))
        weights = (np.take(column, likely.rows) for column in (packets, n_bytes))
        sketched.name(group_sum(*columns, *weights), likely)

    def _count(self, keys: U64, hashes: U64, packets: U64, n_bytes: U64) -> None:
        """Check columns, and add them to the totals."""
        if keys.shape != (len(keys), self.words):
            msg = f"keys of {self.words} words were expected, not an array of {keys.shape}"
            raise SketchError(msg)
        if not len(keys) == len(hashes) == len(packets) == len(n_bytes):
            msg = (
                f"{len(keys)} keys, {len(hashes)} hashes, {len(packets)} packets and"
                f" {len(n_bytes)} bytes are not columns of one table"
            )
            raise SketchError(msg)
        self._totals[PACKETS] += int(packets.sum())
        self._totals[BYTES] += int(n_bytes.sum())

    def merge(self, other: Frequency) -> None:
        """Add all that the other has seen.

        Raises:
            SketchError: the other has another key, shape or seed.
        """
        if self._shape() != other._shape():
            msg = (
                f"heavy hitters of (words, width, lg_max, seed) {self._shape()} and"
                f" {other._shape()} can't be merged"
            )
            raise SketchError(msg)
        for metric in (PACKETS, BYTES):
            self._totals[metric] += other._totals[metric]
        if other._exact is not None:
            self._add(other._exact)
        elif other._sketched is not None and self._sketched is not None:
            self._sketched.merge(other._sketched)
        elif other._sketched is not None:
            rows, self._exact = self._exact, None
            self._sketched = other._sketched.copy()
            if rows is not None:
                self._sketched.add(rows)

    def top(self, n: int = 10, share: float = 0.01) -> Top:
        """The heaviest keys.

        Args:
            n: a ranking lists at least so many, if there are so many (beyond ``EXACT_KEYS``:
                if the library's sketch holds so many).
            share: it lists also every key that may weigh more than this share of the total.
        """
        reach = [int(share * total) for total in self._totals]
        if self._sketched is not None:
            rankings = [self._sketched_ranking(m, n, reach[m]) for m in (PACKETS, BYTES)]
            return Top(rankings[PACKETS], rankings[BYTES])
        rows = self._exact or _no_rows(self.words)
        figures = np.array((rows.packets,) * 3 + (rows.bytes,) * 3)
        rankings = [_ranking(rows.keys, figures, m, n, reach[m], 0) for m in (PACKETS, BYTES)]
        return Top(rankings[PACKETS], rankings[BYTES])

    def over(self, metric: int, at_least: float) -> list[Hitter]:
        """All keys whose lower bound is at least so much, heaviest first.

        Args:
            metric: ``PACKETS`` or ``BYTES``.
            at_least: above 0.
        """
        if self._sketched is not None:
            return self.bounds(_from_texts(self._sketched.surely(metric, at_least), self.words))
        rows = self._exact or _no_rows(self.words)
        weights = (rows.packets, rows.bytes)[metric]
        found = weights >= at_least
        figures = np.array((rows.packets[found],) * 3 + (rows.bytes[found],) * 3)
        return _ranking(rows.keys[found], figures, metric, len(rows.keys), 0, 0).rows

    def bounds(self, keys: U64) -> list[Hitter]:
        """What is known of given keys, (n, words), in their order.

        Raises:
            SketchError: the keys have another number of words.
        """
        if keys.shape != (len(keys), self.words):
            msg = f"keys of {self.words} words were expected, not an array of {keys.shape}"
            raise SketchError(msg)
        if self._sketched is not None:
            texts, hashes = _texts(keys), hash_words(keys, self.seed)
            figures = [self._sketched.bounds(m, texts, hashes) for m in (PACKETS, BYTES)]
            numbers = np.concatenate(figures).T.tolist()
            rows = zip(keys.tolist(), numbers, strict=True)
            return [Hitter(tuple(key), *six) for key, six in rows]
        held = self._exact or _no_rows(self.words)
        known = zip(
            map(tuple, held.keys.tolist()), held.packets.tolist(), held.bytes.tolist(), strict=True
        )
        sums = {key: (packets, octets) for key, packets, octets in known}
        found = []
        for key in map(tuple, keys.tolist()):
            packets, octets = sums.get(key, (0, 0))
            found.append(Hitter(key, *(packets,) * 3, *(octets,) * 3))
        return found

    def copy(self) -> Frequency:
        """An independent copy."""
        twin = Frequency(*self._shape())
        twin._totals = self._totals.copy()
        twin._exact = self._exact  # its arrays are never changed
        twin._sketched = None if self._sketched is None else self._sketched.copy()
        return twin

    def to_bytes(self) -> bytes:
        """The state, sealed; compressed beyond ``EXACT_KEYS``."""
        if self._sketched is not None:
            unfed = [self._sketched.lost_in_image(metric) for metric in (PACKETS, BYTES)]
            images = self._sketched.images()
            sizes = _SIZES.pack(*(len(image) for image in images))
            body = b"".join((sizes, *images))
            body = _RAW_SIZE.pack(len(body)) + _CODEC.compress(body, asbytes=True)
        else:
            unfed = [0, 0]
            rows = self._exact or _no_rows(self.words)
            columns = rows.keys, rows.packets, rows.bytes
            body = b"".join(column.astype("<u8").tobytes() for column in columns)
        words, width, lg_max, seed = self._shape()
        head = _HEAD.pack(words, lg_max, self.exact, width, seed, *self._totals, *unfed)
        return seal(_KIND, head + body)

    @classmethod
    def from_bytes(cls, data: bytes) -> Frequency:
        """The summary that ``to_bytes`` wrote.

        Raises:
            SketchError: foreign or damaged bytes.
        """
        payload = unseal(_KIND, data)
        words, lg_max, exact, width, seed, *sums = _HEAD.unpack_from(payload)
        summary = cls(words, width, lg_max, seed)
        summary._totals = sums[:2]
        body = payload[_HEAD.size :]
        if not exact:
            images = _split(_expanded(body))
            summary._sketched = _Sketched.from_images(images, sums[2:])
        elif body:
            flat = np.frombuffer(body, "<u8").astype(np.uint64)
            n = len(flat) // (words + 2)
            keys = flat[: n * words].reshape(n, words)
            packets, n_bytes = flat[n * words :].reshape(2, n)
            summary._exact = Grouped(keys, hash_words(keys, seed), packets, n_bytes)
        return summary

    def library_images(self) -> dict[str, bytes]:
        """The sketches in the library's own formats; keys are words' bytes in hexadecimal.

        They hold what was fed to the library: ``update`` feeds it the heaviest keys only.
        """
        sketched = self._sketched
        if sketched is None:
            sketched = _Sketched(self.width, self.lg_max)
            sketched.add(self._exact or _no_rows(self.words))
        names = ("frequent_packets", "frequent_bytes", "count_min_packets", "count_min_bytes")
        return dict(zip(names, sketched.images(), strict=True))

    def _shape(self) -> tuple[int, int, int, int]:
        return self.words, self.width, self.lg_max, self.seed

    def _add(self, rows: Grouped) -> None:
        if self._sketched is None and len(rows.hashes) <= EXACT_KEYS:
            rows = _sum(self._exact, rows)
            self._exact = None
            if len(rows.hashes) <= EXACT_KEYS:
                self._exact = rows
                return
        self._spilled().add(rows)

    def _spilled(self) -> _Sketched:
        """From here on, the sketches."""
        if self._sketched is None:
            self._sketched = _Sketched(self.width, self.lg_max)
            if self._exact is not None:
                self._sketched.add(self._exact)
                self._exact = None
        return self._sketched

    def _sketched_ranking(self, metric: int, n: int, share: int) -> Ranking:
        assert self._sketched is not None
        texts, hidden = self._sketched.candidates(metric, n, share)
        keys = _from_texts(texts, self.words)
        hashes = hash_words(keys, self.seed)
        figures = [self._sketched.bounds(m, texts, hashes) for m in (PACKETS, BYTES)]
        return _ranking(keys, np.concatenate(figures), metric, n, max(share, hidden), hidden)


def limit_bytes(width: int = WIDTH, lg_max: int = LG_MAX) -> int:
    """Memory that a summary takes at most: both counters' rows, both maps with their texts."""
    return 2 * DEPTH * width * 8 + 2 * (_ITEM_BYTES << lg_max)


class _Sketched:
    """Frequent-items sketches and Count-Min counters of both metrics, and what wasn't fed."""

    __slots__ = ("counts", "items", "unfed")

    def __init__(self, width: int, lg_max: int) -> None:
        self.items = [datasketches.frequent_strings_sketch(lg_max) for _ in (PACKETS, BYTES)]
        self.counts = CountMinPair(DEPTH, width)
        self.unfed = [0, 0]

    def add(self, rows: Grouped) -> None:
        self.counts.update(rows.hashes, rows.packets, rows.bytes)
        self.name(rows)

    def name(self, rows: Grouped, others: Heaviest = NOTHING_DROPPED) -> None:
        """Feed the heaviest to the frequent-items sketches; ``others`` bounds keys left out."""
        chosen = heaviest(rows.packets, rows.bytes, CANDIDATES)
        texts = _texts(rows.keys[chosen.rows])
        for items, weights in zip(self.items, (rows.packets, rows.bytes), strict=True):
            update = items.update
            for text, weight in zip(texts, weights[chosen.rows].tolist(), strict=True):
                update(text, weight)
        self.unfed[PACKETS] += max(chosen.dropped_packets, others.dropped_packets)
        self.unfed[BYTES] += max(chosen.dropped_bytes, others.dropped_bytes)

    def merge(self, other: _Sketched) -> None:
        self.counts.merge(other.counts)
        for metric in (PACKETS, BYTES):
            self.unfed[metric] += other.lost_in_image(metric)
            self.items[metric].merge(other.items[metric])

    def copy(self) -> _Sketched:
        twin = _Sketched.__new__(_Sketched)
        twin.items = [copy.copy(items) for items in self.items]
        twin.counts = self.counts.copy()
        twin.unfed = self.unfed.copy()
        return twin

    def offset(self, metric: int) -> int:
        return int(self.items[metric].get_upper_bound(_ABSENT))

    def lost_in_image(self, metric: int) -> int:
        """``unfed`` for readers of the image.

        The library takes a sketch that has purged all its keys for an empty one, and forgets
        its offset when it merges or writes it.
        """
        forgotten = self.offset(metric) if self.items[metric].is_empty() else 0
        return self.unfed[metric] + forgotten

    def images(self) -> tuple[bytes, ...]:
        counts = self.counts.packets, self.counts.bytes
        return (
            *(bytes(items.serialize()) for items in self.items),
            *(count.to_bytes() for count in counts),
        )

    @classmethod
    def from_images(cls, images: Sequence[bytes], unfed: list[int]) -> _Sketched:
        counts = CountMinPair.__new__(CountMinPair)
        counts.packets, counts.bytes = map(CountMin.from_bytes, images[2:])
        return cls._of(images[:2], counts, unfed)

    @classmethod
    def _of(cls, items: Sequence[bytes], counts: CountMinPair, unfed: list[int]) -> _Sketched:
        sketched = cls.__new__(cls)
        sketched.items = [datasketches.frequent_strings_sketch.deserialize(each) for each in items]
        sketched.counts, sketched.unfed = counts, unfed
        return sketched

    def __reduce__(self) -> tuple[Callable[..., _Sketched], tuple[Any, ...]]:
        """For another process, which goes on with it: the counters as they are."""
        items = [bytes(each.serialize()) for each in self.items]
        unfed = [self.lost_in_image(metric) for metric in (PACKETS, BYTES)]
        return _Sketched._of, (items, self.counts, unfed)

    def candidates(self, metric: int, n: int, share: int) -> tuple[list[str], int]:
        """Keys that can be among the ``n`` heaviest or above ``share``, and a bound for others."""
        unfed = self.unfed[metric]
        absent = self.offset(metric) + unfed
        kind = datasketches.frequent_items_error_type.NO_FALSE_NEGATIVES
        held = self.items[metric].get_frequent_items(kind, 0)  # by estimate, descending
        uppers = np.array([row[1] for row in held], np.uint64) + np.uint64(unfed)
        # Count-Min reorders the first few, so look at more than will be listed.
        taken = max(4 * n, int(np.count_nonzero(uppers > np.uint64(max(share, absent)))))
        hidden = max(absent, int(uppers[taken]) if taken < len(held) else 0)
        return [row[0] for row in held[:taken]], hidden

    def surely(self, metric: int, at_least: float) -> list[str]:
        """Keys whose counter is at least so much, heaviest first."""
        kind = datasketches.frequent_items_error_type.NO_FALSE_POSITIVES
        # The library wants more than the threshold, a whole number.
        below = max(math.ceil(at_least) - 1, 0)
        held = self.items[metric].get_frequent_items(kind, below)
        return [row[0] for row in held]

    def bounds(self, metric: int, texts: list[str], hashes: U64) -> U64:
        """Value, lower and upper bound of each key, (3, n)."""
        items = self.items[metric]
        offset = np.uint64(self.offset(metric))
        ceiling = (self.counts.packets, self.counts.bytes)[metric].upper(hashes).astype(np.uint64)
        lower = np.array([items.get_lower_bound(text) for text in texts], np.uint64)
        upper = np.minimum(lower + offset + np.uint64(self.unfed[metric]), ceiling)
        # The library's estimate of a key that it holds is the counter plus the offset.
        value = np.where(lower > 0, np.minimum(lower + offset, ceiling), upper)
        return np.stack((value, lower, upper))


def _ranking(keys: U64, figures: U64, metric: int, n: int, reach: int, hidden: int) -> Ranking:
    """List the ``n`` largest values and all whose upper bound is above ``reach``.

    ``figures`` has a row each for the value, lower and upper bound of packets, then of bytes;
    ``hidden`` bounds all keys not given.
    """
    value, _, upper = figures[3 * metric : 3 * metric + 3]
    # Descending by value (its complement ascending), then by key, so that ties have one order.
    order = np.lexsort((*keys.T[::-1], ~value))
    listed = upper[order] > np.uint64(reach)
    listed[:n] = True
    rows = order[listed]
    numbers = figures[:, rows].T.tolist()
    hitters = [
        Hitter(tuple(key), *six) for key, six in zip(keys[rows].tolist(), numbers, strict=True)
    ]
    if len(rows) < len(order):
        hidden = max(hidden, int(upper[order[~listed]].max()))
    return Ranking(hitters, hidden)


def _sum(old: Grouped | None, new: Grouped) -> Grouped:
    if old is None:
        return Grouped(*(column.copy() for column in new))
    return group_sum(*(np.concatenate(pair) for pair in zip(old, new, strict=True)))


def _no_rows(words: int) -> Grouped:
    none = np.empty(0, np.uint64)
    return Grouped(none.reshape(0, words), none, none, none)


def _texts(keys: U64) -> list[str]:
    digits = 16 * keys.shape[1]
    text = keys.astype("<u8").tobytes().hex()
    return [text[start : start + digits] for start in range(0, len(text), digits)]


def _from_texts(texts: list[str], words: int) -> U64:
    flat = np.frombuffer(bytes.fromhex("".join(texts)), "<u8")
    return flat.astype(np.uint64).reshape(len(texts), words)


def _expanded(body: bytes) -> bytes:
    (size,) = _RAW_SIZE.unpack_from(body)
    expanded: bytes = _CODEC.decompress(body[_RAW_SIZE.size :], size, asbytes=True)
    return expanded


def _split(data: bytes) -> list[bytes]:
    start = _SIZES.size
    parts = []
    for size in _SIZES.unpack_from(data):
        parts.append(data[start : start + size])
        start += size
    return parts
