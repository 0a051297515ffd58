"""Settings written out as YAML that `load` reads again, with the origin of each value."""

from __future__ import annotations

from typing import Any

import yaml

from flows.settings.known import LISTS, OPEN, SECTIONS, Origin, Path, is_secret
from flows.settings.model import Settings
from flows.settings.problems import HIDDEN, hide_password


def dump(settings: Settings, origins: dict[Path, Origin] | None = None) -> str:
    """Write all settings as YAML, secrets hidden.

    Args:
        settings: What to write.
        origins: With it, each line says where its value came from.
    """
    tree = settings.model_dump(mode="json", by_alias=True)
    for task, definition in zip(settings.tasks, tree["tasks"], strict=True):
        # Only what matters to the task's type, and what was given.
        keep = {"name", "type", *task.model_fields_set}
        for field in [f for f, v in definition.items() if f not in keep or v == []]:
            del definition[field]
    return "\n".join(_lines(tree, origins)) + "\n"


def _lines(tree: dict[str, Any], origins: dict[Path, Origin] | None, path: Path = ()) -> list[str]:
    found = []
    for name, value in tree.items():
        here = (*path, name)
        indent = "  " * len(path)
        if isinstance(value, dict) and value and here in SECTIONS | OPEN:
            found += [f"{indent}{_scalar(name)}:", *_lines(value, origins, here)]
            continue
        comment = _comment(here, origins)
        if here in LISTS and value:
            found.append(f"{indent}{name}:{comment}")
            found += [f"{indent}  - {_scalar(each)}" for each in value]
            continue
        if here == ("store",):
            value = hide_password(value)
        elif value is not None and is_secret(here):
            value = HIDDEN
        found.append(f"{indent}{_scalar(name)}: {_scalar(value)}{comment}")
    return found


def _comment(path: Path, origins: dict[Path, Origin] | None) -> str:
    if origins is None:
        return ""
    origin = origins.get(path)
    if origin is None or origin.kind == "default":
        return "  # default"
    if origin.kind == "file":
        return f"  # file {origin.place}"
    return f"  # {origin.kind} {origin.name}"


def _scalar(value: Any) -> str:
    """One value on one line; a dollar sign doubled, as the file reader halves it."""
    text = yaml.safe_dump(
        _escape(value), default_flow_style=True, width=2**31, allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("\n").removesuffix("\n...")


def _escape(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, list):
        return [_escape(item) for item in value]
    if isinstance(value, dict):
        return {key: _escape(item) for key, item in value.items()}
    return value
