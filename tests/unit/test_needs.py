"""NETSPECTRA_REQUIRE: what must be there makes a test fail, not skip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TEST = """
import pytest

@pytest.mark.requires("captures")
def test_needs_captures():
    raise AssertionError("ran without captures")
"""


def run_pytest(directory: Path, **env: str) -> subprocess.CompletedProcess[str]:
    (directory / "test_it.py").write_text(TEST)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NETSPECTRA_")}
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml")),
            *("--rootdir", str(directory), "-p", "tests.conftest", "-p", "no:cacheprovider"),
            str(directory / "test_it.py"),
        ],
        capture_output=True,
        text=True,
        env={**clean, "PYTHONPATH": str(ROOT), "NETSPECTRA_CAPTURES": str(directory), **env},
        cwd=directory,
        check=False,
    )


def test_missing_need_skips_with_the_reason(tmp_path: Path) -> None:
    """A test whose need isn't met is skipped and says why."""
    done = run_pytest(tmp_path)
    assert done.returncode == 0
    assert "NETSPECTRA_CAPTURES names their directory" in done.stdout
    assert "1 skipped" in done.stdout


def test_required_need_fails(tmp_path: Path) -> None:
    """The same test fails where the need is required."""
    done = run_pytest(tmp_path, NETSPECTRA_REQUIRE="captures")
    assert done.returncode == 1
    assert "NETSPECTRA_REQUIRE names captures: no captures" in done.stdout


def test_met_need_runs(tmp_path: Path) -> None:
    """With the need met the test itself runs."""
    (tmp_path / "expected.jsonl").touch()
    assert "ran without captures" in run_pytest(tmp_path).stdout


@pytest.mark.parametrize("name", ["kafak", "captures,x"])
def test_unknown_need_is_refused(tmp_path: Path, name: str) -> None:
    """A misspelt need can't silently require nothing."""
    done = run_pytest(tmp_path, NETSPECTRA_REQUIRE=name)
    assert done.returncode == 4
    assert "NETSPECTRA_REQUIRE: unknown" in done.stderr
