"""What the model says, cut into claims as it comes, each with the rows that it cites."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from flows.enrich.answer import Claim
from flows.enrich.check import Judge
from flows.enrich.pack import Pack
from flows.notify.text import line

MAX_CHARS: Final = 600
"""Longest claim; what is longer is cut."""

MAX_LINE_CHARS: Final = 4000
"""Longest text without an end that is waited for."""

_CITED: Final = re.compile(r"\s*\[(R\d+[^\][\n]{0,80})\]")
_ENDING: Final = re.compile(r"(?:\s*\[R\d+[^\][\n]{0,80}\])+[ \t]*[.!?]?")
_BULLET: Final = re.compile(r"^(?:[-*•#>]+|\d{1,2}[.)])\s+")
_REMARK: Final = "?"
"""Begins a line that says what can't be told, or asks back."""


@dataclass(frozen=True)
class Said:
    """A claim, or a remark: what can't be told from the data, or a question back.

    Attributes:
        claim: its text and rows; a remark has none.
        remark: whether it is one.
    """

    claim: Claim
    remark: bool = False


class Cutter:
    """Cuts words into claims: each ends with its rows in brackets, or with its line."""

    def __init__(self) -> None:
        self._text = ""

    def feed(self, words: str) -> Iterator[Said]:
        """Take words; gives what is whole."""
        self._text += words
        while (end := self._end()) > 0:
            piece, self._text = self._text[:end], self._text[end:]
            yield from _said(piece)

    def rest(self) -> Iterator[Said]:
        """What is left at the end."""
        piece, self._text = self._text, ""
        yield from _said(piece)

    def _end(self) -> int:
        """Where the first claim ends; 0 while that isn't known."""
        newline = self._text.find("\n") + 1
        found = _ENDING.search(self._text, 0, newline or len(self._text))
        # Something has to follow: another bracket, or the full stop, may still come.
        if found:
            after = self._text[found.end() :].strip(" \t")
            if after and not (after.startswith("[") and "]" not in after and not newline):
                return found.end()
        return newline or (len(self._text) if len(self._text) > MAX_LINE_CHARS else 0)


def _said(piece: str) -> Iterator[Said]:
    names = [name for cited in _CITED.findall(piece) for name in re.findall(r"R\d+", cited)]
    text = _BULLET.sub("", _CITED.sub("", piece).strip())
    text = line(text.replace("**", "").replace("`", ""), MAX_CHARS).strip(" ")
    remark = text.startswith(_REMARK) and not names
    text = text.lstrip(_REMARK).strip() if remark else text
    # A heading says nothing.
    if text.strip(".!:- ") and (
        names or remark or not text.endswith(":") or re.search(r"\d", text)
    ):
        yield Said(Claim(text=text, rows=list(dict.fromkeys(names))), remark)


def fault(said: Said, pack: Pack) -> str:
    """Why it isn't shown, in our words; empty if it holds."""
    if not said.remark:
        return Judge(pack).fault(said.claim)
    # A remark may name what stands anywhere in the data.
    everything = said.claim.model_copy(update={"rows": [row.name for row in pack.sent]})
    return Judge(pack).fault(everything)
