"""What passes into an insert."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from flows.errors import StoreError
from flows.storage import tables
from tests.support.store_rows import rows


def test_exact_rows_pass_unchanged() -> None:
    """Rows of the schema pass as they are, in one batch."""
    given = rows("commits", topic="t", partition="0", offset=[1, 2])
    fitted = tables.fit("commits", pa.concat_tables([given, given]))
    assert fitted.schema == tables.SCHEMAS["commits"]
    assert [c.num_chunks for c in fitted.columns] == [1] * fitted.num_columns
    assert fitted.to_pylist() == given.to_pylist() * 2


def test_columns_are_sorted_and_converted() -> None:
    """Any order of columns, plain texts and wider integers pass when nothing changes."""
    given = rows("totals", packets=[7])
    plain = given.set_column(0, "tenant", pa.array(["a"]))
    wider = plain.set_column(3, "pane_ms", pa.array(np.array([2000], np.int64)))
    shuffled = wider.select(wider.column_names[::-1])
    fitted = tables.fit("totals", shuffled)
    assert fitted.schema == tables.SCHEMAS["totals"]
    assert fitted["tenant"].to_pylist() == ["a"]
    assert fitted["pane_ms"].to_pylist() == [2000]


def test_different_dictionaries_are_joined() -> None:
    """Chunks with dictionaries of their own keep their texts."""
    given = [rows("ledger", probe=name) for name in ("a", "b", "a")]
    assert tables.fit("ledger", pa.concat_tables(given))["probe"].to_pylist() == ["a", "b", "a"]


def test_unknown_table() -> None:
    """A table that we don't write is refused by name."""
    with pytest.raises(StoreError, match="'flows_1m'"):
        tables.fit("flows_1m", pa.table({}))


def test_missing_column() -> None:
    """A missing column is refused: the engine would store zeros."""
    with pytest.raises(StoreError, match="bytes"):
        tables.fit("commits", rows("commits").drop_columns(["bytes"]))


def test_strange_column() -> None:
    """A column that the table doesn't have is refused by name."""
    with pytest.raises(StoreError, match="octets"):
        tables.fit("commits", rows("commits").append_column("octets", pa.array([1])))


def test_column_twice() -> None:
    """A column that is there twice is refused."""
    with pytest.raises(StoreError, match="twice"):
        tables.fit("commits", rows("commits").append_column("bytes", pa.array([1])))


def test_value_that_does_not_fit() -> None:
    """A negative number in an unsigned column is refused."""
    given = rows("commits").set_column(2, "offset", pa.array([-1]))
    with pytest.raises(StoreError, match="don't fit"):
        tables.fit("commits", given)


def test_null() -> None:
    """A null is refused: the engine would store a zero."""
    given = rows("commits").set_column(3, "packets", pa.array([None], pa.uint64()))
    with pytest.raises(StoreError, match="packets"):
        tables.fit("commits", given)


def test_too_many_rows() -> None:
    """An insert of more rows than one part takes is refused."""
    n = tables.MAX_INSERT_ROWS + 1
    ones = pa.array(np.ones(n, np.uint64))
    names = pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), pa.array(["t"])).cast(pa.string())
    given = pa.table(
        {"topic": names, "partition": names, "offset": ones, "packets": ones, "bytes": ones}
    )
    with pytest.raises(StoreError, match="500001"):
        tables.fit("commits", given)
