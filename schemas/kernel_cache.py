"""Where numba keeps compiled kernels: one folder for each state of their sources.

numba notices a change of the file that a kernel is in, but not of the helpers that were
compiled into it from other files; after an upgrade it would run old code. So the folder's name
is a digest of all files with kernels. It is chosen before numba is imported, by ``schemas``
itself, which every package of ours imports first.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import Any, Final

VARIABLE: Final = "NUMBA_CACHE_DIR"
_KERNELS: Final = (
    "schemas/hashing.py",
    "probe/**/*.py",
    "flows/kernels/*.py",
)
_KEPT: Final = 3
_UNUSED_S: Final = 30 * 24 * 3600.0
"""A folder is touched at each start, so by now no program is likely to run with it."""


def use() -> None:
    """Point numba to the folder, unless the user chose one or none can be written."""
    if VARIABLE in os.environ:
        return
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "netspectra"
    folder = base / f"kernels-{digest()}"
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True)
            with contextlib.suppress(OSError):  # another program forgets the same ones
                _forget_old(base)
        folder.touch()
    except OSError:
        return  # numba's own choice, beside the sources, may still be writable
    os.environ[VARIABLE] = str(folder)


def take_turns() -> None:
    """Let one process at a time add a kernel; numba calls this itself, see pyproject.toml.

    numba chooses a number for the file of code, writes it into its index, then the code. Two
    processes that compile one kernel for different types at once can choose the same number,
    and later ones would run the code of the one on arrays of the other.
    """
    from numba.core import caching

    if VARIABLE not in os.environ:
        return
    lock_file = Path(os.environ[VARIABLE]) / "lock"
    cache: Any = caching.IndexDataCacheFile
    save = cache.save

    def save_alone(self: Any, key: object, data: object) -> None:
        with lock_file.open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            save(self, key, data)

    cache.save = save_alone


def digest() -> str:
    """Digest of the sources that hold kernels or helpers of kernels, and where they are."""
    root = Path(__file__).resolve().parent.parent
    hasher = hashlib.blake2b(str(root).encode(), digest_size=8)
    for pattern in _KERNELS:
        for path in sorted(root.glob(pattern)):
            hasher.update(path.name.encode() + b"\0" + path.read_bytes())
    return hasher.hexdigest()


def _forget_old(base: Path) -> None:
    """Remove what no program uses: one that runs would lose its kernels in the middle of it."""
    folders = sorted(base.glob("kernels-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for folder in folders[_KEPT:]:
        if time.time() - folder.stat().st_mtime > _UNUSED_S:
            shutil.rmtree(folder, ignore_errors=True)
