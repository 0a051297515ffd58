"""Loaded programs and maps, whoever loaded them, and the choice of the loader."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from probe.ebpf.knobs import pack_knobs
from probe.errors import Unavailable
from probe.live import CaptureOptions

_PROBE: Final = Path(__file__).parents[1]
_BPF: Final = next(
    # A wheel has them inside the package, a checkout beside it.
    (folder for folder in (_PROBE / "bpf", _PROBE.parent / "bpf") if folder.is_dir()),
    _PROBE.parent / "bpf",
)
FLOW_ENTRIES: Final = 65_536
"""Flows for which a table has room."""


class Loaded(Protocol):
    """Programs and maps that the kernel has taken, by name."""

    def program_fd(self, name: str) -> int:
        """Descriptor of a program."""

    def map_fd(self, name: str) -> int:
        """Descriptor of a map."""

    def close(self) -> None:
        """Let go of all; what is attached or pinned stays in the kernel. May be called twice."""


@dataclass(frozen=True, kw_only=True)
class LoadFiles:
    """Where the loaders find what they need.

    Attributes:
        compiled: the object for libbpf, made by ``make bpf``.
        source: the C file that BCC compiles.
        libbpf: names of the library, the newest first.
        bcc: the package of BCC's Python bindings, for a Python that doesn't see it.
    """

    compiled: Path = _BPF / "build" / "capture.bpf.o"
    source: Path = _BPF / "capture.bpf.c"
    libbpf: tuple[str, ...] = ("libbpf.so.1", "libbpf.so.0")
    bcc: Path = Path("/usr/lib/python3/dist-packages/bcc")


@dataclass(frozen=True, kw_only=True)
class LoadRequest:
    """What to load.

    Attributes:
        programs: names; the others are left out.
        knobs: the bytes of ``struct knobs``.
        ring_bytes: size of the map ``packets``.
        flow_entries: room of a flow table.
    """

    programs: tuple[str, ...]
    knobs: bytes
    ring_bytes: int
    flow_entries: int


def load(
    options: CaptureOptions, programs: tuple[str, ...], files: LoadFiles
) -> tuple[Loaded, tuple[str, ...]]:
    """Load programs by the best loader that works.

    Returns:
        What was loaded, and lines that tell how, and why not by a better way.

    Raises:
        LiveError: the options can't be met by any loader.
        Unavailable: no loader works; the text has all reasons.
    """
    request = LoadRequest(
        programs=programs,
        knobs=pack_knobs(options),
        ring_bytes=options.ring_bytes,
        flow_entries=1 if options.mode == "packets" else FLOW_ENTRIES,
    )
    reasons: list[str] = []
    for name in ("libbpf", "bcc") if options.loader == "auto" else (options.loader,):
        try:
            loaded = _load_by(name, request, files)
        except Unavailable as error:
            reasons.append(str(error))
            if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EPERM:
                break  # the kernel's word, which no other loader changes
        else:
            return loaded, (*reasons, f"eBPF programs loaded by {name}")
    raise Unavailable("; ".join(reasons))


def _load_by(name: str, request: LoadRequest, files: LoadFiles) -> Loaded:
    if name == "libbpf":
        from probe.ebpf import libbpf

        return libbpf.load(request, files)
    from probe.ebpf import bcc

    return bcc.load(request, files)


def refusal(loader: str, error: OSError) -> Unavailable:
    """Why the kernel didn't take the programs, as the reason for the next step down."""
    if error.errno == errno.EPERM:
        msg = "eBPF isn't permitted here: run it with sudo, or with CAP_BPF and CAP_NET_ADMIN"
    else:
        msg = f"{loader}: the kernel refuses the programs ({error.strerror})"
    unavailable = Unavailable(msg)
    unavailable.__cause__ = error
    return unavailable
