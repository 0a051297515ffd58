"""What packet sockets share, whoever reads them (packet(7), ``linux/if_packet.h``)."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SOL_PACKET: Final = 263
RX_RING: Final = 5
STATISTICS: Final = 6
VERSION: Final = 10
VNET_HDR: Final = 15
IGNORE_OUTGOING: Final = 23
"""Options of a packet socket."""

ETH_P_ALL: Final = 3
RETURN: Final = 0x06
"""Code of the instruction that says how many bytes to take of a frame."""

_SO_ATTACH_FILTER: Final = 26
_SIOCGIFHWADDR: Final = 0x8927
_SIOCGIFFLAGS: Final = 0x8913
_UP_AND_RUNNING: Final = 0x01 | 0x40
"""Switched on, and with something at the other end (``linux/if.h``)."""

Instruction = tuple[int, int, int, int]
"""Of classic BPF: ``(code, jump if true, jump if false, operand)``."""


def attach_filter(to: socket.socket, program: Sequence[Instruction]) -> None:
    """Let a classic BPF program say which frames to take, in the place of the last one."""
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    address = struct.pack("HP", len(program), ctypes.addressof(buffer))
    to.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, address)


def device_type(interface: str) -> int:
    """ARPHRD number of an interface; unlike /sys, right in every network namespace.

    Raises:
        OSError: there is no such interface.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16s24x", interface.encode())
        answer = fcntl.ioctl(any_socket, _SIOCGIFHWADDR, request)
    return int(struct.unpack_from("H", answer, 16)[0])


@dataclass(frozen=True, slots=True)
class InterfaceState:
    """An interface that is there.

    Attributes:
        number: its index; another interface of the same name has another one.
        up: whether packets can pass.
    """

    number: int
    up: bool


def interface_state(interface: str) -> InterfaceState | None:
    """How an interface of this thread's network namespace is; None where there is none."""
    try:
        number = socket.if_nametoindex(interface)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as any_socket:
            request = struct.pack("16s24x", interface.encode())
            answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request)
    except OSError:
        return None
    (flags,) = struct.unpack_from("H", answer, 16)
    return InterfaceState(number, flags & _UP_AND_RUNNING == _UP_AND_RUNNING)
