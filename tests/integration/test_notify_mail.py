"""Mail through a real SMTP server on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope

from flows.notify.mail import MailNotifier
from flows.notify.notifier import NotTold, Refused
from flows.settings.notifiers import Email
from tests.support.alerts import alert
from tests.support.certificates import Authority


class Mailbox:
    """Takes mail, or answers as it is told.

    Attributes:
        mails: recipient and message of each that was taken.
        answers: what to say to a recipient instead.
        login: username and password of the last log-in.
    """

    def __init__(self) -> None:
        self.mails: list[tuple[str, Any]] = []
        self.answers: dict[str, str] = {}
        self.login: tuple[bytes, bytes] | None = None

    async def handle_RCPT(self, _s: Any, _n: Any, envelope: Envelope, to: str, _o: Any) -> str:
        if to in self.answers:
            return self.answers[to]
        envelope.rcpt_tos.append(to)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        self.mails += [(to, message) for to in envelope.rcpt_tos]
        return "250 OK"

    def authenticate(self, _server: Any, _s: Any, _e: Any, _mechanism: str, data: Any) -> Any:
        self.login = data.login, data.password
        return AuthResult(success=data.password == b"right", handled=False)


class Server(Controller):
    """Listens on a free port."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


Serve = Callable[..., tuple[Mailbox, int]]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers on free ports."""
    started: list[Controller] = []

    def serve(**options: Any) -> tuple[Mailbox, int]:
        box = Mailbox()
        server = Server(box, "127.0.0.1", 0, authenticator=box.authenticate, **options)
        server.start()
        started.append(server)
        return box, server.port

    yield serve
    for server in started:
        server.stop(no_assert=True)


def notifier(port: int, **more: Any) -> MailNotifier:
    values = {
        "name": "soc",
        "type": "email",
        "host": "localhost",
        "port": port,
        "security": "none",
        "from": "ns@example.net",
        "to": "soc@example.net",
        "timeout": "5s",
    }
    return MailNotifier(Email.model_validate(values | more))


def test_mail_arrives(serve: Serve) -> None:
    """Each recipient has a message of its own, with text and HTML."""
    box, port = serve()
    said = notifier(port, to="a@example.net,b@example.net").send(alert())
    assert said == "2 recipient(s)"
    assert [to for to, _ in box.mails] == ["a@example.net", "b@example.net"]
    for to, message in box.mails:
        assert message["To"] == to
        assert message["From"] == "ns@example.net"
        assert alert().title in message["Subject"]
        assert alert().title in message.get_body(("plain",)).get_content()
        assert alert().title in message.get_body(("html",)).get_content()


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_is_encrypted_and_the_server_known(
    serve: Serve, authority: Authority, security: str
) -> None:
    """With either kind of TLS a log-in works, and a server that isn't known gets nothing."""
    options = {
        "starttls": {"tls_context": authority.server, "require_starttls": True},
        "tls": {"ssl_context": authority.server, "auth_require_tls": False},
    }[security]
    box, port = serve(**options)
    login = {"username": "ns", "password": "right", "security": security}
    with pytest.raises(NotTold, match="certificate"):
        notifier(port, **login).send(alert())
    assert box.login is None
    notifier(port, **login, ca_file=str(authority.file)).send(alert())
    assert box.login == (b"ns", b"right")
    assert len(box.mails) == 1


def test_a_server_without_tls_gets_no_password(serve: Serve) -> None:
    """When STARTTLS is asked for and not offered, nothing is sent."""
    box, port = serve()
    with pytest.raises(NotTold, match="STARTTLS"):
        notifier(port, security="starttls", username="a", password="b").send(alert())
    assert (box.login, box.mails) == (None, [])


def test_a_wrong_password_is_told_and_not_shown(serve: Serve) -> None:
    """It may be put right, so the alert waits."""
    box, port = serve(auth_require_tls=False)
    with pytest.raises(NotTold, match="doesn't accept username and password") as caught:
        notifier(port, username="ns", password="wr0ng").send(alert())
    assert "wr0ng" not in str(caught.value)
    assert box.mails == []


def test_recipients_that_are_refused_keep_it_from_nobody(serve: Serve) -> None:
    """Those who can be told are told, and what the server said of the others is kept."""
    box, port = serve()
    box.answers["gone@example.net"] = "550 no such mailbox"
    told = notifier(port, to="gone@example.net,b@example.net")
    assert told.send(alert()) == "gone@example.net: 550 no such mailbox"
    assert [to for to, _ in box.mails] == ["b@example.net"]
    with pytest.raises(Refused, match="550 no such mailbox"):
        notifier(port, to="gone@example.net").send(alert())


def test_a_full_mailbox_is_tried_again_alone(serve: Serve) -> None:
    """At the next try those who have the mail don't get it twice."""
    box, port = serve()
    box.answers["full@example.net"] = "452 come back later"
    told = notifier(port, to="a@example.net,full@example.net")
    with pytest.raises(NotTold, match="452 come back later"):
        told.send(alert())
    box.answers.clear()
    told.send(alert())
    assert [to for to, _ in box.mails] == ["a@example.net", "full@example.net"]


def test_a_server_that_is_away_is_told_of() -> None:
    """In one line that says why."""
    with pytest.raises(NotTold, match="Connection refused"):
        notifier(1).send(alert())
