"""The ring under load: nothing is lost while there is room, and what is lost is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from probe.ebpf.loaded import LoadFiles
from tests.bench.ring import compiled, measure

pytestmark = [pytest.mark.requires("bpf", "libbpf", "clang")]


@pytest.fixture(scope="module", params=["only the ring", "capture programs"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadFiles:
    if request.param == "only the ring":
        return LoadFiles(compiled=compiled(tmp_path_factory.mktemp("ring")))
    found = LoadFiles()
    if not Path(found.compiled).is_file():
        pytest.skip("no compiled programs; make bpf")
    return found


def test_a_reader_that_keeps_up(files: LoadFiles) -> None:
    """Fewer packets than the ring has room for are all read, however slow the machine is."""
    result = measure(files, rate=1e6, seconds=0.1)
    assert result["seen"] == result["read"] > 10_000
    assert result["lost"] == 0


def test_a_reader_that_cant_keep_up(files: LoadFiles) -> None:
    """At far more than the reader takes, seen is read plus lost, and memory stays as it is."""
    result = measure(files, rate=0, seconds=1, reader_limit=50_000)
    assert result["lost"] > 0
    assert result["seen"] == result["read"] + result["lost"]
    assert result["grown_kib"] < 4 * 1024
