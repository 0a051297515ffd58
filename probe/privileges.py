"""Giving up root and capabilities once a capture is attached.

Attaching takes privileges; reading a mapped ring and counters through descriptors that are
already open takes none. So a fault in what reads packets is worth no more to an attacker than
the account it runs under. The process stays undumpable, as the kernel makes it when its user
changes: other processes of that user can't take the descriptors out of it.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from probe.errors import PrivilegeError

# fmt: off
CAPABILITIES: Final = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID",
    "SETUID", "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST",
    "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO",
    "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE",
    "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM",
    "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)
# fmt: on
"""Names of capabilities by their number, without ``CAP_`` (linux/capability.h)."""

_VERSION_3: Final = 0x20080522
_KEEP_CAPS, _CAPBSET_DROP, _NO_NEW_PRIVS, _CAP_AMBIENT, _CLEAR_ALL = 8, 24, 38, 47, 4
_NOBODY: Final = 65_534


@dataclass(frozen=True, slots=True)
class Account:
    """Who the process becomes.

    Attributes:
        name: for people.
        uid: user.
        gid: group.
        groups: supplementary groups.
    """

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def capabilities(kind: str = "CapEff", task: Path = Path("/proc/self")) -> frozenset[str]:
    """Names of the capabilities that a thread has, by default the effective ones of this one."""
    bits = int(_status(task)[kind], 16)
    return frozenset(name for number, name in enumerate(CAPABILITIES) if bits >> number & 1)


def drop(user: str | None = None, keep: Collection[str] = ()) -> str:
    """Become an ordinary user without capabilities, for good, in all threads.

    Call it when captures are attached, and before a library starts threads of its own:
    capabilities belong to the thread. Threads that are there already lose them with the change
    of user; where there is none, because root wasn't root, their keeping any is an error.

    Args:
        user: name or number; by default, for root, the one that called sudo, else ``nobody``.
        keep: capabilities (``NET_ADMIN``) that are still needed.

    Returns:
        A line for the user that says what was dropped.

    Raises:
        PrivilegeError: there is no such user, or something could not be dropped; going on would
            mean to run with more than the caller believes.
    """
    account = account_of(user)
    before = capabilities("CapPrm")
    kept = frozenset(keep) & before
    libc = ctypes.CDLL(None, use_errno=True)
    _control(libc, _NO_NEW_PRIVS, 1)
    if "SETPCAP" in before:
        for number in range(_last_capability() + 1):
            _control(libc, _CAPBSET_DROP, number)
    _control(libc, _CAP_AMBIENT, _CLEAR_ALL)
    _control(libc, _KEEP_CAPS, int(bool(kept)))
    try:
        if account.uid != os.geteuid() or before & {"SETUID", "SETGID"}:
            os.setgroups(account.groups)
            os.setresgid(account.gid, account.gid, account.gid)
            os.setresuid(account.uid, account.uid, account.uid)
    except OSError as error:
        msg = (
            f"can't become the user {account.name}: {error.strerror}; with --user "
            f"{os.geteuid()} the probe stays who it is, without capabilities"
        )
        raise PrivilegeError(msg) from error
    _set_capabilities(libc, kept)
    _control(libc, _KEEP_CAPS, 0)
    _verify(account, kept)
    left = f", kept {', '.join(sorted(kept))}" if kept else ""
    dropped = f"{len(before - kept)} capabilities dropped"
    return f"now the user {account.name} ({account.uid}), {dropped}{left}"


def works_without(check: Callable[[], object], user: str | None = None) -> bool:
    """Whether something that needs no new descriptor works when privileges are dropped.

    It is tried in a child process. Before Linux 6.0 the sysctl ``unprivileged_bpf_disabled``
    keeps even open maps from being read, for instance.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            drop(user)
            check()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def account_of(user: str | None) -> Account:
    """The account that `drop` would become.

    Raises:
        PrivilegeError: there is none of that name.
    """
    if user is None and os.geteuid() != 0:
        user = str(os.geteuid())
    if user is None:
        caller = os.environ.get("SUDO_UID", "")
        user = caller if caller.isdigit() and int(caller) else "nobody"
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        # An account of a container's own making is in no list.
        if user.isdigit() and int(user) < 2**32 - 1:
            number = int(user)
            group = os.environ.get("SUDO_GID", "") if user == os.environ.get("SUDO_UID") else ""
            gid = int(group) if group.isdigit() else number
            return Account(user, number, gid, ())
        if user == "nobody":
            return Account(user, _NOBODY, _NOBODY, ())
        msg = f"there is no user {user} to become; name one with --user"
        raise PrivilegeError(msg) from None
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, groups)


def _control(libc: ctypes.CDLL, option: int, value: int) -> None:
    arguments = (ctypes.c_ulong(each) for each in (value, 0, 0, 0))
    if libc.prctl(option, *arguments):
        error = ctypes.get_errno()
        msg = f"can't drop privileges: prctl {option}: {os.strerror(error)}"
        raise PrivilegeError(msg)


def _set_capabilities(libc: ctypes.CDLL, kept: Collection[str]) -> None:
    bits = sum(1 << CAPABILITIES.index(name) for name in kept)
    header = struct.pack("<Ii", _VERSION_3, 0)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    if libc.capset(header, struct.pack("<6I", low, low, 0, high, high, 0)):
        msg = f"can't drop capabilities: {os.strerror(ctypes.get_errno())}"
        raise PrivilegeError(msg)


def _last_capability() -> int:
    """The highest number that this kernel knows, which may be one that has no name here."""
    return int(Path("/proc/sys/kernel/cap_last_cap").read_text())


def _verify(account: Account, kept: Collection[str]) -> None:
    """Look at what the kernel says of every thread."""
    if _status(Path("/proc/thread-self"))["NoNewPrivs"] != "1":
        msg = "can't drop privileges: the kernel keeps new ones possible"
        raise PrivilegeError(msg)
    for task, status in _threads():
        for kind, wanted in (("Uid", account.uid), ("Gid", account.gid)):
            if set(status[kind].split()) != {str(wanted)}:
                msg = f"thread {task} is still {kind.lower()} {status[kind]}, not {wanted}"
                raise PrivilegeError(msg)
        for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
            if int(status[kind], 16) & ~sum(1 << CAPABILITIES.index(name) for name in kept):
                msg = (
                    f"thread {task} still has capabilities ({kind} {status[kind]}); start with "
                    "OPENBLAS_NUM_THREADS=1, or as root"
                )
                raise PrivilegeError(msg)


def _threads() -> Iterator[tuple[str, dict[str, str]]]:
    for task in Path("/proc/self/task").iterdir():
        try:
            yield task.name, _status(task)
        except FileNotFoundError:  # it has ended meanwhile
            continue


def _status(task: Path) -> dict[str, str]:
    lines = (task / "status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
