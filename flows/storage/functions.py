"""Tells the embedded engine where the programs behind our SQL functions are.

The same programs serve a server (``deploy/clickhouse/udf``). The engine starts one when a
statement first uses its function, and ends it when it closes.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Final

from flows.storage.sketch_signatures import configuration

FOLDER: Final = "functions"
_FILE: Final = "netspectra_function.xml"
_PROGRAMS: Final = 1


def write(directory: Path) -> Path:
    """Write the engine's configuration for this Python into a store's directory.

    Returns:
        The folder, for the engine's option ``udf_path``.
    """
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    command = f"exec {shlex.quote(sys.executable)} -m flows.storage.serve_functions"
    text = configuration(command, direct=False, programs=_PROGRAMS)
    file = folder / _FILE
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        file.write_text(text, encoding="utf-8")
    return folder
