"""What an alert likely means and what can be done, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

TEMPLATE: Final = "template"
"""Stands for the model where written-down words explain."""

EnrichmentStatus = Literal["none", "pending", "done", "partial", "failed", "budget"]


@dataclass(frozen=True)
class Explanation:
    """Words about one alert, for people; nothing in them changes the alert.

    Attributes:
        assessment: what it likely is, how serious, how sure.
        root_cause: what is likely behind it, a cause on a line.
        next_checks: what to look at next, a check on a line.
        mitigation: what can be done, an action on a line, with its risk and how to undo it.
        model: language model that says so, or ``TEMPLATE``.
        prompt_version: of the prompt or the template.
        confidence: how sure the model says that it is, 0 to 1; 0 for a template.
        cited: rows of evidence that the texts cite as ``[R1]``; ``row`` is their name.
        struck: claims of the model that the evidence doesn't bear, and that were left out.
    """

    assessment: str
    root_cause: str
    next_checks: str
    mitigation: str
    model: str = TEMPLATE
    prompt_version: str = ""
    confidence: float = 0.0
    cited: tuple[Mapping[str, str], ...] = ()
    struck: int = 0
