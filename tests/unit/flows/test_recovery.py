"""The directory of recovery files: found in the runner's arguments, made when it isn't there."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from flows import recovery
from flows.errors import UsageError


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["flows.main"], None),
        (["flows.main", "-r", "kept", "-s", "10", "-b", "0"], "kept"),
        (["-rkept", "flows.main"], "kept"),
        (["flows.main", "--recovery-directory=kept"], "kept"),
        (["flows.main", "-w", "2", "--recovery-directory", "kept"], "kept"),
    ],
)
def test_the_runners_option_is_understood(arguments: list[str], found: str | None) -> None:
    """However it is written."""
    assert recovery.directory_of(arguments) == (found and Path(found))


def test_the_runners_environment_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """The option wins over the variable."""
    monkeypatch.setenv("BYTEWAX_RECOVERY_DIRECTORY", "there")
    assert recovery.directory_of(["flows.main"]) == Path("there")
    assert recovery.directory_of(["flows.main", "-r", "here"]) == Path("here")


def test_the_first_process_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the runner's option or variable; without either there is one process."""
    assert recovery.process_of(["flows.main", "-w", "2"]) == 0
    assert recovery.process_of(["flows.main", "-i", "1", "-a", "x:1;y:2"]) == 1
    monkeypatch.setenv("BYTEWAX_PROCESS_ID", "2")
    assert recovery.process_of(["flows.main"]) == 2


def test_it_is_made_once(tmp_path: Path) -> None:
    """By whichever of several processes comes first; what is there stays."""
    directory = tmp_path / "a" / "b"
    makers = [threading.Thread(target=recovery.prepare, args=(directory,)) for _ in range(4)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    files = sorted(directory.iterdir())
    assert len(files) == recovery.PARTITIONS
    before = [path.read_bytes() for path in files]
    recovery.prepare(directory)
    assert [path.read_bytes() for path in files] == before


def test_other_directories_are_left_alone(tmp_path: Path) -> None:
    """One with something else in it, and one that can't be, are refused."""
    (tmp_path / "letters.txt").touch()
    with pytest.raises(UsageError, match=r"no directory of recovery files \(letters.txt is in it"):
        recovery.prepare(tmp_path)
    with pytest.raises(UsageError, match="can't be kept in"):
        recovery.prepare(tmp_path / "letters.txt" / "below")
