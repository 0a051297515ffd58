"""What ``netspectra doctor`` says about capturing: found out by trying, harmlessly.

Nothing here fails: capture files are read without any of it, and what is missing comes with how
to get it.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import platform
import re
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from flows.cli.doctor import Finding

NEEDED: Final = ("BPF", "NET_ADMIN", "PERFMON", "NET_RAW")
"""Capabilities of capturing: eBPF takes the first three, a packet socket the last."""

MOST_INTERFACES: Final = 12
"""Interfaces that get a line of their own."""

_RINGBUF: Final = 27
_SCHED_CLS: Final = 3
_PROG_LOAD: Final = 5
_RETURN_ZERO: Final = struct.pack("<QQ", 0xB7, 0x95)
"""``r0 = 0; exit``."""

_STA_UNSYNC: Final = 0x40
_TIME_ERROR: Final = 5
_RECORD_BYTES: Final = 96


def examine() -> Iterator[Finding]:
    """All findings about capturing; a check that itself breaks is a warning."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        kernel,
        privileges,
        loaders,
        pins,
        ring,
        clock,
        network,
        capture,
    )
    for check in checks:
        try:
            yield from check()
        except Exception as error:
            lines = str(error).splitlines() or ["no message"]
            found = f"could not be examined ({type(error).__name__}: {lines[0]})"
            yield Finding("warn", check.__name__, found)


def kernel() -> Iterator[Finding]:
    """Which parts of eBPF this kernel has for us, by trying them."""
    release = platform.release()
    if sys.platform != "linux":
        yield Finding("warn", "kernel", f"{release}: captures need Linux; files are read anywhere")
        return
    reasons = {"ring buffer": try_ring_buffer(), "TC program": try_program(), "tcx": try_tcx()}
    there = [name for name, reason in reasons.items() if not reason]
    btf = "BTF" if Path("/sys/kernel/btf/vmlinux").is_file() else "no BTF (not needed)"
    found = ", ".join([f"Linux {release}", *(f"{name} works" for name in there), btf])
    missing = [f"no {name}: {reason}" for name, reason in reasons.items() if reason]
    # tcx has a substitute that is as good, and so doesn't warn.
    works = not reasons["ring buffer"] and not reasons["TC program"]
    yield Finding("ok" if works else "warn", "kernel", "; ".join([found, *missing]))


def try_ring_buffer() -> str:
    """Make the smallest ring buffer; the reason why not, or nothing."""
    from probe.ebpf import syscalls

    attr = syscalls.attributes("IIIII", _RINGBUF, 0, 0, os.sysconf("SC_PAGE_SIZE"), 0)
    try:
        os.close(syscalls.bpf(syscalls.Command.MAP_CREATE, attr))
    except OSError as error:
        return _reason(error, "needs Linux 5.8; packet sockets work on older ones")
    return ""


def try_program() -> str:
    """Load a program that does nothing; the reason why not, or nothing."""
    try:
        os.close(_load_program())
    except OSError as error:
        return _reason(error, "this kernel was built without CONFIG_BPF_SYSCALL")
    return ""


def try_tcx() -> str:
    """Attach nothing to no interface: kernels with tcx miss the interface, older ones the way."""
    from probe.ebpf import syscalls

    try:
        program = _load_program()
    except OSError as error:
        return _reason(error, "")
    try:
        os.close(syscalls.create_link(program, 0, syscalls.AttachType.TCX_INGRESS))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return ""
        return _reason(error, "needs Linux 6.6; clsact is used instead")
    finally:
        os.close(program)
    return ""


def _load_program() -> int:
    from probe.ebpf import syscalls

    code = ctypes.create_string_buffer(_RETURN_ZERO, len(_RETURN_ZERO))
    license = ctypes.create_string_buffer(b"GPL")
    attr = syscalls.attributes(
        "IIQQ", _SCHED_CLS, len(code) // 8, ctypes.addressof(code), ctypes.addressof(license)
    )
    return syscalls.bpf(_PROG_LOAD, attr)


def _reason(error: OSError, otherwise: str) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return "not permitted; run it with sudo"
    return f"{error.strerror}; {otherwise}" if otherwise else str(error.strerror)


def privileges() -> Iterator[Finding]:
    """Which capabilities this process has, and whether a packet socket opens."""
    from probe.privileges import capabilities

    have = capabilities()
    held = [name for name in NEEDED if name in have]
    # Before Linux 5.8 everything of eBPF was part of SYS_ADMIN, which still implies it.
    lacking = [name for name in NEEDED if name not in have]
    if "SYS_ADMIN" in have:
        lacking = [name for name in lacking if name in ("NET_ADMIN", "NET_RAW")]
    found = f"{', '.join(held) or 'none of ' + ', '.join(NEEDED)}"
    found += f" and {len(have) - len(held)} other capabilities"
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
        found += "; packet sockets open"
    except OSError as error:
        found += f"; packet sockets don't open ({error.strerror})"
        lacking = lacking or ["NET_RAW"]
    if lacking:
        found += f"; {', '.join(lacking)} missing: sudo netspectra probe has all"
    yield Finding("warn" if lacking else "ok", "privileges", found)


