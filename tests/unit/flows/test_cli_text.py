"""Measurements as people write them."""

from __future__ import annotations

import pytest

from flows.cli.text import amount


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1, "hosts", "1 host"),
        (0, "hosts", "0 hosts"),
        (214, "hosts", "214 hosts"),
        (1, "packets/s", "1 packets/s"),
        (12_350_000, "bit/s", "12.35M bit/s"),
    ],
)
def test_one_has_no_plural(value: float, unit: str, text: str) -> None:
    """One of something is told as one."""
    assert amount(value, unit) == text
