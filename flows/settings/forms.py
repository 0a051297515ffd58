"""Forms of the settings that are small languages: source, store, brokers, what counts, tenants."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator

from flows.settings.units import parse_count, parse_list

SourceKind = Literal["demo", "pcap", "interface", "kafka"]

WANTED_SOURCE: Final = "demo, pcap:<file or glob>, interface:<name> or kafka"
WANTED_RING: Final = "a power of two from 1 to 1024 (MiB)"
WANTED_STORE: Final = "chdb:<directory> or http(s)://user@host:port/database"
WANTED_BROKERS: Final = "host:port, several with commas, ports from 1 to 65535"
WANTED_TENANT: Final = "a name of letters, digits, dots, dashes, underscores, not beginning with _"

_BROKER: Final = re.compile(
    r"(?:(?:PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL)://)?"
    r"(?:\[[0-9a-f:.]+(?:%[\w.-]+)?\]|[^\s,:/\[\]]+)(?::(?P<port>[0-9]{1,9}))?",
    re.IGNORECASE,
)
_DEFAULT_PORT: Final = 9092


def parse_source(value: Any) -> str:
    """Check a source: ``demo``, ``pcap:<files>``, ``interface:<names>``, ``kafka``.

    Several capture files or globs go one on a line, as any other character may be in a name;
    several interfaces have commas between them.

    Raises:
        ValueError: It is none of these.
    """
    text = value.strip() if isinstance(value, str) else ""
    kind, colon, target = text.partition(":")
    if (kind in ("demo", "kafka") and not colon) or (kind == "pcap" and target.strip()):
        return text
    names = target.split(",")
    valid = all(re.fullmatch(r"[^\s/,]{1,15}", name) for name in names)
    if kind == "interface" and valid and len(set(names)) == len(names):
        return text
    raise ValueError(WANTED_SOURCE)


def parse_store(value: Any) -> str:
    """Check the form of a store; whether it is there is for the storage to say.

    Raises:
        ValueError: It is no store.
    """
    text = value.strip() if isinstance(value, str) else ""
    kind, colon, target = text.partition(":")
    if kind == "chdb" and colon and target.removeprefix("//"):
        return text
    if kind in ("http", "https"):
        try:
            url = urlsplit(text)
            # Reading the port is what checks it.
            if url.hostname and url.port != 0 and re.fullmatch(r"(/\w*)?", url.path):
                return text
        except ValueError:
            pass
    raise ValueError(WANTED_STORE)


def parse_brokers(value: Any) -> str:
    """Check addresses of brokers as librdkafka reads them: ``[protocol://]host[:port],…``.

    Raises:
        ValueError: One is no address.
    """
    brokers = re.split(r"[,\s]+", value.strip(", \t\n")) if isinstance(value, str) else []
    for broker in brokers or [""]:
        match = _BROKER.fullmatch(broker)
        if not match or not 1 <= int(match["port"] or _DEFAULT_PORT) <= 65_535:
            raise ValueError(WANTED_BROKERS)
    return str(value)


def parse_points(value: Any) -> str | tuple[str, ...]:
    """Read which observations count: ``auto``, ``all``, ``ingress``, ``egress``, or names.

    Raises:
        ValueError: It is neither a keyword nor a list of names.
    """
    if isinstance(value, str) and value in ("auto", "all", "ingress", "egress"):
        return value
    points = parse_list(value)
    if not points or not all(isinstance(point, str) and point for point in points):
        msg = "auto, all, ingress, egress, or names of capture points"
        raise ValueError(msg)
    return points


def parse_ring(value: Any) -> int:
    """Read the size of a ring in MiB.

    Raises:
        ValueError: It is no power of two, or more than anybody needs.
    """
    size = parse_count(value)
    if not 1 <= size <= 1024 or size & (size - 1):
        raise ValueError(WANTED_RING)
    return size


def parse_tenant(value: Any) -> str:
    """Check a tenant's name; names that begin with an underscore are ours (``_other``).

    Raises:
        ValueError: It can't be a tenant.
    """
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", value):
        return value
    raise ValueError(WANTED_TENANT)


Source = Annotated[str, BeforeValidator(parse_source)]
Store = Annotated[str, BeforeValidator(parse_store)]
Brokers = Annotated[str, BeforeValidator(parse_brokers)]
Rules = Annotated[tuple[str, ...], BeforeValidator(parse_list)]
RingSize = Annotated[int, BeforeValidator(parse_ring)]
Points = Annotated[Any, BeforeValidator(parse_points)]
Tenant = Annotated[str, BeforeValidator(parse_tenant)]
Tenants = Annotated[tuple[Tenant, ...], BeforeValidator(parse_list)]
