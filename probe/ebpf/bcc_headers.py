"""A small tree that stands for the kernel's own headers when BCC compiles.

BCC puts a helper header before each program, which includes a few headers of the kernel's source
(``linux/log2.h``, ``asm/page.h`` and so on), and refuses to compile without that source. Our
programs use only the kernel's public structs, which linux-libc-dev installs: so some forwarding
headers and a handful of definitions are all that is needed.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Final

from probe.errors import Unavailable

_TYPES: Final = """
#pragma once
#include "{system}/linux/types.h"
typedef __u8 u8; typedef __u16 u16; typedef __u32 u32; typedef __u64 u64;
typedef __s8 s8; typedef __s16 s16; typedef __s32 s32; typedef __s64 s64;
typedef _Bool bool;
enum {{ false = 0, true = 1 }};
typedef unsigned long size_t;
typedef unsigned long uintptr_t;
typedef int pid_t;
#define NULL ((void *)0)
"""
_OWN: Final = {
    "linux/kconfig.h": "#define CONFIG_BPF_SYSCALL 1\n",
    "linux/bpf.h": "",  # BCC brings its own
    "uapi/linux/bpf.h": "",
    "linux/bpf_common.h": "",
    # BCC asks only whether the kernel is older than 4.10.
    "linux/version.h": (
        "#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))\n"
        "#define LINUX_VERSION_CODE KERNEL_VERSION(5, 8, 0)\n"
    ),
    "linux/log2.h": (
        "static inline __attribute__((always_inline)) unsigned ilog2(unsigned long long n)\n"
        "{ unsigned r = 0; while (n >>= 1) r++; return r; }\n"
    ),
    "asm/page.h": "#define PAGE_SIZE 4096UL\n",
    "uapi/linux/ptrace.h": "#pragma once\nstruct pt_regs { unsigned long words[21]; };\n",
}
_PUBLIC: Final = (
    *("if_ether", "if_packet", "if_vlan", "in", "in6", "ip", "ipv6", "icmp", "icmpv6"),
    *("tcp", "udp", "pkt_cls"),
)
_MACHINE: Final = ("types", "byteorder", "bitsperlong", "posix_types", "swab")
_ARCHITECTURES: Final = {"x86_64": "x86", "aarch64": "arm64"}


def write_headers(folder: Path, system: Path = Path("/usr/include")) -> tuple[str, ...]:
    """Write the tree.

    Args:
        folder: where to; what ``BCC_KERNEL_SOURCE`` must name then.
        system: where linux-libc-dev has put its headers.

    Returns:
        Options for the compiler.

    Raises:
        Unavailable: linux-libc-dev isn't installed.
    """
    machine = platform.machine()
    asm = next(
        (
            path
            for path in (system / f"{machine}-linux-gnu", system)
            if (path / "asm" / "types.h").is_file()
        ),
        None,
    )
    if asm is None:
        msg = f"BCC: there is no asm/types.h in {system} (Debian: apt install linux-libc-dev)"
        raise Unavailable(msg)
    files = {"linux/types.h": _TYPES.format(system=system), **_OWN}
    for name in _PUBLIC:
        for prefix in ("linux", "uapi/linux"):
            files[f"{prefix}/{name}.h"] = f'#include "{system}/linux/{name}.h"\n'
    for name in _MACHINE:
        files[f"asm/{name}.h"] = f'#include "{asm}/asm/{name}.h"\n'
    for name, text in files.items():
        path = folder / "include" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "arch" / _ARCHITECTURES.get(machine, machine) / "include" / "asm").mkdir(parents=True)
    return (f"-I{asm}", f"-I{system}")
