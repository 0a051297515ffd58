"""Keeps what a probe sees: frames as pcapng, records as Avro or text, in rotated files."""

from __future__ import annotations

from probe.keep.keeper import Keeper, open_keeper
from probe.keep.options import Format, KeepCounts, KeepOptions

__all__ = ["Format", "KeepCounts", "KeepOptions", "Keeper", "open_keeper"]
