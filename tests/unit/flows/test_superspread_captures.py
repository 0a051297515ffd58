"""Spreads in captures of real traffic, against what tshark counts in them."""

import ipaddress
import json
import os
from pathlib import Path

import numpy as np
import pytest

from flows.sketches.superspread import SuperSpread, pairs
from probe.capture import CaptureFile
from schemas.hashing import hash_words

FOLDER = Path(os.environ.get("NETSPECTRA_CAPTURES", Path(__file__).parents[4] / "shared/captures"))
TRUTH = FOLDER / "expected.jsonl"
CASES = [json.loads(line) for line in TRUTH.read_text().splitlines()] if TRUTH.exists() else []

pytestmark = pytest.mark.skipif(not CASES, reason="no shared captures (NETSPECTRA_CAPTURES)")


def key_of(address):
    """An address as the record has it: 16 bytes, IPv4 mapped, in two little-endian words."""
    parsed = ipaddress.ip_address(address)
    mapped = parsed.packed if parsed.version == 6 else bytes(10) + b"\xff\xff" + parsed.packed
    return tuple(np.frombuffer(mapped, "<u8").tolist())


def read_words(name):
    """Source and destination words of the IP packets of a capture."""
    with CaptureFile(FOLDER / name) as capture:
        parts = []
        while len(part := capture.read(10_000)):
            parts.append(part)
    packets = np.concatenate(parts)
    packets = packets[np.isin(packets["eth_type"], [0x0800, 0x86DD])]
    words = np.ascontiguousarray(packets).view(np.uint64).reshape(len(packets), -1)
    return np.ascontiguousarray(words[:, 1:3]), np.ascontiguousarray(words[:, 3:5])


@pytest.mark.parametrize("want", CASES, ids=lambda want: want["file"])
@pytest.mark.parametrize("exact_pairs", [1024, 8])
def test_top_spreaders_of_captures(want, exact_pairs, monkeypatch):
    """Every top spreader with more than 20 peers is listed and its interval holds."""
    monkeypatch.setattr(pairs, "EXACT_PAIRS", exact_pairs)
    sources, destinations = read_words(want["file"])
    for keys, elements, truth in (
        (sources, destinations, want["top_src_by_distinct_dst"]),
        (destinations, sources, want["top_dst_by_distinct_src"]),
    ):
        sketch = SuperSpread(2)
        sketch.update(keys, hash_words(keys), hash_words(elements, 1))
        rows = sketch.top(10_000).rows
        bounds = {row.key: (row.lower, row.upper) for row in rows}
        for address, peers in truth:
            if peers > 20 or sketch.exact:
                lower, upper = bounds[key_of(address)]
                assert lower <= peers <= upper
        if sketch.exact:
            assert [row.estimate for row in rows[: len(truth)]] == [n for _, n in truth]
        elif truth[0][1] > 2 * truth[1][1]:
            assert rows[0].key == key_of(truth[0][0])
