"""What the sinks need of the store."""

from __future__ import annotations

from typing import Any, Protocol

import pyarrow as pa


class RowStore(Protocol):
    """What of the store is needed to write."""

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """Insert rows in one step; a token seen before inserts nothing."""

    def committed(self, topic: str, partition: str, since: int = 0) -> Any:
        """Offsets, from ``since`` on, of the units that are stored."""
