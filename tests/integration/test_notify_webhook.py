"""Webhooks as receivers see them: signatures, TLS, and what is never shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from flows import logs
from flows.errors import UsageError
from flows.notify import webhook
from flows.notify.notifier import NotTold, Refused
from flows.notify.webhook import WebhookNotifier, retry_after_s
from flows.settings.notifiers import Webhook
from tests.support.alerts import alert
from tests.support.certificates import Authority
from tests.support.http_receiver import Answer, Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


def notifier(receiver: Receiver, **more: Any) -> WebhookNotifier:
    values = {"name": "hook", "type": "webhook", "url": receiver.url, "timeout": "2s"}
    return WebhookNotifier(Webhook.model_validate(values | more))


def receivers_check() -> Any:
    """The function that the module's docstring shows to receivers."""
    assert webhook.__doc__
    code = re.sub("^    ", "", webhook.__doc__.partition("::\n\n")[2], flags=re.MULTILINE)
    names: dict[str, Any] = {}
    exec(code, names)
    return names["is_ours"]


def test_a_receiver_can_check_the_signature(receiver: Receiver) -> None:
    """The check that the documentation shows accepts what we send, and nothing else."""
    assert notifier(receiver, secret="s3cret").send(alert()) == "HTTP 200"
    (post,) = receiver.posts
    headers = {
        name.title().replace("Netspectra", "NetSpectra"): v for name, v in post.headers.items()
    }
    is_ours = receivers_check()
    assert is_ours(headers, post.body, "s3cret")
    assert not is_ours(headers, post.body, "other")
    assert not is_ours(headers, post.body.replace(b"firing", b"fixing"), "s3cret")
    stale = headers | {"X-NetSpectra-Timestamp": str(int(headers["X-NetSpectra-Timestamp"]) - 999)}
    assert not is_ours(stale, post.body, "s3cret")


def test_a_message_says_what_it_is(receiver: Receiver) -> None:
    """Delivery id, type, headers of the user; without a secret no signature."""
    notifier(receiver, headers={"Authorization": "Bearer abc"}).send(alert())
    (post,) = receiver.posts
    assert post.headers["x-netspectra-delivery"] == alert().delivery_id
    assert post.headers["content-type"] == "application/json"
    assert post.headers["authorization"] == "Bearer abc"
    assert "x-netspectra-signature" not in post.headers
    assert post.json["alert_id"] == alert().alert_id


@pytest.mark.parametrize("form", ["netspectra", "alertmanager", "slack"])
def test_each_format_is_json(receiver: Receiver, form: str) -> None:
    """What is sent is what the format renders."""
    notifier(receiver, format=form).send(alert())
    expected = webhook.FORMATS[form](alert())
    (post,) = receiver.posts
    if form == "alertmanager":
        expected[0]["endsAt"] = post.json[0]["endsAt"]
    assert post.json == json.loads(json.dumps(expected))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422])
def test_refusals(receiver: Receiver, status: int) -> None:
    """Answers of the 400s are final, and say what the receiver said, made harmless and short."""
    receiver.answer = lambda _: Answer(status, body=b"bad\r\n\x1b[0m" + b"x" * 100_000)
    with pytest.raises(Refused, match=rf"^HTTP {status} bad \[0mx+…$") as caught:
        notifier(receiver).send(alert())
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("status", [301, 307, 408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass(receiver: Receiver, status: int) -> None:
    """Other answers are tried again; a redirection isn't followed."""
    receiver.answer = lambda _: Answer(status, {"Location": "/elsewhere"})
    with pytest.raises(NotTold, match=f"HTTP {status}"):
        notifier(receiver).send(alert())
    assert len(receiver.posts) == 1


def test_how_long_to_wait_is_read(receiver: Receiver) -> None:
    """Retry-After is a number of seconds or a date."""
    receiver.answer = lambda _: Answer(429, {"Retry-After": "17"})
    with pytest.raises(NotTold) as caught:
        notifier(receiver).send(alert())
    assert caught.value.after_s == 17
    when = datetime.now(UTC) + timedelta(seconds=100)
    assert 90 < retry_after_s(format_datetime(when, usegmt=True)) <= 100
    assert retry_after_s(format_datetime(when - timedelta(hours=1), usegmt=True)) == 0
    assert retry_after_s("soon") == retry_after_s("") == retry_after_s("-1") == 0


def test_certificates_are_checked(tmp_path: Path) -> None:
    """A server that isn't known is not told, unless checking is switched off or its CA is named."""
    authority = Authority(tmp_path)
    with Receiver(authority.server) as receiver:
        with pytest.raises(NotTold, match="certificate"):
            notifier(receiver).send(alert())
        assert receiver.posts == []
        assert notifier(receiver, ca_file=str(authority.file)).send(alert()) == "HTTP 200"
        assert notifier(receiver, verify=False).send(alert()) == "HTTP 200"


def test_a_ca_file_must_be_one(receiver: Receiver, tmp_path: Path) -> None:
    """A file that is missing or holds no certificates is refused by name, before anything else."""
    with Receiver(Authority(tmp_path).server) as receiver:
        for path in (tmp_path / "none.pem", Path(__file__)):
            with pytest.raises(UsageError, match=f"notifier hook: can't read ca_file {path}"):
                notifier(receiver, ca_file=str(path))


def test_secrets_are_in_no_error(receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither the path of the address, which may be one, nor the key, nor headers."""
    logs.configure("debug")
    secrets = ("T0KEN", "K3Y", "B3ARER")
    values = {
        "url": receiver.url + "/T0KEN",
        "secret": "K3Y",
        "headers": {"Authorization": "B3ARER"},
    }
    texts = []
    for answer in (Answer(500), Answer(400, body=b"no /hook/T0KEN, B3ARER, K3Y"), Answer(0)):
        receiver.answer = lambda _, answer=answer: answer  # type: ignore[misc]
        with pytest.raises((NotTold, Refused)) as caught:
            notifier(receiver, **values).send(alert())
        texts.append(str(caught.value))
    receiver.stop()
    with pytest.raises(NotTold, match="Connection refused") as refused:
        notifier(receiver, **values).send(alert())
    made = Webhook.model_validate({"name": "a", "type": "webhook", **values})
    shown = [*texts, str(refused.value), repr(made), capsys.readouterr().err]
    assert not [secret for secret in secrets for text in shown if secret in text]
