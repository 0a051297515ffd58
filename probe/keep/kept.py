"""Which of the files that a probe kept hold the packets of some time."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from probe.errors import KeepError
from probe.keep.files import own_files

_BEGAN: Final = re.compile(r"netspectra-(\d{8}T\d{6})Z-")
_NS_PER_S: Final = 1_000_000_000
_OUT_OF_ORDER_NS: Final = 10 * _NS_PER_S
"""How far packets of several interfaces may be out of order between files."""


@dataclass(frozen=True)
class Kept:
    """What was kept of some time.

    Attributes:
        paths: files that may hold packets of it, in order.
        gaps: what is known to be missing, a line each.
    """

    paths: list[Path]
    gaps: list[str]


@dataclass(frozen=True)
class _File:
    number: int
    path: Path
    began_ns: int


def kept(directory: Path, first_ns: int, last_ns: int) -> Kept:
    """Find the files with frames that were captured from one time to another.

    Args:
        directory: where ``netspectra probe --write`` writes.
        first_ns: Unix ns.
        last_ns: Unix ns.

    Raises:
        KeepError: the directory can't be read, or holds no file that a probe kept.
    """
    files = _files(directory)
    frames = [file for file in files if file.path.suffix == ".pcapng"]
    if not files:
        msg = f"{directory} holds no file that `netspectra probe --write` made"
        raise KeepError(msg)
    if not frames:
        msg = f"{directory} holds records, not frames: `--write-format pcapng` keeps frames"
        raise KeepError(msg)
    ends_ns = [file.began_ns for file in frames[1:]] + [None]
    wanted = [
        file
        for file, end_ns in zip(frames, ends_ns, strict=True)
        if file.began_ns <= last_ns + _OUT_OF_ORDER_NS
        and (end_ns is None or end_ns + _OUT_OF_ORDER_NS >= first_ns)
    ]
    return Kept([file.path for file in wanted], _gaps(files, wanted, first_ns))


def _gaps(files: list[_File], wanted: list[_File], first_ns: int) -> list[str]:
    gaps = []
    oldest = files[0]
    if first_ns < oldest.began_ns:
        before = f"{datetime.fromtimestamp(oldest.began_ns // _NS_PER_S, UTC):%Y-%m-%d %H:%M:%S}"
        why = (
            f"{oldest.number} older file(s) have been deleted"
            if oldest.number
            else "that is when the probe began to keep them"
        )
        gaps.append(f"no packets were kept from before {before} UTC: {why}")
    if wanted:
        there = {file.number for file in files}
        lost = set(range(wanted[0].number, wanted[-1].number)) - there
        if lost:
            gaps.append(f"{len(lost)} file(s) in between are gone, number {min(lost)} the first")
    return gaps


def _files(directory: Path) -> list[_File]:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        msg = f"{directory} can't be read: {error.strerror}"
        raise KeepError(msg) from None
    try:
        own, _ = own_files(descriptor)
    finally:
        os.close(descriptor)
    return [_File(file.number, directory / file.name, _began_ns(file.name)) for file in own]


def _began_ns(name: str) -> int:
    match = _BEGAN.match(name)
    assert match is not None
    try:
        began = datetime.strptime(match[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return 0  # a name like ours that isn't; its packets will tell
    return int(began.timestamp()) * _NS_PER_S
