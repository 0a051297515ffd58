"""Flow tables become records: sums over processors, splits, times within their second."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probe.ebpf.flow_tables import MAX_PACKETS, MAX_WIRE_BYTES, records_of
from schemas.record import PACKET
from tests.support.bpf_load import FLOW_KEY, FLOW_VALUE

SECOND_NS = 10**9
SAME = [name for name in FLOW_KEY.names or () if name not in ("second", "pad")]


def records(keys: np.ndarray, values: np.ndarray, offset_ns: int) -> np.ndarray:
    key_words = keys.view(np.uint64).reshape(len(keys), 8)
    value_words = values.view(np.uint64).reshape(*values.shape, 6)
    return records_of(key_words, value_words, offset_ns)


@dataclass
class Seen:
    """What one processor saw of a flow."""

    packets: int
    wire_bytes: int
    first_ns: int
    lasted_ns: int
    flags: int


SEEN = st.builds(
    Seen,
    packets=st.one_of(st.integers(1, 5), st.integers(2**32 - 3, 2**34)),
    wire_bytes=st.one_of(st.integers(0, 9000), st.integers(2**31 - 3, 2**35)),
    first_ns=st.integers(0, SECOND_NS - 1),
    lasted_ns=st.integers(0, SECOND_NS - 1),
    flags=st.integers(0, 255),
)
CPU = st.one_of(st.just(Seen(0, 0, 0, 0, 0)), SEEN)


def plain(seen: list[Seen]) -> dict[str, int]:
    """The sums as plain Python."""
    seen = [one for one in seen if one.packets]
    earliest = min(range(len(seen)), key=lambda i: seen[i].first_ns)
    first = seen[earliest].first_ns
    last = min(max(one.first_ns + one.lasted_ns for one in seen), SECOND_NS - 1)
    flags = 0
    for one in seen:
        flags |= one.flags
    return {
        "packets": sum(one.packets for one in seen),
        "bytes": sum(one.wire_bytes for one in seen),
        "first_ns": first,
        "duration_us": (last - first) // 1000,
        "tcp_flags": flags,
        "ttl": seen[earliest].first_ns % 251,
    }


@settings(max_examples=60, deadline=None)
@given(
    flows=st.lists(
        st.lists(CPU, min_size=3, max_size=3).filter(lambda cpus: any(c.packets for c in cpus)),
        max_size=6,
    ),
    offset_ns=st.integers(-(2**40), 2**40),
    seed=st.integers(0, 2**32),
)
def test_against_plain_python(flows: list[list[Seen]], offset_ns: int, seed: int) -> None:
    """Each flow's records have its key, and its sums exactly, within the limits of a record."""
    dice = np.random.default_rng(seed)
    keys = np.frombuffer(dice.bytes(len(flows) * FLOW_KEY.itemsize), FLOW_KEY).copy()
    keys["second"] = 10**6 + np.arange(len(flows))
    values = np.zeros((len(flows), 3), FLOW_VALUE)
    for i, cpus in enumerate(flows):
        for cpu, seen in enumerate(cpus):
            start_ns = int(keys["second"][i]) * SECOND_NS - offset_ns + seen.first_ns
            macs = bytes([seen.first_ns % 256] * 12)
            values[i, cpu] = (
                *(seen.packets, seen.wire_bytes, start_ns, start_ns + seen.lasted_ns),
                *(list(macs[:6]), list(macs[6:]), seen.flags, seen.first_ns % 251, 7, 0),
            )
    found = records(keys, values, offset_ns)
    at = 0
    for i, cpus in enumerate(flows):
        expected = plain(cpus)
        count = max(
            -(-expected["packets"] // MAX_PACKETS), -(-expected["bytes"] // MAX_WIRE_BYTES), 1
        )
        rows = found[at : at + count]
        at += count
        assert int(rows["packets"].sum(dtype=np.uint64)) == expected["packets"]
        assert int(rows["wire_bytes"].sum(dtype=np.uint64)) == expected["bytes"]
        assert rows["wire_bytes"].max() <= MAX_WIRE_BYTES
        for row in rows:
            for name in SAME:
                assert row[name].tobytes() == keys[i][name].tobytes()
            assert row["ts_ns"] == int(keys["second"][i]) * SECOND_NS + expected["first_ns"]
            assert row["duration_us"] == expected["duration_us"]
            assert row["tcp_flags"] == expected["tcp_flags"]
            assert (row["ttl"], row["tos"], row["reserved"]) == (expected["ttl"], 7, 0)
            mac = bytes([expected["first_ns"] % 256] * 6)
            assert (bytes(row["src_mac"]), bytes(row["dst_mac"])) == (mac, mac)
    assert at == len(found)


def test_no_flows() -> None:
    """An empty table gives no records."""
    found = records(np.zeros(0, FLOW_KEY), np.zeros((0, 2), FLOW_VALUE), 0)
    assert found.dtype == PACKET
    assert len(found) == 0


@pytest.mark.parametrize(("off_ns", "within_ns"), [(-5, 0), (SECOND_NS, SECOND_NS - 1)])
def test_time_stays_in_the_second_of_the_key(off_ns: int, within_ns: int) -> None:
    """When the wall clock was set meanwhile, the second that programs counted in holds."""
    keys, values = np.zeros(1, FLOW_KEY), np.zeros((1, 1), FLOW_VALUE)
    keys["second"] = 1000
    values["packets"] = 1
    values["first_ns"] = values["last_ns"] = 1000 * SECOND_NS + off_ns
    (record,) = records(keys, values, 0)
    assert record["ts_ns"] == 1000 * SECOND_NS + within_ns
    assert record["duration_us"] == 0
