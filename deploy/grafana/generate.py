#!/usr/bin/env python3
"""Writes the dashboards' JSON beside this file, or checks that it is what would be written."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from dashboards import ALL

DIRECTORY = Path(__file__).parent / "dashboards"


def main() -> int:
    """Write or check; 1 if a file is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    check = parser.parse_args().check
    wanted = {}
    for make in ALL:
        made = make()
        wanted[DIRECTORY / f"{made['uid']}.json"] = json.dumps(made, indent=2, ensure_ascii=False)
    stale = {path for path in DIRECTORY.glob("*.json") if path not in wanted}
    for path, text in wanted.items():
        if check and (not path.exists() or path.read_text("utf-8") != f"{text}\n"):
            stale.add(path)
        elif not check:
            path.write_text(f"{text}\n", encoding="utf-8")
    for path in sorted(stale):
        print(f"{path.name} is not what generate.py writes; run deploy/grafana/generate.py")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
