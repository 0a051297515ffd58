"""The question to the model. What it says is in files, by version; here it is only put together."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

from flows.enrich.pack import Pack, as_lines

VERSION: Final = "explain-1"
"""Name of the file in ``prompts``; a changed text is a new file."""

ASK_VERSION: Final = "ask-1"
"""The same for questions of people."""

Message = dict[str, str]


@cache
def text(version: str = VERSION) -> str:
    """The instructions of a version."""
    return (files("flows.enrich") / "prompts" / f"{version}.md").read_text(encoding="utf-8")


def question(pack: Pack) -> list[Message]:
    """Messages that ask to explain what is in a pack."""
    listed = ", ".join(pack.listed)
    data = as_lines(row.as_fields() for row in pack.sent)
    hosts = f"\n<hosts>\n{as_lines(pack.legend)}\n</hosts>" if pack.legend else ""
    asked = f"Explain {listed} as one situation.\n<data>\n{data}\n</data>{hosts}"
    return [{"role": "system", "content": text()}, {"role": "user", "content": asked}]


def repair(question: list[Message], fault: str) -> list[Message]:
    """Messages that ask once more, for an answer that can be read.

    The one that couldn't isn't repeated: it may be long, and nobody knows what is in it.
    """
    again = (
        f"Your answer could not be read: {fault}. Answer again with one JSON object of the given "
        "form and nothing else."
    )
    return [*question, {"role": "user", "content": again}]
