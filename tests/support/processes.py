"""Processes: let others stand still, wait for their end; what this one has open."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path


def until(is_so: Callable[[], bool]) -> None:
    """Wait; what never becomes so fails by the test's own limit of time."""
    while not is_so():
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return _state(pid) == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def open_files() -> Counter[str]:
    """What this process has open, by name; threads of libraries open and close theirs any time."""
    names = Counter[str]()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            names[str(path.readlink())] += 1
    return names


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Let a process stand still meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: _state(pid) == "T")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
