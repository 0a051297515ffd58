"""What this machine offers for tests of live capture, found by trying.

Each function tells why it doesn't, and what to do, or nothing.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import shutil
import socket
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tests.support import namespaces

_BPF_NUMBERS = {"x86_64": 321, "aarch64": 280}
_MAP_CREATE, _PROG_LOAD = 0, 5
_ARRAY, _SCHED_CLS = 2, 3
_RETURN_0 = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)
_DISTRIBUTION_PACKAGES = Path("/usr/lib/python3/dist-packages")


@cache
def no_bpf() -> str | None:
    """Make a map and load a TC program, which takes CAP_BPF and CAP_NET_ADMIN."""
    number = _BPF_NUMBERS.get(platform.machine())
    if platform.system() != "Linux" or number is None:
        return f"no BPF system call known for {platform.system()} on {platform.machine()}"
    license_ = ctypes.create_string_buffer(b"GPL")
    code = ctypes.create_string_buffer(_RETURN_0, len(_RETURN_0))
    pointers = ctypes.addressof(code), ctypes.addressof(license_)
    wanted = {
        "map": (_MAP_CREATE, struct.pack("<IIII", _ARRAY, 4, 8, 1)),
        "program": (_PROG_LOAD, struct.pack("<IIQQ", _SCHED_CLS, 2, *pointers)),
    }
    libc = ctypes.CDLL(None, use_errno=True)
    for what, (command, packed) in wanted.items():
        attributes = ctypes.create_string_buffer(packed, 120)
        descriptor = libc.syscall(number, command, attributes, 120)
        if descriptor < 0:
            reason = os.strerror(ctypes.get_errno())
            return f"no BPF {what} can be loaded ({reason}); run as root"
        os.close(descriptor)
    return None


no_netns = cache(namespaces.why_not)


@cache
def no_packet_socket() -> str | None:
    """Open a packet socket, which takes CAP_NET_RAW."""
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except (OSError, AttributeError) as error:
        return f"no AF_PACKET sockets ({error}); needs CAP_NET_RAW"
    return None


@cache
def no_bcc() -> str | None:
    """Look for BCC's bindings and its library."""
    known = importlib.util.find_spec("bcc") or (_DISTRIBUTION_PACKAGES / "bcc").is_dir()
    if known and _loads("libbcc.so.0"):
        return None
    return "BCC isn't installed; apt-get install python3-bpfcc"


@cache
def no_libbpf() -> str | None:
    """Load the library."""
    return None if _loads("libbpf.so.1") else "libbpf 1 isn't installed; apt-get install libbpf1"


def no_program(name: str, package: str) -> Callable[[], str | None]:
    """Look for a program on the path."""
    reason = f"{name} isn't installed; apt-get install {package}"
    return lambda: None if shutil.which(name) else reason


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
