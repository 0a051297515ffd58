"""Attaching programs to devices, the best way that the kernel takes, found out by trying.

TC programs go on a tcx link (Linux 6.6), else on the clsact queueing discipline (4.5); XDP
programs into the driver, else into the kernel's generic path. Links end with their descriptor,
so with the process; clsact filters are kept by a process of their own, see ``clsact``.

Of TC, what comes in is seen before any other filter, and what goes out after all of them: both
as it is on the wire.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from typing import Final, Literal

from probe.ebpf import clsact, syscalls
from probe.ebpf.devices import Device
from probe.ebpf.loaded import Loaded
from probe.ebpf.syscalls import AttachType
from probe.errors import LiveError, Unavailable
from schemas.record import Direction

XDP_PROGRAM: Final = "xdp_capture"

_WAYS: Final = {Direction.INGRESS: "ingress", Direction.EGRESS: "egress"}
_NOT_PERMITTED: Final = (
    "attaching to devices isn't permitted here: run it with sudo, or with CAP_NET_ADMIN"
)
_KEEPER_PATIENCE_S: Final = 10.0


class Attachment:
    """Programs that are attached to devices, until ``close``.

    Attributes:
        choices: lines that tell how, and why not in a better way.
    """

    def __init__(self, choices: tuple[str, ...], links: list[int], keeper: Keeper | None) -> None:
        self.choices = choices
        self._links = links
        self._keeper = keeper

    def close(self) -> None:
        """Detach everything. May be called twice."""
        _close_all(self._links)
        self._links = []
        if self._keeper is not None:
            self._keeper.close()


class Keeper:
    """The process that attaches clsact filters, and removes them when we are gone.

    Raises:
        OSError: the kernel's refusal; its ``filename`` is the device.
    """

    def __init__(self, loaded: Loaded, targets: list[tuple[Device, str, str]]) -> None:
        wanted = [
            (device.index, way, loaded.program_fd(program), "netspectra")
            for device, way, program in targets
        ]
        # Descriptors go by number: a program that is attached twice is passed twice.
        passed = [(index, way, os.dup(fd), name) for index, way, fd, name in wanted]
        try:
            self._process = subprocess.Popen(  # noqa: S603 (our own file, our own interpreter)
                [sys.executable, "-I", "-S", clsact.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[fd for _, _, fd, _ in passed],
                start_new_session=True,  # a Ctrl-C in the terminal isn't for it
                cwd="/",
            )
        finally:
            _close_all([fd for _, _, fd, _ in passed])
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(passed).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BaseException:
            self.close()
            raise
        if answer != b"null\n":
            self.close()
            number, if_index = json.loads(answer or f"[{errno.EIO}, 0]")
            names = {device.index: device.name for device, _, _ in targets}
            raise OSError(number, os.strerror(number), names.get(if_index, ""))

    def close(self) -> None:
        """Have the filters removed, and wait for that. May be called twice."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()
        self._process.wait(_KEEPER_PATIENCE_S)


def tc_targets(
    devices: tuple[Device, ...], directions: frozenset[Direction]
) -> list[tuple[Device, str, str]]:
    """Where TC programs are to be attached: device, ``ingress`` or ``egress``, program."""
    return [
        (device, way, f"tc_{way}_ip" if device.raw_ip else f"tc_{way}")
        for device in devices
        for direction, way in _WAYS.items()
        if direction in directions
    ]


def attach_tc(
    loaded: Loaded,
    devices: tuple[Device, ...],
    directions: frozenset[Direction],
    how: Literal["auto", "tcx", "clsact"],
) -> Attachment:
    """Attach the TC programs.

    Raises:
        Unavailable: neither way works, or the one that is asked for doesn't.
    """
    targets = tc_targets(devices, directions)
    reasons: tuple[str, ...] = ()
    if how != "clsact":
        try:
            links = _tcx_links(loaded, targets)
        except OSError as error:
            reasons = (_no_tcx(error),)
            if how == "tcx" or error.errno == errno.EPERM:
                raise Unavailable(reasons[0]) from error
        else:
            return Attachment((f"TC by tcx links on {_named(devices)}",), links, None)
    try:
        keeper = Keeper(loaded, targets)
    except OSError as error:
        raise Unavailable("; ".join((*reasons, _no_clsact(error)))) from error
    return Attachment((*reasons, f"TC by clsact filters on {_named(devices)}"), [], keeper)


