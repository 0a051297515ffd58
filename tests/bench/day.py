"""A day of traffic in the store, and what the saved queries cost on it.

    python -m tests.bench.day load chdb:DIR [ROWS]   fills a store (50 million rows of flows)
    python -m tests.bench.day measure chdb:DIR       times the saved queries, sizes columns

Traffic as in an office with servers of its own: days and nights, two interfaces, clients that
mostly use HTTPS and QUIC outside, DNS inside, popular servers (Zipf), short sessions and some of
hours, replies, IPv6, scans, alerts, estimates of windows. Rows are written as the job writes them,
in inserts of ten minutes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flows.storage.store import Store
from flows.storage.tables import SCHEMAS
from tests.bench.day_results import DAY_MS, results

PANE_MS = 2000
CHUNK_PANES = 300
CHUNKS = 144
CLIENTS, SERVERS, OUTSIDE = 2_000, 60, 200_000
IPV6_SHARE = 0.2

# Port, protocol, share of sessions, whether the server is inside, panes of a session (mean),
# packets a pane (mean).
SERVICES = np.array(
    [
        (443, 6, 0.40, 0, 3, 9),
        (443, 17, 0.17, 0, 4, 14),
        (53, 17, 0.16, 1, 1, 1.2),
        (80, 6, 0.06, 0, 3, 6),
        (445, 6, 0.04, 1, 8, 20),
        (8080, 6, 0.05, 1, 4, 8),
        (5432, 6, 0.04, 1, 10, 12),
        (22, 6, 0.01, 1, 60, 5),
        (123, 17, 0.03, 0, 1, 1),
        (2048, 1, 0.04, 1, 2, 2),
    ]
)

Columns = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class Ends:
    """Addresses (16 bytes) and MACs (6 bytes) of hosts by number."""

    addresses: npt.NDArray[np.void]
    macs: npt.NDArray[np.void]


def main(command: str, setting: str, rows: str = "50000000") -> None:
    """Run one of the two commands."""
    if command == "load":
        load(setting, int(rows))
    else:
        from tests.bench.day_cost import report

        report(setting)


def load(setting: str, rows: int) -> None:
    """Fill a store with so many rows of flows, about, and what goes with them."""
    rng = np.random.default_rng(1)
    ends = hosts(rng)
    weights = 0.25 + np.clip(np.sin(np.linspace(-0.5 * np.pi, 1.5 * np.pi, CHUNKS)), -0.2, 1) + 0.2
    per_chunk = rows * weights / weights.sum()
    started, written = time.monotonic(), 0
    with Store.open(setting, serve=False) as store:
        for chunk, wanted in enumerate(per_chunk):
            columns = join(flows(rng, chunk, int(wanted)), scans(rng, chunk))
            totals, ledger = sums(columns, chunk)
            for part in tables(columns, ends):
                store.insert("flows", part, f"flows/{chunk}/{written}")
                written += part.num_rows
            store.insert("totals", totals, f"totals/{chunk}")
            store.insert("ledger", ledger, f"ledger/{chunk}")
            if chunk % 12 == 11:
                seconds = time.monotonic() - started
                print(f"{written:,} rows, {written / seconds:,.0f} a second", flush=True)
        for table, part in results(rng):
            store.insert(table, part, f"{table}/{part.num_rows}")
        store.command("OPTIMIZE TABLE flows FINAL")
        store.command("OPTIMIZE TABLE flows_1m FINAL")
        store.command("OPTIMIZE TABLE flows_1h FINAL")


def hosts(rng: np.random.Generator) -> Ends:
    """Clients, then servers, then hosts outside; a fifth of all with IPv6."""
    n = CLIENTS + SERVERS + OUTSIDE
    addresses = np.zeros((n, 16), np.uint8)
    number = np.arange(n, dtype=np.uint32)
    inside = number < CLIENTS + SERVERS
    outside = rng.integers(0x0B000000, 0xDF000000, n, dtype=np.uint32)
    v4 = np.where(inside, 0x0A000000 + number + 256, outside).astype(">u4")
    addresses[:, 10:12] = 0xFF
    addresses[:, 12:] = v4.view(np.uint8).reshape(-1, 4)
    v6 = rng.random(n) < IPV6_SHARE
    prefix = np.where(inside[:, None], [0xFD, 0, 0, 1], [0x2A, 0, 0x14, 0x50])
    addresses[v6, :4] = prefix[v6]
    addresses[v6, 4:12] = 0
    addresses[v6, 12:] = v4[v6].view(np.uint8).reshape(-1, 4)
    macs = np.zeros((n, 6), np.uint8)
    macs[:] = (2, 0, 0x5E, 0, 0, 1)  # the router's, for all that are outside
    macs[inside, 3:] = rng.integers(0, 256, (inside.sum(), 3))
    return Ends(addresses.view("V16").ravel(), macs.view("V6").ravel())


def flows(rng: np.random.Generator, chunk: int, rows: int) -> Columns:
    """About so many rows of ten minutes: sessions, spread over panes, both ways."""
    # A session has panes for both ways; what crosses the edge of a chunk is cut there.
    sessions = int(rows / 5.9)
    kind = rng.choice(len(SERVICES), sessions, p=SERVICES[:, 2] / SERVICES[:, 2].sum())
    service = SERVICES[kind]
    client = zipf(rng, CLIENTS, 0.6, sessions)
    server = np.where(
        service[:, 3] == 1,
        CLIENTS + zipf(rng, SERVERS, 0.9, sessions),
        CLIENTS + SERVERS + zipf(rng, OUTSIDE, 1.1, sessions),
    )
    port = rng.integers(32_768, 61_000, sessions)
    port[service[:, 1] == 1] = 0
    # Busy for a few panes of a longer session.
    panes = np.minimum(rng.geometric(1 / service[:, 4]), CHUNK_PANES)
    first = rng.integers(0, CHUNK_PANES, sessions)
    session = np.repeat(np.arange(sessions), panes)
    pane = first[session] + np.arange(len(session)) - np.repeat(np.cumsum(panes) - panes, panes)
    kept = (pane < CHUNK_PANES) & (rng.random(len(session)) < 0.8)
    session, pane = session[kept], pane[kept]
    session, pane, reply = (
        np.tile(session, 2),
        np.tile(pane, 2),
        np.arange(2 * len(session)) >= len(session),
    )
    n = len(session)
    packets = rng.geometric(1 / service[session, 5])
    size = np.where(
        reply & (service[session, 1] != 1), rng.integers(90, 1480, n), rng.integers(64, 300, n)
    )
    window_ms = DAY_MS + (chunk * CHUNK_PANES + pane) * PANE_MS
    # Clocks of captures tick in microseconds or better.
    begin_ns = rng.integers(0, 1_500_000_000, n)
    length_ns = np.where(packets > 1, rng.integers(100_000, 500_000_000, n), 0)
    first_ns = window_ms * 10**6 + begin_ns
    ours, theirs = client[session], server[session]
    own_port, far_port = port[session], service[session, 0].astype(np.int64)
    inside = service[session, 3] == 1
    tcp = service[session, 1] == 6
    return {
        "window_start": window_ms,
        "src": np.where(reply, theirs, ours),
        "dst": np.where(reply, ours, theirs),
        "src_port": np.where(reply, far_port, own_port) * (service[session, 1] != 1),
        "dst_port": np.where(
            reply & (service[session, 1] != 1),
            own_port,
            far_port - 2048 * (reply & ~tcp & (far_port == 2048)),
        ),
        "ip_proto": service[session, 1],
        "if_index": np.where(inside, 3, 2),
        "direction": np.where(reply, 1, 2),
        "packets": packets,
        "bytes": packets * size,
        "first_seen": first_ns,
        "last_seen": first_ns + length_ns,
        "tcp_flags": np.where(
            tcp, np.where(pane == first[session], 0x1A, 0x18) + (rng.random(n) < 0.1), 0
        ),
    }


def scans(rng: np.random.Generator, chunk: int) -> Columns:
    """Tries of ten minutes: the usual ones from outside, two at large in the day."""
    ends = CLIENTS + SERVERS
    tries = [
        _tries(rng, chunk, ends + rng.integers(OUTSIDE), rng.integers(ends, size=40), port)
        for port in (22, 23, 445, 3389, 8080)
    ]
    if chunk == 12:  # a client looks for hosts at two in the night
        tries.append(_tries(rng, chunk, 7, ends + rng.integers(OUTSIDE, size=20_000), 445))
    if chunk == 80:  # somebody looks for services of a server
        ports = np.arange(1, 5001)
        tries.append(_tries(rng, chunk, ends + 4321, np.full(len(ports), CLIENTS + 3), ports))
    return join(*tries)


def _tries(
    rng: np.random.Generator,
    chunk: int,
    source: int,
    targets: npt.NDArray[np.int64],
    ports: int | npt.NDArray[np.int64],
) -> Columns:
    """A SYN to each target, and from one in twenty a RST back."""
    answers = np.flatnonzero(rng.random(len(targets)) < 0.05)
    of = np.concatenate([np.arange(len(targets)), answers])
    reply = np.arange(len(of)) >= len(targets)
    pane = np.sort(rng.integers(0, CHUNK_PANES, len(targets)))[of]
    window_ms = DAY_MS + (chunk * CHUNK_PANES + pane) * PANE_MS
    seen_ns = window_ms * 10**6 + rng.integers(0, 2_000_000_000, len(of))
    own, far = (
        rng.integers(32_768, 61_000, len(targets))[of],
        np.broadcast_to(ports, len(targets))[of],
    )
    packets = np.where(reply, 1, rng.integers(1, 3, len(of)))
    return {
        "window_start": window_ms,
        "src": np.where(reply, targets[of], source),
        "dst": np.where(reply, source, targets[of]),
        "src_port": np.where(reply, far, own),
        "dst_port": np.where(reply, own, far),
        "ip_proto": np.full(len(of), 6),
        "if_index": np.full(len(of), 2),
        "direction": np.where(reply == (source < CLIENTS), 1, 2),
        "packets": packets,
        "bytes": packets * 60,
        "first_seen": seen_ns,
        "last_seen": seen_ns,
        "tcp_flags": np.where(reply, 0x14, 0x02),
    }


def join(*parts: Columns) -> Columns:
    """All rows of the parts."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def zipf(rng: np.random.Generator, n: int, exponent: float, size: int) -> npt.NDArray[np.int64]:
    """Numbers under n, the small ones more often."""
    weights = np.cumsum(1 / np.arange(1, n + 1) ** exponent)
    found: npt.NDArray[np.int64] = np.searchsorted(weights, rng.random(size) * weights[-1])
    return found


