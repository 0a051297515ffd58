"""DeadLetter: what was wrong with a message, as it was written and is read."""

from __future__ import annotations

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import registry
from schemas.dead_letter import DeadLetter, decode_dead_letter, encode_dead_letter
from schemas.errors import DecodeError, UnknownSchema
from schemas.framing import frame_single_object

SCHEMA = registry.load("dead_letter", 1)
LETTER = DeadLetter("packets", 3, 12345, 1_700_000_000_123, "no reason", b"\0\xff" * 100)
WRITTEN = encode_dead_letter(LETTER)


@settings(max_examples=200, deadline=None)
@given(
    st.builds(
        DeadLetter,
        topic=st.text(),
        partition=st.integers(0, 2**31 - 1),
        offset=st.integers(0, 2**63 - 1),
        log_time_ms=st.integers(-1, 2**63 - 1),
        reason=st.text(),
        message=st.binary(max_size=500),
    )
)
def test_what_is_written_is_read(letter: DeadLetter) -> None:
    """Every field, times without a date among them."""
    assert decode_dead_letter(encode_dead_letter(letter)) == letter


def test_other_readers_understand_it() -> None:
    """Any Avro library, given the schema, reads the same fields."""
    import io

    payload = io.BytesIO(WRITTEN[10:])
    found = fastavro.schemaless_reader(payload, SCHEMA.definition, None)
    assert isinstance(found, dict)
    assert WRITTEN[:10] == frame_single_object(SCHEMA.fingerprint)
    assert (found["topic"], found["offset"], found["message"]) == ("packets", 12345, LETTER.message)
    assert found["log_time_ms"].timestamp() == pytest.approx(1_700_000_000.123)


@pytest.mark.parametrize("size", range(10, len(WRITTEN), 7))
def test_a_cut_letter_is_damaged(size: int) -> None:
    """Wherever it ends."""
    with pytest.raises(DecodeError, match="the dead letter is damaged"):
        decode_dead_letter(WRITTEN[:size])


def test_bytes_behind_are_refused() -> None:
    """A letter is a whole message."""
    with pytest.raises(DecodeError, match="bytes after the end"):
        decode_dead_letter(WRITTEN + b"\0")


def test_other_messages_are_no_letters() -> None:
    """Another schema of ours, and none."""
    with pytest.raises(UnknownSchema, match="is no dead letter"):
        decode_dead_letter(
            frame_single_object(registry.load("packet_batch", 2).fingerprint) + WRITTEN[10:]
        )
    for message in (b"", b"junk", WRITTEN[:9]):
        with pytest.raises(DecodeError):
            decode_dead_letter(message)
