"""Drawings as SVG that a page can hold without styles of its own.

The page's policy allows no ``style`` attributes, and its colours change between light and dark:
so styles become attributes, colours that stand for one of the page's become ``var(--name)``.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import Any, Final
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text

COLOURS: Final = {
    name: f"#0a0b{at:02x}"
    for at, name in enumerate(
        (
            "ink", "soft", "grid", "paper", "c1", "c2", "c3", "c4", "c5",
            "critical", "high", "medium", "low", "info", "gap",
        )
    )
}  # fmt: skip
"""What to draw with, by the name of the page's colour."""

FONT_PX: Final = 12.0
_NAMES: Final = {value: name for name, value in COLOURS.items()}
_SVG: Final = "{http://www.w3.org/2000/svg}"
_HREF: Final = "{http://www.w3.org/1999/xlink}href"
_SETTINGS: Final[dict[Any, Any]] = {
    # Texts stay texts: they can be searched, copied, and take the page's font.
    "svg.fonttype": "none",
    "path.simplify_threshold": 0.5,
}

ElementTree.register_namespace("", _SVG[1:-1])


def draw(figure: Figure, name: str, label: str) -> Markup:
    """A figure as an ``svg`` element.

    Args:
        figure: drawn with ``COLOURS``.
        name: unique in the page, also the class of the element.
        label: what it shows, for those who don't see it.
    """
    for text in figure.findobj(Text):
        # Names off the wire are no formulas.
        text.set_parse_math(False)
    file = io.BytesIO()
    with rc_context({**_SETTINGS, "svg.hashsalt": name}), warnings.catch_warnings():
        # The browser finds a font; here glyphs are only measured.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(file.getvalue())  # noqa: S314 - the library's own output
    for tag in ("metadata", "defs"):
        for child in root.findall(_SVG + tag):
            if tag == "metadata" or child.find(f"{_SVG}style") is not None:
                root.remove(child)
    used = set(re.findall(r"#([\w-]+)", " ".join(_references(root))))
    for element in root.iter():
        _plain(element, used)
    width, height = (str(round(72 * inches)) for inches in figure.get_size_inches())
    root.attrib = {
        "viewBox": f"0 0 {width} {height}", "width": width, "height": height, "role": "img",
        "aria-label": label, "font-size": f"{FONT_PX:g}",
    }  # fmt: skip
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704 - escaped by the tree


def _references(root: ElementTree.Element) -> list[str]:
    wanted = (_HREF, "clip-path")
    return [
        element.attrib[name] for element in root.iter() for name in wanted if name in element.attrib
    ]


def _plain(element: ElementTree.Element, used: set[str]) -> None:
    """Style and references of one element as plain attributes; ids that nobody uses go."""
    found = element.attrib
    if found.get("id") not in used:
        found.pop("id", None)
    if _HREF in found:
        found["href"] = found.pop(_HREF)
    for part in found.pop("style", "").split(";"):
        name, _, value = (piece.strip() for piece in part.partition(":"))
        if name == "font":
            size = re.search(r"([\d.]+)px", value)
            found["font-size"] = size[1] if size else f"{FONT_PX:g}"
        elif name and not name.startswith("font-"):
            found[name] = value
    for name in ("fill", "stroke"):
        if colour := _NAMES.get(found.get(name, "").lower()):
            found[name] = f"var(--{colour})"
