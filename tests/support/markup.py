"""What a page is made of."""

from __future__ import annotations

from html.parser import HTMLParser


class Shape(HTMLParser):
    """Tags, ids, and everything that could load or run something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.risky: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in ("href", "src"):
                self.links.append(str(value))
            if name == "style" or name.startswith("on"):
                self.risky.append(f"{tag} {name}")
