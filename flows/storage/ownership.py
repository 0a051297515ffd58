"""One process owns an embedded directory: a lock file that the kernel frees with the process."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path
from typing import Final

from flows.errors import StoreError, StoreOwned

LOCK_NAME: Final = "netspectra.lock"


class Ownership:
    """A held lock on a store's directory; the file names the process for others to read."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, directory: Path, purpose: str) -> Ownership:
        """Create the directory if need be and take its lock.

        Args:
            directory: the store's directory.
            purpose: what this process does with it, one word or two for others' messages.

        Raises:
            StoreOwned: another process has the lock.
            StoreError: the directory can't be made or written.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(
                directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as e:
            msg = f"the store chdb:{directory} can't be opened: {e.strerror or e}"
            raise StoreError(msg) from e
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            owner = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            os.close(descriptor)
            msg = (
                f"the store chdb:{directory} is in use by {owner or 'another process'}; "
                "stop that process or choose another directory "
                "(`netspectra sql` can read while a job runs)"
            )
            raise StoreOwned(msg) from e
        program = Path(sys.argv[0] or "python").name
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} ({program}, {purpose})\n".encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Give the directory free. The file stays: removing it would race with the next owner."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
