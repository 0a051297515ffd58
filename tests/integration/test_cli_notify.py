"""`netspectra notify test`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.cli import main
from tests.support.http_receiver import Answer, Receiver


@pytest.fixture
def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver that the settings name, beside a file."""
    monkeypatch.chdir(tmp_path)
    with Receiver() as started:
        Path("netspectra.yaml").write_text(
            f"notifiers:\n  - {{name: ops, type: webhook, url: '{started.url}'}}\n"
            "  - {name: log, type: file, path: alerts.jsonl}\n"
        )
        yield started


def test_a_test_alert_arrives_everywhere(
    receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says that it is a test, and is over at once."""
    assert main(["notify", "test"]) == 0
    assert capsys.readouterr().out == "ops: arrived (HTTP 200)\nlog: arrived (alerts.jsonl)\n"
    assert [post.json["status"] for post in receiver.posts] == ["firing", "resolved"]
    assert receiver.posts[0].json["title"].startswith("TEST: nothing has happened")
    assert len(Path("alerts.jsonl").read_text().splitlines()) == 2


def test_one_can_be_named(receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    """Then no other is told; a name that there isn't is refused."""
    assert main(["notify", "test", "log"]) == 0
    assert capsys.readouterr().out == "log: arrived (alerts.jsonl)\n"
    assert receiver.posts == []
    assert main(["notify", "test", "obs"]) == 2
    assert "there is no notifier obs; there are ops, log" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(403, body=b"no"), "ops: refused: HTTP 403 no"),
        (Answer(503, body=b"busy"), "ops: not told: HTTP 503 busy"),
    ],
)
def test_what_went_wrong_is_said(
    receiver: Receiver, answer: Answer, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are told all the same; the exit code is 1."""
    receiver.answer = lambda _: answer
    assert main(["notify", "test"]) == 1
    assert capsys.readouterr().out == f"{said}\nlog: arrived (alerts.jsonl)\n"


def test_without_notifiers_there_is_nothing_to_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line says where they are set."""
    monkeypatch.chdir(tmp_path)
    assert main(["notify", "test"]) == 2
    assert "no notifiers are set" in capsys.readouterr().err
