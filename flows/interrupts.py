"""Ctrl-C while a program starts: it ends with one line and exit code 130.

An import, a compiled kernel or an engine's callback that a KeyboardInterrupt goes through may
swallow it, print it, or make another error of it. Nothing that is worth waiting for has begun
then, and a store bears being killed, so the process ends where it is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

STOPPED: Final = 130

_temporary: list[Path] = []


def end_at_once(number: int, frame: FrameType | None) -> None:
    """Handle SIGINT: remove what is temporary, say so, and end the process."""
    signal.signal(number, signal.SIG_IGN)
    for directory in _temporary:
        shutil.rmtree(directory, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.write(2, b"\nnetspectra: stopped\n" if os.isatty(2) else b"netspectra: stopped\n")
    os._exit(STOPPED)


@contextlib.contextmanager
def ending_at_once(temporary: Path | None = None) -> Iterator[None]:
    """End at once by Ctrl-C within this block, where nobody else handles it.

    Args:
        temporary: a directory to be removed then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Any = signal.signal(signal.SIGINT, end_at_once)
    if temporary is not None:
        _temporary.append(temporary)
    try:
        yield
    finally:
        if temporary is not None:
            _temporary.remove(temporary)
        signal.signal(signal.SIGINT, before)
