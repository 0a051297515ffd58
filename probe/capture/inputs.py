"""Which capture files a name or a glob means, and the identity of what they hold."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from probe.capture.reader import CaptureFile
from probe.errors import CaptureError

WHOLE_BYTES: Final = 64 << 20
"""Files up to this size are hashed whole, larger ones by samples."""

_SAMPLES: Final = 64
_SAMPLE_BYTES: Final = 64 << 10


def expand(pattern: str) -> list[Path]:
    """Find the capture files that ``pattern`` names, in the order in which to read them.

    Args:
        pattern: a file, or a glob (``**`` for any depth); ``~`` is the home directory. A file
            of exactly that name comes before the meaning as a glob.

    Returns:
        The files by time of their first packet, those without packets last; equal times by
        name.

    Raises:
        CaptureError: nothing matches, or a file that does is no capture that can be read.
    """
    path = Path(pattern).expanduser()
    if path.exists() or not glob.has_magic(pattern):
        paths = [path]
    else:
        # Path.glob takes no absolute patterns.
        names = glob.iglob(str(path), recursive=True)  # noqa: PTH207
        paths = [Path(name) for name in names if not Path(name).is_dir()]
    if not paths:
        msg = f"{pattern} matches no file: check the pattern, and quote it in a shell"
        raise CaptureError(msg)
    return sorted(paths, key=_reading_order)


def content_id(paths: Iterable[Path]) -> str:
    """Identify the contents of capture files, whatever their names and order.

    A file counts with its size and its bytes: all of them up to ``WHOLE_BYTES``, above that 64
    evenly spaced blocks of 64 KiB, head and tail among them. Appending to a file changes the
    identity; a change between the samples of a large file that keeps its size doesn't.

    Returns:
        32 hexadecimal digits.

    Raises:
        CaptureError: a file can't be read.
    """
    whole = hashlib.blake2b(digest_size=16)
    for digest in sorted(map(_file_digest, paths)):
        whole.update(digest)
    return whole.hexdigest()


def _reading_order(path: Path) -> tuple[bool, int, str]:
    with CaptureFile(path) as capture:
        return capture.first_ts_ns is None, capture.first_ts_ns or 0, str(path)


def _file_digest(path: Path) -> bytes:
    digest = hashlib.blake2b(digest_size=32)
    try:
        with path.open("rb") as file:
            size_bytes = path.stat().st_size
            digest.update(size_bytes.to_bytes(8, "little"))
            for block in _blocks(file, size_bytes):
                digest.update(block)
    except OSError as error:
        msg = f"{path} can't be read: {error.strerror}"
        raise CaptureError(msg) from None
    return digest.digest()


def _blocks(file: BinaryIO, size_bytes: int) -> Iterator[bytes]:
    if size_bytes <= WHOLE_BYTES:
        while block := file.read(1 << 20):
            yield block
        return
    last = size_bytes - _SAMPLE_BYTES
    for sample in range(_SAMPLES):
        file.seek(last * sample // (_SAMPLES - 1))
        yield file.read(_SAMPLE_BYTES)
