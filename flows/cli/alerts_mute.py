"""What a mute on the command line means."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

import click

from flows.cli.text import safe

if TYPE_CHECKING:
    from flows.settings import Settings
    from flows.storage.alerts import Query, Row, StoredMute

Conditions = dict[str, tuple[str, ...]]

_MS: Final = 10**6
_ADDRESSES: Final = ("addr", "net", "src_addr", "dst_addr", "src_net", "dst_net")


def until_ms(for_ns: int | None, until_ns: int | None) -> int:
    """When the mute ends, Unix ms.

    Raises:
        click.UsageError: both were given, or the time has passed.
    """
    from flows.storage.alerts import FOREVER_MS

    if for_ns is not None and until_ns is not None:
        msg = "--for and --until both say when it ends; give one"
        raise click.UsageError(msg)
    now_ns = time.time_ns()
    if for_ns is not None:
        until_ns = now_ns + for_ns
    if until_ns is None:
        return FOREVER_MS
    if until_ns <= now_ns:
        msg = "it would be over already; --for and --until end later than now"
        raise click.UsageError(msg)
    return min(until_ns // _MS, FOREVER_MS)


def like(row: Row) -> Conditions:
    """Conditions that mean the entity of an alert.

    Raises:
        click.UsageError: the alert is about a group without anything in common.
    """
    from flows.settings.detection import FIELD_CONDITIONS

    conditions: Conditions = {
        name: (value,) for name, value in row["entity"].items() if name in FIELD_CONDITIONS
    }
    if not conditions:
        msg = (
            f"{safe(row['entity_text'])} have nothing in common that could be muted; "
            f"--rule {safe(row['rule'])} mutes all alerts of the rule"
        )
        raise click.UsageError(msg)
    return conditions


def conditions_of(where: Sequence[str], rule: str, query: Query) -> Conditions:
    """Conditions out of ``FIELD=VALUE,…`` options; the rule is checked too.

    Raises:
        click.UsageError: a field, an address or the rule is none.
    """
    from flows import settings
    from flows.settings.detection import FIELD_CONDITIONS

    loaded = settings.load()
    if rule:
        check_rule(rule, loaded, query)
    conditions: Conditions = {}
    for each in where:
        name, equals, text = each.partition("=")
        values = tuple(value.strip() for value in text.split(",") if value.strip())
        if not equals or not values:
            msg = f"--where {each!r}: wanted FIELD=VALUE, such as src_addr=10.0.0.0/8"
            raise click.UsageError(msg)
        if name not in FIELD_CONDITIONS:
            msg = f"--where {each!r}: no such field; fields are {', '.join(FIELD_CONDITIONS)}"
            raise click.UsageError(msg)
        if name in _ADDRESSES:
            values = tuple(_address(each, value, loaded.networks) for value in values)
        conditions[name] = (*conditions.get(name, ()), *values)
    return conditions


def check_rule(rule: str, loaded: Settings, query: Query) -> None:
    """Refuse a rule that neither the settings name nor an alert.

    Raises:
        click.UsageError: there is none of that name.
    """
    from flows.detect import registry

    rows = query("SELECT DISTINCT rule FROM alerts_log").to_pylist()
    known = {name for name, _ in registry.sections(loaded)} | {str(row["rule"]) for row in rows}
    if rule not in known:
        msg = f"there is no rule {rule!r}; rules are {', '.join(sorted(known))}"
        raise click.UsageError(msg)


def plain_address(text: str) -> str:
    """An address in the form in which alerts have it.

    Raises:
        click.UsageError: it is none.
    """
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        msg = f"{text!r} is no address; wanted one such as 10.0.2.15 or 2001:db8::1"
        raise click.UsageError(msg) from error


def find(query: Query, prefix: str) -> StoredMute:
    """The mute whose id begins so.

    Raises:
        UsageError: none or several begin so.
    """
    from flows.errors import UsageError
    from flows.storage import alerts

    found = alerts.mutes(query, time.time_ns() // _MS)
    matching = [mute for mute in found if prefix and mute.mute_id.startswith(prefix.lower())]
    if len(matching) != 1:
        many = "several mute ids begin" if matching else "no mute id begins"
        msg = f"{many} with {prefix!r}; `netspectra alerts mutes` shows them"
        raise UsageError(msg)
    return matching[0]


def _address(option: str, value: str, networks: Collection[str]) -> str:
    """An address, a range or the name of a network, the way alerts are compared with it."""
    from flows.settings.units import parse_network

    if value in networks:
        return value
    try:
        return parse_network(value) if "/" in value else str(ipaddress.ip_address(value))
    except ValueError as error:
        why = str(error) if "/" in value else "wanted an address, a range or a name of `networks`"
        msg = f"--where {option!r}: {why}"
        raise click.UsageError(msg) from error
