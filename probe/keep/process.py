"""The process that writes: ``python -P -m probe.keep.process``, started by ``Keeper`` only.

Its standard input is a pipe from the probe: first a ``Setup``, then, for records, which slots
hold them. It ends when that pipe is closed, by the probe or with it, and on nothing else.
Standard output is a pipe back: one line, ``ready`` or what is wrong, then slots to use again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from probe import privileges
from probe.errors import KeepError, ProbeError
from probe.keep.avro import AvroBlocks
from probe.keep.cells import map_cells
from probe.keep.frames import FrameKeeper, open_rings
from probe.keep.records import keep_records
from probe.keep.setup import READY, Setup, receive
from probe.keep.slots import read_slots
from probe.keep.text import TextLines

_INPUT, _OUTPUT, _ERRORS = 0, 1, 2
_NICE: Final = 5


def main() -> None:
    """Write until the pipe is closed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the probe gets them too and closes the pipe
    answers = os.dup(_OUTPUT)
    os.dup2(_ERRORS, _OUTPUT)  # nothing else gets between the answers
    try:
        run = prepare(receive(_INPUT), answers)
    except ProbeError as error:
        os.write(answers, f"{error}\n".encode())
        return
    with contextlib.suppress(OSError):
        os.nice(_NICE)  # when there is too little CPU, capturing comes first
    os.write(answers, READY)
    run()


def prepare(setup: Setup, answers: int) -> Callable[[], None]:
    """Open all that takes privileges, give them up, and return what is to be run.

    Raises:
        ProbeError: nothing can be kept.
    """
    options, cells = setup.options, map_cells(setup.cells)
    directory = open_directory(options.directory)
    run: Callable[[], None]
    if options.format == "pcapng":
        rings = open_rings(list(setup.interfaces.values()), options, setup.capture)
        run = partial(FrameKeeper(rings, directory, options, setup.capture, cells).run, _INPUT)
    else:
        kind = AvroBlocks if options.format == "avro" else TextLines
        encoder = kind(setup.interfaces)
        batches = read_slots(setup.slots, _INPUT, answers)
        run = partial(keep_records, batches, encoder, directory, options, cells)
    owner = os.fstat(directory).st_uid
    privileges.drop(str(owner) if os.geteuid() == 0 else None)
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=directory, effective_ids=True):
        msg = f"{options.directory} can't be written by its owner: change its permissions"
        raise KeepError(msg)
    return run


def open_directory(path: Path) -> int:
    """Open the directory for files, for one process at a time, and make it if need be.

    A new one belongs to the user who called sudo.

    Raises:
        KeepError: it can't be used.
    """
    try:
        new = not path.exists()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        user, group = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
        if new and os.geteuid() == 0 and user.isdigit() and group.isdigit():
            os.fchown(directory, int(user), int(group))
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        msg = f"another probe keeps its files in {path}: choose another directory"
        raise KeepError(msg) from None
    except OSError as error:
        msg = f"{path} can't hold files: {error.strerror}; choose another directory"
        raise KeepError(msg) from None
    return directory


if __name__ == "__main__":
    main()
