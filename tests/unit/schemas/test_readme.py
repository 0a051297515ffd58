"""The README's examples run as they stand there."""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

import schemas
from schemas.record import PACKET

FOLDER = Path(schemas.__file__).parent
README = (FOLDER / "README.md").read_text("utf-8")


@pytest.fixture
def brokers() -> Iterator[str]:
    """Address of librdkafka's own small broker, with one batch in the topic."""
    example = (FOLDER / "examples/packet_batch/v2/three_packets.json").read_text("utf-8")
    message = re.search(r'"message": "(\w+)"', example)
    assert message is not None
    producer = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    producer.produce("netspectra.packets", bytes.fromhex(message[1]))
    assert producer.flush(10) == 0
    broker = next(iter(producer.list_topics(timeout=10).brokers.values()))
    yield f"{broker.host}:{broker.port}"
    del producer  # the broker lives as long as its client


def test_examples_of_the_readme_run(brokers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block gives the output that it shows."""
    monkeypatch.chdir(FOLDER)
    blocks = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert blocks
    test = doctest.DocTestParser().get_doctest(
        "\n".join(blocks), {"brokers": brokers}, "README.md", "README.md", 0
    )
    assert test.examples
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    assert result.failed == 0, "".join(report)


def test_table_of_the_readme_lists_the_record() -> None:
    """Offset and name of each field stand in the table, in order."""
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", README, re.MULTILINE)
    assert rows == [(str(offset), name) for name, (_, offset, *_) in PACKET.fields.items()]
