"""netspectra topics dlq without a broker: what a letter looks like, and what may be sent again."""

from __future__ import annotations

import json
import socket
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from flows.cli import main, topics_dlq
from flows.kafka.dead_letters import Plan, kind, unusable
from schemas.batch import BatchHeader, encode_batch
from schemas.dead_letter import DeadLetter
from schemas.record import PACKET

SECOND_NS = 10**9
NOON_NS = 1_700_049_600 * SECOND_NS  # 2023-11-15 12:00 UTC
SKEW_NS = 60 * SECOND_NS
LETTER = DeadLetter("packets", 3, 41, NOON_NS // 10**6, "truncated: 3 bytes", b"x" * 1234)


def batch(ahead_ns: int = 0, watermark_ns: int = NOON_NS) -> bytes:
    packets = np.zeros(2, PACKET)
    packets["ts_ns"] = NOON_NS - SECOND_NS, NOON_NS + ahead_ns
    packets["packets"] = 1
    header = BatchHeader(
        tenant="t",
        probe="p",
        boot_id=bytes(16),
        partition=0,
        sequence=0,
        emit_time_ns=NOON_NS,
        watermark_ns=watermark_ns,
        record_count=2,
        packets_before=0,
    )
    return encode_batch(header, packets)


def test_a_letter_is_one_line() -> None:
    """Time, place, size and reason are in it."""
    line = topics_dlq._line(LETTER)
    assert line == "2023-11-15 12:00:00.000  packets/3/41  1,234 bytes  truncated: 3 bytes"


def test_a_letter_as_json() -> None:
    """The same as an object."""
    assert json.loads(topics_dlq._object(LETTER)) == {
        "time_ms": NOON_NS // 10**6,
        "topic": "packets",
        "partition": 3,
        "offset": 41,
        "bytes": 1234,
        "reason": "truncated: 3 bytes",
    }


@examples(max_examples=50)
@given(st.text(max_size=300), st.integers(-(2**63), 2**63 - 1))
def test_reasons_off_the_wire_are_harmless(reason: str, time_ms: int) -> None:
    """Whatever text a reason quotes and whatever time it has, it stays one printable line."""
    line = topics_dlq._line(DeadLetter("t", 0, 1, time_ms, reason, b""))
    assert line.isprintable()
    assert len(line) < 2600


def test_reasons_are_counted_by_kind() -> None:
    """What is particular to one message is left out of its kind."""
    assert kind("absurd time: a packet is 99 s ahead") == "absurd time"
    assert kind("empty") == "empty"


def test_what_the_source_would_take_may_be_sent() -> None:
    """A whole batch with times in order is usable, up to the limit of the skew."""
    assert unusable(batch(), SKEW_NS) == ""
    assert unusable(batch(SKEW_NS, NOON_NS + SKEW_NS), SKEW_NS) == ""


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (b"", ""),
        (b"nonsense", ""),
        (batch()[:-1], ""),
        (batch(SKEW_NS + 1), "absurd time"),
        (batch(0, NOON_NS + SKEW_NS + 1), "absurd time"),
    ],
    ids=["empty", "nonsense", "truncated", "packets ahead", "watermark ahead"],
)
def test_what_it_would_not_take_may_not(message: bytes, fault: str) -> None:
    """Damaged messages and those with absurd times say why."""
    found = unusable(message, SKEW_NS)
    assert found
    assert found.startswith(fault)


def test_a_plan_is_told() -> None:
    """How many can be sent, how many can't and why, and what belongs elsewhere."""
    plan = Plan(Counter({"unknown schema": 1200}), Counter({"truncated": 2}), 3)
    assert topics_dlq._plan_lines(plan) == [
        "    1,200  can be sent (unknown schema)",
        "        2  still can't be used, skipped: truncated",
        "        3  of other topics or partitions, skipped",
    ]


@pytest.mark.parametrize("arguments", [["--json"], ["replay", "--yes"]])
def test_no_broker_is_one_line(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a broker one line names the address and what to do; listing is the default."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setenv("NETSPECTRA_KAFKA__BROKERS", address)
    assert main(["topics", "dlq", *arguments]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith(f"netspectra: no Kafka broker answers at {address} (")
    assert error.count("\n") == 1


def test_help_is_of_the_group(capsys: pytest.CaptureFixture[str]) -> None:
    """--help tells of both commands instead of listing."""
    assert main(["topics", "dlq", "--help"]) == 0
    text = capsys.readouterr().out
    assert "replay" in text
    assert "list" in text
