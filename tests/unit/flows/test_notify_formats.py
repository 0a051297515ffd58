"""Formats of alerts, and what becomes of text that was written to deceive."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from email import message_from_bytes, policy
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.detect.alert import Alert, Severity, Status
from flows.notify.formats import alertmanager, mail, netspectra, slack, syslog
from flows.notify.text import cut_bytes, iso, line, lines, presentable
from tests.support.alerts import SECOND_NS, T0_NS, alert

HOSTILE = (
    "<script>alert(1)</script><!channel> <@U123> <https://evil.example|bank> & \"'`|=]\\\r\n"
    "Bcc: all@evil.example\r\n\r\n<6>1 - forged\x00\x1b[2J\u202egnp.exe\u2028CEF:0|x|"
    "{{ 7*7 }} %n" + "A" * 10_000
)


def hostile(**more: Any) -> Alert:
    """An alert in which every text comes from an attacker."""
    texts = {
        field.name: HOSTILE
        for field in fields(Alert)
        if field.type == "str" and field.name != "alert_id"
    }
    return replace(
        alert(),
        **texts,
        entity={HOSTILE: HOSTILE},
        evidence=({HOSTILE: HOSTILE},) * 100,
        members=(HOSTILE,) * 100,
        member_count=100,
        **more,
    )


def over(**more: Any) -> Alert:
    return alert(
        revision=4,
        event="resolved",
        status=Status.resolved,
        resolved_at_ns=T0_NS + 700 * SECOND_NS,
        **more,
    )


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_a_line_is_one_line_of_what_can_be_seen(text: str) -> None:
    """No controls, no line breaks, no marks that turn the direction, no more than the limit."""
    shown = line(text, 20)
    assert len(shown) <= 20
    assert shown == "" or shown.isprintable()
    assert len(lines(text, 30)) <= 30
    assert all(each == "" or each.isprintable() for each in lines(text, 30).split("\n"))


def test_ordinary_text_stays() -> None:
    """Letters of all scripts, signs and inner blanks are kept."""
    text = "Größe 5 µs, Ελλάδα, 日本, a=b|c <d>"
    assert line(text) == text
    assert lines("a\r\nb\x85c") == "a\nb\nc"


@given(st.text(), st.integers(0, 40))
def test_text_is_cut_between_characters(text: str, limit: int) -> None:
    """Bytes are within the limit and whole characters of the beginning."""
    cut = cut_bytes(text, limit)
    assert len(cut) <= limit
    assert text.startswith(cut.decode())


def test_times_are_written_to_the_microsecond() -> None:
    """In UTC, also before 1970; none for 0."""
    assert iso(1_700_000_000_123_456_789) == "2023-11-14T22:13:20.123456Z"
    assert iso(-1) == "1969-12-31T23:59:59.999999Z"
    assert iso(0) == ""


def test_our_json_has_every_field() -> None:
    """Version, delivery id, and all that an alert has, but for whom it is meant."""
    found = netspectra.render(presentable(over()))
    told = {re.sub("_ns$", "", field.name) for field in fields(Alert)}
    assert found.keys() == (told - {"notify", "muted_by"}) | {"version", "delivery_id"}
    assert (found["version"], found["delivery_id"]) == (1, over().delivery_id)
    assert (found["status"], found["severity"]) == ("resolved", "medium")
    assert found["resolved_at"] == "2023-11-14T22:25:00.000000Z"
    assert netspectra.render(alert())["resolved_at"] is None


def test_our_json_of_hostile_text_is_plain_and_short() -> None:
    """Nothing in it moves a terminal, and all of it is bounded."""
    text = json.dumps(netspectra.render(presentable(hostile())), ensure_ascii=False)
    assert text.isprintable()
    assert len(text) < 40_000


def test_alertmanager_is_told_what_it_goes_by() -> None:
    """Labels name the alert, the end is far ahead while it lasts, and the real one after it."""
    (found,) = alertmanager.render(presentable(alert()), now_ns=T0_NS)
    assert found["labels"] == {
        "alertname": "host_scan",
        "alert_id": alert().alert_id,
        "severity": "medium",
        "tenant": "default",
        "detector": "host_scan",
        "attack_technique": "T1046",
        "src_addr": "10.0.2.15",
        "dst_port": "23",
    }
    assert found["annotations"]["summary"] == alert().title
    assert found["startsAt"] == "2023-11-14T22:13:20.000000Z"
    assert found["endsAt"] == "2023-11-21T22:13:20.000000Z"
    ended = alertmanager.render(presentable(over()), now_ns=T0_NS)
    assert ended[0]["labels"] == found["labels"]
    assert {each["endsAt"] for each in ended} == {"2023-11-14T22:25:00.000000Z"}


def test_a_rise_ends_what_alertmanager_knew() -> None:
    """Severity is a label, so the alert under its lower severities is over."""
    risen = alert(revision=2, event="updated", severity=Severity.high)
    found = alertmanager.render(presentable(risen), now_ns=T0_NS)
    ends = {each["labels"]["severity"]: each["endsAt"] for each in found}
    assert list(ends) == ["high", "info", "low", "medium"]
    assert ends["medium"] == ends["low"] == iso(T0_NS) < ends["high"]


def test_labels_of_a_group_stay() -> None:
    """What members share changes as a group grows, so it isn't among the labels."""
    group = alert(member_count=30)
    grown = replace(group, revision=2, event="updated", entity={}, member_count=300)
    first, second = alertmanager.render(group)[0], alertmanager.render(grown)[0]
    assert first["labels"] == second["labels"]


