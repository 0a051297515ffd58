"""What may be asked of keeping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from probe.errors import KeepError
from probe.keep import KeepOptions


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"format": "csv"}, "format csv is unknown: choose one of pcapng, avro, text"),
        ({"rotate_bytes": 1 << 19}, "rotate_bytes is 524288: take 1048576 or more"),
        ({"rotate_bytes": 1 << 20, "limit_bytes": (2 << 20) - 1}, "less than two files"),
        ({"rotate_seconds": 0}, "rotate_seconds is 0"),
        ({"rotate_seconds": float("nan")}, "rotate_seconds is nan"),
        ({"snap_bytes": 63}, "snap_bytes is 63: take 64 to 262144"),
        ({"snap_bytes": 262_145}, "snap_bytes is 262145"),
    ],
)
def test_refusals(changed: dict[str, Any], says: str) -> None:
    """Numbers that make no sense are refused with what to do."""
    with pytest.raises(KeepError, match=says):
        KeepOptions(Path(), **changed)


def test_limits_are_allowed() -> None:
    """The smallest and largest values are taken."""
    KeepOptions(Path(), "text", 2 << 20, 1 << 20, 0.001, 64)
    KeepOptions(Path(), "avro", snap_bytes=262_144)
