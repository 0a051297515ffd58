"""Claims are held against the rows that they cite."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flows.enrich.answer import Answer, Unreadable, read, schema
from flows.enrich.check import check
from flows.enrich.pack import pack
from flows.enrich.pseudonyms import Pseudonyms
from flows.enrich.situation import Situation
from flows.settings.model import INTERNAL
from tests.support.alerts import alert
from tests.support.llm import claim

RAISED = alert(
    expected="1.2 to 3.4 Mbit/s",
    evidence=({"hosts": "214", "answered": "3", "bytes": "12345678", "spoofed_share": "97%"},),
)
CONTEXT = [
    {"kind": "host, now", "alert": "A1", "packets_sent": 40_000, "seconds": 10},
    {"kind": "host, hour before", "alert": "A1", "packets_sent": 1000, "seconds": 3600},
    {"kind": "flow", "src_addr": "10.0.2.15", "dst_addr": "198.51.100.7", "bytes": 9000},
]
"""R1 is the alert, R2 its measurement, R3 to R5 these."""

PSEUDONYMS = Pseudonyms({"internal": INTERNAL})
PACK = pack(Situation((RAISED,)), CONTEXT, PSEUDONYMS)


def answer(**changes: Any) -> dict[str, Any]:
    whole = {
        "what": claim("A scan.", "R1"),
        "seriousness": "medium",
        "confidence": 0.5,
        "root_cause": [claim("A tool.", "R1")],
        "next_checks": [claim("Look.", "R1")],
        "mitigation": [claim("Wait.", "R1") | {"risk": "None.", "undo": "Nothing."}],
        "details": [],
    }
    return whole | changes


def reasons(text: str, *rows: str, part: str = "root_cause") -> tuple[str, ...]:
    said = claim(text, *rows)
    if part == "mitigation":
        said |= {"risk": "r", "undo": "u"}
    return check(read(json.dumps(answer(**{part: [said]}))), PACK).reasons


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("It tried 214 hosts.", ["R1"]),
        ("Between 206.5 and 221.5 hosts, threshold 100.", ["R1"]),
        ("About 210 hosts.", ["R1"]),
        ("That is 2.14 times the threshold.", ["R1"]),
        ("It is 114 over the threshold.", ["R1"]),
        ("Only 3 of 214 answered, 1.4 %.", ["R2"]),
        ("At port 23 by host-A.", ["R1"]),
        ("12.3 MB, or 98.8 Mbit, in 12,345,678 bytes.", ["R2"]),
        ("97% have faked sources.", ["R2"]),
        ("40 thousand packets, 40 times the 1,000 of the hour before.", ["R3", "R4"]),
        ("4,000 packets a second.", ["R3"]),
        ("198.51.100.7 got 9 kB of it.", ["R5"]),
        ("Technique T1046, over IPv4 and TCP.", ["R1"]),
        ("Usual is 1.2 to 3.4 Mbit/s.", ["R1"]),
        ("95 % sure.", ["R1"]),
        ("No number at all.", ["R1", "R2"]),
    ],
)
def test_what_the_rows_bear_stays(text: str, rows: list[str]) -> None:
    """Numbers that stand in cited rows, rounded, scaled or derived, and hosts of the data."""
    assert reasons(text, *rows) == ()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("It tried 215,000 hosts.", ["R1"]),
        ("About 300 hosts.", ["R1"]),
        ("It tried 214 hosts.", ["R3"]),
        ("It is 7.7 times the threshold.", ["R1"]),
        ("It tried 1,712 hosts.", ["R1"]),
        ("It sent 12,445,678 bytes.", ["R2"]),
        ("Only 30 % answered.", ["R2"]),
        ("At port 8080.", ["R1"]),
        ("CVE-2021-44228 by 31337 packets.", ["R1"]),
        ("It tried 214 hosts.", []),
        ("It tried 214 hosts.", ["R99"]),
        ("It tried 214 hosts.", ["R1", "R99"]),
        ("It tried 214 hosts.", ["R1; DROP TABLE"]),
        ("host-B is behind it.", ["R1"]),
        ("203.0.113.66 is behind it.", ["R1"]),
        ("10.0.2.15 is behind it.", ["R1"]),
        ("2001:db8::66 is behind it.", ["R1"]),
        ("See https://evil.example/214.", ["R1"]),
        ("See www.evil.example.", ["R1"]),
        ("![x](data:214)", ["R1"]),
        ("<img src=x onerror=alert(214)>", ["R1"]),
        ("<script>fetch('//x')</script>", ["R1"]),
    ],
)
def test_what_the_rows_do_not_bear_is_struck(text: str, rows: list[str]) -> None:
    """Invented numbers, rows, hosts, and links or markup."""
    assert len(reasons(text, *rows)) == 1


def test_a_proposal_may_say_for_how_long() -> None:
    """Lengths of time are nobody's measurement; other numbers of a proposal are."""
    assert reasons("Watch it for 15 minutes.", "R1", part="next_checks") == ()
    assert reasons("Block it for 1 hour.", "R1", part="mitigation") == ()
    assert len(reasons("It lasted 17 minutes.", "R1")) == 1
    assert len(reasons("Block port 8080.", "R1", part="mitigation")) == 1


