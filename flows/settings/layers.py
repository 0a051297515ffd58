"""Values with their origins, out of the file, the environment and the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path as File
from typing import Any, Final

import yaml

from flows.errors import UsageError
from flows.settings.known import (
    DELIMITER,
    LISTS,
    OPEN,
    PREFIX,
    SECTIONS,
    SETTINGS,
    Origin,
    Path,
    dotted,
    env_name,
    is_known,
    is_secret,
    nearest,
)

DEFAULT_FILE: Final = "netspectra.yaml"
FILE_VARIABLE: Final = f"{PREFIX}CONFIG"

OTHER_VARIABLES: Final = frozenset({FILE_VARIABLE, f"{PREFIX}REQUIRE", f"{PREFIX}CAPTURES"})
"""Variables with our prefix that aren't settings; so are those of the tests, ``…TEST_…``."""

RULES_SECTIONS: Final = ("detectors", "rules", "alerts", "networks")
"""What a file of rules may set."""

_REFERENCE: Final = re.compile(r"\$(?:(\$)|\{(\w+)(?::-([^}]*))?\})")

# What Kubernetes and Docker add for a service that is named like us.
_SERVICE: Final = re.compile(
    rf"{PREFIX}(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)"
)
_SERVICE_ADDRESS: Final = re.compile(r"(tcp|udp)://|[\d.:a-fA-F]+$|tcp$|udp$")


