"""Alerts by HTTP POST, signed.

A receiver can trust a message when the signature fits and the time isn't long ago; it tells
repetitions by the delivery id, which stays the same however often a message is sent::

    import hashlib, hmac, time

    def is_ours(headers, body: bytes, secret: str) -> bool:
        sent = headers["X-NetSpectra-Timestamp"]
        message = sent.encode() + b"." + body
        wanted = "sha256=" + hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
        fresh = abs(time.time() - int(sent)) < 300
        return fresh and hmac.compare_digest(wanted, headers["X-NetSpectra-Signature"])
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

import urllib3

from flows import __version__, logs
from flows.detect.alert import Alert
from flows.notify.formats import alertmanager, netspectra, slack
from flows.notify.notifier import NotTold, Refused
from flows.notify.text import line
from flows.notify.tls import context
from flows.settings.notifiers import Webhook
from flows.settings.problems import HIDDEN

FORMATS: Final[Mapping[str, Callable[[Alert], Any]]] = {
    "netspectra": netspectra.render,
    "alertmanager": alertmanager.render,
    "slack": slack.render,
}

_PASSING: Final = frozenset({408, 425, 429})
"""Answers of the 400s that mean: not now."""

_ANSWER_BYTES: Final = 2000


class WebhookNotifier:
    """One receiver of HTTP POST.

    Answers: 2xx is arrived; of 4xx all but 408, 425 and 429 are refusals; anything else may pass,
    a redirection too, which isn't followed, since nobody has signed where it leads.

    Args:
        settings: of the notifier.

    Raises:
        UsageError: the file of certificates can't be read.
    """

    def __init__(self, settings: Webhook) -> None:
        self._url = settings.url.get_secret_value()
        self._secret = settings.secret.get_secret_value().encode() if settings.secret else b""
        self._render = FORMATS[settings.format]
        url, headers = urlsplit(self._url), settings.headers.values()
        found = [url.path.lstrip("/"), url.query, self._secret.decode()]
        found += [text.get_secret_value() for text in headers]
        self._secrets = sorted(filter(None, found), key=len, reverse=True)
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": f"netspectra/{__version__}",
            **{name: text.get_secret_value() for name, text in settings.headers.items()},
        }
        tls: dict[str, Any] = {}
        if url.scheme == "https":
            if not settings.verify:
                # Said by the user; once is enough.
                urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
                logs.get("notify").warning("certificate isn't checked", notifier=settings.name)
            tls["ssl_context"] = context(settings.name, settings.ca_file, verify=settings.verify)
        seconds = settings.timeout.total_seconds()
        self._pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=1,
            retries=False,
            timeout=urllib3.Timeout(connect=seconds, read=seconds),
            **tls,
        )

    def send(self, alert: Alert) -> str:
        """See ``Notifier.send``."""
        body = json.dumps(self._render(alert), ensure_ascii=False, separators=(",", ":")).encode()
        try:
            answer = self._pool.request(
                "POST",
                self._url,
                body=body,
                headers=self._headers | self._ours(alert, body),
                redirect=False,
                preload_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise NotTold(_reason(error)) from None
        try:
            return self._judge(answer)
        finally:
            answer.close()

    def close(self) -> None:
        """See ``Notifier.close``."""
        self._pool.clear()

    def _ours(self, alert: Alert, body: bytes) -> dict[str, str]:
        timestamp = str(int(time.time()))
        found = {"X-NetSpectra-Delivery": alert.delivery_id, "X-NetSpectra-Timestamp": timestamp}
        if self._secret:
            found["X-NetSpectra-Signature"] = signature(self._secret, timestamp, body)
        return found

    def _judge(self, answer: urllib3.BaseHTTPResponse) -> str:
        status = answer.status
        if 200 <= status < 300:
            return f"HTTP {status}"
        if 300 <= status < 400:
            msg = f"HTTP {status}: redirections aren't followed; set the address that it leads to"
            raise NotTold(msg)
        text = f"HTTP {status} {self._said(answer)}".rstrip()
        if 400 <= status < 500 and status not in _PASSING:
            raise Refused(text)
        raise NotTold(text, retry_after_s(answer.headers.get("Retry-After", "")))

    def _said(self, answer: urllib3.BaseHTTPResponse) -> str:
        """The beginning of an answer, without secrets that the receiver repeats."""
        try:
            text = answer.read(_ANSWER_BYTES).decode(errors="replace")
        except (urllib3.exceptions.HTTPError, OSError):
            return ""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return line(text, 200)


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """Proof that a message was sent at a time by somebody who has the secret."""
    message = timestamp.encode() + b"." + body
    return f"sha256={hmac.new(secret, message, hashlib.sha256).hexdigest()}"


def retry_after_s(text: str) -> float:
    """Seconds that a ``Retry-After`` header asks for, as seconds or as a date (RFC 9110)."""
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max((when - datetime.now(UTC)).total_seconds(), 0.0)


def _reason(error: BaseException) -> str:
    """Why there was no answer, without the address, which may be a secret."""
    connecting = isinstance(error, urllib3.exceptions.ConnectTimeoutError)
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, TimeoutError):
            return "no connection in time" if connecting else "no answer in time"
        if isinstance(seen, OSError) and seen.strerror:
            return line(seen.strerror, 200)
        if isinstance(seen, ConnectionError):
            return "the receiver closed the connection without an answer"
        seen = seen.__cause__ or seen.__context__
    return type(error).__name__
