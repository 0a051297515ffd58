"""The pool of tagged registers of a mergeable spread sketch.

Each key owns ``registers`` virtual registers, as in HyperLogLog: a pair of key and element falls
on one of them and has a *rank*, r with probability 2^-r. A register keeps the largest rank of its
pairs. Registers of all keys share a pool of 64-bit words, each of which holds the four largest of
the registers that fall on it as 16-bit *entries*, in descending order::

    15      12 11                       0
    | rank    | tag of key and register |

The state is a function of the set of pairs alone: a register's largest rank doesn't depend on the
order, nor do the four largest entries, because an entry only leaves a word for four larger ones,
and those only grow. So words merge by taking the four largest entries of both.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from flows.kernels.intrinsics import prefetch
from schemas.hashing import finish, mix

WAYS: Final = 4
"""Entries per word."""

TAG_BITS: Final = 12
RANKS: Final = 16
"""Ranks are 1 to 15; 0 is an empty entry."""

GROUP_WORDS: Final = 16
"""A key's registers lie on so many consecutive words at a time: two cache lines."""

_BLOCK: Final = 128
_0: Final = np.uint64(0)
_1: Final = np.uint64(1)
_2: Final = np.uint64(2)
_8: Final = np.uint64(8)
_16: Final = np.uint64(16)
_32: Final = np.uint64(32)
_48: Final = np.uint64(48)
_49: Final = np.uint64(49)
_63: Final = np.uint64(63)
_64: Final = np.uint64(64)
_ENTRY: Final = np.uint64(0xFFFF)
_TAG: Final = np.uint64((1 << TAG_BITS) - 1)
_TAG_BITS: Final = np.uint64(TAG_BITS)
_TOP_RANK: Final = np.uint64(RANKS - 1)
_GROUP_WORDS: Final = np.uint64(GROUP_WORDS)
_GROUP_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_PLACE_FACTOR: Final = np.uint64(0xD6E8FEB86659FD93)
_TAG_FACTOR: Final = np.uint64(0xA24BAED4963EE407)
# All four fields of a word at a time.
_EACH: Final = np.uint64(0x0001000100010001)
_TAGS: Final = np.uint64(0x0FFF0FFF0FFF0FFF)
_ALMOST: Final = np.uint64(0x7FFF7FFF7FFF7FFF)
_HIGHEST: Final = np.uint64(0x8000800080008000)


@numba.njit(nogil=True, cache=True)
def pair_hashes(key_hashes: Any, element_hashes: Any, out: Any) -> None:
    """Hash of each pair of key and element, (n,) uint64 all.

    Not symmetric: with keys and elements hashed alike, A to B and B to A are two pairs.
    """
    for i in range(out.shape[0]):
        out[i] = finish(mix(mix(_1, key_hashes[i]), element_hashes[i]))


@numba.njit(nogil=True, cache=True)
def first_rows(pairs: Any, slots: Any, rows: Any) -> Any:
    """Find the rows at which each pair appears first, as long as they fit into ``rows``.

    Args:
        pairs: pair hashes, (n,) uint64.
        slots: zeros, (m,) int64, m a power of two and at least twice ``len(rows)``.
        rows: receives the row numbers in order, int64.

    Returns:
        How many different pairs there are, or ``len(rows) + 1`` as soon as they don't fit.
    """
    mask = np.uint64(slots.shape[0] - 1)
    count = 0
    for i in range(pairs.shape[0]):
        slot = pairs[i] & mask
        while slots[slot] != 0 and pairs[slots[slot] - 1] != pairs[i]:
            slot = (slot + _1) & mask
        if slots[slot] != 0:
            continue
        if count == rows.shape[0]:
            return count + 1
        slots[slot] = i + 1
        rows[count] = i
        count += 1
    return count


@numba.njit(inline="always")
def group_hash(key_hash: Any, group: Any) -> Any:
    """Where a group of a key's registers lies."""
    h = (key_hash ^ ((group + _1) * _GROUP_STEP)) * _PLACE_FACTOR
    return (h ^ (h >> _32)) * _PLACE_FACTOR


@numba.njit(inline="always")
def first_word(h: Any, n_groups: Any) -> Any:
    """First word of the group with ``group_hash`` h, in a pool of ``n_groups`` groups."""
    return (((h >> _32) * n_groups) >> _32) * _GROUP_WORDS


@numba.njit(inline="always")
def group_tags(h: Any) -> Any:
    """All tags of the group with ``group_hash`` h; they overlap, being compared by place only."""
    h = (h ^ (h >> _32)) * _TAG_FACTOR
    return h ^ (h >> _32)


@numba.njit(inline="always")
def tag_of(tags: Any, place: Any) -> Any:
    """Tag of the register on word ``place`` (0 to 15) of the group with these tags."""
    turn = place << _2
    return (tags >> turn | tags << ((_64 - turn) & _63)) & _TAG


@numba.njit(inline="always")
def rank_of(pair: Any) -> Any:
    """Leading zeros of a pair hash, plus one, at most 15."""
    # LLVM makes one instruction of this loop.
    rest = pair >> _49
    rank = _16
    while rest != _0:
        rest >>= _1
        rank -= _1
    return min(rank, _TOP_RANK)