def test_alertmanager_of_hostile_text() -> None:
    """Values stay values, in one line but for the SQL and the summary."""
    for each in alertmanager.render(presentable(hostile())):
        assert all(text.isprintable() and len(text) <= 300 for text in each["labels"].values())
        assert all(text.replace("\n", "").isprintable() for text in each["annotations"].values())


def texts_of(tree: Any) -> list[tuple[str, bool]]:
    """Texts of Slack's text objects, with whether they are taken as they are."""
    if isinstance(tree, dict):
        if tree.get("type") in ("mrkdwn", "plain_text"):
            return [(tree["text"], tree["type"] == "plain_text" or tree["verbatim"])]
        return [pair for value in tree.values() for pair in texts_of(value)]
    return [pair for value in tree for pair in texts_of(value)] if isinstance(tree, list) else []


def test_slack_gets_no_links_and_mentions() -> None:
    """Everything is escaped and verbatim, within the lengths that Slack takes."""
    found = slack.render(presentable(hostile()))
    shown = texts_of(found["attachments"])
    assert len(shown) > 5
    for text, verbatim in shown:
        assert verbatim
        assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", text)
        assert 0 < len(text) <= 2000
    assert len(shown[0][0]) <= 150
    assert not re.search(r"[<>@]|://", found["text"])
    assert (found["parse"], found["link_names"], found["mrkdwn"]) == ("none", False, False)


def test_slack_shows_state_and_measurement() -> None:
    """A person sees what, how bad, how much."""
    text = "\n".join(text for text, _ in texts_of(slack.render(presentable(alert()))))
    assert "MEDIUM: 10.0.2.15 scans port 23 of many hosts" in text
    assert "Measured: 214 hosts (206 to 222)" in text
    assert "RESOLVED" in slack.render(presentable(over()))["text"]


def rendered(which: Alert) -> Any:
    raw = mail.render(presentable(which), "ns@example.net", "soc@example.net", "[N]").as_bytes()
    return message_from_bytes(raw, policy=policy.default)


def test_mails_of_an_alert_make_a_thread() -> None:
    """Each revision has an id of its own, the same at every try, and names the thread."""
    first, again, last = rendered(alert()), rendered(alert()), rendered(over())
    thread = f"<{alert().alert_id}@example.net>"
    assert first["Message-ID"] == again["Message-ID"] != last["Message-ID"]
    assert first["References"] == last["References"] == first["In-Reply-To"] == thread
    assert first["List-Id"] == "NetSpectra alerts <netspectra-alerts.example.net>"
    assert first["Subject"] == "[N] MEDIUM: 10.0.2.15 scans port 23 of many hosts"
    assert last["Subject"].startswith("[N] RESOLVED: ")
    plain = first.get_body(("plain",)).get_content()
    assert "Measured     214 hosts (206 to 222)" in plain
    assert "SELECT 214 AS value" in plain


