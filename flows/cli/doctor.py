"""``netspectra doctor``: will it run here, and if not, what to do."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

import click

Level = Literal["ok", "warn", "fail"]

NAMES: Final = ("flows", "probe", "schemas")
"""Our top-level names, which other distributions have too."""

MIN_MEMORY_GB: Final = 2.0
MIN_DISK_GB: Final = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        level: ``ok``, ``warn`` (it runs, with less), ``fail`` (it doesn't).
        what: What was looked at.
        found: What was found and, if it isn't well, what to do.
    """

    level: Level
    what: str
    found: str


@click.command("doctor")
def command() -> int:
    """Check this machine, the installation and the store; exit code 1 if anything fails.

    What it says of capturing was tried as the user who asks: see `sudo netspectra doctor` too.

    \b
    Examples:
      netspectra doctor
      NETSPECTRA_STORE=chdb:data netspectra doctor
    """  # noqa: D301 - click reads the backslash
    colour = {"ok": "green", "warn": "yellow", "fail": "red"}
    worst = 0
    for finding in examine():
        level = click.style(f"{finding.level:<4}", fg=colour[finding.level])
        click.echo(f"{level}  {finding.what:<12} {finding.found}")
        worst |= finding.level == "fail"
    return int(worst)


def examine() -> Iterator[Finding]:
    """All findings, in order; a check that itself fails is a finding too."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        python,
        packages,
        owners,
        compiler,
        machine,
        probe,
        sketches,
        tasks,
        model,
        store,
    )
    for check in checks:
        try:
            yield from check()
        except Exception as error:
            lines = str(error).splitlines() or ["no message"]
            yield Finding("fail", check.__name__, f"{type(error).__name__}: {lines[0]}")


def python() -> Iterator[Finding]:
    """The Python that runs us."""
    good = (3, 11) <= sys.version_info[:2] <= (3, 12)
    advice = "" if good else "; use 3.11 or 3.12 (Bytewax has no wheels for others)"
    yield Finding("ok" if good else "fail", "python", platform.python_version() + advice)


def packages() -> Iterator[Finding]:
    """Everything that we depend on is there, in a version that does."""
    from packaging.requirements import Requirement

    try:
        required = metadata.requires("netspectra") or []
    except metadata.PackageNotFoundError:
        yield Finding("warn", "packages", "netspectra isn't installed; run make, or pip install .")
        return
    bad, good = [], 0
    for requirement in map(Requirement, required):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            bad.append(f"{requirement.name} is missing")
            continue
        if requirement.specifier.contains(version, prereleases=True):
            good += 1
        else:
            bad.append(f"{requirement.name} {version} is not {requirement.specifier}")
    if bad:
        yield Finding("fail", "packages", "; ".join(bad) + "; pip install -r requirements.lock")
    else:
        yield Finding("ok", "packages", f"{good} present, versions fit")


def owners() -> Iterator[Finding]:
    """Our three top-level names belong to us alone."""
    import flows

    here = Path(flows.__file__).parent.parent
    owned = metadata.packages_distributions()
    foreign = {
        name: sorted(set(owned.get(name, [])) - {"netspectra"})
        for name in NAMES
        if set(owned.get(name, [])) - {"netspectra"}
    }
    if foreign:
        others = ", ".join(sorted({owner for names in foreign.values() for owner in names}))
        found = f"{', '.join(foreign)} also belong to {others}; pip uninstall {others}, reinstall"
        yield Finding("fail", "names", found)
    else:
        yield Finding("ok", "names", f"{', '.join(NAMES)} are ours, in {here}")


def compiler() -> Iterator[Finding]:
    """Numba compiles, and can keep what it compiled."""
    import numba

    add = numba.njit(lambda a, b: a + b)
    if add(1, 2) != 3:
        yield Finding("fail", "numba", "compiled code gives wrong results; reinstall numba")
        return
    yield Finding("ok", "numba", f"{numba.__version__} compiles")
    import flows

    configured = os.environ.get("NUMBA_CACHE_DIR")
    source = Path(flows.__file__).parent / "__pycache__"
    # Numba falls back to the user's own cache directory when it can't write beside the source.
    for directory in [Path(configured)] if configured else [source, Path.home() / ".cache"]:
        if _writable(directory):
            yield Finding("ok", "numba cache", str(directory))
            return
    found = "not writable, so every start compiles anew; set NUMBA_CACHE_DIR to a directory"
    yield Finding("warn", "numba cache", found)


def machine() -> Iterator[Finding]:
    """Cores and memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("ok", "cores", f"{cores}")
    memory_gb = available_gb()
    if memory_gb is None:
        yield Finding("warn", "memory", "unknown on this system")
    elif memory_gb < MIN_MEMORY_GB:
        found = f"{memory_gb:.1f} GB free, {MIN_MEMORY_GB:.0f} GB wanted; lower window.max_flows"
        yield Finding("warn", "memory", found)
    else:
        yield Finding("ok", "memory", f"{memory_gb:.1f} GB free")


