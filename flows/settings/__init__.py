"""Settings: one tree, from ``netspectra.yaml`` and ``NETSPECTRA_…`` environment variables.

Later wins: defaults, the file (``NETSPECTRA_CONFIG`` names another), the environment, options
of a command. In the environment ``__`` stands between levels: ``NETSPECTRA_WINDOW__PANE=5s``.
In the file ``${VAR}`` and ``${VAR:-default}`` are replaced from the environment, ``$$`` is a
dollar sign. Secrets may be read from a file: ``NETSPECTRA_LLM__API_KEY_FILE``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path as File
from typing import Any

from pydantic import ValidationError

from flows.errors import UsageError
from flows.settings import show
from flows.settings.known import Origin, Path
from flows.settings.layers import env_layer, file_layer, option_layer, rules_layer
from flows.settings.model import DEMO, Settings
from flows.settings.problems import lines
from flows.settings.tasks import DEFAULT_TASKS, FIELDS, Task

__all__ = ["DEFAULT_TASKS", "FIELDS", "Settings", "Task", "dump", "load", "load_with_origins"]


def load(
    overrides: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    rules: File | None = None,
) -> Settings:
    """Read the settings.

    Args:
        overrides: Values that win over all others, nested or with dotted names.
        env: The environment, by default the process's own.
        rules: A file of rules, which wins over the settings file and the environment.

    Raises:
        UsageError: Something is unknown or can't be used; one line for each problem.
    """
    return load_with_origins(overrides, env, rules)[0]


def load_with_origins(
    overrides: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    rules: File | None = None,
) -> tuple[Settings, dict[Path, Origin]]:
    """Read the settings, and tell where each value that isn't a default came from.

    Raises:
        UsageError: As `load`.
    """
    env = os.environ if env is None else env
    layers = [file_layer(env), env_layer(env), option_layer(overrides or {})]
    if rules is not None:
        layers.insert(-1, rules_layer(rules, env))
    problems = [problem for layer in layers for problem in layer.problems]
    tree: dict[str, Any] = {}
    origins: dict[Path, Origin] = {}
    for layer in layers:
        for path, (value, origin) in layer.values.items():
            node = tree
            for parent in path[:-1]:
                node = node.setdefault(parent, {})
            node[path[-1]] = value
            origins[path] = origin
    try:
        settings = Settings(**tree)
    except ValidationError as error:
        problems += lines(error, origins)
    if problems:
        raise UsageError("\n".join(problems))
    if settings.source_kind == "demo":
        for name in DEMO:
            origins.setdefault((name,), Origin("source", "demo"))
    return settings, origins


def dump(
    settings: Settings, *, origin: bool = False, origins: dict[Path, Origin] | None = None
) -> str:
    """Write the settings as YAML that `load` reads again; secrets are hidden.

    Args:
        settings: What to write.
        origin: Say behind each value where it came from.
        origins: The origins, as `load_with_origins` returns them.
    """
    return show.dump(settings, (origins or {}) if origin else None)
