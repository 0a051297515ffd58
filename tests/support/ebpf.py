"""What is attached to devices, and a program to meet there."""

from __future__ import annotations

import ctypes
import re
import struct

from probe.ebpf import syscalls
from tests.support.namespaces import DEVICE, End, inside, run

UDP_FRAME = bytes.fromhex(
    "02000000000102000000000208004500006400000000401125a00a4d00010a4d00021f901f9100500000"
).ljust(114, b"x")
"""A UDP packet of 114 bytes."""


PROG_LOAD = 5
PROG_QUERY = 16
SCHED_CLS = 3
DROP = 2


def load_returning(verdict: int) -> int:
    """Load a TC program that says the same of every packet; returns its descriptor."""
    code = struct.pack("<BBhiBBhi", 0xB7, 0, 0, verdict, 0x95, 0, 0, 0)
    text = ctypes.create_string_buffer(code, len(code))
    name = ctypes.create_string_buffer(b"GPL")
    layout = struct.pack(
        "<IIQQ", SCHED_CLS, len(code) // 8, ctypes.addressof(text), ctypes.addressof(name)
    )
    return syscalls.bpf(PROG_LOAD, ctypes.create_string_buffer(layout, 128))


def tcx_programs(if_index: int, egress: bool) -> int:
    """How many programs are attached to a device by tcx, in this network namespace."""
    kind = syscalls.AttachType.TCX_EGRESS if egress else syscalls.AttachType.TCX_INGRESS
    attr = ctypes.create_string_buffer(struct.pack("<II", if_index, kind), 128)
    syscalls.bpf(PROG_QUERY, attr)
    return int(struct.unpack_from("<I", attr, 24)[0])


def attached(end: End) -> list[str]:
    """What is attached to the end's device: tcx, clsact and XDP."""
    with inside(end.name):
        found = [
            f"tcx {way}"
            for way in ("ingress", "egress")
            if tcx_programs(end.if_index, way == "egress")
        ]
        show = ("tc", "filter", "show", "dev", DEVICE)
        ways = ("ingress", "egress")
        found += [f"clsact {way}" for way in ways if "netspectra" in run(end.name, *show, way)]
        if "clsact" in run(end.name, "tc", "qdisc", "show", "dev", DEVICE):
            found.append("clsact")
        link = run(end.name, "ip", "-details", "link", "show", DEVICE)
        if mode := re.search(r"\b(xdpgeneric|xdp)\b", link):
            found.append(mode[1])
    return found
