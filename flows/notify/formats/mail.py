"""A mail with text and HTML; the mails of one alert make a thread."""

from __future__ import annotations

from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from flows.detect.alert import Alert, Severity
from flows.notify.formats.facts import colour, explained, facts, state
from flows.notify.text import line

_PRIORITIES = {Severity.critical: "urgent", Severity.high: "urgent", Severity.info: "non-urgent"}
_SUBJECT_CHARS = 200


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("flows.notify"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )


def render(alert: Alert, sender: str, recipient: str, subject_prefix: str) -> EmailMessage:
    """An alert as a mail, the same at every try but for its date.

    Args:
        alert: a revision.
        sender: address that it comes from.
        recipient: address that it goes to.
        subject_prefix: begins the subject.
    """
    values = {
        "title": alert.title,
        "summary": alert.summary,
        "rule": alert.rule,
        "tenant": alert.tenant,
        "state": state(alert),
        "colour": colour(alert),
        "facts": facts(alert),
        "members": alert.members,
        "member_count": alert.member_count,
        "explained": explained(alert),
        "evidence": alert.evidence,
        "evidence_sql": alert.evidence_sql,
        "delivery_id": alert.delivery_id,
    }
    domain = Address(addr_spec=sender).domain
    thread = f"<{alert.alert_id}@{domain}>"
    found = EmailMessage(SMTP)
    found["From"] = sender
    found["To"] = recipient
    found["Subject"] = line(
        f"{subject_prefix} {state(alert)}: {alert.title}", _SUBJECT_CHARS
    ).lstrip()
    found["Date"] = formatdate()
    found["Message-ID"] = f"<{alert.delivery_id.replace('/', '.')}@{domain}>"
    # Nobody has sent the mail that begins the thread; readers put those together that name it.
    found["In-Reply-To"] = thread
    found["References"] = thread
    found["List-Id"] = f"NetSpectra alerts <netspectra-alerts.{domain}>"
    found["Auto-Submitted"] = "auto-generated"
    found["X-NetSpectra-Delivery"] = alert.delivery_id
    if alert.severity in _PRIORITIES:
        found["Priority"] = _PRIORITIES[alert.severity]
    found.set_content(_templates().get_template("alert.txt").render(values))
    html = _templates().get_template("alert.html").render(values)
    found.add_alternative(html, subtype="html")
    return found
