"""A file of rules over the settings: what it may hold, and how its mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.errors import UsageError
from flows.settings import load


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rules(text: str) -> Path:
    file = Path("rules.yaml")
    file.write_text(text)
    return file


def test_rules_win_over_file_and_environment() -> None:
    """A parameter that the file doesn't name stays as the settings have it."""
    Path("netspectra.yaml").write_text(
        "detectors: {host_scan: {threshold: 50, severity: high}}\n"
        "networks: {office: [192.0.2.0/24]}\n"
    )
    env = {"NETSPECTRA_DETECTORS__PORT_SCAN__THRESHOLD": "70"}
    file = rules(
        "detectors: {host_scan: {threshold: 20}, port_scan: {threshold: 30}}\n"
        "networks: {lab: [198.51.100.0/24]}\n"
        "alerts: {group_above: 3}\n"
    )
    found = load(env=env, rules=file)
    assert found.detectors.host_scan.threshold == 20
    assert found.detectors.host_scan.severity == "high"
    assert found.detectors.port_scan.threshold == 30
    assert {"office", "lab", "internal"} <= found.networks.keys()
    assert found.alerts.group_above == 3
    assert load(env=env).detectors.port_scan.threshold == 70


def test_nothing_is_left_out_when_the_file_says_so() -> None:
    """``unless: {}`` takes a default away; networks of one's own take its place."""
    usual = load(env={}).detectors.host_scan.unless
    assert usual
    file = rules("detectors: {host_scan: {unless: {}}, port_scan: {unless: {dst_net: [dns]}}}")
    found = load(env={}, rules=file).detectors
    assert found.host_scan.unless == {}
    assert found.port_scan.unless == {"dst_net": ("dns",)}
    assert found.super_spreader.unless == usual


def test_options_win_over_rules() -> None:
    """What the command line names is meant."""
    file = rules("detectors: {host_scan: {threshold: 20}}")
    found = load({"detectors.host_scan.threshold": 5}, {}, file)
    assert found.detectors.host_scan.threshold == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("store: chdb:mine", "store in rules.yaml doesn't belong into a file of rules"),
        ("detectors: {host_scan: {treshold: 3}}", "did you mean detectors.host_scan.threshold"),
        ("detectors: {host_scan: {threshold: many}}", "detectors.host_scan.threshold = many in "),
        ("detectors: [", "rules.yaml, line 1: not valid YAML"),
        ("nothing", "rules.yaml: wanted settings such as"),
        ("detectors: {host_scan: {threshold: '${NO}'}}", "the environment has no NO"),
    ],
)
def test_bad_rules_are_refused(text: str, message: str) -> None:
    """One line names the file, the setting and what is wrong."""
    with pytest.raises(UsageError) as caught:
        load(env={}, rules=rules(text))
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_file_is_refused() -> None:
    """A file that is named must be there; a folder is none."""
    with pytest.raises(UsageError, match=r"there is no file none\.yaml"):
        load(env={}, rules=Path("none.yaml"))
    with pytest.raises(UsageError, match="can't read"):
        load(env={}, rules=Path())
