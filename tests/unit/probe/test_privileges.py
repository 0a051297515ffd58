"""Privileges: what is left of them afterwards, as the kernel tells it. Each in its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from probe import privileges

ROOT = Path(__file__).parents[3]
STATUS = """
def status(task="/proc/thread-self"):
    lines = open(task + "/status").read().splitlines()
    return dict((name, value.split()) for name, _, value in (line.partition(":") for line in lines))
"""
BPF = """
import ctypes, mmap, struct
syscall = ctypes.CDLL(None, use_errno=True).syscall
def bpf(command, attributes):
    attributes = ctypes.create_string_buffer(attributes, 128)
    return syscall(321, command, attributes, 128), ctypes.get_errno()
def create(kind, key, value, entries):
    return bpf(0, struct.pack("<5I", kind, key, value, entries, 0))
"""


def run(script: str, **environment: str) -> Any:
    """What the script prints as JSON, or the text of its failure."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SUDO_")}
    done = subprocess.run(
        [sys.executable, "-c", STATUS + BPF + script],
        env={**clean, "OPENBLAS_NUM_THREADS": "1", **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr


DROP = """
import json, os
from probe.privileges import drop
line = drop({user!r})
print(json.dumps({{"line": line, **status(), "groups": os.getgroups()}}))
"""


@pytest.fixture
def as_root(missing: Callable[[str, str], NoReturn]) -> None:
    if os.geteuid() != 0 or not {"SETUID", "SETGID"} <= privileges.capabilities():
        missing("bpf", "only root has privileges to drop")


def assert_powerless(left: Any, uid: int, gid: int) -> None:
    assert isinstance(left, dict), left
    assert left["Uid"] == [str(uid)] * 4  # real, effective, saved, of files
    assert left["Gid"] == [str(gid)] * 4
    for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert int(left[kind][0], 16) == 0
    assert left["NoNewPrivs"] == ["1"]


@pytest.mark.usefixtures("as_root")
def test_root_becomes_nobody_without_anything() -> None:
    """Root without sudo ends as nobody: ids, groups and every set of capabilities."""
    left = run(DROP.format(user=None))
    assert_powerless(left, 65_534, 65_534)
    assert left["groups"] == [65_534]
    assert left["line"].startswith("now the user nobody (65534), ")
    if "SETPCAP" in privileges.capabilities():
        assert int(left["CapBnd"][0], 16) == 0


@pytest.mark.usefixtures("as_root")
def test_root_becomes_who_called_sudo() -> None:
    """Under sudo it is the caller again, also one that no list of accounts has."""
    left = run(DROP.format(user=None), SUDO_UID="54321", SUDO_GID="54322")
    assert_powerless(left, 54_321, 54_322)
    assert left["groups"] == []


@pytest.mark.usefixtures("as_root")
def test_named_user_wins_over_the_caller() -> None:
    """A user that is named is the one, and takes that user's groups."""
    left = run(DROP.format(user="daemon"), SUDO_UID="54321", SUDO_GID="54322")
    assert left["line"].startswith("now the user daemon (1), ")
    assert_powerless(left, 1, 1)


@pytest.mark.usefixtures("as_root")
def test_root_may_stay_root_but_powerless() -> None:
    """Root that stays root keeps its files and no capability."""
    assert_powerless(run(DROP.format(user="root")), 0, 0)


@pytest.mark.usefixtures("as_root")
def test_there_is_no_way_back() -> None:
    """Afterwards neither root nor a capability can be had again, and no one looks inside."""
    script = """
import ctypes, json, os
from probe.privileges import drop
drop()
def refused(call, *arguments):
    try:
        call(*arguments)
    except PermissionError:
        return True
    return False
prctl = ctypes.CDLL(None).prctl
print(json.dumps([
    refused(os.setresuid, 0, 0, 0), refused(os.setgroups, [0]), refused(os.chroot, "/"), prctl(3)
]))
"""
    assert run(script)[:3] == [True] * 3
    assert run(script)[3] != 1


@pytest.mark.usefixtures("as_root")
def test_other_threads_lose_them_too() -> None:
    """A thread that was there before has the new ids and no capability either."""
    script = """
import json, threading
from probe.privileges import drop
go, seen = threading.Event(), []
def wait():
    go.wait()
    seen.append(status())
thread = threading.Thread(target=wait)
thread.start()
drop()
go.set()
thread.join()
print(json.dumps({**seen[0], "NoNewPrivs": ["1"]}))
"""
    assert_powerless(run(script), 65_534, 65_534)


@pytest.mark.usefixtures("as_root")
def test_thread_that_keeps_capabilities_is_refused() -> None:
    """Where nothing takes them from another thread, it is an error that says what to do."""
    script = """
import threading
from probe.privileges import drop
go = threading.Event()
thread = threading.Thread(target=go.wait, daemon=True)
thread.start()
drop("root")
"""
    text = run(script)
    assert "PrivilegeError" in text
    assert "still has capabilities" in text
    assert "OPENBLAS_NUM_THREADS=1" in text


@pytest.mark.usefixtures("as_root")
def test_capabilities_that_are_needed_stay() -> None:
    """Those that are named are kept through the change of user, and no others."""
    script = """
import json
from probe.privileges import capabilities, drop
line = drop(keep=("NET_ADMIN", "NET_RAW"))
left = sorted(capabilities()), sorted(capabilities("CapPrm"))
print(json.dumps([line, *left, status()["Uid"][0]]))
"""
    line, effective, permitted, uid = run(script)
    assert line.endswith("capabilities dropped, kept NET_ADMIN, NET_RAW")
    assert effective == permitted == ["NET_ADMIN", "NET_RAW"]
    assert uid == "65534"


@pytest.mark.usefixtures("as_root")
def test_unknown_user_is_refused() -> None:
    """A user that isn't there is refused by name, before anything is given up."""
    text = run(DROP.format(user="no-such-user"))
    assert "PrivilegeError: there is no user no-such-user to become; name one with --user" in text


@pytest.mark.usefixtures("as_root")
def test_failing_to_drop_ends_it() -> None:
    """A process that can't change its user is told so and doesn't go on."""
    script = """
import ctypes, struct
from probe.privileges import CAPABILITIES, drop
bits = ~(1 << CAPABILITIES.index("SETUID"))
low, high = bits & 0xFFFFFFFF, int(status()["CapPrm"][0], 16) >> 32
low &= int(status()["CapPrm"][0], 16) & 0xFFFFFFFF
header = struct.pack("<Ii", 0x20080522, 0)
assert ctypes.CDLL(None).capset(header, struct.pack("<6I", low, low, 0, high, high, 0)) == 0
drop()
print("null")
"""
    text = run(script)
    assert text is not None, "went on"
    assert "PrivilegeError: can't become the user nobody: Operation not permitted" in text
    assert "with --user 0 the probe stays who it is, without capabilities" in text


@pytest.mark.usefixtures("as_root")
def test_what_works_without_privileges_is_tried_in_a_child() -> None:
    """The trial tells what would work, in a process of its own: this one keeps everything."""
    script = """
import json, os
from probe.privileges import capabilities, works_without
answers = [works_without(os.getpid), works_without(lambda: os.setuid(0))]
print(json.dumps([answers, os.geteuid(), "SETUID" in capabilities()]))
"""
    answers = run(script)
    assert isinstance(answers, list), answers
    assert answers == [[True, False], 0, True]


def test_without_privileges_nothing_changes() -> None:
    """An ordinary user stays who it is."""
    script = """
import json, os
from probe.privileges import drop
if os.geteuid() == 0:
    os.setgroups([54321])
    os.setresgid(54321, 54321, 54321)
    os.setresuid(54321, 54321, 54321)
uid = os.geteuid()
line = drop()
print(json.dumps([line, uid, status()]))
"""
    line, uid, left = run(script)
    assert_powerless(left, uid, int(left["Gid"][0]))
    assert line.endswith(f"({uid}), 0 capabilities dropped")


@pytest.mark.usefixtures("as_root")
def test_open_maps_keep_working(missing: Callable[[str, str], NoReturn]) -> None:
    """A mapped ring buffer and the descriptor of counters are readable as before."""
    script = """
import json
from probe.privileges import drop
ring, error = create(27, 0, 0, 4096)
counters, _ = create(6, 4, 8, 1)
if ring < 0 or counters < 0:
    print(json.dumps(error))
    raise SystemExit
position = mmap.mmap(ring, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
def read_counters():
    key, value = ctypes.create_string_buffer(4), ctypes.create_string_buffer(8 * 4096)
    at = struct.pack("<I4xQQQ", counters, ctypes.addressof(key), ctypes.addressof(value), 0)
    return bpf(1, at)[0]
before = read_counters()
drop()
data = mmap.mmap(ring, 4096 * 3, mmap.MAP_SHARED, mmap.PROT_READ, offset=4096)
position[:8] = bytes(8)
print(json.dumps([before, read_counters(), len(data), create(2, 4, 8, 1)[0]]))
"""
    answer = run(script)
    if isinstance(answer, int):
        missing("bpf", f"no BPF maps here: {os.strerror(answer)}")
    assert answer == [0, 0, 4096 * 3, -1], "read before, read after, mapped after, none made after"


@pytest.mark.parametrize(
    ("name", "number"),
    [("CHOWN", 0), ("NET_ADMIN", 12), ("SYS_RESOURCE", 24), ("PERFMON", 38), ("BPF", 39)],
)
def test_capabilities_are_named_in_the_kernels_order(name: str, number: int) -> None:
    """Names stand at the numbers that the kernel gives them."""
    assert privileges.CAPABILITIES.index(name) == number
