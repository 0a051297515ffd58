"""A query that the model may have run: its arguments, checked, and how it is told of them."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, ClassVar, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from flows.enrich.ask.scope import DAY_MS, Scope
from flows.storage import flow_rows, resolution
from flows.storage.embedded import quote
from flows.storage.resolution import Span

MOST_ROWS: Final = 30
"""Rows of one statement that the model is given."""


def _host(value: Any) -> str:
    text = str(value).strip()
    if not text:
        return ""
    try:
        if "/" in text:
            return str(ip_network(text, strict=False))
        address = ip_address(text)
    except ValueError:
        msg = "must be an IP address or a network such as 192.0.2.0/24"
        raise ValueError(msg) from None
    return str(getattr(address, "ipv4_mapped", None) or address)


def _time(value: Any) -> str:
    text = str(value).strip()
    if text and not _is_time(text):
        msg = "must be a time such as 2026-01-02 03:04 (UTC)"
        raise ValueError(msg)
    return text


def _is_time(text: str) -> bool:
    """Whether it is a time that the store can hold."""
    try:
        return 1970 <= datetime.fromisoformat(text).year < 2262
    except ValueError:
        return False


Host = Annotated[str, BeforeValidator(_host)]
Time = Annotated[str, BeforeValidator(_time)]
Port = Annotated[int, Field(ge=0, le=65_535)]
Statement = tuple[str, str]
"""What its rows are, and the SQL."""


class Query(BaseModel):
    """One query; the docstring of a subclass is what the model is told of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: ClassVar[str]

    @abstractmethod
    def statements(self, scope: Scope) -> Sequence[Statement]:
        """The statements to run, each of which only reads.

        Raises:
            StoreError: it isn't admitted.
        """

    @classmethod
    def as_tool(cls) -> dict[str, Any]:
        """What the model is told, as the protocol wants it."""
        schema = cls.model_json_schema()
        kept = ("type", "enum", "description", "minimum", "maximum", "default")
        properties = {
            name: {key: value for key, value in each.items() if key in kept}
            for name, each in schema.get("properties", {}).items()
        }
        parameters = {
            "type": "object",
            "properties": properties,
            "required": schema.get("required", []),
            "additionalProperties": False,
        }
        description = " ".join((inspect.getdoc(cls) or "").split())
        function = {"name": cls.name, "description": description, "parameters": parameters}
        return {"type": "function", "function": function}


class Spanned(Query):
    """A query about a time."""

    since: Time = Field("", description="Begin, UTC; empty: a day before the end")
    until: Time = Field("", description="End, UTC; empty: the end of the data")

    def span_ms(self, scope: Scope) -> tuple[int, int]:
        """Begin and end, Unix ms, at least a second apart."""
        until = _ms(self.until) if self.until else scope.last_ms
        since = _ms(self.since) if self.since else max(scope.first_ms, until - DAY_MS)
        return min(since, until - 1000), until

    def place(self, scope: Scope, *, ports: bool = True) -> tuple[str, int, int]:
        """Where to look: flows or the roll-up that has few rows, and the time in its windows."""
        since, until = resolution.widened(*self.span_ms(scope))
        return table_of(since, until, ports=ports), since, until


def within(scope: Scope, since_ms: int, until_ms: int) -> str:
    """Condition on the panes of a tenant."""
    return flow_rows.in_window(scope.tenant, since_ms * 10**6, until_ms * 10**6)


def table_of(
    since_ms: int, until_ms: int, *, ports: bool = False, step_s: int | None = None
) -> str:
    """Which of the tables of flows answers for a time.

    Args:
        since_ms: begin, Unix ms.
        until_ms: end, Unix ms.
        ports: whether ports of destinations are asked for.
        step_s: length of the steps of a series, s; None for sums over all of the time.
    """
    words = ("dst_port",) if ports else ()
    return resolution.table_for(words, Span(since_ms, until_ms), step_s)


def is_host(column: str, host: str) -> str:
    """Condition that an address is a host, or in a network."""
    if "/" in host:
        return f"in_net({column}, {quote(host)})"
    return f"{column} = toIPv6({quote(host)})"


def touches(host: str) -> str:
    """Condition that a flow comes from a host, or goes to it."""
    return f"({is_host('src_addr', host)} OR {is_host('dst_addr', host)})"


def problems(error: Any) -> str:
    """What is wrong with arguments, in our words, without what was written."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return "there is no such argument"
    return f"{place}: {first['msg'].removeprefix('Value error, ')}"


def tools(queries: Mapping[str, type[Query]]) -> list[dict[str, Any]]:
    """All of them as the protocol wants it."""
    return [query.as_tool() for query in queries.values()]


def _ms(text: str) -> int:
    when = datetime.fromisoformat(text)
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return int(when.timestamp() * 1000)
