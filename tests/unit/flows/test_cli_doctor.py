"""``netspectra doctor``: each thing that is wrong is found, with what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from flows.cli import doctor, main


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def only(check: Callable[[], Iterator[doctor.Finding]], what: str) -> doctor.Finding:
    (finding,) = (finding for finding in check() if finding.what == what)
    return finding


def test_healthy_machine_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """Where all is well nothing fails and the exit code is 0."""
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "fail" not in text
    for what in [
        "python",
        "names",
        "numba",
        "cores",
        "memory",
        "sketches",
        "tasks",
        "disk",
        "store",
    ]:
        assert f"  {what} " in text


def test_wrong_settings_fail(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings that can't be used fail, in the words that name them."""
    monkeypatch.setenv("NETSPECTRA_STOR", "chdb:x")
    assert main(["doctor"]) == 1
    assert "did you mean NETSPECTRA_STORE?" in capsys.readouterr().out


def test_store_that_is_no_directory_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store in whose place something else is fails."""
    Path("occupied").mkdir()
    Path("occupied/file").touch()
    monkeypatch.setenv("NETSPECTRA_STORE", "chdb:occupied")
    assert only(doctor.store, "store").level == "fail"


def test_foreign_owner_of_a_name_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another distribution with a package of our name fails, and is named."""
    owners = {"flows": ["netspectra", "flows"], "probe": ["netspectra"]}
    monkeypatch.setattr(metadata, "packages_distributions", lambda: owners)
    finding = only(doctor.owners, "names")
    assert finding.level == "fail"
    assert "flows also belong to flows; pip uninstall flows" in finding.found


def test_missing_and_old_packages_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is missing or too old fails, with how to install it."""
    wanted = ["click>=99", "surely-not-there>=1", "numpy", 'only-elsewhere; extra == "dev"']
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    finding = only(doctor.packages, "packages")
    assert finding.level == "fail"
    assert "is not >=99; surely-not-there is missing; pip install" in finding.found
    assert "only-elsewhere" not in finding.found


def test_other_python_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python without a wheel of the engine fails."""
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    assert only(doctor.python, "python").level == "fail"


def test_little_memory_and_disk_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little memory or disk warns and says what to do."""
    monkeypatch.setattr(doctor, "available_gb", lambda: 0.5)
    assert only(doctor.machine, "memory").found.endswith("lower window.max_flows")
    monkeypatch.setattr(doctor, "MIN_DISK_GB", 1e9)
    assert only(doctor.store, "disk").level == "warn"


def test_slow_sketches_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shortcut that differs from the library warns: right results, slower."""
    import flows.sketches

    monkeypatch.setattr(flows.sketches, "selfcheck", lambda: ["distinct: coupons differ"])
    finding = only(doctor.sketches, "sketches")
    assert finding.level == "warn"
    assert finding.found.startswith("distinct: coupons differ: results are right")


def test_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that itself fails is reported, and the others still run."""

    def broken() -> None:
        raise OSError("no /proc\nhere")

    monkeypatch.setattr(doctor, "available_gb", broken)
    findings = list(doctor.examine())
    assert any(f.level == "fail" and f.found == "OSError: no /proc" for f in findings)
    assert findings[-1].what == "store"
