"""The distribution: three packages, their data, one command, and pins that fit."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAMES = {"flows", "probe", "schemas"}


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"==[\w.]+", str(pin.specifier)) for pin in found)
    return {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in found}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (file,) = directory.glob("*.whl")
    return zipfile.ZipFile(file)


@pytest.mark.requires("hatchling")
def test_wheel_has_three_packages(wheel: zipfile.ZipFile) -> None:
    """The wheel brings exactly our three top-level names, and no compiled kernels."""
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == NAMES
    assert not [name for name in wheel.namelist() if name.endswith((".nbi", ".nbc", ".pyc"))]


@pytest.mark.requires("hatchling")
def test_wheel_has_the_data(wheel: zipfile.ZipFile) -> None:
    """Each schema, migration and type marker of the tree is in the wheel."""
    data = {
        str(file.relative_to(ROOT))
        for name in NAMES
        for file in (ROOT / name).rglob("*")
        if file.suffix in (".avsc", ".sql") or file.name == "py.typed"
    }
    assert {"flows/py.typed", "probe/py.typed", "schemas/py.typed"} <= data
    assert any(name.endswith(".avsc") for name in data)
    assert any(name.endswith(".sql") for name in data)
    assert data <= set(wheel.namelist())


@pytest.mark.requires("hatchling")
def test_wheel_has_the_programs_for_the_kernel(wheel: zipfile.ZipFile) -> None:
    """The C sources, from which BCC compiles, are where an installed probe looks."""
    sources = {file.name for file in (ROOT / "bpf").iterdir() if file.suffix in (".c", ".h")}
    assert "capture.bpf.c" in sources
    assert {f"probe/bpf/{name}" for name in sources} <= set(wheel.namelist())


@pytest.mark.requires("hatchling")
def test_wheel_can_not_be_uploaded_and_has_one_command(wheel: zipfile.ZipFile) -> None:
    """The classifier that indexes refuse is there, the licence is, and one console command."""
    folder = f"netspectra-{PROJECT['version']}.dist-info"
    about = wheel.read(f"{folder}/METADATA").decode()
    assert "Classifier: Private :: Do Not Upload" in about
    assert f"{folder}/licenses/LICENSE" in wheel.namelist()
    points = ConfigParser()
    points.read_string(wheel.read(f"{folder}/entry_points.txt").decode())
    assert list(points["console_scripts"]) == ["netspectra"]


def test_names_have_one_owner() -> None:
    """No other installed distribution brings a package of one of our names."""
    owners = metadata.packages_distributions()
    assert all(set(owners.get(name, [])) <= {"netspectra"} for name in NAMES)


def test_lock_satisfies_the_project() -> None:
    """Every requirement, the developers' too, is pinned to a version that it accepts."""
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    pinned = pins()
    for requirement in map(Requirement, wanted):
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement


def test_lock_is_complete() -> None:
    """What the pinned packages themselves require here is pinned too, and fits."""
    pinned = pins()
    for name in pinned:
        try:
            required = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for requirement in map(Requirement, required):
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            version = pinned.get(canonicalize_name(requirement.name))
            assert version, f"{name} needs {requirement}"
            assert requirement.specifier.contains(version, prereleases=True), requirement


def test_lock_names_no_host() -> None:
    """The lock holds names and versions only, so that any index will do."""
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"://|--|@|\.(com|org|net|io)\b", text)


def test_version_is_the_same_everywhere() -> None:
    """The package and the project agree on the version."""
    import flows

    assert flows.__version__ == PROJECT["version"]
