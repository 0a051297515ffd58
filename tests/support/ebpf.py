"""What tests of eBPF programs share: running a loaded program on a frame, many times."""

from __future__ import annotations

import ctypes
import struct

from probe.ebpf import syscalls

PROG_TEST_RUN = 10

UDP_FRAME = bytes.fromhex(
    "02000000000102000000000208004500006400000000401125a00a4d00010a4d00021f901f9100500000"
).ljust(114, b"x")
"""A UDP packet of 114 bytes."""


def test_run(program_fd: int, repeat: int, frame: bytes = UDP_FRAME) -> None:
    """Let the kernel run a program on a frame (``BPF_PROG_TEST_RUN``)."""
    data = ctypes.create_string_buffer(frame, len(frame))
    attr = ctypes.create_string_buffer(
        struct.pack(
            "<IIIIQQII", program_fd, 0, len(frame), 0, ctypes.addressof(data), 0, repeat, 0
        ),
        128,
    )
    syscalls.bpf(PROG_TEST_RUN, attr)


test_run.__test__ = False  # type: ignore[attr-defined]
