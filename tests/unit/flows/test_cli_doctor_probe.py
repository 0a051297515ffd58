"""What ``netspectra doctor`` says of capturing: all of it, and how to get what is missing."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from flows.cli import doctor_interfaces, doctor_probe
from flows.cli.doctor import Finding
from probe.ebpf import loaded, syscalls
from probe.privileges import capabilities
from tests.support.processes import open_files

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def no_memory_of_bcc() -> Iterator[None]:
    doctor_probe.bcc_reason.cache_clear()
    yield
    doctor_probe.bcc_reason.cache_clear()


def only(check: Callable[[], Iterator[Finding]], what: str) -> Finding:
    (finding,) = (finding for finding in check() if finding.what == what)
    return finding


def refuse(number: int) -> Callable[..., NoReturn]:
    def refusing(*arguments: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return refusing


def test_everything_is_told_and_nothing_fails() -> None:
    """Whatever a machine has, each part has its line and none is a failure."""
    findings = list(doctor_probe.examine())
    told = {finding.what for finding in findings}
    assert {"kernel", "privileges", "libbpf", "bcc", "bpffs", "ring", "clock"} <= told
    assert findings[-1].what == "capture"
    assert {finding.level for finding in findings} <= {"ok", "warn"}
    assert all("\n" not in finding.found for finding in findings)
    assert not any("could not be examined" in finding.found for finding in findings)


def test_kernel_parts_are_tried(missing: Callable[[str, str], NoReturn]) -> None:
    """With the privileges, a kernel that can do it is said to."""
    if not {"BPF", "NET_ADMIN"} <= capabilities():
        missing("bpf", "needs CAP_BPF and CAP_NET_ADMIN")
    before = open_files()
    assert doctor_probe.try_ring_buffer() == ""
    assert doctor_probe.try_program() == ""
    tcx = doctor_probe.try_tcx()
    assert tcx == "" or "Linux 6.6" in tcx
    assert not open_files() - before, "what was tried is left behind"
    assert only(doctor_probe.kernel, "kernel").level == "ok"


def test_without_privileges_the_advice_is_sudo(missing: Callable[[str, str], NoReturn]) -> None:
    """An ordinary user reads what to do, in the lines that need it."""
    if os.geteuid() != 0:
        missing("bpf", "only root can become somebody else")
    script = """
