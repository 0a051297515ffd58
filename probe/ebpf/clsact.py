"""Keeper of TC filters: attaches them, waits until its standard input closes, removes them.

A TC filter outlives the process that made it, unlike a link. So this file is run as a process
of its own, which goes on for a moment when the capturing one is killed, and is the only one that
ever attaches or removes: whenever that happens, nothing stays behind. It imports little, to be
small and quick to start, and speaks rtnetlink itself (``linux/rtnetlink.h``,
``linux/pkt_cls.h``; the protocol is RFC 3549).

Input: one line of JSON, a list of [if_index, "ingress" or "egress", program descriptor, name].
Output: one line of JSON, null when all are attached, else [errno, if_index]: then none is.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Final

NEW_QDISC: Final = 36
DEL_QDISC: Final = 37
NEW_FILTER: Final = 44
DEL_FILTER: Final = 45
GET_FILTER: Final = 46
_ERROR: Final = 2
_DONE: Final = 3

_REQUEST: Final = 0x1
_ACK: Final = 0x4
_ECHO: Final = 0x8
_EXCLUSIVE: Final = 0x200
_DUMP: Final = 0x300
_CREATE: Final = 0x400

_KIND: Final = 1
_OPTIONS: Final = 2
_BPF_FD: Final = 6
_BPF_NAME: Final = 7
_BPF_FLAGS: Final = 8
_DIRECT_ACTION: Final = 1

QDISC: Final = 0xFFFF0000
ROOT: Final = 0xFFFFFFF1
PARENTS: Final = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
_ALL_PROTOCOLS: Final = 0x0300
"""ETH_P_ALL in network order."""


class Netlink:
    """Requests about queueing disciplines and filters of this network namespace."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """No more requests."""
        self._socket.close()

    def request(
        self,
        kind: int,
        flags: int,
        if_index: int,
        parent: int,
        handle: int = 0,
        info: int = 0,
        attributes: bytes = b"",
    ) -> list[tuple[int, int, int]]:
        """Send one and wait for the answer.

        Returns:
            Handle, parent and info of each object that the kernel tells of.

        Raises:
            OSError: the kernel's refusal.
        """
        self._sequence += 1
        body = struct.pack("=BxxxiIII", 0, if_index, handle, parent, info) + attributes
        head = struct.pack("=IHHII", 16 + len(body), kind, flags | _REQUEST, self._sequence, 0)
        self._socket.send(head + body)
        told = []
        for answer, payload in self._answers():
            if answer == _DONE:
                break
            if answer == _ERROR:
                (number,) = struct.unpack_from("=i", payload)
                if number:
                    raise OSError(-number, os.strerror(-number))
                break
            found_index, *rest = struct.unpack_from("=iIII", payload, 4)
            if found_index == if_index:
                told.append((rest[0], rest[1], rest[2]))
        return told

    def _answers(self) -> Iterator[tuple[int, bytes]]:
        while True:
            data = self._socket.recv(1 << 16)
            while len(data) >= 16:
                size, kind, _, sequence, _ = struct.unpack_from("=IHHII", data)
                if sequence == self._sequence:
                    yield kind, data[16:size]
                data = data[(size + 3) & ~3 :]


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute of a message, padded."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


class Filters:
    """The filters that were attached, and the disciplines that were made for them."""

    def __init__(self) -> None:
        self._netlink = Netlink()
        self._made: list[int] = []
        self._attached: list[tuple[int, int, int, int]] = []

    def attach(self, if_index: int, way: str, program_fd: int, name: str) -> None:
        """Attach a program before all others.

        Raises:
            OSError: the kernel refuses.
        """
        clsact = attribute(_KIND, b"clsact\0")
        try:
            flags = _ACK | _CREATE | _EXCLUSIVE
            self._netlink.request(NEW_QDISC, flags, if_index, ROOT, QDISC, 0, clsact)
            self._made.append(if_index)
        except FileExistsError:
            pass  # someone else's, which stays
        options = (
            attribute(_BPF_FD, struct.pack("=I", program_fd))
            + attribute(_BPF_NAME, name.encode() + b"\0")
            + attribute(_BPF_FLAGS, struct.pack("=I", _DIRECT_ACTION))
        )
        told = self._netlink.request(
            NEW_FILTER,
            _ACK | _ECHO | _CREATE | _EXCLUSIVE,
            if_index,
            PARENTS[way],
            info=_ALL_PROTOCOLS,
            attributes=attribute(_KIND, b"bpf\0") + attribute(_OPTIONS, options),
        )
        self._attached += [(if_index, parent, handle, info) for handle, parent, info in told]

    def remove(self) -> None:
        """Remove what was attached, at the end; a device that is gone has taken it along."""
        for if_index, parent, handle, info in self._attached:
            with contextlib.suppress(OSError):
                kind = attribute(_KIND, b"bpf\0")
                self._netlink.request(DEL_FILTER, _ACK, if_index, parent, handle, info, kind)
        for if_index in self._made:
            with contextlib.suppress(OSError):
                if not any(self._others(if_index, parent) for parent in PARENTS.values()):
                    self._netlink.request(DEL_QDISC, _ACK, if_index, ROOT, QDISC)
        self._netlink.close()

    def _others(self, if_index: int, parent: int) -> bool:
        return bool(self._netlink.request(GET_FILTER, _DUMP, if_index, parent))


def main() -> None:
    """Keep the filters that standard input names."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the end of the other process is the signal
    wanted = json.loads(sys.stdin.readline() or "[]")
    filters = Filters()
    refused = None
    if_index = 0
    try:
        for if_index, way, program_fd, name in wanted:
            filters.attach(if_index, way, program_fd, name)
            os.close(program_fd)
    except OSError as error:
        refused = [error.errno or errno.EIO, if_index]
    if refused is None:
        with contextlib.suppress(OSError):
            print("null", flush=True)
            sys.stdin.read()
        filters.remove()
    else:
        filters.remove()
        print(json.dumps(refused), flush=True)


if __name__ == "__main__":
    main()
