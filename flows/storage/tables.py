"""What an insert looks like: an Arrow schema for each table that is written.

Types are those that ClickHouse takes over without conversion: addresses and MACs as fixed
binary (text would be 20 to 60 times slower), enumerations as their numbers, names that repeat
as dictionaries. A column with a default (``ingested_at``) is left to the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import pyarrow as pa

from flows.errors import StoreError

NAME: Final = pa.dictionary(pa.int32(), pa.string())
"""A text that takes few values: LowCardinality(String)."""

ADDRESS: Final = pa.binary(16)
MAC: Final = pa.binary(6)
ENUM: Final = pa.int8()
WINDOW: Final = pa.timestamp("ms", "UTC")
INSTANT: Final = pa.timestamp("ns", "UTC")

MAX_INSERT_ROWS: Final = 500_000
"""Rows of one insert, so that it makes one part and stays within the engine's memory."""

_U8, _U16, _U32, _U64, _F64 = pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.float64()


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(name, kind) for name, kind in columns.items()])


_RESULT: Final = {"tenant": NAME, "window_start": WINDOW, "horizon": _U32, "task": NAME}
_VERSION: Final = {"revision": _U32, "updated_at": WINDOW}
_PREFIX: Final = {"load_id": _U64, "address": ADDRESS, "prefix": pa.string()}

SCHEMAS: Final[Mapping[str, pa.Schema]] = MappingProxyType(
    {
        "flows": _schema(
            tenant=NAME,
            probe=NAME,
            window_start=WINDOW,
            src_addr=ADDRESS,
            dst_addr=ADDRESS,
            src_port=_U16,
            dst_port=_U16,
            ip_proto=_U8,
            eth_type=_U16,
            vlan_id=_U16,
            tunnel_id=_U32,
            if_index=_U32,
            if_name=NAME,
            direction=ENUM,
            capture_point=ENUM,
            src_mac=MAC,
            dst_mac=MAC,
            src_net=NAME,
            dst_net=NAME,
            packets=_U64,
            bytes=_U64,
            first_seen=INSTANT,
            last_seen=INSTANT,
            tcp_flags=_U8,
            sampling_rate=_U32,
            folded_flows=_U32,
        ),
        "totals": _schema(
            tenant=NAME,
            probe=NAME,
            window_start=WINDOW,
            pane_ms=_U32,
            if_index=_U32,
            direction=ENUM,
            capture_point=ENUM,
            packets=_U64,
            bytes=_U64,
            records=_U64,
            late_packets=_U64,
            ipv4_packets=_U64,
            ipv6_packets=_U64,
            other_packets=_U64,
            tcp_packets=_U64,
            udp_packets=_U64,
            icmp_packets=_U64,
            other_proto_packets=_U64,
        ),
        "ledger": _schema(
            tenant=NAME,
            probe=NAME,
            window_start=WINDOW,
            hop=ENUM,
            seen=_U64,
            delivered=_U64,
            dropped=pa.map_(pa.string(), _U64),
            in_flight=_U64,
        ),
        "commits": _schema(
            topic=pa.string(), partition=pa.string(), offset=_U64, packets=_U64, bytes=_U64
        ),
        "positions": _schema(
            topic=pa.string(),
            partition=pa.string(),
            offset=_U64,
            position=pa.string(),
            settings_digest=pa.string(),
            updated_at=WINDOW,
        ),
        "loads": _schema(
            topic=pa.string(),
            content_id=pa.string(),
            settings_digest=pa.string(),
            source=pa.string(),
            tenant=pa.string(),
            probe=pa.string(),
            generation=_U32,
            state=ENUM,
            packets=_U64,
            bytes=_U64,
            first_seen=INSTANT,
            last_seen=INSTANT,
            updated_at=WINDOW,
        ),
        "distinct_counts_log": _schema(
            **_RESULT,
            estimate=_F64,
            lower=_F64,
            upper=_F64,
            confidence=_F64,
            late_packets=_U64,
            complete=pa.bool_(),
            **_VERSION,
        ),
        "heavy_hitters_log": _schema(
            **_RESULT,
            ranked_by=ENUM,
            rank=_U16,
            key=pa.map_(pa.string(), pa.string()),
            key_text=pa.string(),
            packets=_U64,
            packets_lower=_U64,
            packets_upper=_U64,
            bytes=_U64,
            bytes_lower=_U64,
            bytes_upper=_U64,
            error=_U64,
            total_packets=_U64,
            total_bytes=_U64,
            confidence=_F64,
            late_packets=_U64,
            late_bytes=_U64,
            complete=pa.bool_(),
            **_VERSION,
        ),
        "spreaders_log": _schema(
            **_RESULT,
            rank=_U16,
            key=pa.map_(pa.string(), pa.string()),
            key_text=pa.string(),
            estimate=_F64,
            lower=_F64,
            upper=_F64,
            confidence=_F64,
            recall_peers=_F64,
            late_packets=_U64,
            complete=pa.bool_(),
            **_VERSION,
        ),
        "sketches_log": _schema(
            **_RESULT,
            kind=NAME,
            version=_U16,
            sketch=pa.binary(),
            **_VERSION,
            fields=pa.list_(pa.string()),
            seed_id=_U32,
            packets=_U64,
            sampling_rate=_U32,
            sampling_clustered=pa.bool_(),
            complete=pa.bool_(),
        ),
        "alerts_log": _schema(
            alert_id=pa.string(),
            revision=_U32,
            event=ENUM,
            tenant=NAME,
            probe=NAME,
            rule=NAME,
            detector=NAME,
            title=pa.string(),
            severity=ENUM,
            status=ENUM,
            entity=pa.map_(pa.string(), pa.string()),
            entity_text=pa.string(),
            src_addr=pa.string(),
            dst_addr=pa.string(),
            dst_port=_U16,
            attack_technique=NAME,
            metric=NAME,
            unit=NAME,
            horizon=_U32,
            value=_F64,
            lower=_F64,
            upper=_F64,
            confidence=_F64,
            threshold=_F64,
            expected=pa.string(),
            window_start=WINDOW,
            first_seen=INSTANT,
            last_seen=INSTANT,
            resolved_at=INSTANT,
            evidence=pa.list_(pa.map_(pa.string(), pa.string())),
            evidence_sql=pa.string(),
            summary=pa.string(),
            muted_by=pa.string(),
            members=pa.list_(pa.string()),
            member_count=_U32,
            notify=pa.list_(pa.string()),
            updated_at=WINDOW,
        ),
        "alert_evidence": _schema(
            alert_id=pa.string(),
            revision=_U32,
            rows=pa.list_(pa.map_(pa.string(), pa.string())),
            found_at=WINDOW,
        ),
        "alert_actions": _schema(
            alert_id=pa.string(),
            action=ENUM,
            verdict=ENUM,
            done_by=pa.string(),
            comment=pa.string(),
            done_at=WINDOW,
        ),
        "alert_mutes": _schema(
            mute_id=pa.string(),
            tenant=NAME,
            rule=NAME,
            conditions=pa.map_(pa.string(), pa.list_(pa.string())),
            since=WINDOW,
            until=WINDOW,
            removed=pa.bool_(),
            made_by=pa.string(),
            reason=pa.string(),
            updated_at=WINDOW,
        ),
        "alert_deliveries": _schema(
            alert_id=pa.string(),
            revision=_U32,
            notifier=NAME,
            state=ENUM,
            explained=pa.bool_(),
            tries=_U32,
            detail=pa.string(),
            done_at=WINDOW,
        ),
        "alert_enrichments": _schema(
            alert_id=pa.string(),
            author=ENUM,
            revision=_U32,
            status=ENUM,
            reason=pa.string(),
            situation=pa.string(),
            assessment=pa.string(),
            root_cause=pa.string(),
            next_checks=pa.string(),
            mitigation=pa.string(),
            confidence=_F64,
            cited=pa.list_(pa.map_(pa.string(), pa.string())),
            struck=_U32,
            model=NAME,
            prompt_version=NAME,
            requests=_U32,
            tokens=_U32,
            updated_at=WINDOW,
        ),
        "names_loads": _schema(
            kind=NAME,
            load_id=_U64,
            digest=pa.string(),
            files=pa.list_(pa.string()),
            row_count=_U64,
            loaded_at=WINDOW,
        ),
        "names_networks_log": _schema(**_PREFIX, name=NAME, site=NAME, description=pa.string()),
        "names_as_numbers_log": _schema(**_PREFIX, asn=_U32, name=NAME),
        "names_countries_log": _schema(**_PREFIX, country=NAME),
        "names_interfaces_log": _schema(
            load_id=_U64,
            probe=NAME,
            interface=pa.string(),
            name=pa.string(),
            description=pa.string(),
            speed_bps=_U64,
        ),
        "names_services_log": _schema(load_id=_U64, ip_proto=_U8, port=_U16, name=pa.string()),
    }
)
"""Arrow schema of every table that is written, without the columns that have a default."""


