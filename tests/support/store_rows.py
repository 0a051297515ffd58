"""Rows for the store's tables, made from a few columns; everything else is ordinary."""

from __future__ import annotations

import ipaddress
from typing import Any

import pyarrow as pa

from flows.storage.store import Store
from flows.storage.tables import SCHEMAS

T0_MS = 1_700_000_000_000
"""2023-11-14 22:13:20 UTC, 20 s into a minute."""


def address(text: str) -> bytes:
    ip = ipaddress.ip_address(text)
    return ip.packed if ip.version == 6 else b"\0" * 10 + b"\xff\xff" + ip.packed


def rows(table: str, **columns: Any) -> pa.Table:
    """A table of the schema; a column may be a list or one value for all rows."""
    n = max((len(c) for c in columns.values() if isinstance(c, list)), default=1)
    schema = SCHEMAS[table]
    assert columns.keys() <= set(schema.names), columns.keys() - set(schema.names)
    arrays = []
    for field in schema:
        value = columns.get(field.name, _ordinary(field))
        values = value if isinstance(value, list) and field.name in columns else [value] * n
        if pa.types.is_map(field.type):
            values = [list(entries.items()) for entries in values]
        arrays.append(pa.array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _ordinary(field: pa.Field) -> Any:
    if field.type == pa.int8():
        return 1  # of an enumeration
    if field.name == "window_start":
        return T0_MS
    if field.type == pa.binary(16):
        return address("10.0.0.1")
    if field.type == pa.binary(6):
        return bytes(6)
    if pa.types.is_list(field.type):
        return []
    if pa.types.is_map(field.type):
        return {}
    if pa.types.is_boolean(field.type):
        return True
    if field.type == pa.binary():
        return b""
    if pa.types.is_dictionary(field.type) or pa.types.is_string(field.type):
        return "" if field.name.endswith("_net") else "x"
    if field.name == "pane_ms":
        return 2000
    return 1


def written_columns(store: Store, table: str) -> list[str]:
    """Columns of a table in its order: those without a default, and those that rows name anyway."""
    listed = store.run(
        "SELECT name, default_kind = '' FROM system.columns WHERE database = currentDatabase() "
        f"AND table = '{table}' ORDER BY position"
    )
    known = SCHEMAS[table].names
    named = [line.split("\t") for line in listed.splitlines()]
    return [name for name, needed in named if needed == "1" or name in known]
