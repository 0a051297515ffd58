"""Messages that can't be used: counted, kept, and enough of them end the run."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from flows.sources.dead_letters import CHECKED, LEAST, MAX_BYTES, BadShare, DeadLetters, WrongTopic
from schemas.dead_letter import decode_dead_letter
from tests.support.mock_kafka import MockKafka, read_topic


def test_nearly_everything_bad_ends_the_run() -> None:
    """The hundredth message tells; the text names topic and reason."""
    share = BadShare("packets")
    for _ in range(LEAST - 1):
        share.note(bad="nonsense")
    with pytest.raises(WrongTopic, match=r"100 of 100 messages in packets .* because of: nonsense"):
        share.note(bad="nonsense")


@pytest.mark.parametrize(("good_of_ten", "ends"), [(1, True), (2, False)])
def test_the_limit_is_nine_of_ten(good_of_ten: int, ends: bool) -> None:
    """At the limit it ends, below it never does."""
    share = BadShare("packets")

    def read() -> None:
        for number in range(3 * CHECKED):
            share.note("" if number % 10 < good_of_ten else "bad")

    if not ends:
        read()
        return
    with pytest.raises(WrongTopic):
        read()


def test_what_was_good_long_ago_does_not_count() -> None:
    """A topic that goes bad after a million messages is told as soon as one that always was."""
    share = BadShare("packets")
    for _ in range(10**6 // CHECKED * CHECKED):
        share.note()
    for _ in range(LEAST - 1):
        share.note(bad="bad")
    with pytest.raises(WrongTopic):
        share.note(bad="bad")


@dataclass
class Message:
    """What a consumer gives."""

    number: int
    content: bytes

    def topic(self) -> str:
        return "packets"

    def partition(self) -> int:
        return 1

    def offset(self) -> int:
        return self.number

    def timestamp(self) -> tuple[int, int]:
        return (2, 1_700_000_000_000 + self.number)

    def value(self) -> bytes | None:
        return self.content


def test_letters_are_written_before_flush_returns(capsys: pytest.CaptureFixture[str]) -> None:
    """All there with place and reason, and each kind of fault is told once."""
    with MockKafka() as cluster:
        cluster.create("dlq", 1)
        letters = DeadLetters({"bootstrap.servers": cluster.brokers}, "dlq")
        letters.flush()
        for number in range(300):
            letters.send(
                Message(number, b"x" * number), f"kind{number % 3}", f"because of {number}"
            )
        letters.flush()
        found = [
            decode_dead_letter(message.value()) for message in read_topic(cluster.brokers, "dlq")
        ]
        letters.close()
        letters.close()
    assert sorted(letter.offset for letter in found) == list(range(300))
    assert all(letter.reason == f"because of {letter.offset}" for letter in found)
    assert (letters.count, letters.unwritten) == (300, 0)
    assert dict(letters.kinds) == {"kind0": 100, "kind1": 100, "kind2": 100}
    out = "".join(capsys.readouterr())
    assert out.count("unusable message ") + out.count('"unusable message"') == 3
    assert "count=300" in out


def test_what_can_not_be_written_is_counted() -> None:
    """Too large for its topic, or nobody there: packets go on."""
    with MockKafka() as cluster:
        cluster.create("dlq", 1)
        letters = DeadLetters({"bootstrap.servers": cluster.brokers}, "dlq")
        letters.send(Message(1, bytes(MAX_BYTES + 1)), "damaged", "too large")
        letters.send(Message(2, b"small"), "damaged", "small")
        letters.flush()
        assert (letters.count, letters.unwritten) == (2, 1)
        letters.close()
    nobody = DeadLetters({"bootstrap.servers": "127.0.0.1:1", "message.timeout.ms": 200}, "dlq")
    nobody.send(Message(3, b"x"), "damaged", "why")
    nobody.flush()
    nobody.close()
    assert (nobody.count, nobody.unwritten) == (1, 1)
