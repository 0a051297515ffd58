"""Mends what a killed process can leave in an embedded store, before the engine opens it.

The engine writes an insert's token into the table's deduplication log and then puts the part
in place by renaming it (seen by tracing its system calls). Killed between the two, it knows a
token whose rows it doesn't have, and would drop the rows when they are sent again. Here such
tokens are forgotten.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_PART: Final = re.compile(r"(?P<partition>.+?)_(?P<first>\d+)_(?P<last>\d+)_\d+(?:_\d+)?")
_ADD: Final = "1"


def forget_tokens_without_rows(directory: Path) -> int:
    """Take tokens out of the deduplication logs whose part is nowhere in the table.

    A part counts as present when a merged part covers it. Call it while no engine is open.

    Args:
        directory: an embedded store's directory.

    Returns:
        How many tokens were forgotten.
    """
    return sum(_mend(log) for log in directory.glob("store/*/*/deduplication_logs/*.txt"))


def _mend(log: Path) -> int:
    blocks = _blocks(log.parent.parent)
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not _orphaned(line, blocks)]
    if len(kept) < len(lines):
        mended = log.with_suffix(".mended")
        mended.write_text("".join(kept), encoding="utf-8")
        mended.replace(log)
    return len(lines) - len(kept)


def _blocks(table: Path) -> dict[str, list[tuple[int, int]]]:
    """Ranges of block numbers that the parts of a table cover, by partition."""
    found: dict[str, list[tuple[int, int]]] = {}
    for part in _parts(entry.name for entry in os.scandir(table) if entry.is_dir()):
        found.setdefault(part[0], []).append(part[1:])
    return found


def _parts(names: Iterable[str]) -> Iterable[tuple[str, int, int]]:
    for name in names:
        match = _PART.fullmatch(name)
        if match and not name.startswith("tmp"):
            yield match["partition"], int(match["first"]), int(match["last"])


def _orphaned(line: str, blocks: dict[str, list[tuple[int, int]]]) -> bool:
    operation, _, rest = line.rstrip("\n").partition("\t")
    part = next(iter(_parts([rest.partition("\t")[0]])), None)
    if operation != _ADD or part is None:
        return False
    partition, first, last = part
    return not any(low <= first and last <= high for low, high in blocks.get(partition, ()))
