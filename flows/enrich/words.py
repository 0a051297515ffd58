"""Measurements and times in words for people."""

from __future__ import annotations

import math
from typing import Final

_SCALES: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"))


def number(value: float) -> str:
    """A number as people read it: ``214``, ``12,345``, ``2.35``, ``0.00012``."""
    if not math.isfinite(value):
        return "unknown"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.3g}"


def quantity(value: float, unit: str) -> str:
    """A measurement with its unit: ``214 hosts``, ``2.5 Gbit/s``, ``3.2 %``."""
    if unit == "share":
        return f"{number(value * 100)} %"
    if unit in ("bit/s", "bits/s", "bits per second", "packets/s", "packets per second"):
        unit = "bit/s" if unit.startswith("bit") else "packets/s"
        for scale, letter in _SCALES:
            if abs(value) >= scale:
                gap = "" if unit == "bit/s" else " "
                return f"{value / scale:.3g} {letter}{gap}{unit}"
    return f"{number(value)} {unit}".rstrip()


def duration(seconds: float) -> str:
    """A length of time: ``40 s``, ``12 min``, ``3 h``, ``2 days``."""
    for size, name in ((172_800, "days"), (7200, "h"), (120, "min")):
        if seconds >= size:
            per = {"days": 86_400, "h": 3600, "min": 60}[name]
            return f"{seconds / per:.0f} {name}"
    return f"{seconds:.0f} s"
