"""The form of an answer, and reading it from services that hold to it and from those that don't."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from flows.notify.text import line

MAX_CHARS: Final = 60_000
"""Longest answer that is looked at."""

_FENCED: Final = re.compile(r"```(?:json)?\s*(\{.*\})\s*```", re.DOTALL)


class Unreadable(Exception):
    """An answer that isn't of the form; why, in a few words for whoever asks again."""


def _text(value: Any) -> Any:
    return line(value, 600) if isinstance(value, str) else value


def _row(value: Any) -> Any:
    return line(value, 12).strip("[] ") if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_text), Field(min_length=1)]
RowName = Annotated[str, BeforeValidator(_row)]


class _Part(BaseModel):
    """Strict about names, so that a service that makes up its own form is noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Claim(_Part):
    """Something that is said, and the rows that bear it."""

    text: Text
    rows: list[RowName]


class Action(Claim):
    """Something that can be done."""

    risk: Text
    undo: Text


class Detail(Claim):
    """What is particular to one alert."""

    alert: RowName


class Answer(_Part):
    """All that the model says about a situation; see the prompt."""

    what: Claim
    seriousness: Literal["harmless", "low", "medium", "high", "critical"]
    confidence: Annotated[float, Field(ge=0, le=1)]
    root_cause: list[Claim]
    next_checks: list[Claim]
    mitigation: list[Action]
    details: list[Detail]


def schema() -> dict[str, Any]:
    """JSON schema as services with structured outputs take it: plain, closed, all required."""
    plain = Answer.model_json_schema()
    closed: dict[str, Any] = _strict(plain, plain.get("$defs", {}))
    return closed


def _strict(node: Any, definitions: dict[str, Any]) -> Any:
    """Without references, titles and limits, which some services don't know."""
    if isinstance(node, list):
        return [_strict(each, definitions) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _strict(definitions[node["$ref"].rpartition("/")[2]], definitions)
    if node.get("type") == "object":
        parts = {k: _strict(v, definitions) for k, v in node["properties"].items()}
        return {
            "type": "object",
            "properties": parts,
            "required": list(parts),
            "additionalProperties": False,
        }
    return {k: _strict(v, definitions) for k, v in node.items() if k in ("type", "items", "enum")}


def read(text: str) -> Answer:
    """Read an answer, also one that has words or a fence around its JSON.

    Raises:
        Unreadable: it is no JSON, or not of the form.
    """
    if len(text) > MAX_CHARS:
        msg = f"it is longer than {MAX_CHARS} characters"
        raise Unreadable(msg)
    fenced = _FENCED.search(text)
    body = fenced[1] if fenced else text[max(text.find("{"), 0) : text.rfind("}") + 1]
    try:
        return Answer.model_validate(json.loads(body))
    except (ValueError, RecursionError) as error:
        raise Unreadable(_why(error)) from None


def _why(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return "it is no JSON object"
    first = error.errors(include_url=False, include_input=False)[0]
    # Our own words alone: what the model wrote isn't repeated to it, or to anybody.
    place = ".".join(part if isinstance(part, str) else str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return "it has a field that isn't in the form"
    return f"{place}: {line(first['msg'], 100)}"
