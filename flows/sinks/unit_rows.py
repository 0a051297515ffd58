"""A unit as rows of the additive tables: flows, totals, ledger, commits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flows.kernels.layout import (
    BYTES,
    DST,
    DST_MAC,
    FIRST,
    FLAGS_SHIFT,
    FOLDED,
    KIND,
    LAST,
    PACKETS,
    PANE,
    PLACE,
    PORTS,
    SRC,
    SRC_MAC,
    STREAM_SHIFT,
    T_BYTES,
    T_ICMP,
    T_IPV4,
    T_IPV6,
    T_KIND,
    T_LATE,
    T_OTHER,
    T_OTHER_PROTO,
    T_PACKETS,
    T_PANE,
    T_PLACE,
    T_RECORDS,
    T_TCP,
    T_UDP,
)
from flows.sinks.columns import names, times_ms, times_ns, words_binary
from flows.storage.rows import HOPS, build
from flows.storage.tables import MAX_INSERT_ROWS
from flows.windows.ledger import hops
from flows.windows.unit import Unit

Words = npt.NDArray[np.uint64]

_DAY_NS: Final = 86_400 * 10**9
_MS: Final = 10**6


def chunks(panes: Words, pane_ns: int) -> list[npt.NDArray[np.int64]]:
    """Row numbers of each insert: one day, at most ``MAX_INSERT_ROWS`` rows, in order of time."""
    days = (panes * np.uint64(pane_ns)) // np.uint64(_DAY_NS)
    order = np.argsort(days, kind="stable")
    cuts = np.flatnonzero(np.diff(days[order])) + 1
    return [
        part[start : start + MAX_INSERT_ROWS]
        for part in np.split(order, cuts)
        for start in range(0, len(part), MAX_INSERT_ROWS)
    ]


def flows(unit: Unit) -> Iterator[pa.Table]:
    """Rows of ``flows``, an Arrow table for each insert."""
    for rows in chunks(unit.entries[:, PANE], unit.pane_ns):
        first, last = int(rows[0]), int(rows[-1])
        # Neighbours, as a rule, and then a view.
        part = slice(first, last + 1) if last - first + 1 == len(rows) else rows
        yield _flow_rows(unit, unit.entries[part], unit.networks[part])


def _bits(words: Words, shift: int, mask: int, kind: Any) -> npt.NDArray[Any]:
    return ((words >> np.uint64(shift)) & np.uint64(mask)).astype(kind)


def _interface_names(unit: Unit, streams: Words, places: Words) -> pa.Array:
    """Names by (stream, interface); one pair per probe is the rule."""
    pairs = (streams << np.uint64(32)) | (places & np.uint64(0xFFFFFFFF))
    if not len(pairs) or (pairs == pairs[0]).all():
        unique, codes = pairs[:1], np.zeros(len(pairs), np.intp)
    else:
        unique, codes = np.unique(pairs, return_inverse=True)
    texts = [unit.streams[int(p) >> 32].interfaces.get(int(p) & 0xFFFFFFFF, "") for p in unique]
    return names(codes, texts)


def _flow_rows(unit: Unit, entries: Words, networks: npt.NDArray[np.uint16]) -> pa.Table:
    columns = entries.T
    kind, ports, place = columns[KIND], columns[PORTS], columns[PLACE]
    streams = kind >> STREAM_SHIFT
    start_ms = columns[PANE] * np.uint64(unit.pane_ns // _MS)
    values = {
        "tenant": names(streams, [stream.tenant for stream in unit.streams]),
        "probe": names(streams, [stream.probe for stream in unit.streams]),
        "window_start": times_ms(start_ms),
        "src_addr": words_binary(entries[:, SRC : SRC + 2], 16),
        "dst_addr": words_binary(entries[:, DST : DST + 2], 16),
        "src_port": _bits(ports, 0, 0xFFFF, np.uint16),
        "dst_port": _bits(ports, 16, 0xFFFF, np.uint16),
        "ip_proto": _bits(kind, 0, 0xFF, np.uint8),
        "eth_type": _bits(ports, 48, 0xFFFF, np.uint16),
        "vlan_id": _bits(ports, 32, 0xFFFF, np.uint16),
        "tunnel_id": _bits(place, 32, 0xFFFFFFFF, np.uint32),
        "if_index": _bits(place, 0, 0xFFFFFFFF, np.uint32),
        "if_name": _interface_names(unit, streams, place),
        "direction": _bits(kind, 8, 0xFF, np.int8),
        "capture_point": _bits(kind, 16, 0xFF, np.int8),
        "src_mac": words_binary(columns[SRC_MAC].reshape(-1, 1), 6),
        "dst_mac": words_binary(columns[DST_MAC].reshape(-1, 1), 6),
        "src_net": names(networks[:, 0], unit.network_names),
        "dst_net": names(networks[:, 1], unit.network_names),
        "packets": columns[PACKETS],
        "bytes": columns[BYTES],
        "first_seen": times_ns(columns[FIRST]),
        "last_seen": times_ns(columns[LAST]),
        "tcp_flags": _bits(columns[SRC_MAC], int(FLAGS_SHIFT), 0xFF, np.uint8),
        "sampling_rate": np.array([s.sampling_rate for s in unit.streams], np.uint32)[streams],
        "folded_flows": columns[FOLDED].astype(np.uint32),
    }
    return build("flows", values)


def totals(unit: Unit) -> Iterator[pa.Table]:
    """Rows of ``totals``, an Arrow table for each insert."""
    return _by_day(_total_rows(unit))


def ledger(unit: Unit) -> Iterator[pa.Table]:
    """Rows of ``ledger``, an Arrow table for each insert."""
    return _by_day(_ledger_rows(unit))


def _by_day(rows: pa.Table) -> Iterator[pa.Table]:
    starts_ms = rows["window_start"].cast(pa.int64()).to_numpy().astype(np.uint64)
    for part in chunks(starts_ms, _MS):
        yield rows if len(part) == rows.num_rows else rows.take(part)


def _total_rows(unit: Unit) -> pa.Table:
    columns = np.ascontiguousarray(unit.totals.T)
    kind = columns[T_KIND]
    streams = kind >> STREAM_SHIFT
    counters = {
        "packets": T_PACKETS,
        "bytes": T_BYTES,
        "records": T_RECORDS,
        "late_packets": T_LATE,
        "ipv4_packets": T_IPV4,
        "ipv6_packets": T_IPV6,
        "other_packets": T_OTHER,
        "tcp_packets": T_TCP,
        "udp_packets": T_UDP,
        "icmp_packets": T_ICMP,
        "other_proto_packets": T_OTHER_PROTO,
    }
    return build(
        "totals",
        {
            "tenant": names(streams, [stream.tenant for stream in unit.streams]),
            "probe": names(streams, [stream.probe for stream in unit.streams]),
            "window_start": times_ms(columns[T_PANE] * np.uint64(unit.pane_ns // _MS)),
            "pane_ms": np.full(len(kind), unit.pane_ns // _MS, np.uint32),
            "if_index": columns[T_PLACE].astype(np.uint32),
            "direction": _bits(kind, 8, 0xFF, np.int8),
            "capture_point": _bits(kind, 16, 0xFF, np.int8),
            **{name: columns[word] for name, word in counters.items()},
        },
    )


def _ledger_rows(unit: Unit) -> pa.Table:
    rows = list(hops(unit))
    streams = [unit.streams[row.stream] for row in rows]
    return build(
        "ledger",
        {
            "tenant": [stream.tenant for stream in streams],
            "probe": [stream.probe for stream in streams],
            "window_start": times_ms(
                np.array([row.pane * unit.pane_ns // _MS for row in rows], np.int64)
            ),
            "hop": [HOPS[row.hop] for row in rows],
            "seen": [row.delivered + sum(row.dropped.values()) for row in rows],
            "delivered": [row.delivered for row in rows],
            "dropped": [list(row.dropped.items()) for row in rows],
            "in_flight": [0] * len(rows),
        },
    )


def commits(unit: Unit) -> pa.Table:
    """The row of ``commits``: written last, it says that all of the unit is stored."""
    return build(
        "commits",
        {
            "topic": [unit.topic],
            "partition": [unit.partition],
            "offset": [unit.offset],
            "packets": [int(unit.totals[:, T_PACKETS].sum())],
            "bytes": [int(unit.totals[:, T_BYTES].sum())],
        },
    )


def positions(unit: Unit, digest: str) -> pa.Table:
    """The row of ``positions``: where to go on after the unit."""
    return build(
        "positions",
        {
            "topic": [unit.topic],
            "partition": [unit.partition],
            "offset": [unit.offset],
            "position": [unit.position],
            "settings_digest": [digest],
            "updated_at": times_ms(np.array([time.time_ns() // _MS], np.int64)),
        },
    )