import json
import probe.ebpf.loaded, probe.ebpf.syscalls
from flows.cli import doctor_probe
from probe import privileges
doctor_probe.bcc_reason = lambda package: "another user can't start this Python"
privileges.drop("nobody")
checks = doctor_probe.kernel, doctor_probe.privileges, doctor_probe.capture
print(json.dumps([[f.level, f.what, f.found] for check in checks for f in check()]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    kernel, privileges, capture = json.loads(done.stdout)
    assert kernel[:2] == ["warn", "kernel"]
    assert "no ring buffer: not permitted; run it with sudo" in kernel[2]
    assert privileges[:2] == ["warn", "privileges"]
    assert "packet sockets don't open (Operation not permitted)" in privileges[2]
    assert "BPF, NET_ADMIN, PERFMON, NET_RAW missing: sudo netspectra probe" in privileges[2]
    assert capture[:2] == ["warn", "capture"]
    assert capture[2].startswith("not permitted; run it with sudo")


def test_old_kernels_have_their_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ring buffers or tcx the line says since when there are, and what is used instead."""
    monkeypatch.setattr(syscalls, "bpf", refuse(errno.EINVAL))
    kernel = only(doctor_probe.kernel, "kernel")
    assert kernel.level == "warn"
    assert "no ring buffer: Invalid argument; needs Linux 5.8" in kernel.found
    monkeypatch.setattr(doctor_probe, "_load_program", lambda: os.open("/dev/null", os.O_RDONLY))
    monkeypatch.setattr(syscalls, "create_link", refuse(errno.EINVAL))
    assert doctor_probe.try_tcx() == "Invalid argument; needs Linux 6.6; clsact is used instead"


def files(tmp_path: Path, **parts: object) -> Callable[[], loaded.LoadFiles]:
    found = loaded.LoadFiles(**parts)  # type: ignore[arg-type]
    return lambda: found


def test_missing_loaders_come_with_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without library, object, compiler and BCC each is named, with how to get it."""
    nothing = files(
        tmp_path, compiled=tmp_path / "c.o", libbpf=("libno-such.so",), bcc=tmp_path / "bcc"
    )
    monkeypatch.setattr(loaded, "LoadFiles", nothing)
    monkeypatch.setenv("PATH", str(tmp_path))
    libbpf = only(doctor_probe.loaders, "libbpf")
    assert libbpf.level == "warn"
    assert "no libbpf (apt install libbpf1, dnf install libbpf)" in libbpf.found
    assert "no c.o (make bpf); make bpf needs clang (apt install clang" in libbpf.found
    bcc = only(doctor_probe.loaders, "bcc")
    assert bcc.level == "warn"
    assert bcc.found == "not installed (apt install python3-bpfcc, dnf install python3-bcc)"
    assert "eBPF programs" not in only(doctor_probe.capture, "capture").found


def test_one_loader_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where libbpf works, a missing BCC is no warning."""
    (tmp_path / "c.o").touch()
    monkeypatch.setattr(
        loaded, "LoadFiles", files(tmp_path, compiled=tmp_path / "c.o", bcc=tmp_path / "bcc")
    )
    monkeypatch.setattr(doctor_probe, "libbpf_version", lambda names: "1.1")
    bcc = only(doctor_probe.loaders, "bcc")
    assert bcc.level == "ok"
    assert bcc.found.endswith("not needed, libbpf works")


def test_unrelated_package_called_bcc_is_told(tmp_path: Path) -> None:
    """The other package of that name is recognised, and the advice is to remove it."""
    (tmp_path / "bcc").mkdir()
    (tmp_path / "bcc/__init__.py").write_text("__version__ = '0.1.10'")
    assert "is another one; pip uninstall bcc" in doctor_probe.bcc_reason(tmp_path / "bcc")


def test_bpffs_is_found_among_the_mounts(tmp_path: Path) -> None:
    """Mounted somewhere it is named; else it is said how to mount it, and what for."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text("24 30 0:22 / /proc rw,relatime shared:13 - proc proc rw\n")
    (without,) = doctor_probe.pins(mounts)
    assert without.level == "warn"
    assert "mount -t bpf bpf /sys/fs/bpf" in without.found
    with mounts.open("a") as more:
        more.write("35 24 0:30 / /run/pins rw,nosuid - bpf bpf rw,mode=700\n")
    assert list(doctor_probe.pins(mounts)) == [Finding("ok", "bpffs", "mounted at /run/pins")]


def test_ring_follows_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ring's memory and what it holds are those of the settings."""
    monkeypatch.setenv("NETSPECTRA_CAPTURE__RING_MB", "64")
    (finding,) = doctor_probe.ring()
    assert finding.found.startswith("64 MiB (capture.ring_mb), 699,050 packets: 0.70 s at 1 M/s")
    assert finding.found.endswith(f"{os.cpu_count()} CPUs")


def test_clock_is_the_kernels_word() -> None:
    """Synchronised or not, the clock's source is named and the line is ok only if it is."""
    (finding,) = doctor_probe.clock()
    assert (finding.level == "ok") == ("synchronised to within" in finding.found)
    assert (finding.level == "warn") == ("start chrony" in finding.found)
    source = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    assert finding.found.startswith(source.read_text().strip() if source.is_file() else "unknown")


def test_loopback_is_described() -> None:
    """Every machine has loopback; its type, MTU and offloads are read from the kernel."""
    (loopback,) = (each for each in doctor_interfaces.interfaces() if each.name == "lo")
    assert loopback.kind == "loopback"
    assert loopback.mtu == int(Path("/sys/class/net/lo/mtu").read_text())
    assert str(loopback).startswith("lo: loopback, MTU ")
    assert [name for _, name in socket.if_nameindex()] == [
        each.name for each in doctor_interfaces.interfaces()
    ]


def test_lro_rules_native_xdp_out() -> None:
    """A driver with native XDP is said to have it, but not while LRO merges packets."""
    plain = doctor_interfaces.Interface("eth0", "Ethernet", "mlx5_core", 1500, True, ("GRO",))
    assert str(plain) == "eth0: Ethernet, mlx5_core, MTU 1500, GRO on, XDP native likely"
    merging = doctor_interfaces.Interface("eth0", "Ethernet", "mlx5_core", 1500, True, ("LRO",))
    assert str(merging).endswith("LRO on, XDP generic only while LRO is on")
    other = doctor_interfaces.Interface("eth1", "Ethernet", "e100", 1500, True, ())
    assert str(other).endswith("no offloads, XDP generic only")


def test_many_interfaces_stay_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine full of containers gets some lines, and the rest in one."""
    many = [
        doctor_interfaces.Interface(f"veth{i}", "Ethernet", "veth", 1500, i != 0, ())
        for i in range(60)
    ]
    monkeypatch.setattr(doctor_interfaces, "interfaces", lambda: many)
    findings = list(doctor_probe.network())
    assert len(findings) == doctor_probe.MOST_INTERFACES + 1
    assert findings[-1].found.startswith("48 more, down or not shown: veth0, veth13, ")
    assert findings[-1].found.endswith(", …")


def test_check_that_breaks_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that itself breaks warns in its own name, and the others still run."""
    monkeypatch.setattr(doctor_interfaces, "interfaces", refuse(errno.EIO))
    broken = only(doctor_probe.examine, "network")
    assert broken.level == "warn"
    assert broken.found.startswith("could not be examined (OSError: [Errno 5]")
