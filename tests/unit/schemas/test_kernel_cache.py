"""The folder of compiled kernels follows the sources."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numba
import pytest
from numba.core.caching import IndexDataCacheFile

from schemas import kernel_cache


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache home of the test's own, and no choice by the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(kernel_cache.VARIABLE, raising=False)
    return tmp_path / "netspectra"


def test_the_folder_is_named_after_the_sources(home: Path) -> None:
    """The chosen folder exists and carries the digest."""
    kernel_cache.use()
    folder = home / f"kernels-{kernel_cache.digest()}"
    assert os.environ[kernel_cache.VARIABLE] == str(folder)
    assert folder.is_dir()


def test_a_users_choice_stays(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An existing setting is not touched."""
    monkeypatch.setenv(kernel_cache.VARIABLE, "elsewhere")
    kernel_cache.use()
    assert os.environ[kernel_cache.VARIABLE] == "elsewhere"
    assert not home.exists()


def test_folders_in_use_stay(home: Path) -> None:
    """However many there are, those that a program started with lately are kept."""
    for number in range(6):
        (home / f"kernels-{number}").mkdir(parents=True)
    kernel_cache.use()
    assert len(list(home.iterdir())) == 7


def test_old_folders_go(home: Path) -> None:
    """Of those that were not used for long only the newest few are kept."""
    for age in range(6):
        old = home / f"kernels-{age}"
        old.mkdir(parents=True)
        os.utime(old, (1000 + age, 1000 + age))
    kernel_cache.use()
    left = sorted(path.name for path in home.iterdir())
    assert left == sorted([f"kernels-{kernel_cache.digest()}", "kernels-4", "kernels-5"])


def test_no_writable_place_is_no_failure(home: Path) -> None:
    """Where nothing can be written numba's own choice stands."""
    home.write_text("a file, not a folder")
    kernel_cache.use()
    assert kernel_cache.VARIABLE not in os.environ


def test_it_is_chosen_before_numba_is_imported() -> None:
    """Importing a kernel finds the folder in numba's configuration."""
    code = "import flows.kernels.fold, numba, os; print(numba.config.CACHE_DIR)"
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert f"kernels-{kernel_cache.digest()}" in done.stdout


def test_what_is_compiled_at_once_is_kept_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that add code for one kernel take turns: each finds its own code again."""
    numba.njit(lambda: 0)()  # by now numba has called us
    files = [IndexDataCacheFile(str(tmp_path), "kernel", "stamp") for _ in range(2)]
    both_read, read = threading.Barrier(2), IndexDataCacheFile._load_index

    def read_together(self: IndexDataCacheFile) -> Any:
        found = read(self)
        with contextlib.suppress(threading.BrokenBarrierError):
            both_read.wait(0.3)  # in vain where they take turns
        return found

    with monkeypatch.context() as patch:
        patch.setattr(IndexDataCacheFile, "_load_index", read_together)
        threads = [
            threading.Thread(target=file.save, args=(f"types {n}", f"code {n}"))
            for n, file in enumerate(files)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [files[0].load(f"types {n}") for n in range(2)] == ["code 0", "code 1"]