def attach_xdp(
    loaded: Loaded, devices: tuple[Device, ...], how: Literal["auto", "native", "generic"]
) -> Attachment:
    """Attach the XDP program, each device the best way.

    Raises:
        LiveError: a device has no Ethernet header.
        Unavailable: no way works on one of them, or the one that is asked for doesn't.
    """
    program_fd = loaded.program_fd(XDP_PROGRAM)
    links: list[int] = []
    choices: list[str] = []
    try:
        for device in devices:
            if device.raw_ip:
                msg = f"XDP needs Ethernet, which {device.name} isn't; capture there by tc"
                raise LiveError(msg)
            links.append(_xdp_link(program_fd, device, how, choices))
    except BaseException:
        _close_all(links)
        raise
    return Attachment(tuple(choices), links, None)


def _tcx_links(loaded: Loaded, targets: list[tuple[Device, str, str]]) -> list[int]:
    links: list[int] = []
    try:
        for device, way, program in targets:
            ingress = way == "ingress"
            kind = AttachType.TCX_INGRESS if ingress else AttachType.TCX_EGRESS
            flags = syscalls.TCX_BEFORE if ingress else 0
            program_fd = loaded.program_fd(program)
            links.append(syscalls.create_link(program_fd, device.index, kind, flags))
    except BaseException:
        _close_all(links)
        raise
    return links


def _xdp_link(program_fd: int, device: Device, how: str, choices: list[str]) -> int:
    modes = {"native": syscalls.XDP_NATIVE, "generic": syscalls.XDP_GENERIC}
    reasons: list[str] = []
    for mode in modes if how == "auto" else (how,):
        try:
            link = syscalls.create_link(program_fd, device.index, AttachType.XDP, modes[mode])
        except OSError as error:
            reasons.append(_no_xdp(error, mode, device.name))
            if error.errno in (errno.EPERM, errno.EBUSY, errno.EEXIST):
                break
        else:
            choices += [*reasons, f"XDP {mode} on {device.name}"]
            return link
    raise Unavailable("; ".join(reasons))


def _no_tcx(error: OSError) -> str:
    if error.errno == errno.EPERM:
        return _NOT_PERMITTED
    if error.errno == errno.EINVAL:
        return "no tcx links: they came with Linux 6.6"
    return f"no tcx links ({error.strerror})"


def _no_clsact(error: OSError) -> str:
    if error.errno == errno.EPERM:
        return _NOT_PERMITTED
    if error.errno == errno.ENOENT:
        return "no clsact: this kernel lacks sch_ingress or cls_bpf (modprobe them)"
    where = f" on {error.filename}" if error.filename else ""
    return f"no clsact filters{where} ({error.strerror})"


def _no_xdp(error: OSError, mode: str, name: str) -> str:
    if error.errno == errno.EPERM:
        return _NOT_PERMITTED
    if error.errno in (errno.EBUSY, errno.EEXIST):
        return f"{name} has another XDP program already (`ip link show {name}`); capture by tc"
    if error.errno == errno.EOPNOTSUPP:
        return f"the driver of {name} has no {mode} XDP"
    return f"{mode} XDP isn't possible on {name} ({error.strerror}); large MTU and LRO prevent it"


def _named(devices: tuple[Device, ...]) -> str:
    return ", ".join(device.name for device in devices)


def _close_all(descriptors: list[int]) -> None:
    for fd in descriptors:
        os.close(fd)
