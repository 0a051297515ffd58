"""Alerts are explained by written-down templates, each fit for its detector."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.resources import files

import pytest

from flows.detect.alert import Alert, Severity, Status
from flows.detect.explanation import Explanation
from flows.enrich.templates import DETECTORS, GENERAL, Templates
from flows.settings.detection import Detectors, RuleBase
from flows.settings.model import INTERNAL
from tests.support.alerts import alert

TEMPLATES = Templates({"internal": INTERNAL})
TEXTS = ("assessment", "root_cause", "next_checks", "mitigation")

KINDS = {
    "host_scan": {"src_addr": "10.0.2.15", "dst_port": "445"},
    "port_scan": {"src_addr": "198.51.100.7", "dst_addr": "10.0.0.5"},
    "super_spreader": {"src_addr": "10.0.2.15"},
    "fan_in": {"dst_addr": "10.0.0.5"},
    "syn_flood": {"dst_addr": "10.0.0.5", "dst_port": "443"},
    "amplification": {"dst_addr": "10.0.0.5"},
    "volume": {"src_addr": "10.0.0.5"},
    "data_loss": {"probe": "edge", "fault": "loss"},
    "mine": {"dst_port": "53"},
}


def of(detector: str, **changes: object) -> Alert:
    return alert(detector=detector, rule=detector, entity=dict(KINDS[detector]), **changes)


def explain(detector: str, **changes: object) -> Explanation:
    return TEMPLATES.explain(of(detector, **changes))


def test_every_detector_has_a_template() -> None:
    """There is a template for each detector of the settings, and one for all others."""
    rules = {
        name
        for name, field in Detectors.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, RuleBase)
    }
    assert rules == set(DETECTORS)
    shipped = {
        file.name
        for file in (files("flows.enrich") / "templates").iterdir()
        if file.name.endswith(".j2")
    }
    assert shipped == {f"{name}.j2" for name in (*DETECTORS, GENERAL)}


@pytest.mark.parametrize("detector", KINDS)
def test_every_alert_is_explained_whole(detector: str) -> None:
    """All four texts are there, of measured values, and each action has its risk and its undo."""
    found = explain(detector)
    assert found.model == "template"
    assert found.prompt_version.startswith(detector if detector in DETECTORS else GENERAL)
    assert all(getattr(found, name) for name in TEXTS)
    assert "214 hosts" in found.assessment
    assert "100 hosts" in found.assessment
    for name in TEXTS[1:]:
        lines = getattr(found, name).splitlines()
        assert len(lines) >= 2
        assert all(each.startswith("- ") for each in lines)
    for action in found.mitigation.splitlines():
        assert re.search(r"Risk: .+ Undo: .+", action), action


@pytest.mark.parametrize("detector", KINDS)
@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("members", [0, 214])
def test_texts_are_tidy(detector: str, status: Status, members: int) -> None:
    """Whatever is missing, no text has leftovers of a template, double spaces, or ``None``."""
    members_of = ("src_addr=10.0.2.15 dst_port=445",) if members else ()
    told = of(detector, status=status, member_count=members, members=members_of, evidence=())
    if members:
        told = replace(told, entity={}, src_addr="", dst_addr="", dst_port=0)
    for name in TEXTS:
        text = getattr(TEMPLATES.explain(told), name)
        assert not re.search(r"\{|\}|None|  | [,.;:]|\(\)", text), text


def test_how_long_a_rule_held_is_not_how_long_traffic_lasted() -> None:
    """What was counted early in a long window keeps the rule over its threshold; it is said so."""
    early = "; the traffic may have ended sooner, for it counts until its 10 min window ends."
    assert f"The rule has held for 10 s so far{early}" in explain("host_scan").assessment
    over = explain("host_scan", status=Status.resolved).assessment
    assert f"The rule held for 10 s{early} The alert is over." in over
    assert "has held for 10 s so far. " in explain("syn_flood", horizon_s=2).assessment


def test_inside_and_outside_are_told_apart() -> None:
    """A scan from inside is serious and ends in quarantine, one from outside at the edge."""
    inside = explain("host_scan")
    outside = TEMPLATES.explain(
        alert(detector="host_scan", entity={"src_addr": "198.51.100.7", "dst_port": "445"})
    )
    assert "(inside)" in inside.assessment
    assert "SMB" in inside.assessment
    assert "quarantine" in inside.mitigation
    assert "(outside)" in outside.assessment
    assert "at the edge" in outside.mitigation
    assert "quarantine" not in outside.mitigation


def test_group_is_explained_as_one() -> None:
    """A group names how many and the largest, and is inside when one of those is."""
    found = explain(
        "host_scan",
        entity_text="214 sources, dst_port=445",
        src_addr="",
        member_count=214,
        members=("src_addr=10.0.2.15 dst_port=445", "src_addr=10.0.2.16 dst_port=445"),
    )
    assert "214 sources" in found.assessment
    assert "src_addr=10.0.2.16" in found.assessment
    assert "quarantine" in found.mitigation


def test_silence_is_not_loss() -> None:
    """A probe that fell silent is explained otherwise than one whose packets are missing."""
    loss = explain("data_loss", probe="edge", unit="share", value=0.02, lower=0.02, upper=0.02)
    silent = TEMPLATES.explain(
        alert(
            detector="data_loss",
            entity={"probe": "edge", "fault": "silence"},
            probe="edge",
            unit="s",
            metric="silence",
            value=75.0,
            lower=75.0,
            upper=75.0,
            threshold=60.0,
        )
    )
    assert "2 % (exact)" in loss.assessment
    assert "ring_full" in loss.root_cause
    assert "probe edge for 75 s" in silent.assessment
    assert "Start the probe again" in silent.mitigation


def test_hostile_names_stay_one_line() -> None:
    """Control characters and line ends in names add no line, and long ones are cut."""
    evil = "\x1b[2J\n- Run this. Risk: none. Undo: none.\r\n" + "x" * 5000
    found = explain("data_loss", probe=evil, title=evil, entity_text=evil)
    usual = explain("data_loss", probe="edge")
    for name in TEXTS:
        text = getattr(found, name)
        assert "\x1b" not in text
        assert len(text.splitlines()) == len(getattr(usual, name).splitlines())
        assert len(text) < 3000


def test_jinja_in_names_is_text() -> None:
    """What looks like a template in a name is not run."""
    found = explain("data_loss", probe="{{ 7 * 7 }}{% raw %}")
    assert "{{ 7 * 7 }}{% raw %}" in found.assessment


@pytest.mark.parametrize("severity", Severity)
def test_severity_is_not_touched(severity: Severity) -> None:
    """An explanation has no severity of its own to give."""
    told = of("host_scan", severity=severity)
    TEMPLATES.explain(told)
    assert told.severity is severity
