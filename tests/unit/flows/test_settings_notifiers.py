"""Settings of notifiers: read, checked, and their secrets never shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.errors import UsageError
from flows.settings import dump, load, load_with_origins
from flows.settings.notifiers import Email, File, Syslog, Webhook

EXAMPLE = """
notifiers:
  - {name: ops, type: webhook, url: "https://hooks.example.net/T0KEN", secret: K3Y,
     headers: {Authorization: B3ARER}, events: "fired,resolved", min_severity: high}
  - {name: soc, type: email, host: mail.example.net, from: ns@example.net,
     to: "a@example.net,b@example.net", username: ns, password: PASSW0RD}
  - {name: siem, type: syslog, address: "tls://siem.example.net", cef: true}
  - {name: log, type: file, path: alerts.jsonl, rotate_bytes: 10M}
  - {name: bus, type: kafka}
rules:
  - {name: many, task: fan_out, metric: distinct, threshold: 500, notify: [ops, log]}
detectors: {host_scan: {notify: soc}}
"""
SECRETS = ("T0KEN", "K3Y", "B3ARER", "PASSW0RD")


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str) -> None:
    Path("netspectra.yaml").write_text(text)


def complaint(notifiers: Any, **more: Any) -> str:
    write(yaml.safe_dump({"notifiers": notifiers, **more}))
    with pytest.raises(UsageError) as caught:
        load(env={})
    return str(caught.value)


def hook(**changes: Any) -> dict[str, Any]:
    values = {"name": "ops", "type": "webhook", "url": "https://example.net/T0KEN"}
    return {name: value for name, value in (values | changes).items() if value is not None}


def test_each_kind_is_read() -> None:
    """With its defaults."""
    write(EXAMPLE)
    settings = load(env={})
    ops, soc, siem, log, bus = settings.notifiers
    assert isinstance(ops, Webhook)
    assert ops.url.get_secret_value().endswith("T0KEN")
    assert (ops.min_severity, ops.events, ops.format) == (
        "high",
        ("fired", "resolved"),
        "netspectra",
    )
    assert isinstance(soc, Email)
    assert soc.to == ("a@example.net", "b@example.net")
    assert (soc.security, soc.min_severity) == ("starttls", "low")
    assert isinstance(siem, Syslog)
    assert isinstance(log, File)
    assert log.rotate_bytes == 10_000_000
    assert bus.type == "kafka"
    assert settings.rules[0].notify == ("ops", "log")


def test_the_environment_has_them_too() -> None:
    """As YAML or JSON in one variable."""
    env = {"NETSPECTRA_NOTIFIERS": "[{name: log, type: file, path: a}]"}
    (log,) = load(env=env).notifiers
    assert log.name == "log"
    with pytest.raises(UsageError, match="NETSPECTRA_NOTIFIERS: wanted a list of notifiers"):
        load(env={"NETSPECTRA_NOTIFIERS": "[{"})


def test_secrets_are_not_shown() -> None:
    """Neither by `config show` nor by the settings' own text; the rest is, one a line."""
    write(EXAMPLE)
    settings, origins = load_with_origins(env={})
    shown = dump(settings, origin=True, origins=origins)
    for secret in SECRETS:
        assert secret not in shown + repr(settings)
    assert "\n  - {name: siem, " in shown
    assert "notifiers:  # file netspectra.yaml" in shown


@pytest.mark.parametrize("field", ["url", "secret", "password", "headers"])
def test_secrets_that_are_wrong_are_not_shown(field: str) -> None:
    """The complaint names the field, not what was written."""
    wrong: dict[str, Any] = {"url": "ftp://S3CRET", "secret": 53423, "password": 53423}
    wrong["headers"] = {"Authorization": "S3CRET\n"}
    base = hook() if field != "password" else {"name": "a", "type": "email", "host": "h"}
    text = complaint([base | {field: wrong[field]}])
    assert f"notifiers[0].{field}" in text
    assert "S3CRET" not in text
    assert "53423" not in text


def test_secrets_come_from_files(tmp_path: Path) -> None:
    """`secret_file` names a file with the secret; so do the other fields that hold one."""
    (tmp_path / "key").write_text("K3Y\n")
    (tmp_path / "url").write_text("https://example.net/T0KEN\n")
    write(yaml.safe_dump({"notifiers": [hook(url=None, url_file="url", secret_file="key")]}))
    (ops,) = load(env={}).notifiers
    assert isinstance(ops, Webhook)
    assert ops.secret is not None
    assert ops.secret.get_secret_value() == "K3Y"
    assert ops.url.get_secret_value() == "https://example.net/T0KEN"
    assert "secret_file that can be read, and none can't: No such file" in complaint(
        [hook(secret_file="none")]
    )


MAIL = {"name": "soc", "type": "email", "host": "h", "from": "a@b.c", "to": "d@e.f"}
LOG = {"name": "siem", "type": "syslog"}


@pytest.mark.parametrize(
    ("notifier", "expected"),
    [
        ({"name": "a"}, "notifiers[0] in netspectra.yaml: wanted a type, one of webhook, email"),
        ({"name": "a", "type": "pigeon"}, "wanted a type, one of webhook, email, syslog"),
        (5, "notifiers[0] = 5 in netspectra.yaml: wanted a notifier with name, type"),
        (hook(name=None), "notifiers[0].name in netspectra.yaml is missing"),
        (hook(colour="red"), "notifiers[0].colour in netspectra.yaml is not a field of a notifier"),
        (hook(url="https://"), "wanted an address such as https://host/path"),
        (hook(url="https://u:p@host/"), "a login in headers instead of in it"),
        (hook(timeout="0s"), "notifiers[0].timeout = 0s in netspectra.yaml: wanted more than 0s"),
        (hook(events="resolved"), "wanted fired among them"),
        (hook(events="fired,exploded"), "wanted fired, updated, escalated, explained or resolved"),
        (hook(headers={"X-NetSpectra-Delivery": "1"}), "headers that aren't ours"),
        (hook(headers={"a b": "1"}), "headers that aren't ours"),
        (MAIL | {"to": ""}, "notifiers[0].to"),
        (MAIL | {"to": "d@e.f\nBcc: x@y.z"}, "wanted plain addresses"),
        (MAIL | {"from": "Me <a@b.c>"}, "notifiers[0].from = Me <a@b.c>"),
        (MAIL | {"username": "u"}, "wanted both username and password, or neither"),
        (MAIL | {"subject_prefix": "a\nb"}, "wanted one line of text"),
        (LOG | {"address": "ftp://x"}, "wanted udp://host:port"),
        (LOG | {"facility": "local9"}, "wanted one of kern, user"),
    ],
)
def test_what_cannot_be_used_is_named(notifier: Any, expected: str) -> None:
    """One line, with the place and what is wanted."""
    text = complaint([notifier])
    assert expected in text
    assert len(text.splitlines()) == 1


def test_names_are_unique() -> None:
    """Rules could not tell them apart."""
    assert "a name of its own for each notifier, and ops is taken" in complaint([hook(), hook()])


def test_rules_name_notifiers_that_there_are() -> None:
    """In rules and in detectors, a name that doesn't exist is refused with those that do."""
    rule = {"name": "r", "task": "fan_out", "metric": "distinct", "threshold": 1, "notify": "obs"}
    text = complaint([hook()], rules=[rule], detectors={"port_scan": {"notify": "nobody"}})
    assert text.splitlines() == [
        "detectors.port_scan.notify = nobody in netspectra.yaml: wanted names of notifiers (ops)",
        "rules[0].notify = obs in netspectra.yaml: wanted names of notifiers (ops)",
    ]
