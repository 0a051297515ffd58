"""Run a function in a fresh process, so that its memory is its own.

``python -m flows.benchmarks.fresh module:function '{"argument": 1}'`` prints its result as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from flows.errors import NetSpectraError

_ROOT = Path(__file__).parents[2]


def call(function: str, **arguments: Any) -> Any:
    """Call ``module:function`` in a fresh interpreter.

    Args:
        function: takes and returns what JSON can say.
        arguments: by name.

    Raises:
        NetSpectraError: the process failed; its last line of output says why.
    """
    done = subprocess.run(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", __name__, function, json.dumps(arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        msg = f"the benchmark {function} failed: {lines[-1]}"
        raise NetSpectraError(msg)
    return json.loads(done.stdout.splitlines()[-1])


def environment() -> dict[str, str]:
    """Variables with which a new process finds our modules, and no settings of ours."""
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    kept = {name: v for name, v in os.environ.items() if not name.startswith("NETSPECTRA_")}
    return {**kept, "PYTHONPATH": path}


def peak_bytes() -> int:
    """Most memory that this process has held, resident.

    Not ``getrusage``: its maximum includes that of the process that started this one.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return 0


def main(function: str, arguments: str) -> None:
    """The fresh process."""
    module, _, name = function.partition(":")
    result = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
