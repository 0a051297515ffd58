"""Where the dataflow keeps what it needs to go on: bytewax's recovery store."""

from __future__ import annotations

import argparse
import fcntl
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from flows.errors import UsageError

PARTITIONS: Final = 4
"""Files of a new store; as many workers can write at once."""

_FILE: Final = re.compile(r"part-\d+\.sqlite3$")


def directory_of(arguments: Sequence[str]) -> Path | None:
    """The directory that ``python -m bytewax.run`` is given, by its options or environment."""
    known = _known(arguments, "-r", "--recovery-directory", "BYTEWAX_RECOVERY_DIRECTORY")
    return Path(known) if known else None


def process_of(arguments: Sequence[str]) -> int:
    """Number of this process in the cluster that ``python -m bytewax.run`` is told of."""
    known = _known(arguments, "-i", "--process-id", "BYTEWAX_PROCESS_ID")
    return int(known) if known and known.isdecimal() else 0


def _known(arguments: Sequence[str], short: str, long: str, variable: str) -> str | None:
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument(short, long, dest="value", default=os.environ.get(variable))
    value: str | None = parser.parse_known_args(list(arguments))[0].value
    return value


def default_directory(store: Path | None) -> Path:
    """Beside an embedded store, so that the two are kept and moved together."""
    return Path(f"{store}-recovery") if store is not None else Path("netspectra-recovery")


def prepare(directory: Path) -> None:
    """Make the store if there is none: bytewax wants it to be there.

    Several processes of a cluster may do so at once.

    Raises:
        UsageError: the directory holds something else, or can't be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _make(directory)
        finally:
            os.close(lock)
    except OSError as error:
        msg = f"recovery files can't be kept in {directory}: {error.strerror}"
        raise UsageError(msg) from error


def _make(directory: Path) -> None:
    names = sorted(path.name for path in directory.iterdir())
    if any(_FILE.match(name) for name in names):
        return
    if names:
        msg = f"{directory} is no directory of recovery files ({names[0]} is in it): name another"
        raise UsageError(msg)
    from bytewax.recovery import init_db_dir

    init_db_dir(directory, PARTITIONS)
