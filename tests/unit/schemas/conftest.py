"""A header and records that the tests of the wire format share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from fastavro.read import LOGICAL_READERS

from schemas.batch import BatchHeader, Counters
from schemas.record import PACKET, PACKET_BYTES, Packets


@pytest.fixture
def packets() -> Packets:
    """Five records of arbitrary bytes."""
    data = np.random.default_rng(5).bytes(5 * PACKET_BYTES)
    return np.frombuffer(data, PACKET)


@pytest.fixture
def header() -> BatchHeader:
    """A header for five records, with everything in it."""
    return BatchHeader(
        tenant="default",
        probe="sonde-é",
        boot_id=bytes(range(16)),
        partition=7,
        sequence=300,
        emit_time_ns=1_767_225_600_000_000_000,
        watermark_ns=-1,
        record_count=5,
        sampling_rate=100,
        goodbye=True,
        counters=Counters(seen=1000, dropped={"ring_full": 3, "queue_full": 0}),
        packets_before=5_000_000_000,
        aggregated=True,
        interfaces={"eth0": 2, "vlan.é": 17},
    )


@pytest.fixture(autouse=True)
def fastavro_as_it_was() -> Iterator[None]:
    """Take back what a test registers with fastavro for the whole process."""
    before = dict(LOGICAL_READERS)
    yield
    LOGICAL_READERS.clear()
    LOGICAL_READERS.update(before)
