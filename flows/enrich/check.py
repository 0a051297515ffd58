"""Claims against evidence: what the cited rows don't bear is struck.

A claim holds if every row that it cites is there, every address and name of ours in it stands in
the rows, and every number in it stands in a cited row or follows from cited ones: scaled by its
unit, rounded, or as the sum, difference, ratio or percentage of two numbers that belong together
(of one row, or of fields with one name). Proposals may say for how long.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from flows.enrich.answer import Answer, Claim, Detail
from flows.enrich.pack import Pack, Row
from flows.enrich.pseudonyms import ADDRESS, TOKEN

TOLERANCE: Final = 0.01
"""Relative error within which a number of up to three digits is another one; of more digits a
tenth of it. Rounded to the digits that are written it may be further off."""

MAX_STRUCK_SHARE: Final = 0.5
"""More claims struck than this, and nothing of the answer is used."""

_NUMBER: Final = re.compile(
    r"(?<![\w.])(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
    r"\s?(%|percent|[kKMGT](?=\b|bit|bps|B|pps)|thousand|million|billion)?(?![\w.]*\d)"
)
_SCALES: Final[Mapping[str, float]] = {
    "": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "thousand": 1e3, "million": 1e6, "billion": 1e9,
}  # fmt: skip
_LENGTH_OF_TIME: Final = re.compile(
    r"\b\d+(?:[ -]?(?:to|-)[ -]?\d+)?[ -]?(?:s|sec|second|minute|min|hour|h|day|week|month)s?\b"
)
_LINK: Final = re.compile(r"https?:|www\.|\]\(|<[a-zA-Z/!]", re.IGNORECASE)
_OCTETS: Final = re.compile("byte|bit")
_MAX_NUMBERS: Final = 60


@dataclass(frozen=True)
class Checked:
    """What of an answer holds.

    Attributes:
        answer: without the claims that don't.
        struck: how many were.
        reasons: why, one for each.
        bears: whether enough is left to be used.
    """

    answer: Answer
    struck: int
    reasons: tuple[str, ...]
    bears: bool


def check(answer: Answer, pack: Pack) -> Checked:
    """Strike what the evidence doesn't bear.

    Args:
        answer: as it came, with pseudonyms.
        pack: what was sent.
    """
    judge = Judge(pack)
    reasons: list[str] = []

    def kept(claims: Sequence[Claim], *, proposal: bool = False) -> list[Claim]:
        found = []
        for claim in claims:
            why = judge.fault(claim, proposal=proposal)
            if isinstance(claim, Detail) and claim.alert not in pack.listed:
                why = why or "about an alert that isn't there"
            if why:
                reasons.append(why)
            else:
                found.append(claim)
        return found

    what = kept([answer.what])
    parts = {
        "root_cause": kept(answer.root_cause),
        "next_checks": kept(answer.next_checks, proposal=True),
        "mitigation": kept(answer.mitigation, proposal=True),
        "details": kept(answer.details),
    }
    total = 1 + sum(len(getattr(answer, name)) for name in parts)
    bears = bool(what) and len(reasons) <= MAX_STRUCK_SHARE * total
    return Checked(answer.model_copy(update=parts), len(reasons), tuple(reasons), bears)


class Judge:
    """Holds claims against the rows of a pack."""

    def __init__(self, pack: Pack) -> None:
        self._rows = {row.name: row for row in pack.sent}
        fields = [*(row.fields for row in pack.sent), *pack.legend]
        self._all = "\n".join(value for each in fields for value in each.values())

    def fault(self, claim: Claim, *, proposal: bool = False) -> str:
        """Why a claim doesn't hold, in our words; empty if it does."""
        texts = [claim.text, *(getattr(claim, name, "") for name in ("risk", "undo"))]
        cited = [self._rows[name] for name in claim.rows if name in self._rows]
        if not cited:
            return "cites no row that is there"
        if len(cited) < len(claim.rows):
            return "cites a row that isn't there"
        for text in texts:
            if _LINK.search(text):
                return "has a link or markup"
            why = self._fault(text, cited, proposal=proposal)
            if why:
                return why
        return ""

    def _fault(self, text: str, cited: Sequence[Row], *, proposal: bool) -> str:
        for found in (*ADDRESS.finditer(text), *TOKEN.finditer(text)):
            if not self._stands(found[0]):
                return "names a host or network that isn't in the data"
        rest = TOKEN.sub(" ", ADDRESS.sub(" ", text))
        # Whole values of cells, such as times, are what the row says; the longest first.
        values = {v for row in cited for v in row.fields.values() if re.search(r"\d.*\D.*\d", v)}
        for value in sorted(values, key=len, reverse=True):
            rest = rest.replace(value, " ")
        if proposal:
            rest = _LENGTH_OF_TIME.sub(" ", rest)
        for number, percent, digits in _numbers_in(rest):
            if not _follows(number, digits, cited, percent=percent):
                return "has a number that the cited rows don't bear"
        return ""

    def _stands(self, name: str) -> bool:
        return re.search(rf"(?<![\w.:-]){re.escape(name)}(?![\w:-]|\.\d)", self._all) is not None


