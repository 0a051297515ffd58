"""Saved queries: SQL files that answer what people ask most, ``netspectra query NAME``.

A file begins with comment lines: its title, and after an empty one what the answer means. A line
``-- :name = default: meaning`` is a parameter. In the statement stand

- ``{name:String}``, ``{name:UInt32}``: a parameter as a literal; ``{name:Source}`` and
  ``{name:Destination}``: a condition that this side of a flow is the address, the network, or the
  configured network of that name;
- ``{{flows}}``: the coarsest of ``flows``, ``flows_1m``, ``flows_1h`` that can answer;
- ``{{span}}``: a condition on time and tenant; ``{{where}}``: the same and the user's own;
- ``{{pairs}}``: the same where addresses are all that is needed;
- ``{{to}}``: the span's end; ``{{time}}``: start of the bucket of a series; ``{{seconds}}``: how
  much of the bucket that begins at ``time`` lies in the span, s;
- ``{{rows}}``: how many rows are wanted; ``{{candidates}}`` and ``{{candidate}}``: names in WITH,
  and a condition, that leave out most keys that can't be among the first so many: ``candidates``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

_PARAMETER: Final = re.compile(r"-- :(\w+)(?: = (\S+))?: (.+)")
PLACE: Final = re.compile(r"\{(\w+):(\w+)\}")
"""A parameter in a statement: name and kind."""

_FROM: Final = re.compile(r"\bFROM (?:\{\{)?(\w+)")


@dataclass(frozen=True)
class Parameter:
    """What a query wants to know; without a default it has to be said."""

    name: str
    default: str | None
    meaning: str


@dataclass(frozen=True)
class SavedQuery:
    """One file."""

    name: str
    title: str
    description: str
    parameters: tuple[Parameter, ...]
    template: str

    @property
    def is_series(self) -> bool:
        """Whether it has a row for each bucket of time, rather than the top of a list."""
        return "{{time}}" in self.template

    @property
    def table(self) -> str:
        """The table whose rows conditions are about."""
        before = self.template.partition("{{where}}")[0]
        return str(_FROM.findall(before)[-1])

    @property
    def is_bounded(self) -> bool:
        """Whether the ends of the span must be known."""
        return self.is_series or "{{to}}" in self.template


@cache
def saved() -> Mapping[str, SavedQuery]:
    """All saved queries by name, in alphabetical order."""
    folder = files("flows.storage").joinpath("queries")
    found = [
        parse(file.name.removesuffix(".sql"), file.read_text(encoding="utf-8"))
        for file in folder.iterdir()
        if file.name.endswith(".sql")
    ]
    return {query.name: query for query in sorted(found, key=lambda query: query.name)}


def parse(name: str, text: str) -> SavedQuery:
    """Read a query's file."""
    head: list[str] = []
    lines = text.splitlines()
    while lines and lines[0].startswith("--"):
        head.append(lines.pop(0))
    template = "\n".join(lines).strip().rstrip(";")
    matches = [(line, _PARAMETER.fullmatch(line)) for line in head]
    parameters = tuple(Parameter(match[1], match[2], match[3]) for _, match in matches if match)
    words = [line.removeprefix("--").strip() for line, match in matches if not match]
    return SavedQuery(
        name.replace("_", "-"), words[0], "\n".join(words[1:]).strip(), parameters, template
    )
