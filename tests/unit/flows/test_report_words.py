"""Numbers in words, and colours that can be read."""

from __future__ import annotations

import re

import pytest

from flows.report import page
from flows.report.questions import MOST_STEPS, step_of
from flows.report.words import duration, interval, plain, share, who


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.25, "0.25 s"),
        (59, "59 s"),
        (60, "1 min"),
        (119.9, "2 min"),
        (200, "3 min 20 s"),
        (7260, "2 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    """A length of time is told with its two largest units."""
    assert duration(seconds) == text


def test_numbers_are_told_in_full() -> None:
    """Counts are never in powers of ten; equal bounds are one value; nothing has no share."""
    assert plain(20_000.4) == "20,000"
    assert plain(6.5123) == "6.51"
    assert interval(3, 3) == "3"
    assert interval(2.6, 1000.2) == "3 to 1,000"
    assert share(1, 0) == "-"
    assert who("src_addr=10.0.0.1 dst_addr=2001:db8::1") == "10.0.0.1 → 2001:db8::1"


@pytest.mark.parametrize("span_ms", [0, 1, 240_000, 240_001, 86_400_000, 2 * 10**11, 10**15])
@pytest.mark.parametrize("pane_ms", [100, 1500, 2000, 5000])
def test_steps_are_few_and_of_whole_panes(span_ms: int, pane_ms: int) -> None:
    """Whatever the span and the pane, there are at most so many steps, each of whole panes."""
    step_ms = step_of(span_ms, pane_ms)
    assert step_ms % pane_ms == 0
    assert span_ms / step_ms <= MOST_STEPS


def luminance(colour: str) -> float:
    """Relative luminance, after WCAG 2.2."""
    colour = colour.lstrip("#")
    digits = [c * 2 for c in colour] if len(colour) == 3 else re.findall("..", colour)
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (int(each, 16) / 255 for each in digits)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_have_contrast_in_light_and_dark() -> None:
    """Text has 4.5 to 1 against what is behind it, graphics have 3 to 1 (WCAG 2.2 AA)."""
    palettes = [
        dict(re.findall(r"--([\w]+): (#[0-9a-f]+)", block))
        for block in re.findall(r":root \{(.*?)\}", page._style(), re.DOTALL)
        if "--paper" in block
    ]
    assert len(palettes) == 2
    for palette in palettes:
        for behind in (palette["paper"], palette["tint"]):
            for name in ("ink", "soft", "link"):
                assert contrast(palette[name], behind) >= 4.5, (name, behind)
            for name in ("c1", "c2", "c3", "c4", "c5"):
                assert contrast(palette[name], behind) >= 3, (name, behind)
        for name in ("critical", "high", "medium", "low", "info", "good", "warn", "bad"):
            assert contrast(palette[name], palette["on"]) >= 4.5, name