def _numbers_in(text: str) -> Iterator[tuple[float, bool, int]]:
    """Numbers of a text: value, whether a percentage, significant digits that are written."""
    for match in _NUMBER.finditer(text):
        plain = match[1].replace(",", "")
        unit = match[2] or ""
        digits = len(plain.split("e")[0].split("E")[0].replace(".", "").lstrip("0"))
        if "." not in plain:
            digits = len(plain.lstrip("0").rstrip("0")) or 1
        percent = unit in ("%", "percent")
        yield float(plain) * (1.0 if percent else _SCALES[unit]), percent, digits


def _follows(number: float, digits: int, cited: Sequence[Row], *, percent: bool) -> bool:
    single = [(row.name, name, value) for row in cited for name, value in _cells(row)]
    single = single[:_MAX_NUMBERS]
    plain = [value for _, _, value in single]
    in_octets = {row.name for row in cited if _OCTETS.search(row.fields.get("unit", ""))}
    octets = [v for row, name, v in single if _OCTETS.search(name) or row in in_octets]
    known = plain + [100 * v for v in plain if percent and 0 <= v <= 1]
    known += [] if percent else [v * f for v in octets for f in (8.0, 1 / 8)]
    if any(_same(number, value, digits) for value in known):
        return True
    pairs = (
        (a, b)
        for row_a, name_a, a in single
        for row_b, name_b, b in single
        if (row_a == row_b) != (name_a == name_b)
    )
    return any(
        _same(number, value, digits) for a, b in pairs for value in _derived(a, b, percent=percent)
    )


def _derived(a: float, b: float, *, percent: bool) -> Iterator[float]:
    """What may be said of two numbers."""
    if percent:
        if b:
            yield 100 * a / b
            yield 100 * (a - b) / b
        return
    yield a + b
    yield a - b
    if b:
        yield a / b


def _same(said: float, known: float, digits: int) -> bool:
    """Whether a number is another one, rounded to the digits it is written with."""
    tolerance = TOLERANCE if digits <= 3 else TOLERANCE / 10
    if math.isclose(said, known, rel_tol=tolerance, abs_tol=1e-12):
        return True
    if digits < 2 or not known:
        return False
    step = 10.0 ** (math.floor(math.log10(abs(known))) - digits + 1)
    return abs(said - known) <= step / 2


def _cells(row: Row) -> Iterable[tuple[str, float]]:
    """Numbers in the cells of a row, also those within texts."""
    for name, text in row.fields.items():
        for value, percent, _ in _numbers_in(ADDRESS.sub(" ", text)):
            yield name, value / 100 if percent and name != "expected" else value
