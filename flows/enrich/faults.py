"""What can be wrong with a request to a language model, and how much one takes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

MAX_AFTER_S: Final = 3600.0
"""Longest pause that a service can ask for."""

CHARS_PER_TOKEN: Final = 3


class ModelFault(Exception):
    """No answer that can be used; one line, without secrets.

    Args:
        why: for people.
        name: for counters.
        passing: whether it may go away by itself.
        after_s: how long the service wants to be left alone.
        away: whether the service doesn't work, rather than this question.
        tokens: that it took all the same.
    """

    def __init__(
        self,
        why: str,
        name: str,
        *,
        passing: bool = False,
        after_s: float = 0.0,
        away: bool = False,
        tokens: int = 0,
    ) -> None:
        super().__init__(why)
        self.name = name
        self.passing = passing
        self.after_s = after_s
        self.away = away
        self.tokens = tokens


def tokens_of(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
) -> int:
    """About how many tokens messages, and what can be called, take, rather too many."""
    chars = sum(len(str(each.get("content") or "")) for each in messages)
    chars += sum(len(json.dumps(each["tool_calls"])) for each in messages if "tool_calls" in each)
    chars += sum(len(json.dumps(each)) for each in tools)
    return chars // CHARS_PER_TOKEN + 10


def unfinished(ended: str, tokens: int) -> ModelFault:
    """An answer that ended before its end, for the reason that the protocol names."""
    if ended == "length":
        why = "the answer is longer than llm.max_answer_tokens"
        return ModelFault(why, "truncated", tokens=tokens)
    return ModelFault("the answer breaks off", "cut", passing=True, tokens=tokens)


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds for which a service wants to be left alone; 0 where it doesn't say."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        try:
            seconds = float(text) * unit_s
        except ValueError:
            seconds = _until(text) if name == "retry-after" else 0.0
        if seconds > 0 and math.isfinite(seconds):
            return min(seconds, MAX_AFTER_S)
    return 0.0


def _until(text: str) -> float:
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return (when - datetime.now(UTC)).total_seconds()
