"""Problems with values, told in the words of the person who wrote them.

One line each: the setting as it was written, the value, what is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from pydantic import ValidationError

from flows.settings.known import Origin, Path, dotted, is_secret
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
    "model_type": "a task with name, type, key or elements",
    "model_attributes_type": "a task with name, type, key or elements",
}


def lines(error: ValidationError, origins: Mapping[Path, Origin]) -> list[str]:
    """One line for each error, without repetitions."""
    found = []
    for item in error.errors(include_url=False):
        name, where, path = _name(item["loc"], origins)
        if item["type"] == "missing":
            found.append(f"{name}{where} is missing")
        elif item["type"] == "extra_forbidden":
            fields = ", ".join(Task.model_fields)
            found.append(f"{name}{where} is not a field of a task; it has {fields}")
        else:
            plain = not isinstance(item["input"], dict | list | tuple | type(None))
            value = f" = {show(path, item['input'])}" if plain else ""
            found.append(f"{name}{value}{where}: wanted {_wanted(item)}")
    return list(dict.fromkeys(found))


def _wanted(item: Any) -> str:
    context = item.get("ctx", {})
    if item["type"] == "value_error":
        return str(context["error"])
    if item["type"] == "wanted":
        return str(context["wanted"])
    if item["type"] == "literal_error":
        return str(context["expected"]).replace("'", "")
    text = _WANTED.get(item["type"])
    return text.format(**context) if text else str(item["msg"])


def _name(loc: tuple[str | int, ...], origins: Mapping[Path, Origin]) -> tuple[str, str, Path]:
    """Name as written, where, and path of the setting at a pydantic location."""
    words = tuple(str(part) for part in loc)
    for length in range(len(words), 0, -1):
        origin = origins.get(words[:length])
        if origin:
            inside = "".join(
                f"[{part}]" if isinstance(part, int) else f".{part}"
                for part in loc[length:]
                # "[key]" marks a bad key; the value shows it already.
                if part != "[key]" and not (isinstance(part, int) and words[0] != "tasks")
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
