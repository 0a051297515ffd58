"""A store with a small run of the demo traffic in it: attacks, alerts, estimates."""

from __future__ import annotations

from pathlib import Path

from tests.support.jobs import CLI, command

PACKETS = 200_000
TENANT = "demo"


def fill(directory: Path) -> str:
    """Run the main job in a process of its own; the store's setting."""
    setting = f"chdb:{directory}"
    done = command(
        [*CLI, "run"],
        directory.parent,
        SOURCE="demo",
        STORE=setting,
        DEMO__PACKETS=str(PACKETS),
        # The span and the attacks of the whole demo, but fewer packets.
        DEMO__PACKETS_PER_SECOND=str(PACKETS // 200),
    )
    assert done.returncode == 0, done.stderr
    return setting
