"""Drawings that a page without styles of its own can hold."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
from matplotlib.figure import Figure

from flows.report.svg import COLOURS, draw

SVG = "{http://www.w3.org/2000/svg}"


def figure(text: str = "x") -> Figure:
    found = Figure(figsize=(4, 2))
    axes = found.add_subplot()
    axes.plot([1, 2, 3], "o-", color=COLOURS["c1"])
    axes.text(0, 1, text, color=COLOURS["ink"])
    return found


def test_no_styles_and_no_foreign_colours_are_left() -> None:
    """Styles are attributes, the page's colours are variables, nothing else needs the policy."""
    text = str(draw(figure(), "one", "A line."))
    assert "style" not in text
    assert "var(--c1)" in text
    assert "var(--ink)" in text
    assert not any(colour in text for colour in COLOURS.values())
    assert 'role="img"' in text
    assert 'aria-label="A line."' in text
    assert "metadata" not in text


def test_references_hold_and_ids_differ_between_drawings() -> None:
    """Each reference names an id of its own drawing, and no two drawings share one."""
    one, other = (str(draw(figure(), name, "")) for name in ("one", "other"))
    found = [set(re.findall(r' id="([^"]+)"', text)) for text in (one, other)]
    used = set(re.findall(r'href="#([^"]+)"', one)) | set(re.findall(r"url\(#([^)]+)\)", one))
    assert used
    assert used == found[0]
    assert not found[0] & found[1]


def test_hostile_text_stays_text() -> None:
    """Markup and formulas in a label are shown as they are written."""
    hostile = "<script>alert(1)</script> $\\frac{1}{0}$ ]]> \u6f22"
    root = ElementTree.fromstring(draw(figure(hostile), "one", hostile))
    assert hostile in [element.text for element in root.iter(f"{SVG}text")]
    assert not list(root.iter(f"{SVG}script"))
    assert root.attrib["aria-label"] == hostile


def test_the_same_figure_is_the_same_text() -> None:
    """Nothing in a drawing depends on the moment or on the process."""
    assert draw(figure(), "one", "") == draw(figure(), "one", "")


def test_numbers_of_the_library_are_accepted() -> None:
    """Empty and huge values don't break a drawing."""
    found = Figure(figsize=(4, 2))
    found.add_subplot().plot(np.array([0, 1e300]))
    assert "svg" in draw(found, "huge", "")
