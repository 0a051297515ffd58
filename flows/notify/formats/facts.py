"""What people are told of an alert, whatever the medium."""

from __future__ import annotations

from flows.detect.alert import Alert, Severity, Status
from flows.notify.text import iso, number

COLOURS = {
    Severity.info: "#6b7280",
    Severity.low: "#2563eb",
    Severity.medium: "#d97706",
    Severity.high: "#dc2626",
    Severity.critical: "#7f1d1d",
}
RESOLVED_COLOUR = "#15803d"


def is_over(alert: Alert) -> bool:
    """Whether the alert has ended."""
    return alert.status is Status.resolved


def state(alert: Alert) -> str:
    """One word for the state: the severity while it lasts."""
    return "RESOLVED" if is_over(alert) else alert.severity.name.upper()


def colour(alert: Alert) -> str:
    """A colour for the state, as HTML writes it."""
    return RESOLVED_COLOUR if is_over(alert) else COLOURS[alert.severity]


def explained(alert: Alert) -> list[tuple[str, str]]:
    """What it likely means and what can be done: headings and texts, and whose words they are."""
    found = alert.explanation
    if found is None:
        return []
    by = f"explained by the language model {found.model}" if alert.is_explained else ""
    texts = {
        f"Assessment{f', {by}' if by else ''}": found.assessment,
        "Likely causes": found.root_cause,
        "Check next": found.next_checks,
        "What can be done": found.mitigation,
    }
    return [(heading, text) for heading, text in texts.items() if text]


def facts(alert: Alert) -> list[tuple[str, str]]:
    """Names and values, without those that there is nothing to say of."""
    bounds = f"{number(alert.lower)} to {number(alert.upper)}"
    found = {
        "Entity": alert.entity_text,
        "Measured": f"{number(alert.value)} {alert.unit} ({bounds})",
        "Threshold": f"{number(alert.threshold)} {alert.unit}",
        "Expected": alert.expected,
        "First seen": iso(alert.first_seen_ns),
        "Last seen": iso(alert.last_seen_ns),
        "Over since": iso(alert.resolved_at_ns) if is_over(alert) else "",
        "Probe": alert.probe,
        "ATT&CK": alert.attack_technique,
    }
    return [(name, value) for name, value in found.items() if value]
