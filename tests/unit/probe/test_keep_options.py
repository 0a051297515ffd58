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
        ({"rotate_bytes": 1 << 19}, "^--write-rotate: 512 KiB is too little, 1 MiB at least$"),
        ({"rotate_bytes": 500_000}, "^--write-rotate: 500 kB is too"),
        ({"rotate_bytes": 0}, "^--write-rotate: 0 bytes is too"),
        ({"rotate_bytes": 1 << 20, "limit_bytes": (2 << 20) - 1}, "less than two files of 1 MiB"),
        ({"limit_bytes": 0}, "^--write-limit: 0 bytes is less than two files of 128 MiB"),
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
