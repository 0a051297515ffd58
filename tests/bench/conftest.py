"""Sizes at which every benchmark runs in a moment."""

from __future__ import annotations

import pytest

from flows.benchmarks.sizes import Sizes


@pytest.fixture(scope="session")
def tiny() -> Sizes:
    return Sizes(
        seed=3,
        active_flows=500,
        messages=2,
        avro_messages=1,
        capture_packets=2_000,
        scapy_packets=50,
        kernel_packets=4_000,
        dict_packets=1_000,
        pane_flows=1_000,
        library_flows=500,
        demo_packets=150_000,
        store_packets=20_000,
        zipf_packets=20_000,
        flood_packets=20_000,
    )
