"""The packet record against its Avro form."""

from __future__ import annotations

import numpy as np
import pytest

from schemas import registry
from schemas.batch import SUBJECT
from schemas.record import PACKET, PACKET_BYTES, PACKET_WORDS, Packets, as_words, join


def avro_layout(version: int) -> list[tuple[str, int, int]]:
    """Name, offset and size of each field of Packet, as its Avro schema says."""
    batch = registry.load(SUBJECT, version).definition["fields"]
    sizes: dict[str, int] = {}
    layout = []
    offset = 0
    for field in batch[-1]["type"]["items"]["fields"]:
        kind = field["type"]
        if isinstance(kind, dict):
            assert kind["type"] == "fixed", field["name"]
            assert kind["name"] not in sizes, "a type is defined once"
            sizes[kind["name"]] = kind["size"]
            kind = kind["name"]
        layout.append((field["name"], offset, sizes[kind]))
        offset += sizes[kind]
    return layout


def test_avro_and_numpy_have_the_same_layout() -> None:
    """Name, order, offset and size of every field agree."""
    numpy_layout = [
        (name, offset, dtype.itemsize) for name, (dtype, offset, *_) in PACKET.fields.items()
    ]
    assert avro_layout(1) == numpy_layout


def test_record_is_88_bytes_little_endian_without_padding() -> None:
    """The fields fill the record and none is big endian."""
    sizes = [dtype.itemsize for dtype, *_ in PACKET.fields.values()]
    assert sum(sizes) == PACKET.itemsize == PACKET_BYTES == 88
    assert {dtype.base.str[0] for dtype, *_ in PACKET.fields.values()} <= {"<", "|"}


def test_every_avro_field_is_described() -> None:
    """Header, counters and packet fields all have a doc string."""
    batch = registry.load(SUBJECT, 1).definition
    records = [batch, batch["fields"][-1]["type"]["items"]]
    assert all(field.get("doc") for record in records for field in record["fields"])


def test_words_are_a_view_of_the_records(packets: Packets) -> None:
    """as_words shows the same memory, eleven words a record."""
    words = as_words(packets)
    assert words.shape == (5, PACKET_WORDS)
    assert np.shares_memory(words, packets)
    assert words[:, 0].tolist() == packets["ts_ns"].tolist()


def test_words_of_no_records() -> None:
    """An empty array of records has no rows of words."""
    assert as_words(np.empty(0, PACKET)).shape == (0, PACKET_WORDS)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(np.zeros(4, PACKET)[::2], id="strided"),
        pytest.param(np.zeros(4, np.uint64), id="other dtype"),
    ],
)
def test_words_refuse_other_arrays(wrong: Packets) -> None:
    """as_words takes contiguous arrays of PACKET only."""
    with pytest.raises(ValueError, match="contiguous array of dtype"):
        as_words(wrong)


def test_joined_runs_are_the_records_one_after_the_other(packets: Packets) -> None:
    """Join is numpy's concatenate; no runs' records, or those of empty ones, are none."""
    for runs in ([packets], [packets[:2], packets[:0], packets], [packets[:0], packets[:0]]):
        joined = join(runs)
        assert joined.dtype == PACKET
        assert joined.tobytes() == b"".join(run.tobytes() for run in runs)
        assert joined.shape == (sum(map(len, runs)),)
