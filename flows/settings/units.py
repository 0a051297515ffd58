"""How values are written: durations, counts, lists, networks, and the types that read them.

Every validator raises ``ValueError`` whose text says what is wanted (`a duration such as 2s`);
``flows.settings.problems`` puts the setting's name and the value in front of it.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer

WANTED_DURATION: Final = "a duration such as 500ms, 2s, 10m or PT2S"
WANTED_COUNT: Final = "a whole number such as 500000, 500k or 4M"
WANTED_QUANTITY: Final = "a number such as 100, 2.5k, 10Gbps, 500kpps or 0.1%"
WANTED_LIST: Final = "a list, or text such as a,b"

_UNITS: Final = {
    "us": timedelta(microseconds=1),
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)\s*")
_ISO: Final = re.compile(
    r"P(?:(?P<d>\d+)D)?(?:T(?:(?P<h>\d+)H)?(?:(?P<m>\d+)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?"
)
_MULTIPLES: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_LARGE: Final = {**_MULTIPLES, "t": 10**12}
_QUANTITY: Final = re.compile(
    r"(\d[\d_]*(?:\.\d+)?)\s*([kmgt]?)\s*(bps|bit/s|pps|/s|%|)", re.IGNORECASE
)
_COUNT: Final = re.compile(r"(\d[\d_]*)\s*([kmg]?)", re.IGNORECASE)


def parse_duration(value: Any) -> timedelta:
    """Read ``2s``, ``1m30s``, ``500ms``, ISO 8601 (``PT2S``); a bare number only if it is 0.

    Raises:
        ValueError: It is no duration; a number without a unit isn't, for nobody can tell
            seconds from milliseconds.
    """
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, bool) and value in (0, "0"):
        return timedelta()
    text = value.strip() if isinstance(value, str) else ""
    try:
        if text[:1].upper() == "P" and (iso := _ISO.fullmatch(text.upper())):
            parts = [(n, unit) for unit, n in iso.groupdict().items() if n]
        else:
            parts = _PART.findall(text) if re.fullmatch(f"(?:{_PART.pattern})+", text) else []
        if parts:
            return sum((float(n) * _UNITS[unit] for n, unit in parts), timedelta())
    except OverflowError:
        pass
    raise ValueError(WANTED_DURATION)


def format_duration(value: timedelta) -> str:
    """Write a duration in seconds, or smaller units where it must, for `parse_duration`."""
    for unit in ("s", "ms"):
        if value % _UNITS[unit] == timedelta():
            return f"{value // _UNITS[unit]}{unit}"
    return f"{value // _UNITS['us']}us"


def to_ns(value: timedelta) -> int:
    """Nanoseconds of a duration, exactly."""
    return (value // timedelta(microseconds=1)) * 1000


def parse_count(value: Any) -> int:
    """Read ``500000``, ``500_000``, ``500k``, ``4M`` (powers of 1000).

    Raises:
        ValueError: It is no whole number.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and (match := _COUNT.fullmatch(value.strip())):
        return int(match[1].replace("_", "")) * _MULTIPLES[match[2].lower()]
    raise ValueError(WANTED_COUNT)


def parse_quantity(value: Any) -> float:
    """Read ``10Gbps`` (bits), ``500kpps``, ``2.5M``, ``0.1%`` (a share), ``100``; in base units.

    Raises:
        ValueError: It is none of these.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and (match := _QUANTITY.fullmatch(value.strip())):
        number = float(match[1].replace("_", ""))
        return number / 100 if match[3] == "%" else number * _LARGE[match[2].lower()]
    raise ValueError(WANTED_QUANTITY)


def parse_values(value: Any) -> tuple[str, ...]:
    """Read one value or a list of them, as text.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (str(value),)
    return tuple(str(each) for each in parse_list(value))


def parse_list(value: Any) -> tuple[Any, ...]:
    """Read a list or its text form ``a,b``; the empty text is the empty list.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, list | tuple):
        return tuple(value)
    raise ValueError(WANTED_LIST)


def parse_network(value: Any) -> str:
    """Read an address range and write it the canonical way (``10.0.0.0/8``).

    Raises:
        ValueError: It is no range, or bits behind the prefix are set.
    """
    if isinstance(value, str):
        try:
            return str(ipaddress.ip_network(value.strip()))
        except ValueError:
            pass
        try:
            meant = ipaddress.ip_network(value.strip(), strict=False)
        except ValueError:
            pass
        else:
            msg = f"no bits behind the prefix; did you mean {meant}?"
            raise ValueError(msg)
    msg = "an address range such as 10.0.0.0/8 or fc00::/7"
    raise ValueError(msg)


def parse_name(value: Any) -> str:
    """Read a name as tasks and networks have them: lower-case letters, digits, underscores.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9_]{0,63}", value):
        return value
    msg = "a name of lower-case letters, digits and underscores that begins with a letter"
    raise ValueError(msg)


Duration = Annotated[
    timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration, return_type=str)
]
Count = Annotated[int, BeforeValidator(parse_count)]
Quantity = Annotated[float, BeforeValidator(parse_quantity)]
"""A number in base units: bits or packets per second, a share, a count."""

Values = Annotated[tuple[str, ...], BeforeValidator(parse_values)]
Durations = Annotated[tuple[Duration, ...], BeforeValidator(parse_list)]
Name = Annotated[str, BeforeValidator(parse_name)]
Names = Annotated[tuple[str, ...], BeforeValidator(parse_list)]
Network = Annotated[str, BeforeValidator(parse_network)]
Networks = Annotated[tuple[Network, ...], BeforeValidator(parse_list)]
