"""A message for a Slack webhook: blocks, and a line for where blocks aren't shown.

Slack makes links, mentions and channels of ``<…>`` and, unless told not to, of plain text. So
``&``, ``<`` and ``>`` are escaped as its manual says, every text with markup is ``verbatim``, and
in the line outside of blocks addresses lose what makes them clickable.
"""

from __future__ import annotations

from typing import Any, Final

from flows.detect.alert import Alert
from flows.notify.formats.facts import colour, explained, facts, state

_HEADER_CHARS: Final = 140
_SECTION_CHARS: Final = 2000
_FIELD_CHARS: Final = 500
_MAX_FIELDS: Final = 10
_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def render(alert: Alert) -> dict[str, Any]:
    """An alert as the object that becomes JSON."""
    shown = {**dict(facts(alert)), "Rule": alert.rule, "Tenant": alert.tenant}
    headline = f"{state(alert)}: {alert.title}"
    fields = [_text(f"{name}: {value}", _FIELD_CHARS) for name, value in shown.items()]
    blocks: list[dict[str, Any]] = [
        {
            "type": "header",
            "text": {
                "type": "plain_text",
                "text": escape(headline, _HEADER_CHARS),
                "emoji": False,
            },
        },
        {"type": "section", "fields": fields[:_MAX_FIELDS]},
    ]
    words = [f"{heading}\n{text}" for heading, text in explained(alert)]
    for part in (alert.summary, "\n".join(alert.members), *words):
        if part:
            blocks.insert(-1, {"type": "section", "text": _text(part, _SECTION_CHARS)})
    context = f"alert {alert.delivery_id} {alert.attack_technique}".rstrip()
    blocks.append({"type": "context", "elements": [_text(context, _FIELD_CHARS)]})
    return {
        "text": _unlinked(headline),
        "mrkdwn": False,
        "parse": "none",
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
        "attachments": [{"color": colour(alert), "blocks": blocks}],
    }


def escape(text: str, limit: int = _SECTION_CHARS) -> str:
    """Text without what Slack's markup begins links, mentions and channels with.

    Cut so that the result is within the limit: Slack refuses a message with a longer one.
    """
    found: list[str] = []
    length = 0
    for character in text:
        piece = _ESCAPES.get(character, character)
        length += len(piece)
        if length >= limit:
            return "".join([*found, "…"])
        found.append(piece)
    return "".join(found)


def _text(text: str, limit: int) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": escape(text, limit), "verbatim": True}


def _unlinked(text: str) -> str:
    return escape(text.replace("://", "[:]//").replace("@", "[at]"))
