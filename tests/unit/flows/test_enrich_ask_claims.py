"""What the model says is cut into claims as it comes."""

from __future__ import annotations

import pytest

from flows.enrich.answer import Claim
from flows.enrich.ask.claims import MAX_LINE_CHARS, Cutter, Said, fault
from flows.enrich.pack import Pack, Row

TEXT = (
    "host-A sent 9 bytes. [R2, R3]\n- It is new [R4][R5]. It goes on, to port 443 [R1]\n"
    "**Why**:\nNobody knows.\n? Is it wanted?\n\n1. Last one [R12 and R3]"
)
CUT = [
    ("host-A sent 9 bytes.", ["R2", "R3"], False),
    ("It is new.", ["R4", "R5"], False),
    ("It goes on, to port 443", ["R1"], False),
    ("Nobody knows.", [], False),
    ("Is it wanted?", [], True),
    ("Last one", ["R12", "R3"], False),
]


def cut(*words: str) -> list[tuple[str, list[str], bool]]:
    cutter = Cutter()
    found = [said for each in words for said in cutter.feed(each)]
    found += cutter.rest()
    return [(said.claim.text, list(said.claim.rows), said.remark) for said in found]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20, 1000])
def test_however_it_is_cut_up_the_claims_are_the_same(size: int) -> None:
    """Each claim ends with its rows or its line; headings and markup are no claims."""
    assert cut(*(TEXT[at : at + size] for at in range(0, len(TEXT), size))) == CUT


def test_claims_come_as_soon_as_they_are_whole() -> None:
    """A claim is there when the next has begun, not only at the end."""
    cutter = Cutter()
    assert list(cutter.feed("One. [R1]")) == []
    (said,) = cutter.feed(" Two")
    assert said.claim.text == "One."


def test_a_line_without_end_is_not_waited_for() -> None:
    """What goes on and on is cut, and each piece is short."""
    found = cut("x" * (MAX_LINE_CHARS + 1))
    assert [len(text) for text, _, _ in found] == [600]


PACK = Pack(
    (), {}, (Row("R1", {"host": "host-A", "bytes": "9000"}),), ({"question": "why port 7?"},)
)


@pytest.mark.parametrize(
    ("text", "rows", "remark", "why"),
    [
        ("host-A sent 9,000 bytes", ["R1"], False, ""),
        ("host-A sent 9 kB", ["R1"], False, ""),
        ("host-A sent 9,001,000 bytes", ["R1"], False, "a number"),
        ("host-B sent 9,000 bytes", ["R1"], False, "a host"),
        ("198.51.100.1 got 9,000 bytes", ["R1"], False, "a host"),
        ("host-A sent 9,000 bytes", ["R2"], False, "no row"),
        ("host-A sent 9,000 bytes", ["R1", "R2"], False, "isn't there"),
        ("host-A is loud", [], False, "no row"),
        ("see http://evil.example", ["R1"], False, "link"),
        ("Which of host-A's 9,000 bytes?", [], True, ""),
        ("Ask host-B", [], True, "a host"),
        ("About 77 are missing", [], True, "a number"),
    ],
)
def test_claims_are_held_against_the_rows(
    text: str, rows: list[str], remark: bool, why: str
) -> None:
    """Numbers, hosts and rows have to be there; a remark needs no rows, but may invent nothing."""
    found = fault(Said(Claim(text=text, rows=rows), remark), PACK)
    assert why in found
    assert bool(found) == bool(why)
