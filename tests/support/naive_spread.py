"""Plain-Python twins of the spread kernels: slow, obvious, and the tests' reference."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
PLACE = 0xD6E8FEB86659FD93
TAGS = 0xA24BAED4963EE407
M1 = 0x9FB21C651E98DF25

Key = tuple[int, ...]


def finish(h: int) -> int:
    h ^= h >> 33
    h = h * 0xFF51AFD7ED558CCD & MASK
    h ^= h >> 33
    h = h * 0xC4CEB9FE1A85EC53 & MASK
    return h ^ h >> 33


def mix(h: int, word: int) -> int:
    h = (h ^ word) * M1 & MASK
    return h ^ h >> 32


def key_hash(key: Key, seed: int) -> int:
    h = seed
    for word in key:
        h = mix(h, word)
    return finish(h)


def pair_hash(hashed_key: int, element: int) -> int:
    return finish(mix(mix(1, hashed_key), element))


def order(pair: int) -> int:
    return ((pair ^ pair >> 32) * M1 & MASK) >> 32


def leading_zeros(x: int) -> int:
    return 64 - x.bit_length()


def register_places(hashed_key: int, registers: int, words: int) -> list[tuple[int, int]]:
    """Word and tag of each register of a key."""
    places = []
    for group in range(registers // 16):
        h = (hashed_key ^ ((group + 1) * GOLDEN & MASK)) * PLACE & MASK
        h = (h ^ h >> 32) * PLACE & MASK
        tags = (h ^ h >> 32) * TAGS & MASK
        tags ^= tags >> 32
        first = (h >> 32) * (words // 16) >> 32
        for place in range(16):
            turned = tags >> 4 * place | tags << (64 - 4 * place)
            places.append((16 * first + place, turned & 0xFFF))
    return places


class NaiveSpread:
    """A set of pairs, and the state of a mergeable sketch that follows from it."""

    def __init__(self, seed: int, words: int, registers: int, kept: int) -> None:
        self.seed, self.words, self.registers, self.kept = seed, words, registers, kept
        self.pairs: set[tuple[Key, int]] = set()

    def update(self, keys: Sequence[Sequence[int]], elements: Sequence[int]) -> None:
        self.pairs.update((tuple(key), e) for key, e in zip(keys, elements, strict=True))

    def spreads(self) -> dict[Key, int]:
        spreads: dict[Key, int] = {}
        for key, _ in self.pairs:
            spreads[key] = spreads.get(key, 0) + 1
        return spreads

    def pool(self) -> list[int]:
        """The four largest entries of each word, one per tag, in descending order."""
        best: list[dict[int, int]] = [{} for _ in range(self.words)]
        places = {}
        for key, element in self.pairs:
            hashed = key_hash(key, self.seed)
            if key not in places:
                places[key] = register_places(hashed, self.registers, self.words)
            pair = pair_hash(hashed, element)
            word, tag = places[key][pair % self.registers]
            rank = min(leading_zeros(pair) + 1, 15)
            best[word][tag] = max(best[word].get(tag, 0), rank)
        pool = []
        for tags in best:
            entries = sorted((rank << 12 | tag for tag, rank in tags.items()), reverse=True)
            entries = [*entries[:4], 0, 0, 0, 0][:4]
            pool.append(entries[0] << 48 | entries[1] << 32 | entries[2] << 16 | entries[3])
        return pool

    def candidates(self) -> tuple[dict[Key, int], int]:
        """The keys with the smallest orders, and the threshold that they are below."""
        lowest: dict[Key, int] = {}
        for key, element in self.pairs:
            at = order(pair_hash(key_hash(key, self.seed), element))
            lowest[key] = min(lowest.get(key, at), at)
        threshold = 2**32
        if len(lowest) > self.kept:
            threshold = sorted(lowest.values())[self.kept]
        return {key: at for key, at in lowest.items() if at < threshold}, threshold


def tally(
    hashed_key: int, pool: Sequence[int], registers: int, groups: int
) -> tuple[list[int], list[int]]:
    """Known and largest possible ranks of a key's registers, counted by rank."""
    own, below = [0] * 16, [0] * 16
    for word, tag in register_places(hashed_key, registers, len(pool))[: 16 * groups]:
        entries = [pool[word] >> shift & 0xFFFF for shift in (48, 32, 16, 0)]
        found = [entry >> 12 for entry in entries if entry and entry & 0xFFF == tag]
        if found:
            own[found[0]] += 1
        elif entries[3] == 0:
            below[0] += 1
        else:
            rank, last_tag = entries[3] >> 12, entries[3] & 0xFFF
            below[rank if tag < last_tag else rank - 1] += 1
    return own, below