class Layer:
    """Values of one origin by the path of their setting, and what is wrong with the others.

    Attributes:
        values: Value and origin of each setting that is given here.
        problems: One line for each key or value that can't be used.
    """

    def __init__(self) -> None:
        self.values: dict[Path, tuple[Any, Origin]] = {}
        self.problems: list[str] = []

    def put(self, path: Path, value: Any, origin: Origin) -> None:
        """Take a value, or note why not."""
        if path in OPEN and value == {}:
            self.values[path] = {}, origin
        elif path in OPEN:
            self.problems.append(f"{origin}: wanted names with values")
        elif path[-1].endswith("_file") and is_secret(meant := _without_file(path)):
            self._put_from_file(meant, value, origin)
        elif is_known(path):
            self.values[path] = value, origin
        elif path in SECTIONS:
            inside = ", ".join(_spell(p, origin) for p in _inside(path))
            self.problems.append(f"{origin} is a section; its settings are {inside}")
        else:
            line = f"{origin} is not a setting"
            if near := nearest(path):
                line += f"; did you mean {_spell(near, origin)}?"
            self.problems.append(line)

    def _put_from_file(self, path: Path, value: Any, origin: Origin) -> None:
        try:
            self.values[path] = File(str(value)).read_text().rstrip("\r\n"), origin
        except (OSError, UnicodeDecodeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            self.problems.append(f"{origin}: can't read {value}: {reason}")


def _without_file(path: Path) -> Path:
    return (*path[:-1], path[-1].removesuffix("_file"))


def _inside(path: Path) -> list[Path]:
    return sorted(known for known in SETTINGS if known[: len(path)] == path)


def _spell(path: Path, origin: Origin) -> str:
    name = env_name(path) if origin.kind == "env" else dotted(path)
    return f"{name}{DELIMITER}…" if origin.kind == "env" and path in SECTIONS else name


def env_layer(env: Mapping[str, str]) -> Layer:
    """Read variables with our prefix; empty ones count as not given.

    Keys of ``kafka.properties`` are written as librdkafka has them
    (``NETSPECTRA_KAFKA__PROPERTIES__fetch.max.bytes``), or, as most shells take no dots, in
    capitals with ``_`` for the dot (``NETSPECTRA_KAFKA__PROPERTIES__FETCH_MAX_BYTES``).
    """
    layer = Layer()
    for name, text in sorted(env.items()):
        if not name.upper().startswith(PREFIX) or not text:
            continue
        rest = name[len(PREFIX) :]
        if name in OTHER_VARIABLES or rest.startswith("TEST_"):
            continue
        path = tuple(rest.lower().split(DELIMITER))
        if path[:2] == ("kafka", "properties") and len(path) > 2:
            key = DELIMITER.join(path[2:])
            from_file = key.endswith("_file")
            key = key.removesuffix("_file").replace("_", ".") + ("_file" if from_file else "")
            path = (*path[:2], key)
        known = is_known(path) or path in SECTIONS
        if not known and _SERVICE.fullmatch(name) and _SERVICE_ADDRESS.match(text):
            continue
        value: Any = text
        if path in LISTS:
            try:
                value = yaml.safe_load(text)
            except yaml.YAMLError:
                layer.problems.append(f"{name}: wanted a list of {path[0]}, as YAML or JSON")
                continue
        layer.put(path, value, Origin("env", name))
    return layer


class _Loader(yaml.SafeLoader):
    """Refuses a key that is written twice, of which YAML would silently drop the first."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value} is there twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def file_layer(env: Mapping[str, str]) -> Layer:
    """Read the settings file, if there is one.

    Raises:
        UsageError: `NETSPECTRA_CONFIG` names a file that can't be read, or it isn't YAML.
    """
    named = env.get(FILE_VARIABLE)
    file = File(named or DEFAULT_FILE)
    try:
        return _yaml_layer(file, env)
    except FileNotFoundError:
        if not named:
            return Layer()
        msg = f"{FILE_VARIABLE} names {file}, and there is no such file"
        raise UsageError(msg) from None


def rules_layer(file: File, env: Mapping[str, str]) -> Layer:
    """Read a file of rules, which has only the sections that are about detection.

    Raises:
        UsageError: It isn't there, can't be read or isn't YAML.
    """
    try:
        layer = _yaml_layer(file, env)
    except FileNotFoundError:
        msg = f"there is no file {file}"
        raise UsageError(msg) from None
    for path in [path for path in layer.values if path[0] not in RULES_SECTIONS]:
        _, origin = layer.values.pop(path)
        layer.problems.append(
            f"{origin} doesn't belong into a file of rules, which has "
            f"{', '.join(RULES_SECTIONS)}: set it in the settings"
        )
    return layer


def _yaml_layer(file: File, env: Mapping[str, str]) -> Layer:
    try:
        tree = yaml.load(file.read_text(), _Loader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        msg = f"can't read {file}: {getattr(error, 'strerror', None) or 'it is not text'}"
        raise UsageError(msg) from error
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", "")
        where = f", line {mark.line + 1}" if mark else ""
        msg = f"{file}{where}: not valid YAML ({problem or 'unreadable'})"
        raise UsageError(msg) from error
    layer = Layer()
    if tree is None:
        return layer
    if not isinstance(tree, dict):
        msg = f"{file}: wanted settings such as `source: demo`, one a line"
        raise UsageError(msg)
    for path, value in _leaves(tree):
        origin = Origin("file", dotted(path), file.name)
        try:
            layer.put(path, _expand(value, env), origin)
        except KeyError as error:
            layer.problems.append(
                f"{origin}: the environment has no {error.args[0]}; "
                f"set it, or write ${{{error.args[0]}:-default}}"
            )
    return layer


def option_layer(overrides: Mapping[str, Any]) -> Layer:
    """Take values from the command line: nested, or with dotted names."""
    layer = Layer()
    tree: dict[str, Any] = {}
    for name, value in overrides.items():
        node = tree
        *parents, last = name.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    for path, value in _leaves(tree):
        layer.put(path, value, Origin("option", dotted(path)))
    return layer


def _leaves(tree: Mapping[Any, Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    for key, value in tree.items():
        here = (*path, str(key))
        if value == {} and here in OPEN:
            yield here, {}
        elif isinstance(value, dict) and (here in SECTIONS or here in OPEN):
            yield from _leaves(value, here)
        elif value is not None or here not in SECTIONS | OPEN:
            yield here, value


def _expand(value: Any, env: Mapping[str, str]) -> Any:
    """Replace ``${VAR}`` and ``${VAR:-default}`` in all texts; ``$$`` is a dollar sign.

    Raises:
        KeyError: A variable isn't there and has no default.
    """
    if isinstance(value, str):
        return _REFERENCE.sub(lambda match: _resolve(match, env), value)
    if isinstance(value, list):
        return [_expand(item, env) for item in value]
    if isinstance(value, dict):
        return {key: _expand(item, env) for key, item in value.items()}
    return value


def _resolve(match: re.Match[str], env: Mapping[str, str]) -> str:
    dollar, name, default = match.groups()
    if dollar:
        return "$"
    if default is not None:
        return env.get(name) or default
    return env[name]