def tables(columns: Columns, ends: Ends) -> Iterator[pa.Table]:
    """Rows for inserts of at most half a million."""
    n = len(columns["src"])
    for start in range(0, n, 500_000):
        part = {name: values[start : start + 500_000] for name, values in columns.items()}
        yield _table(part, ends)


def _table(part: Columns, ends: Ends) -> pa.Table:
    n = len(part["src"])
    src, dst = part["src"], part["dst"]
    v6 = ends.addresses.view(np.uint8).reshape(-1, 16)[src.astype(np.int64), 0] != 0

    def fixed(values: npt.NDArray[np.void], width: int) -> pa.Array:
        data = pa.py_buffer(np.ascontiguousarray(values).tobytes())
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), n, [None, data])

    def name(values: list[str], index: npt.NDArray[np.generic] | None = None) -> pa.Array:
        numbers = np.zeros(n, np.int32) if index is None else index.astype(np.int32)
        return pa.DictionaryArray.from_arrays(pa.array(numbers), pa.array(values))

    inside = CLIENTS + SERVERS
    made = {
        "tenant": name(["default"]),
        "probe": name(["edge-1"]),
        "src_addr": fixed(ends.addresses[src.astype(np.int64)], 16),
        "dst_addr": fixed(ends.addresses[dst.astype(np.int64)], 16),
        "src_mac": fixed(ends.macs[src.astype(np.int64)], 6),
        "dst_mac": fixed(ends.macs[dst.astype(np.int64)], 6),
        "if_name": name(["eth0", "eth1"], part["if_index"].astype(np.int32) - 2),
        "src_net": name(["internal", ""], src >= inside),
        "dst_net": name(["internal", ""], dst >= inside),
        "eth_type": np.where(v6, 0x86DD, 0x0800),
        "capture_point": np.full(n, 2),
        "sampling_rate": np.ones(n),
    }
    given = {**part, **made}
    arrays = []
    for field in SCHEMAS["flows"]:
        values = given.get(field.name, np.zeros(n))
        if isinstance(values, np.ndarray):
            values = pa.array(values.astype("i8")).cast(field.type, safe=False)
        arrays.append(values)
    return pa.Table.from_arrays(arrays, schema=SCHEMAS["flows"])