def fit(table: str, rows: Any) -> Any:
    """Bring rows into the order and types of a table, as one record batch.

    Columns that have the right type already are not copied. No column may be missing, since
    the engine would fill it with zeros in silence, and no value may change by a conversion.

    Args:
        table: a name in ``SCHEMAS``.
        rows: a ``pyarrow.Table``.

    Raises:
        StoreError: the table is unknown, a column is missing or strange, a value doesn't
            fit, a value is null, or there are more than ``MAX_INSERT_ROWS`` rows.
    """
    schema = SCHEMAS.get(table)
    if schema is None:
        msg = f"nothing is written to table {table!r}; tables are {', '.join(SCHEMAS)}"
        raise StoreError(msg)
    if rows.num_rows > MAX_INSERT_ROWS:
        msg = f"{rows.num_rows} rows for {table} are too many for one insert ({MAX_INSERT_ROWS})"
        raise StoreError(msg)
    odd = sorted(set(schema.names) ^ set(rows.column_names))
    if odd or len(rows.column_names) != len(schema.names):
        msg = f"rows for {table} lack or don't know the column(s) {', '.join(odd) or 'twice'}"
        raise StoreError(msg)
    try:
        rows = rows.select(schema.names).cast(schema).unify_dictionaries().combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
        msg = f"rows for {table} don't fit its types: {e}"
        raise StoreError(msg) from e
    nulls = [name for name in schema.names if rows[name].null_count]
    if nulls:
        msg = f"rows for {table} have no value in column(s) {', '.join(nulls)}"
        raise StoreError(msg)
    return rows
