"""Texts for people out of what holds of an answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from flows.detect.alert import Alert
from flows.detect.explanation import Explanation
from flows.enrich.answer import Action, Claim
from flows.enrich.check import Checked
from flows.enrich.pack import Pack
from flows.enrich.pseudonyms import Pseudonyms

_CITED: Final = re.compile(r"\[(R\d+(?:, R\d+)*)\]")


def compose(
    checked: Checked, pack: Pack, pseudonyms: Pseudonyms, model: str, version: str
) -> Callable[[Alert], Explanation]:
    """How each alert of the situation is explained: alike, but for what is particular to one."""
    answer = checked.answer

    def text(claim: Claim) -> str:
        return pseudonyms.restore(f"{claim.text} [{', '.join(claim.rows)}]")

    def action(claim: Action) -> str:
        parts = (text(claim), f"Risk: {claim.risk}", f"Undo: {claim.undo}")
        return pseudonyms.restore(" ".join(_ended(part) for part in parts))

    assessment = (
        f"{text(answer.what)} Seriousness: {answer.seriousness}; "
        f"the model is {answer.confidence:.0%} sure."
    )
    root_cause = _points(map(text, answer.root_cause))
    next_checks = _points(map(text, answer.next_checks))
    mitigation = _points(map(action, answer.mitigation))
    names = {alert.alert_id: name for name, alert in pack.listed.items()}

    def explain(alert: Alert) -> Explanation:
        name = names.get(alert.alert_id)
        particular = [text(each) for each in answer.details if each.alert == name]
        whole = " ".join((assessment, *particular))
        return Explanation(
            whole,
            root_cause,
            next_checks,
            mitigation,
            model,
            version,
            answer.confidence,
            tuple(_cited((whole, root_cause, next_checks, mitigation), pack)),
            checked.struck,
        )

    return explain


def _points(texts: Iterable[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?", "]")) else f"{text}."


def _cited(texts: Sequence[str], pack: Pack) -> list[Mapping[str, str]]:
    """Rows that the texts cite, as they are here."""
    wanted = {
        name for text in texts for match in _CITED.findall(text) for name in match.split(", ")
    }
    return [row.as_fields() for row in pack.rows if row.name in wanted]