def sums(columns: Columns, chunk: int) -> tuple[pa.Table, pa.Table]:
    """Rows for ``totals`` and ``ledger`` of the panes; one in ten loses 2 %."""
    pane = (columns["window_start"].astype(np.int64) - DAY_MS) // PANE_MS - chunk * CHUNK_PANES
    group = (pane * 2 + (columns["if_index"] == 3)) * 2 + (columns["direction"] == 2)
    cells = CHUNK_PANES * 4
    packets, size = (
        np.bincount(group, columns[name].astype(float), cells).astype(np.int64)
        for name in ("packets", "bytes")
    )
    start = DAY_MS + (chunk * CHUNK_PANES + np.arange(cells) // 4) * PANE_MS
    proto = [
        np.bincount(
            group[columns["ip_proto"] == p],
            columns["packets"][columns["ip_proto"] == p].astype(float),
            cells,
        ).astype(np.int64)
        for p in (6, 17, 1)
    ]
    totals = _plain(
        "totals",
        window_start=start,
        pane_ms=np.full(cells, PANE_MS),
        if_index=2 + np.arange(cells) // 2 % 2,
        direction=1 + np.arange(cells) % 2,
        capture_point=np.full(cells, 2),
        packets=packets,
        bytes=size,
        records=packets,
        ipv4_packets=packets,
        tcp_packets=proto[0],
        udp_packets=proto[1],
        icmp_packets=proto[2],
    )
    delivered = packets.reshape(-1, 4).sum(1)
    lost = np.where(np.arange(CHUNK_PANES) % 10 == 9, delivered // 50, 0)
    seen = np.concatenate([delivered + lost, np.tile(delivered, 4)])
    dropped = pa.array(
        [[("ring_full", int(x))] if x else [] for x in lost] + [[]] * (4 * CHUNK_PANES),
        SCHEMAS["ledger"].field("dropped").type,
    )
    ledger = _plain(
        "ledger",
        window_start=np.tile(DAY_MS + (chunk * CHUNK_PANES + np.arange(CHUNK_PANES)) * PANE_MS, 5),
        hop=np.repeat(np.arange(1, 6), CHUNK_PANES),
        seen=seen,
        delivered=np.tile(delivered, 5),
    )
    at = ledger.schema.get_field_index("dropped")
    return totals, ledger.set_column(at, ledger.schema.field(at), dropped)


def _plain(table: str, **given: npt.NDArray[np.generic]) -> pa.Table:
    n = len(given["window_start"])
    arrays = []
    for field in SCHEMAS[table]:
        if pa.types.is_dictionary(field.type):
            text = "default" if field.name == "tenant" else "edge-1"
            arrays.append(pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), [text]))
        elif pa.types.is_map(field.type):
            arrays.append(pa.nulls(n, field.type))
        else:
            values = given.get(field.name, np.zeros(n)).astype("i8")
            arrays.append(pa.array(values).cast(field.type, safe=False))
    return pa.Table.from_arrays(arrays, schema=SCHEMAS[table])


if __name__ == "__main__":
    main(*sys.argv[1:])
