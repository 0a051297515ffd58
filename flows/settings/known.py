"""Names of settings: which there are, how file and environment spell them, which is nearest."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from flows.settings.detection import Detectors, RuleBase
from flows.settings.model import Settings

PREFIX: Final = str(Settings.model_config["env_prefix"])
DELIMITER: Final = str(Settings.model_config["env_nested_delimiter"])

Path = tuple[str, ...]
"""Where a setting is: ``("window", "pane")``."""

_RULES: Final = tuple(
    name
    for name, field in Detectors.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, RuleBase)
)

OPEN: Final = frozenset(
    {
        ("kafka", "properties"),
        ("networks",),
        ("detectors", "plugins"),
        *(("detectors", name, part) for name in _RULES for part in ("where", "unless")),
    }
)
"""Settings whose keys the user makes up."""

LISTS: Final = frozenset({("tasks",), ("rules",), ("notifiers",)})
"""Settings that are lists of groups of values; in the environment they are YAML or JSON."""

SECRETS: Final = frozenset({("store",), ("llm", "api_key"), ("storage", "serve_password")})
"""Settings that are or may hold a secret, and so may be in a file (``…_FILE``)."""

_SECRET_WORDS: Final = ("password", "secret", "jaas", "pem", "token")


def _walk(model: type[BaseModel], path: Path = ()) -> tuple[set[Path], set[Path]]:
    settings: set[Path] = set()
    sections: set[Path] = set()
    for name, field in model.model_fields.items():
        here = (*path, field.alias or name)
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            sections.add(here)
            inner, deeper = _walk(kind, here)
            settings |= inner
            sections |= deeper
        else:
            settings.add(here)
    return settings, sections


SETTINGS, SECTIONS = _walk(Settings)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from.

    Attributes:
        kind: ``default``, ``file``, ``env`` or ``option``.
        name: The setting as its user wrote it (``NETSPECTRA_WINDOW__PANE``, ``window.pane``).
        place: The file's name, for values out of files.
    """

    kind: str
    name: str
    place: str = ""

    def __str__(self) -> str:
        """Name for people: ``window.pane in netspectra.yaml``."""
        return f"{self.name} in {self.place}" if self.place else self.name


def env_name(path: Path) -> str:
    """Name of the environment variable of a setting."""
    return PREFIX + DELIMITER.join(path).upper().replace(".", "_")


def dotted(path: Path) -> str:
    """Name of a setting in the file, as one word."""
    return ".".join(path)


def is_secret(path: Path) -> bool:
    """Whether the setting holds a secret, so that it may come from a file and isn't shown."""
    if path[:2] == ("kafka", "properties") and len(path) > 2:
        return any(word in path[-1] for word in _SECRET_WORDS)
    return path in SECRETS


def is_known(path: Path) -> bool:
    """Whether there is such a setting."""
    return path in SETTINGS or (path[-1] != "" and path[:-1] in OPEN)


def nearest(path: Path) -> Path | None:
    """The known setting that was most likely meant, if any is near."""
    if path[-1:]:
        same = [known for known in sorted(SETTINGS) if known[-1] == path[-1]]
        if len(same) == 1 and len(path) == 1:
            return same[0]
    # One spelling for all: NETSPECTRA_WINDOW_PANE lacks one underscore, not a section.
    names = {"_".join(known): known for known in sorted(SETTINGS | SECTIONS)}
    found = difflib.get_close_matches("_".join(path).lower(), list(names), 1, 0.6)
    return names[found[0]] if found else None
