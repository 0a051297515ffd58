"""Alerts in a file."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from flows.notify.file import FileNotifier
from flows.notify.notifier import NotTold
from flows.settings.notifiers import File
from tests.support.alerts import alert


def notifier(path: Path, **more: Any) -> FileNotifier:
    values = {"name": "log", "type": "file", "path": str(path)}
    return FileNotifier(File.model_validate(values | more))


def revisions(path: Path) -> list[int]:
    return [json.loads(text)["revision"] for text in path.read_text().splitlines()]


def test_each_alert_is_a_line(tmp_path: Path) -> None:
    """One JSON object a line, in a file that others can't read."""
    told = notifier(tmp_path / "alerts.jsonl")
    for revision in (1, 2, 3):
        told.send(alert(revision=revision, summary="two\nlines"))
    assert revisions(tmp_path / "alerts.jsonl") == [1, 2, 3]
    assert stat.S_IMODE((tmp_path / "alerts.jsonl").stat().st_mode) == 0o600


def test_files_that_have_grown_are_put_aside(tmp_path: Path) -> None:
    """Older ones get higher numbers, and the oldest go."""
    size = len(json.dumps({})) + 3000
    told = notifier(tmp_path / "a", rotate_bytes=size, keep=2)
    text = "x" * 300
    for revision in range(1, 8):
        told.send(alert(revision=revision, title=text, summary=text * 3))
    found = {path.name: revisions(path) for path in sorted(tmp_path.iterdir())}
    assert list(found) == ["a", "a.1", "a.2"]
    kept = [revision for name in ("a.2", "a.1", "a") for revision in found[name]]
    assert kept == list(range(kept[0], 8))
    assert all(path.stat().st_size <= size for path in tmp_path.iterdir())


def test_a_line_that_was_cut_off_stays_alone(tmp_path: Path) -> None:
    """After a kill in the middle of a line the next alert begins a new one."""
    path = tmp_path / "a"
    path.write_text('{"revision":')
    notifier(path).send(alert())
    first, second = path.read_text().splitlines()
    assert first == '{"revision":'
    assert json.loads(second)["revision"] == 1


def test_a_file_may_be_moved_away(tmp_path: Path) -> None:
    """The next alert is written to a new one, as programs that rotate logs expect."""
    path = tmp_path / "a"
    told = notifier(path)
    told.send(alert())
    path.rename(tmp_path / "old")
    told.send(alert(revision=2))
    assert revisions(path) == [2]


def test_what_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    """A directory that isn't there may come."""
    told = notifier(tmp_path / "later" / "a")
    with pytest.raises(NotTold, match="No such file or directory"):
        told.send(alert())
    (tmp_path / "later").mkdir()
    told.send(alert())