def test_mail_of_hostile_text_has_no_header_and_no_markup_of_it() -> None:
    """No recipient is added, no element, no address to click on in an attribute."""
    found = rendered(hostile())
    assert found["To"] == "soc@example.net"
    assert found["Bcc"] is None
    assert "\n" not in found["Subject"]
    tags: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            tags.append(tag)
            assert not {"href", "src", "onload"} & {name for name, _ in attrs}

    html = found.get_body(("html",)).get_content()
    Tags().feed(html)
    assert {"html", "table"} <= set(tags)
    assert not {"script", "a", "img", "!channel"} & set(tags)
    assert "{{ 7*7 }}" in html
    assert len(html) < 80_000


MESSAGE = re.compile(
    r"<(\d{1,3})>1 (\S+) (\S{1,255}) (\S{1,48}) (\S{1,128}) (\S{1,32}) "
    r'\[(\S+?)((?: [a-z]+="(?:[^"\\\]]|\\["\\\]])*")*)\] (.*)'
)
"""RFC 5424, section 6."""


def test_a_syslog_message_is_as_the_standard_says() -> None:
    """Priority, time, program, structured data, then the text after the mark of UTF-8."""
    found = MESSAGE.fullmatch(syslog.render(presentable(alert()), 16).decode())
    assert found
    priority, when, _, program, _, event, name, data, text = found.groups()
    assert (int(priority), program, event) == (16 * 8 + 4, "netspectra", "fired")
    assert when == "2023-11-14T22:13:30.000000Z"
    assert name == "netspectra@32473"
    assert f' alert="{alert().alert_id}"' in data
    assert ' entity="src_addr=10.0.2.15 dst_port=23"' in data
    assert text.startswith("\ufeffMEDIUM: 10.0.2.15 scans")
    ended = syslog.render(presentable(over()), 1).decode()
    assert ended.startswith(f"<{8 + 5}>1 2023-11-14T22:25:00.000000Z")


@pytest.mark.parametrize("as_cef", [False, True])
@pytest.mark.parametrize("limit", [2048, 8192])
def test_a_syslog_message_of_hostile_text_is_one_message(limit: int, as_cef: bool) -> None:
    """It has the form of the standard, in one line, whole characters within the limit."""
    raw = syslog.render(presentable(hostile()), 16, as_cef=as_cef, max_bytes=limit)
    assert len(raw) <= limit
    text = raw.decode()
    assert MESSAGE.fullmatch(text)
    assert text.replace("\ufeff", "").isprintable()


def cef_parts(text: str) -> tuple[list[str], dict[str, str]]:
    """Header and extensions of a CEF line, unescaped, read as its receivers do."""
    parts = re.split(r"(?<!\\)(?:\\\\)*\|", text, maxsplit=7)
    found = re.findall(r"(\w+)=((?:[^=\\]|\\.)*?)(?= \w+=|$)", parts[7])
    return parts[:7], {key: re.sub(r"\\(.)", r"\1", value) for key, value in found}


def test_cef_names_what_receivers_know() -> None:
    """Header of seven parts, and extensions out of the dictionary."""
    header, extensions = cef_parts(syslog.cef(presentable(over())))
    assert header[:3] == ["CEF:0", "NetSpectra", "NetSpectra"]
    assert header[4:] == ["host_scan", f"RESOLVED: {alert().title}", "5"]
    assert extensions["src"] == "10.0.2.15"
    assert extensions["dpt"] == "23"
    assert extensions["start"] == str(T0_NS // 10**6)
    assert extensions["cs1"] == "src_addr=10.0.2.15 dst_port=23"
    assert extensions["externalId"] == over().delivery_id
    six = cef_parts(syslog.cef(presentable(alert(entity={"src_addr": "2001:db8::1"}))))[1]
    assert (six["c6a2"], six["c6a2Label"]) == ("2001:db8::1", "Source IPv6 Address")
    assert "src" not in six


def test_cef_of_hostile_text_has_no_fields_of_it() -> None:
    """Separators in texts are escaped, so no header part and no extension is added."""
    header, extensions = cef_parts(syslog.cef(presentable(replace(alert(), title="a|b\\|c=d x=y"))))
    assert len(header) == 7
    assert "x" not in extensions
    text = syslog.cef(presentable(hostile()))
    assert text.isprintable()
    _, extensions = cef_parts(text)
    assert "src" not in extensions
