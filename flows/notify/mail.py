"""Alerts by SMTP."""

from __future__ import annotations

import smtplib
import socket
from collections import OrderedDict
from typing import Final

from flows.detect.alert import Alert
from flows.notify.formats import mail
from flows.notify.notifier import NotTold, Refused
from flows.notify.text import line
from flows.notify.tls import context
from flows.settings.notifiers import Email

PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}

_PERMANENT: Final = 500
_MAX_BEGUN: Final = 1000


class MailNotifier:
    """One mail server and those that get mail through it.

    Each recipient has a message of its own, so that a mailbox that is full doesn't keep an alert
    from the others or sends it to them twice. A recipient that the server refuses for good is left
    out; if it refuses all, the alert is refused. A log-in that fails may be put right, so it is
    tried again.

    Args:
        settings: of the notifier.

    Raises:
        UsageError: the file of certificates can't be read.
    """

    def __init__(self, settings: Email) -> None:
        self._settings = settings
        self._port = settings.port or PORTS[settings.security]
        self._timeout_s = settings.timeout.total_seconds()
        self._tls = (
            context(settings.name, settings.ca_file) if settings.security != "none" else None
        )
        self._done: OrderedDict[str, dict[str, str]] = OrderedDict()

    def send(self, alert: Alert) -> str:
        """See ``Notifier.send``."""
        done = self._done.setdefault(alert.delivery_id, {})
        if len(self._done) > _MAX_BEGUN:
            self._done.popitem(last=False)
        try:
            with self._connect() as server:
                why = self._send_to_each(server, alert, done)
        except (OSError, smtplib.SMTPException) as error:
            raise NotTold(_reason(error)) from None
        if why:
            raise NotTold(why)
        del self._done[alert.delivery_id]
        refusals = [f"{address}: {said}" for address, said in done.items() if said]
        if len(refusals) == len(done):
            raise Refused("; ".join(refusals))
        return "; ".join(refusals) or f"{len(done)} recipient(s)"

    def close(self) -> None:
        """See ``Notifier.close``."""

    def _send_to_each(self, server: smtplib.SMTP, alert: Alert, done: dict[str, str]) -> str:
        """Send what was not sent by an earlier try; returns why some of it failed for now."""
        why = ""
        for address in self._settings.to:
            if address in done:
                continue
            message = mail.render(
                alert, self._settings.sender, address, self._settings.subject_prefix
            )
            try:
                server.send_message(message, self._settings.sender, [address])
                done[address] = ""
            except (smtplib.SMTPRecipientsRefused, smtplib.SMTPResponseException) as error:
                code, said = _answer(error)
                if code >= _PERMANENT:
                    done[address] = f"{code} {said}"
                else:
                    why = f"{address}: {code} {said}"
        return why

    def _connect(self) -> smtplib.SMTP:
        settings = self._settings
        # Without a name smtplib asks the name service for one, which may take its time.
        name = socket.gethostname()
        server: smtplib.SMTP
        if settings.security == "tls":
            server = smtplib.SMTP_SSL(
                settings.host, self._port, name, timeout=self._timeout_s, context=self._tls
            )
        else:
            server = smtplib.SMTP(settings.host, self._port, name, timeout=self._timeout_s)
        try:
            if settings.security == "starttls":
                server.starttls(context=self._tls)
            if settings.username is not None and settings.password is not None:
                server.login(settings.username, settings.password.get_secret_value())
        except BaseException:
            server.close()
            raise
        return server


def _answer(error: smtplib.SMTPException) -> tuple[int, str]:
    code: int
    said: bytes | str
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code, said = next(iter(error.recipients.values()))
    else:
        assert isinstance(error, smtplib.SMTPResponseException)
        code, said = error.smtp_code, error.smtp_error
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    return code, line(text, 200)


def _reason(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"the server doesn't accept username and password ({error.smtp_code})"
    if isinstance(error, smtplib.SMTPResponseException):
        code, said = _answer(error)
        return f"{code} {said}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return line(getattr(error, "strerror", None) or str(error) or type(error).__name__, 200)