def test_risk_and_undo_are_checked_too() -> None:
    """An action is struck for what its risk says."""
    said = claim("Wait.", "R1") | {"risk": "99999 users.", "undo": "u"}
    found = check(read(json.dumps(answer(mitigation=[said]))), PACK)
    assert found.struck == 1
    assert found.answer.mitigation == []
    assert found.bears


def test_details_are_of_alerts_that_are_there() -> None:
    """What is said of another alert is struck."""
    good, bad = (claim("So.", "R1") | {"alert": name} for name in ("A1", "A7"))
    found = check(read(json.dumps(answer(details=[good, bad]))), PACK)
    assert [each.alert for each in found.answer.details] == ["A1"]
    assert found.reasons == ("about an alert that isn't there",)


def test_an_answer_needs_its_main_claim_and_most_others() -> None:
    """Without what it is, or with more than half struck, nothing of it is used."""
    lost = check(read(json.dumps(answer(what=claim("x", "R9")))), PACK)
    assert not lost.bears
    bad = [claim("x", "R9")] * 4
    assert not check(read(json.dumps(answer(root_cause=bad))), PACK).bears
    assert check(read(json.dumps(answer(root_cause=bad[:2]))), PACK).bears


@pytest.mark.parametrize(
    "wrap",
    ["{}", "```json\n{}\n```", "```\n{}\n```", "Here it is:\n{}\nGood luck!", "\ufeff {}\n\n"],
)
def test_answers_with_words_around_them_are_read(wrap: str) -> None:
    """A fence or a sentence around the JSON is overlooked."""
    assert isinstance(read(wrap.replace("{}", json.dumps(answer()))), Answer)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        "{" * 5000,
        "[" * 100_000,
        json.dumps(answer(severity="critical")),
        json.dumps(answer(actions=["rm -rf /"])),
        json.dumps(answer(seriousness="apocalyptic")),
        json.dumps(answer(confidence=7)),
        json.dumps(answer(what="A scan.")),
        json.dumps(answer(what=claim("", "R1"))),
        json.dumps(answer()) + "}",
    ],
)
def test_other_shapes_are_refused(text: str) -> None:
    """What isn't of the form is refused in a few words that don't repeat it."""
    with pytest.raises(Unreadable) as caught:
        read(text)
    assert "rm -rf" not in str(caught.value)
    assert "apocalyptic" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_long_and_hidden_texts_are_cut() -> None:
    """Control characters go and lengths are limited before anybody sees them."""
    found = read(json.dumps(answer(what=claim("a\x1b[31m\u202eb\n" + "c" * 5000, "R1"))))
    assert found.what.text.startswith("a [31m b c")
    assert len(found.what.text) <= 600


def test_schema_is_closed() -> None:
    """Every object of the schema has all fields required and no others, and no references."""
    text = json.dumps(schema())
    assert "$ref" not in text
    assert text.count('"additionalProperties": false') == text.count('"type": "object"')
    assert "severity" not in schema()["properties"]
