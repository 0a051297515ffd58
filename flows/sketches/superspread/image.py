"""The mergeable sketch as bytes.

After the seal: a head, then one of

- exact: pair hashes ascending, their keys;
- sparse: the candidate table, numbers and values of the pool's words that are set;
- dense: the candidate table, the whole pool.

All is little-endian. The table is sorted by order, then key, so equal states give equal bytes.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import numpy.typing as npt

from flows.errors import SketchError
from flows.kernels.superspread_candidates import THRESHOLD
from flows.sketches import seal, unseal
from flows.sketches.superspread.pairs import EXACT_PAIRS, Pairs, no_pairs
from flows.sketches.superspread.pool import Pool, shape_of
from flows.sketches.superspread.result import U64, check_words
from schemas.hashing import hash_words

_KIND: Final = b"NSS1"
# words, form, memory, seed, rows (pairs or candidates), pool words, threshold
_HEAD: Final = struct.Struct("<BBxxxxxxQQQQQ")
_EXACT, _SPARSE, _DENSE = 0, 1, 2


def write(words: int, memory_bytes: int, seed: int, pairs: Pairs, pool: Pool | None) -> bytes:
    """Seal the state of a sketch."""
    if pool is None:
        head = _HEAD.pack(words, _EXACT, memory_bytes, seed, len(pairs.hashes), 0, 0)
        columns = [pairs.hashes.astype("<u8"), pairs.keys.astype("<u8")]
    else:
        count = pool.settle()
        keys, lowest = pool.keys[:count], pool.lowest[:count]
        order = _order(keys, lowest)
        columns = [lowest[order].astype("<u4"), keys[order].astype("<u8")]
        used = pool.used()
        if used is not None:
            columns += [used.astype("<u4"), pool.pool[used].astype("<u8")]
        else:
            columns.append(pool.pool.astype("<u8", copy=False))
        form, n_words = (_DENSE, len(pool.pool)) if used is None else (_SPARSE, len(used))
        threshold = int(pool.state[THRESHOLD])
        head = _HEAD.pack(words, form, memory_bytes, seed, count, n_words, threshold)
    return seal(_KIND, head + b"".join(column.tobytes() for column in columns))


def read(data: bytes) -> tuple[int, int, int, Pairs, Pool | None]:
    """Words, memory, seed and state of what ``write`` made.

    Raises:
        SketchError: foreign or damaged bytes.
    """
    payload = unseal(_KIND, data)
    if len(payload) < _HEAD.size:
        msg = f"a spread sketch has a head of {_HEAD.size} bytes, not {len(payload)}"
        raise SketchError(msg)
    words, form, memory_bytes, seed, rows, n_words, threshold = _HEAD.unpack_from(payload)
    check_words(words)
    shape = shape_of(words, memory_bytes)
    body = memoryview(payload)[_HEAD.size :]
    if form == _EXACT and rows <= EXACT_PAIRS:
        _expect(len(body), rows * (8 + 8 * words))
        hashes = np.frombuffer(body[: 8 * rows], "<u8").astype(np.uint64)
        return words, memory_bytes, seed, Pairs(_words(body[8 * rows :], words), hashes), None
    if form not in (_SPARSE, _DENSE) or rows > shape.kept or n_words > shape.pool_words:
        msg = f"no spread sketch of {memory_bytes} bytes has form {form} and {rows} candidates"
        raise SketchError(msg)
    _expect(len(body), rows * (4 + 8 * words) + n_words * (12 if form == _SPARSE else 8))
    pool = Pool(words, shape, seed)
    table_end = rows * (4 + 8 * words)
    lowest = np.frombuffer(body[: 4 * rows], "<u4").astype(np.uint32)
    keys = _words(body[4 * rows : table_end], words)
    pool.adopt(keys, hash_words(keys, seed), lowest, threshold)
    if form == _DENSE:
        _expect(n_words, shape.pool_words)
        pool.pool[:] = np.frombuffer(body[table_end:], "<u8")
    else:
        middle = table_end + 4 * n_words
        used = np.frombuffer(body[table_end:middle], "<u4")
        if n_words and int(used.max()) >= shape.pool_words:
            msg = f"a pool of {shape.pool_words} words has no word {used.max()}"
            raise SketchError(msg)
        pool.pool[used] = np.frombuffer(body[middle:], "<u8")
    return words, memory_bytes, seed, no_pairs(words), pool


def _order(keys: U64, lowest: npt.NDArray[np.uint32]) -> npt.NDArray[np.intp]:
    """Rows by order, then key. Few share an order, so the keys are seldom looked at."""
    rows = np.argsort(lowest)
    ordered = lowest[rows]
    tied = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(tied):
        same = np.unique(np.concatenate((tied, tied + 1)))
        among = rows[same]
        rows[same] = among[np.lexsort((*keys[among].T[::-1], lowest[among]))]
    return rows


def _words(data: memoryview, words: int) -> U64:
    return np.frombuffer(data, "<u8").astype(np.uint64).reshape(-1, words)


def _expect(found: int, size: int) -> None:
    if found != size:
        msg = f"a spread sketch of this shape takes {size}, not {found}: it is cut off"
        raise SketchError(msg)