def available_gb() -> float | None:
    """Memory that a new program can have, GB; within the limit of a container."""
    free = []
    try:
        match = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        free += [int(match[1]) * 1024] if match else []
        group = Path("/sys/fs/cgroup")
        limit, used = (group / "memory.max").read_text(), (group / "memory.current").read_text()
        free.append(int(limit) - int(used))
    except (OSError, ValueError):
        # No such system, or "max": there is no limit.
        pass
    return min(free) / 1e9 if free else None


def probe() -> Iterator[Finding]:
    """What this machine offers for capturing packets."""
    from flows.cli import doctor_probe

    yield from doctor_probe.examine()


def sketches() -> Iterator[Finding]:
    """The shortcuts around the sketch library agree with it, so that the fast path runs."""
    from flows.sketches import selfcheck

    differences = selfcheck()
    for line in differences:
        yield Finding("warn", "sketches", f"{line}: results are right, ingest is slower")
    if not differences:
        yield Finding("ok", "sketches", "fast paths give the library's own bytes")


def tasks() -> Iterator[Finding]:
    """Memory that the sketches of each task take at most, per horizon."""
    from flows.errors import NetSpectraError
    from flows.settings import load
    from flows.windows.configured import tasks_of

    try:
        loaded = load()
    except NetSpectraError:
        return  # told by the check of the settings
    horizons = [length // 10**9 for length in loaded.window.horizons_ns]
    total = 0
    for task in tasks_of(loaded.tasks):
        size = task.memory_limit_bytes
        total += 2 * len(horizons) * size
        each = ", ".join(f"{horizon} s" for horizon in horizons)
        found = f"{task.name}: at most {size / 1e6:.2f} MB a window; 2 windows each of {each}"
        yield Finding("ok", "task", found)
    yield Finding("ok", "tasks", f"at most {total / 1e6:.0f} MB for a tenant's horizons")


def model() -> Iterator[Finding]:
    """What would leave this machine so that a language model explains alerts."""
    from flows.enrich.destination import in_words
    from flows.errors import NetSpectraError
    from flows.settings import load

    try:
        llm = load().llm
    except NetSpectraError:
        return  # told by the check of the settings
    yield Finding("ok", "model", in_words(llm))


def store() -> Iterator[Finding]:
    """The settings are good, and the store answers."""
    from flows.errors import NetSpectraError
    from flows.settings import load
    from flows.settings.problems import hide_password

    try:
        loaded = load()
    except NetSpectraError as error:
        for line in str(error).splitlines():
            yield Finding("fail", "settings", line)
        return
    yield Finding("ok", "settings", "good")
    shown, directory = hide_password(loaded.store), loaded.store_directory
    if directory is not None:
        yield _disk(directory)
        if not directory.is_dir() or not any(directory.iterdir()):
            yield Finding("ok", "store", f"{shown} isn't there yet; netspectra run makes it")
            return
    from flows.storage.reader import open_for_reading

    try:
        with open_for_reading(loaded.store) as reader:
            reader.query_text("SELECT 1", "TSV")
    except NetSpectraError as error:
        yield Finding("fail", "store", str(error).splitlines()[0])
    else:
        yield Finding("ok", "store", f"{shown} answers")


def _disk(directory: Path) -> Finding:
    there = next(path for path in (directory, *directory.parents) if path.exists())
    if not os.access(there, os.W_OK):
        return Finding("fail", "disk", f"{there} isn't writable; set NETSPECTRA_STORE=chdb:DIR")
    free_gb = shutil.disk_usage(there).free / 1e9
    if free_gb < MIN_DISK_GB:
        return Finding("warn", "disk", f"{free_gb:.1f} GB free at {there}; make room")
    return Finding("ok", "disk", f"{free_gb:.0f} GB free at {there}")


def _writable(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False