@numba.njit(inline="always")
def raise_entry(word: Any, entry: Any) -> Any:
    """The word after ``entry`` is offered to it; without branches, which would be mispredicted."""
    a = word >> _48
    b = (word >> _32) & _ENTRY
    c = (word >> _16) & _ENTRY
    d = word & _ENTRY
    tag = entry & _TAG
    # The entry competes with that of its tag, or else with the smallest.
    to_a = a & _TAG == tag
    to_b = to_a | (b & _TAG == tag)
    to_c = to_b | (c & _TAG == tag)
    old = a if to_a else (b if to_b else (c if to_c else d))
    x = b if to_a else a
    y = c if to_b else b
    z = d if to_c else c
    entry = max(entry, old)
    first, entry = max(x, entry), min(x, entry)
    second, entry = max(y, entry), min(y, entry)
    third, fourth = max(z, entry), min(z, entry)
    return first << _48 | second << _32 | third << _16 | fourth


@numba.njit(nogil=True, cache=True)
def raise_pool(key_hashes: Any, pairs: Any, pool: Any, registers: Any) -> None:
    """Offer each pair to its register.

    Hashes of a block come before its memory accesses, so that these overlap.

    Args:
        key_hashes: (n,) uint64.
        pairs: ``pair_hashes``, (n,) uint64.
        pool: words, a multiple of ``GROUP_WORDS``, uint64. Updated.
        registers: virtual registers per key, uint64, a power of two, at least ``GROUP_WORDS``.
    """
    n_groups = np.uint64(pool.shape[0]) // _GROUP_WORDS
    mask = registers - _1
    n = pairs.shape[0]
    words = np.empty(_BLOCK, np.uint64)
    entries = np.empty(_BLOCK, np.uint64)
    for start in range(0, n, _BLOCK):
        size = min(_BLOCK, n - start)
        for k in range(size):
            pair = pairs[start + k]
            register = pair & mask
            h = group_hash(key_hashes[start + k], register // _GROUP_WORDS)
            place = register % _GROUP_WORDS
            words[k] = first_word(h, n_groups) + place
            entries[k] = rank_of(pair) << _TAG_BITS | tag_of(group_tags(h), place)
        for k in range(size):
            prefetch(pool, words[k])
        for k in range(size):
            word = words[k]
            pool[word] = raise_entry(pool[word], entries[k])


@numba.njit(nogil=True, cache=True)
def merge_pools(pool: Any, other: Any) -> None:
    """Merge the words of ``other`` into ``pool``, (m,) uint64 both."""
    for i in range(pool.shape[0]):
        theirs = other[i]
        word = pool[i]
        if theirs in (word, _0):
            continue
        if word == _0:
            pool[i] = theirs
            continue
        for _ in range(WAYS):
            word = raise_entry(word, theirs >> _48)
            theirs <<= _16
        pool[i] = word


@numba.njit(nogil=True, cache=True)
def count_ranks(pool: Any, out: Any) -> None:
    """Count the pool's entries by rank into ``out``, (16,) int64 zeros."""
    for i in range(pool.shape[0]):
        word = pool[i]
        for _ in range(WAYS):
            out[(word & _ENTRY) >> _TAG_BITS] += 1
            word >>= _16


@numba.njit(nogil=True, cache=True)
def tally(key_hashes: Any, pool: Any, registers: Any, groups: Any, own: Any, below: Any) -> None:
    """What the pool tells of each key's registers, counted by rank.

    Args:
        key_hashes: (n,) uint64.
        pool: words, uint64.
        registers: virtual registers per key, uint64.
        groups: look at so many groups of them only, uint64.
        own: receives the registers whose rank is known, by rank, (n, 16) int32 zeros.
        below: receives those of which only a largest possible rank is known, by that rank.
    """
    n_groups = np.uint64(pool.shape[0]) // _GROUP_WORDS
    groups = min(groups, registers // _GROUP_WORDS)
    hashes = np.empty(groups, np.uint64)
    for i in range(key_hashes.shape[0]):
        for group in range(groups):
            hashes[group] = group_hash(key_hashes[i], np.uint64(group))
            first = first_word(hashes[group], n_groups)
            prefetch(pool, first)
            prefetch(pool, first + _8)
        for group in range(groups):
            tags = group_tags(hashes[group])
            first = first_word(hashes[group], n_groups)
            for k in range(GROUP_WORDS):
                place = np.uint64(k)
                word = pool[first + place]
                if word == _0:
                    below[i, 0] += 1
                    continue
                tag = tag_of(tags, place)
                # A field of the sum has its highest bit unless the tags are equal.
                unlike = ((word ^ (tag * _EACH)) & _TAGS) + _ALMOST
                found = _0
                if unlike & _HIGHEST != _HIGHEST:
                    rest = word
                    while rest != _0:
                        if rest & _TAG == tag:
                            found = (rest & _ENTRY) >> _TAG_BITS
                        rest >>= _16
                if found != _0:
                    own[i, found] += 1
                else:
                    last = word & _ENTRY
                    rank = last >> _TAG_BITS
                    below[i, rank - np.uint64(last != _0 and tag > last & _TAG)] += 1
