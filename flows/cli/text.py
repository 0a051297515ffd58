"""Text for terminals."""

from __future__ import annotations

import getpass
import os
from datetime import UTC, datetime

_LONGEST = 200
_PREFIXES = ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))


def safe(text: str, longest: int = _LONGEST, keep: str = "") -> str:
    """Text that may quote what came off the wire: one line, no control characters.

    Args:
        text: any text.
        longest: what is behind so many characters is cut off.
        keep: control characters that may stay.
    """
    shown = "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text[:longest])
    return shown if len(text) <= longest else f"{shown}…"


def number(value: float, digits: int = 4) -> str:
    """A measurement in so many digits: ``214``, ``0.03125``, ``12.35M``."""
    for least, size, prefix in _PREFIXES:
        if abs(value) >= least:
            return f"{value / size:.{digits}g}{prefix}"
    return f"{round(value)}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def amount(value: float, unit: str) -> str:
    """A measurement with its unit: ``214 hosts``, ``1 host``, ``12.35M bit/s``."""
    one = value == 1 and unit.endswith("s") and "/" not in unit
    return f"{number(value)} {unit[:-1] if one else unit}"


def time_text(time_ns: int) -> str:
    """A Unix time in ns as ``2026-01-02 03:04:05`` (UTC); 0 gives a dash."""
    return _utc(time_ns).strftime("%Y-%m-%d %H:%M:%S") if time_ns else "-"


def iso(time_ns: int) -> str | None:
    """A Unix time in ns for programs, ISO 8601 in ms; nothing for 0."""
    return _utc(time_ns).isoformat(timespec="milliseconds") if time_ns else None


def login_name() -> str:
    """Who is using the terminal."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        return f"uid {os.getuid()}"


def _utc(time_ns: int) -> datetime:
    return datetime.fromtimestamp(time_ns // 10**6 / 1000, UTC)
