"""Flow-table entries into the words of a task's key, and their hash."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from flows.kernels.layout import ENTRY_WORDS
from schemas.hashing import finish, mix


@numba.njit(inline="always")
def _field(entries: Any, networks: Any, row: Any, spec: Any, at: Any) -> Any:
    word = spec[at, 0]
    value = (
        entries[row, word] if word < ENTRY_WORDS else np.uint64(networks[row, word - ENTRY_WORDS])
    )
    return (value >> np.uint64(spec[at, 1])) & np.uint64(spec[at, 2])


@numba.njit(nogil=True, cache=True)
def hash_fields(entries: Any, networks: Any, spec: Any, seed: Any, hashes: Any) -> None:
    """Hash the words that ``spec`` names, for each entry, into ``hashes`` (n,).

    ``spec`` is (k, 3) uint64: word of the entry (16 and 17: source and destination network),
    shift, mask. ``networks`` is (n, 2) uint16.
    """
    for row in range(entries.shape[0]):
        h = seed
        for at in range(spec.shape[0]):
            h = mix(h, _field(entries, networks, row, spec, at))
        hashes[row] = finish(h)


@numba.njit(nogil=True, cache=True)
def project_fields(
    entries: Any, networks: Any, spec: Any, seed: Any, words: Any, hashes: Any
) -> None:
    """Like ``hash_fields``, and write the words themselves to ``words`` (n, k)."""
    for row in range(entries.shape[0]):
        h = seed
        for at in range(spec.shape[0]):
            value = _field(entries, networks, row, spec, at)
            words[row, at] = value
            h = mix(h, value)
        hashes[row] = finish(h)
