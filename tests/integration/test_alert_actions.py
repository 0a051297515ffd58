"""What people do with alerts: checked, written by whoever owns the store, seen by the job."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flows.errors import StoreError
from flows.storage import alerts
from flows.storage.alert_actions import perform
from flows.storage.alert_writes import MAX_ACTION_BYTES, Ack, Close, Mute, Unmute
from flows.storage.server import socket_path
from flows.storage.store import Store

ROOT = Path(__file__).parent.parent.parent
ID = "0123456789abcdef" * 2

ACT = """
import sys
from flows.storage.alert_actions import perform
from flows.storage.alert_writes import Close
perform("chdb:" + sys.argv[1], Close(by="eve", alert_id=sys.argv[2], verdict="benign", comment="x"))
"""


def directory(store: Store) -> Path:
    return Path(store.setting.removeprefix("chdb:"))


def post(store: Store, target: str, body: bytes, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    connection.sock.connect(str(socket_path(directory(store))))
    try:
        connection.request("POST", target, body, headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def act_elsewhere(where: Path, alert_id: str) -> None:
    command = [sys.executable, "-c", ACT, str(where), alert_id]
    subprocess.run(command, check=True, timeout=60, cwd=ROOT)


def test_an_action_is_written_while_a_job_runs_and_after(tmp_path: Path) -> None:
    """Another process acts through the owner's socket, later by itself, with the same result."""
    with Store.open(f"chdb:{tmp_path}"):
        act_elsewhere(tmp_path, "a" * 32)
    act_elsewhere(tmp_path, "b" * 32)
    with Store.open(f"chdb:{tmp_path}", serve=False) as store:
        found = alerts.actions(store.query)
    assert [each.alert_id[0] for each in found] == ["a", "b"]
    assert {(each.action, each.verdict, each.done_by, each.comment) for each in found} == {
        ("close", "benign", "eve", "x")
    }


def test_mutes_begin_end_and_are_taken_back(tmp_path: Path) -> None:
    """A mute is in force between its times, unless it was taken back."""
    setting = f"chdb:{tmp_path}"
    with Store.open(setting, serve=False) as store:
        never = Mute(by="a", rule="r", conditions={"addr": ("10.0.0.0/8", "::1")}, since_ms=0,
                     until_ms=alerts.FOREVER_MS, reason="noise")  # fmt: skip
        later = Mute(by="a", rule="later", since_ms=2_000, until_ms=3_000)
        past = Mute(by="a", rule="past", since_ms=0, until_ms=1_000)
        for mute in (never, later, past):
            perform(setting, mute)
        assert [m.rule for m in alerts.mutes(store.query, 1_500)] == ["later", "r"]
        assert [m.rule for m in alerts.mutes(store.query, 1_500, begun=True)] == ["r"]
        (read,) = alerts.read_changes(store.query, 0).mutes
        assert (read.mute_id, read.made_by, read.reason) == (never.mute_id, "a", "noise")
        assert read.conditions == {"addr": ("10.0.0.0/8", "::1")}
        perform(setting, Unmute(**(never.model_dump() | {"by": "b"})))
        assert alerts.read_changes(store.query, 0).mutes == ()


def test_a_job_is_given_each_action_once(tmp_path: Path) -> None:
    """Looking again gives what is new, also in the same millisecond as before."""
    setting = f"chdb:{tmp_path}"
    with Store.open(setting, serve=False) as store:
        watch = alerts.ChangeWatch(store.query, 0)
        given = []
        for number in range(3):
            perform(setting, Ack(by="a", alert_id=f"{number}" * 32))
            given.append([each.alert_id[0] for each in watch.read().actions])
        assert given == [["0"], ["1"], ["2"]]
        assert watch.read().actions == ()
        assert alerts.ChangeWatch(store.query, alerts.FOREVER_MS).read().actions == ()


REFUSED: list[tuple[str, Any, int]] = [
    ("drop", {"by": "a"}, 404),
    ("ack", {"by": "a"}, 400),
    ("ack", {"by": "", "alert_id": ID}, 400),
    ("ack", {"by": "a", "alert_id": ID, "more": 1}, 400),
    ("ack", {"by": "a", "alert_id": "x' OR 1=1"}, 400),
    ("ack", {"by": "a", "alert_id": ID, "comment": "c" * 1001}, 400),
    ("ack", {"by": 7, "alert_id": ID}, 400),
    ("close", {"by": "a", "alert_id": ID, "verdict": "none"}, 400),
    ("mute", {"by": "a", "since_ms": 0, "until_ms": 1}, 400),
    ("mute", {"by": "a", "since_ms": 1, "until_ms": 1, "rule": "r"}, 400),
    ("mute", {"by": "a", "since_ms": 0, "until_ms": 10**15, "rule": "r"}, 400),
    ("mute", {"by": "a", "since_ms": 0, "until_ms": 1, "conditions": {"x": ["1"]}}, 400),
    ("mute", {"by": "a", "since_ms": 0, "until_ms": 1, "conditions": {"addr": []}}, 400),
    ("mute", [], 400),
]


def test_what_is_no_action_is_refused(tmp_path: Path) -> None:
    """The socket takes no action that is unknown, too long, or not exactly as it has to be."""
    with Store.open(f"chdb:{tmp_path}") as store:
        for name, body, status in REFUSED:
            answer = post(store, f"/alerts/{name}", json.dumps(body).encode())
            assert (answer[0], len(answer[1].splitlines())) == (status, 1), (name, body, answer)
        too_long = {"Content-Length": f"{MAX_ACTION_BYTES + 1}"}
        assert post(store, "/alerts/ack", b"\xff")[0] == 400
        assert post(store, "/alerts/ack", b"{" * 10)[0] == 400
        assert post(store, "/alerts/ack", b"", **too_long)[0] == 413
        assert post(store, "/alerts/ack/x", b"SELECT 1")[0] == 404
        assert post(store, "/alerts", b"SELECT 1")[0] == 404
        assert not alerts.actions(store.query)
        assert not alerts.mutes(store.query, 0)


def test_a_refusal_by_the_engine_is_told(tmp_path: Path) -> None:
    """What the owner's engine says comes back as an error, not as done."""
    with Store.open(f"chdb:{tmp_path}") as store:
        store.command("DROP TABLE alert_actions")
        body = Ack(by="a", alert_id=ID).model_dump_json().encode()
        assert post(store, "/alerts/ack", body)[0] == 404
        with pytest.raises(StoreError, match="alert_actions"):
            perform(store.setting, Ack(by="a", alert_id=ID))


def test_no_store_to_act_on(tmp_path: Path) -> None:
    """An action makes no store, but says how to."""
    with pytest.raises(StoreError, match="netspectra run"):
        perform(f"chdb:{tmp_path}/none", Ack(by="a", alert_id=ID))
    assert not (tmp_path / "none").exists()


def test_actions_are_checked_where_they_are_made() -> None:
    """A mute of everything can't be made."""
    with pytest.raises(ValidationError, match="every alert"):
        Mute(by="a", since_ms=0, until_ms=alerts.FOREVER_MS)
    with pytest.raises(ValidationError, match="verdict"):
        Close(by="a", alert_id=ID, verdict="maybe")  # type: ignore[arg-type]