def loaders() -> Iterator[Finding]:
    """What brings our programs into the kernel."""
    from probe.ebpf.loaded import LoadFiles

    files = LoadFiles()
    library, clang = libbpf_version(files.libbpf), clang_version()
    built = files.compiled.is_file()
    parts = [
        f"libbpf {library}" if library else "no libbpf (apt install libbpf1, dnf install libbpf)",
        f"{files.compiled.name} is built" if built else f"no {files.compiled.name} (make bpf)",
    ]
    if not built and not clang:
        parts.append("make bpf needs clang (apt install clang, dnf install clang)")
    elif clang:
        parts.append(clang)
    works = bool(library and built)
    yield Finding("ok" if works else "warn", "libbpf", "; ".join(parts))
    reason = bcc_reason(files.bcc)
    if not reason:
        yield Finding("ok", "bcc", "importable: programs can be compiled at start")
    else:
        how = "apt install python3-bpfcc, dnf install python3-bcc"
        found = f"{reason} ({how})" + ("; not needed, libbpf works" if works else "")
        yield Finding("ok" if works else "warn", "bcc", found)


def libbpf_version(names: tuple[str, ...]) -> str:
    """Version of the library, or nothing."""
    for name in names:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        try:
            library.libbpf_version_string.restype = ctypes.c_char_p
            return str(library.libbpf_version_string().decode().removeprefix("v"))
        except AttributeError:  # before 0.6
            return "0"
    return ""


def clang_version() -> str:
    """Name and version of the compiler of ``make bpf``, or nothing."""
    path = shutil.which("clang")
    if path is None:
        return ""
    shown = subprocess.run(  # noqa: S603 - the compiler that make would call
        [path, "--version"], capture_output=True, text=True, timeout=10
    )
    match = re.search(r"clang version (\S+)", shown.stdout)
    return f"clang {match[1]}" if match else "clang"


@functools.cache
def bcc_reason(package: Path) -> str:
    """Import BCC in a process of its own, for it is large; the reason why not, or nothing.

    There is another package called bcc, which knows nothing of eBPF.
    """
    script = f"import sys; sys.path.append({str(package.parent)!r}); from bcc import BPF"
    done = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, cwd="/"
    )
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines() or ["no message"]
    if "No module named 'bcc'" in lines[-1]:
        return "not installed"
    if "cannot import name 'BPF'" in lines[-1]:
        return "the package bcc that is installed is another one; pip uninstall bcc"
    return lines[-1]


def pins(mounts: Path = Path("/proc/self/mountinfo")) -> Iterator[Finding]:
    """Where counters can be kept, so that the next start tells what an unclean stop lost."""
    found = [line.split() for line in mounts.read_text().splitlines()]
    at = [words[4] for words in found if words[words.index("-") + 1] == "bpf"]
    if at:
        yield Finding("ok", "bpffs", f"mounted at {', '.join(at)}")
    else:
        advice = "mount -t bpf bpf /sys/fs/bpf, so that losses of an unclean stop are known"
        yield Finding("warn", "bpffs", f"not mounted; {advice}")


def ring() -> Iterator[Finding]:
    """How long packets may wait to be read, and who counts them."""
    from flows.errors import NetSpectraError
    from flows.settings import load

    try:
        size_mb = load().capture.ring_mb
    except NetSpectraError:
        return  # told by the check of the settings
    records = size_mb * 2**20 // _RECORD_BYTES
    each = f"{size_mb} MiB (capture.ring_mb), {records:,} packets: {records / 1e6:.2f} s at 1 M/s"
    yield Finding("ok", "ring", f"{each}; {os.cpu_count()} CPUs")


def clock() -> Iterator[Finding]:
    """Whether the times of packets mean anything to other machines."""
    source = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    name = source.read_text().strip() if source.is_file() else "unknown source"
    timex = ctypes.create_string_buffer(256)
    state = ctypes.CDLL(None).adjtimex(timex)
    max_error_us, status = struct.unpack_from("l8xi", timex, 24)  # esterror is between them
    if state == _TIME_ERROR or status & _STA_UNSYNC:
        advice = "other machines' times may differ; start chrony or systemd-timesyncd"
        yield Finding("warn", "clock", f"{name}, not synchronised here; {advice}")
    else:
        found = f"{name}, synchronised to within {max_error_us / 1000:.0f} ms"
        yield Finding("ok", "clock", found)


def network() -> Iterator[Finding]:
    """The interfaces that are up."""
    from flows.cli.doctor_interfaces import interfaces

    every = interfaces()
    up = [each for each in every if each.up]
    for each in up[:MOST_INTERFACES]:
        yield Finding("ok", "interface", str(each))
    rest = [each.name for each in every if each not in up[:MOST_INTERFACES]]
    if rest:
        names = ", ".join(rest[:MOST_INTERFACES]) + (", …" if len(rest) > MOST_INTERFACES else "")
        yield Finding("ok", "interfaces", f"{len(rest)} more, down or not shown: {names}")
    if not every:
        yield Finding("warn", "interface", "none; captures need one")


def capture() -> Iterator[Finding]:
    """What `netspectra probe` will use, all in all."""
    from probe.ebpf.loaded import LoadFiles

    files = LoadFiles()
    libbpf = libbpf_version(files.libbpf) and files.compiled.is_file()
    loader = "libbpf" if libbpf else "" if bcc_reason(files.bcc) else "BCC"
    if loader and not try_ring_buffer() and not try_program():
        attach = "clsact" if try_tcx() else "tcx"
        yield Finding("ok", "capture", f"eBPF programs, loaded by {loader}, attached by {attach}")
        return
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except OSError:
        yield Finding("warn", "capture", "not permitted; run it with sudo. Files are read anyway")
        return
    yield Finding("warn", "capture", "packet sockets; eBPF costs less, see what is missing above")
