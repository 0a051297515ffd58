"""Captures of real traffic, against what tshark counts in them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.capture import CaptureFile

FOLDER = Path(os.environ.get("NETSPECTRA_CAPTURES", Path(__file__).parents[4] / "shared/captures"))
TRUTH = FOLDER / "expected.jsonl"
CASES = [json.loads(line) for line in TRUTH.read_text().splitlines()] if TRUTH.exists() else []

pytestmark = pytest.mark.skipif(not CASES, reason="no shared captures (NETSPECTRA_CAPTURES)")


@pytest.mark.parametrize("want", CASES, ids=lambda want: want["file"])
@pytest.mark.parametrize("batch", [97, 10**9])
def test_counts(want: dict[str, Any], batch: int) -> None:
    """Packets, bytes, IP versions, addresses and times of a real capture are tshark's."""
    with CaptureFile(FOLDER / want["file"]) as capture:
        parts = []
        while len(part := capture.read(batch)):
            parts.append(part)
        assert capture.truncated is None
    packets = np.concatenate(parts)
    versions = {0x0800: "ipv4", 0x86DD: "ipv6"}
    ip = packets[np.isin(packets["eth_type"], list(versions))]
    got = {
        "packets": len(packets),
        "bytes": int(packets["wire_bytes"].sum()),
        "other_packets": len(packets) - len(ip),
        "distinct_src": len(np.unique(ip["src_addr"], axis=0)),
        "distinct_dst": len(np.unique(ip["dst_addr"], axis=0)),
    }
    for eth_type, name in versions.items():
        got[f"{name}_packets"] = int((packets["eth_type"] == eth_type).sum())
    assert got == {name: want[name] for name in got}
    times = packets["ts_ns"].astype(np.float64) / 1e9
    assert times.min() == pytest.approx(want["first_epoch"], abs=2e-6)
    assert times.max() == pytest.approx(want["last_epoch"], abs=2e-6)
