"""Settings of notifiers: who is told of alerts, of which, and how."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from flows.settings.detection import SeverityName
from flows.settings.section import Section
from flows.settings.units import Count, Duration, Name, Names, parse_duration, parse_list

SECRETS: Final = frozenset({"url", "secret", "password", "headers"})
"""Fields of notifiers that are or may hold a secret; some URLs are all that one needs to post."""

ALERTS_TOPIC: Final = "_kafka"
"""Name of the notifier that writes the alerts topic without being asked for."""

EventName = Literal["fired", "updated", "escalated", "explained", "resolved"]
Events = Annotated[tuple[EventName, ...], BeforeValidator(parse_list)]

_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SYSLOG: Final = re.compile(
    r"(?:udp|tcp|tls)://(?:\[[0-9a-fA-F:.%\w]+\]|[^\s/:\[\]]+)(?::[0-9]{1,5})?|unix:/.+"
)
_ADDRESS: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+")


class NotifierBase(Section):
    """What every notifier has.

    Attributes:
        name: Its name, unique; rules name it in ``notify``.
        min_severity: Alerts that are less bad are not told.
        events: What is told: that an alert ``fired``, always; that it ``escalated`` (its severity
            rose, or its group grew tenfold); that a language model has ``explained`` it; that it
            is ``resolved``; every revision, ``updated``.
        tenants: Only alerts of these; empty means all.
        rules: Only alerts of these; empty means all.
    """

    name: Name
    min_severity: SeverityName = "low"
    events: Events = ("fired", "escalated", "explained", "resolved")
    tenants: Names = ()
    rules: Names = ()

    @field_validator("events")
    @classmethod
    def _check_events(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "fired" not in value:
            msg = "fired among them: who never heard of an alert can't be told how it goes on"
            raise ValueError(msg)
        return value

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, value: Any) -> Any:
        """Take ``secret_file: PATH`` for ``secret``, and so for each secret that there is."""
        if not isinstance(value, Mapping):
            return value
        found = dict(value)
        for field in SECRETS & cls.model_fields.keys():
            path = found.pop(f"{field}_file", None)
            if path is not None:
                try:
                    found[field] = Path(str(path)).read_text("utf-8").rstrip("\r\n")
                except (OSError, ValueError) as error:
                    reason = getattr(error, "strerror", None) or "it is not text"
                    msg = f"a {field}_file that can be read, and {path} can't: {reason}"
                    raise ValueError(msg) from None
        return found


Timeout = Annotated[Duration, BeforeValidator(lambda value: _positive(parse_duration(value)))]


def _positive(value: Any) -> Any:
    if not value:
        msg = "more than 0s"
        raise ValueError(msg)
    return value


class Webhook(NotifierBase):
    """Alerts by HTTP POST.

    Attributes:
        url: Where to; shown as a secret, for with some services it is one.
        format: ``netspectra`` is our own JSON; ``alertmanager`` is the list that Prometheus'
            Alertmanager takes at ``/api/v2/alerts``; ``slack`` a message for a Slack webhook.
        secret: Key of the signature in ``X-NetSpectra-Signature``.
        headers: Further headers, such as ``Authorization``.
        timeout: How long the receiver may take to connect, and to answer.
        verify: Whether its certificate is checked.
        ca_file: Certificates that are trusted instead of the system's.
    """

    type: Literal["webhook"]
    url: SecretStr
    format: Literal["netspectra", "alertmanager", "slack"] = "netspectra"
    secret: SecretStr | None = None
    headers: dict[str, SecretStr] = {}
    timeout: Timeout = parse_duration("10s")
    verify: bool = True
    ca_file: str | None = None

    @field_validator("url")
    @classmethod
    def _check_url(cls, value: SecretStr) -> SecretStr:
        try:
            url = urlsplit(value.get_secret_value())
            good = url.scheme in ("http", "https") and url.hostname and url.port != 0
            good = good and url.username is None
        except ValueError:
            good = False
        if not good or re.search(r"\s|[^\x21-\x7e]", value.get_secret_value()):
            msg = "an address such as https://host/path, a login in headers instead of in it"
            raise ValueError(msg)
        return value

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, text in value.items():
            known = name.lower().startswith("x-netspectra-") or name.lower() == "content-length"
            if known or not _HEADER.fullmatch(name):
                msg = f"names of headers that aren't ours, not {name!r}"
                raise ValueError(msg)
            if not re.fullmatch(r"[\t\x20-\x7e]*", text.get_secret_value()):
                msg = f"ordinary characters in header {name}"
                raise ValueError(msg)
        return value


class Email(NotifierBase):
    """Alerts by SMTP, one message an alert and recipient.

    Attributes:
        host: Mail server.
        port: Of it; by default 587, with ``tls`` 465, with ``none`` 25.
        security: ``starttls``, ``tls`` from the beginning, or ``none``.
        username: To log in with; none means without.
        password: To log in with.
        sender: ``from``: address that alerts come from.
        to: Addresses that they go to.
        subject_prefix: Begins each subject.
        timeout: How long the server may take to answer.
        ca_file: Certificates that are trusted instead of the system's.
    """

    type: Literal["email"]
    host: str
    port: Annotated[int | None, Field(ge=1, le=65_535)] = None
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str | None = None
    password: SecretStr | None = None
    sender: Annotated[str, Field(alias="from")]
    to: Annotated[Names, Field(min_length=1)]
    subject_prefix: str = "[NetSpectra]"
    timeout: Timeout = parse_duration("30s")
    ca_file: str | None = None

    @field_validator("sender", "to")
    @classmethod
    def _check_addresses(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for address in (value,) if isinstance(value, str) else value:
            if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
                msg = "plain addresses such as soc@example.net"
                raise ValueError(msg)
        return value

    @field_validator("subject_prefix")
    @classmethod
    def _check_prefix(cls, value: str) -> str:
        if not value.isprintable():
            msg = "one line of text"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _check_login(self) -> Email:
        if (self.username is None) != (self.password is None):
            msg = "both username and password, or neither"
            raise ValueError(msg)
        return self


FACILITIES: Final = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
)  # fmt: skip
"""Facilities of RFC 5424, each at its number."""


class Syslog(NotifierBase):
    """Alerts as RFC 5424 messages.

    Attributes:
        address: ``udp://host:514``, ``tcp://host:601``, ``tls://host:6514``, ``unix:/dev/log``.
        facility: Kind of program that they are from.
        cef: Write the message in ArcSight's Common Event Format.
        timeout: How long the receiver may take to connect.
        ca_file: Certificates that are trusted instead of the system's.
    """

    type: Literal["syslog"]
    address: str = "unix:/dev/log"
    facility: str = "local0"
    cef: bool = False
    timeout: Timeout = parse_duration("10s")
    ca_file: str | None = None

    @field_validator("address")
    @classmethod
    def _check_address(cls, value: str) -> str:
        if not _SYSLOG.fullmatch(value):
            msg = "udp://host:port, tcp://host:port, tls://host:port or unix:/path"
            raise ValueError(msg)
        return value

    @field_validator("facility")
    @classmethod
    def _check_facility(cls, value: str) -> str:
        if value not in FACILITIES:
            msg = f"one of {', '.join(FACILITIES)}"
            raise ValueError(msg)
        return value


class File(NotifierBase):
    """Alerts as lines of JSON in a file.

    Attributes:
        path: The file; older ones are beside it as ``.1``, ``.2``, ….
        rotate_bytes: Size at which a new file is begun; 0 means never.
        keep: How many older files are kept.
    """

    type: Literal["file"]
    path: str
    rotate_bytes: Annotated[Count, Field(ge=0)] = 100_000_000
    keep: Annotated[int, Field(ge=1, le=1000)] = 5


class KafkaTopic(NotifierBase):
    """Alerts as Avro messages in Kafka, at ``kafka.brokers``.

    Attributes:
        topic: By default ``kafka.topics.alerts``.
    """

    type: Literal["kafka"]
    topic: str | None = None


Notifier = Annotated[Webhook | Email | Syslog | File | KafkaTopic, Field(discriminator="type")]

KINDS: Final[Mapping[str, type[NotifierBase]]] = {
    "webhook": Webhook,
    "email": Email,
    "syslog": Syslog,
    "file": File,
    "kafka": KafkaTopic,
}


def check_notifiers(value: Any) -> Any:
    """Refuse two notifiers of one name.

    Raises:
        ValueError: A name appears twice.
    """
    seen = set()
    for notifier in value:
        if notifier.name in seen:
            msg = f"a name of its own for each notifier, and {notifier.name} is taken"
            raise ValueError(msg)
        seen.add(notifier.name)
    return value