def log_likelihood(
    own: Sequence[int], below: Sequence[int], foreign: Sequence[float], load: float
) -> float:
    """Sum of the log-probabilities of all registers."""

    def at_most(rank: int) -> float:
        return 1.0 if rank == 15 else math.exp(-load * 2.0**-rank)

    total = 0.0
    for rank in range(16):
        total += below[rank] * math.log(at_most(rank))
        if own[rank]:
            p = at_most(rank) * foreign[rank] - at_most(rank - 1) * foreign[rank - 1]
            total += own[rank] * math.log(p)
    return total


class NaiveClassic:
    """Buckets of the published algorithm, one pair and one vote at a time."""

    def __init__(
        self, width: int, depth: int, registers: int, bits: int, decay: float, seed: int
    ) -> None:
        self.width, self.depth, self.m = width, depth, registers
        self.top_rank, self.decay, self.seed = 2**bits - 1, decay, seed
        shape = [(row, bucket) for row in range(depth) for bucket in range(width)]
        self.registers = {at: [0] * registers for at in shape}
        self.odds = dict.fromkeys(shape, 1.0)
        self.votes: dict[tuple[int, int], int] = dict.fromkeys(shape, 0)
        self.candidates: dict[tuple[int, int], Key] = {}
        self.random = 0x7370726561640001

    def uniform(self) -> float:
        self.random = (self.random + GOLDEN) & MASK
        return (finish(self.random) >> 11) * 2.0**-53

    def buckets(self, key: Key) -> Iterable[tuple[int, int]]:
        hashed = key_hash(key, self.seed)
        for row in range(self.depth):
            h = finish(hashed ^ ((row + 1) * GOLDEN & MASK))
            yield row, (h >> 32) * self.width >> 32

    def update(self, key: Key, element: int) -> None:
        pair = pair_hash(key_hash(key, self.seed), element)
        rank = min(leading_zeros(pair) + 1, self.top_rank)
        register = finish(pair ^ TAGS) % self.m
        for at in self.buckets(key):
            old = self.registers[at][register]
            if rank <= old:
                continue
            self.registers[at][register] = rank
            p = self.odds[at]
            left = 0.0 if rank == self.top_rank else 2.0**-rank
            self.odds[at] = max(p - (2.0**-old - left) / self.m, 0.0)
            weight = 1.0 / max(p, 1e-12)
            steps = math.ceil(weight)
            if self.uniform() * steps < weight:
                for _ in range(steps):
                    self.vote(at, key)

    def vote(self, at: tuple[int, int], key: Key) -> None:
        if self.votes[at] == 0 or self.candidates[at] == key:
            self.votes[at] += 1
            self.candidates[at] = key
            return
        chance = self.decay ** -float(self.votes[at])
        # A number of 53 bits is never below a smaller chance; the kernel doesn't draw it.
        if chance >= 2.0**-53 and self.uniform() < chance:
            self.votes[at] -= 1

    def estimate(self, key: Key) -> int:
        held = [self.votes[at] for at in self.buckets(key) if self.candidates.get(at) == key]
        return max([1, *held])
