"""Problems with values, told in the words of the person who wrote them.

One line each: the setting as it was written, the value, what is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ValidationError

from flows.settings.detection import Rule
from flows.settings.known import Origin, Path, dotted, is_secret
from flows.settings.notifiers import KINDS, SECRETS
from flows.settings.tasks import Task
from flows.settings.units import format_duration

HIDDEN: Final = "********"

_WANTED: Final = {
    "string_type": "text (in quotes where YAML reads something else)",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "literal_error": "{expected}",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "dict_type": "names with values",
    "tuple_type": "a list",
    "union_tag_not_found": "a type, one of " + ", ".join(KINDS),
    "union_tag_invalid": "a type, one of " + ", ".join(KINDS),
}

_LISTS: Final[Mapping[str, tuple[str, str, Mapping[str, type[BaseModel]]]]] = {
    "tasks": ("task", "name, type, key or elements", {"": Task}),
    "rules": ("rule", "name, task or detector, threshold", {"": Rule}),
    "notifiers": ("notifier", "name, type and what that needs", KINDS),
}
"""Settings that are lists: what one of them is called, what it needs, its model by type."""


def lines(error: ValidationError, origins: Mapping[Path, Origin]) -> list[str]:
    """One line for each error, without repetitions."""
    found = []
    for item in error.errors(include_url=False):
        name, where, path = _name(item["loc"], origins)
        if item["type"] == "missing":
            found.append(f"{name}{where} is missing")
        elif item["type"] == "extra_forbidden":
            found.append(f"{name}{where} {_strange(item['loc'])}")
        else:
            plain = not isinstance(item["input"], dict | list | tuple | type(None))
            secret = item["loc"][0] == "notifiers" and SECRETS & set(map(str, item["loc"]))
            value = f" = {HIDDEN if secret else show(path, item['input'])}" if plain else ""
            found.append(f"{name}{value}{where}: wanted {_wanted(item)}")
    return list(dict.fromkeys(found))


def _strange(loc: tuple[str | int, ...]) -> str:
    """What is to be said of a field that there isn't."""
    what, _, models = _LISTS.get(str(loc[0]), _LISTS["tasks"])
    model = models.get("") or models.get(str(loc[2]))
    if model is None or (isinstance(loc[-2], str) and loc[-2] not in models):
        return "is not known there"
    fields = ", ".join(field.alias or name for name, field in model.model_fields.items())
    return f"is not a field of a {what}; it has {fields}"


def _wanted(item: Any) -> str:
    context = item.get("ctx", {})
    if item["type"] == "value_error":
        return str(context["error"])
    if item["type"] == "wanted":
        return str(context["wanted"])
    if item["type"] == "literal_error":
        return str(context["expected"]).replace("'", "")
    if item["type"] in ("model_type", "model_attributes_type"):
        what, needs, _ = _LISTS.get(str(item["loc"][0]), _LISTS["tasks"])
        return f"a {what} with {needs}"
    text = _WANTED.get(item["type"])
    return text.format(**context) if text else str(item["msg"])


def _name(loc: tuple[str | int, ...], origins: Mapping[Path, Origin]) -> tuple[str, str, Path]:
    """Name as written, where, and path of the setting at a pydantic location."""
    if loc[0] == "notifiers" and len(loc) > 2 and loc[2] in KINDS:
        loc = (*loc[:2], *loc[3:])  # the type, which isn't a level that anybody wrote
    words = tuple(str(part) for part in loc)
    for length in range(len(words), 0, -1):
        origin = origins.get(words[:length])
        if origin:
            inside = "".join(
                f"[{part}]" if isinstance(part, int) else f".{part}"
                for part in loc[length:]
                # "[key]" marks a bad key; the value shows it already.
                if part != "[key]" and not (isinstance(part, int) and words[0] not in _LISTS)
            )
            where = f" in {origin.place}" if origin.place else ""
            return origin.name + inside, where, words[:length]
    return dotted(words), " (the default)", words


def show(path: Path, value: Any) -> str:
    """A value for people: short, with secrets hidden."""
    if path == ("store",):
        return hide_password(str(value))
    if is_secret(path):
        return HIDDEN
    if isinstance(value, timedelta):
        return format_duration(value)
    text = str(value) if isinstance(value, str) else repr(value)
    text = text.replace("\n", " ")
    return text if len(text) <= 60 else f"{text[:57]}..."


def hide_password(store: str) -> str:
    """A store's address with the password hidden, if it has one."""
    try:
        url = urlsplit(store)
        if not url.scheme.startswith("http") or url.password is None:
            return store
    except ValueError:
        return HIDDEN
    _, _, host = url.netloc.rpartition("@")
    netloc = f"{url.username or ''}:{HIDDEN}@{host}"
    return urlunsplit((url.scheme, netloc, url.path, url.query, url.fragment))
