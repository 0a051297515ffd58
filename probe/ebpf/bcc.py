"""Loading programs by BCC, which compiles them when the probe starts, without kernel headers.

BCC's Python bindings aren't on PyPI; distributions install them for their own Python
(``python3-bpfcc``). They are pure Python on top of libbcc, so the one package is taken from
there, and nothing else of what is beside it.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.machinery
import importlib.util
import os
import re
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from probe.ebpf.bcc_headers import write_headers
from probe.ebpf.knobs import MAX_RULES
from probe.ebpf.loaded import LoadFiles, LoadRequest, refusal
from probe.errors import Unavailable

_NAME: Final = "BCC"
_SCHED_CLS: Final = 3
_XDP: Final = 6
_INCLUDE: Final = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"]+)".*$', re.MULTILINE)


class BccObject:
    """Programs and maps that BCC has compiled and loaded."""

    def __init__(self, module: Any, programs: dict[str, int], table_fd: Any) -> None:
        self._module = module
        self._programs = programs
        self._table_fd = table_fd

    def program_fd(self, name: str) -> int:
        """Descriptor of a program."""
        return self._programs[name]

    def map_fd(self, name: str) -> int:
        """Descriptor of a map."""
        return int(self._table_fd(self._module.module, name.encode()))

    def close(self) -> None:
        """Close all descriptors. May be called twice."""
        if self._programs:
            self._programs = {}
            self._module.cleanup()


def load(request: LoadRequest, files: LoadFiles) -> BccObject:
    """Compile the source and load what it has.

    Raises:
        Unavailable: BCC or the source isn't there, doesn't compile, or the kernel refuses it.
            The notes of its cause have what BCC said.
    """
    bcc = import_bcc(files.bcc)
    if not files.source.is_file():
        msg = f"BCC: there is no source {files.source.name}"
        raise Unavailable(msg)
    with tempfile.TemporaryDirectory(prefix="netspectra-bcc-") as folder:
        options = (
            *write_headers(Path(folder)),
            "-DNETSPECTRA_BCC",
            f"-DRING_BYTES={request.ring_bytes}",
            f"-DFLOW_ENTRIES={request.flow_entries}",
            f"-DKNOBS={knobs_initializer(request.knobs)}",
        )
        with _environment("BCC_KERNEL_SOURCE", folder), _stderr() as said:
            try:
                module = bcc.BPF(text=inlined(files.source).encode(), cflags=list(options))
            except Exception as error:  # BCC raises nothing narrower
                error.add_note(said())
                msg = f"BCC: {files.source.name} doesn't compile ({str(error)[:100]})"
                raise Unavailable(msg) from error
            try:
                programs = {name: _load_program(module, name) for name in request.programs}
            except OSError as error:
                module.cleanup()
                error.add_note(said())
                raise refusal(_NAME, error) from error
    return BccObject(module, programs, bcc.lib.bpf_table_fd)


def _load_program(module: Any, name: str) -> int:
    try:
        kind = _XDP if name.startswith("xdp") else _SCHED_CLS
        return int(module.load_func(name.encode(), kind).fd)
    except Exception as error:  # BCC raises nothing narrower, and hides the number in the text
        number = errno.EPERM if "super-user" in str(error) else errno.EINVAL
        raise OSError(number, str(error)) from error


def import_bcc(package: Path) -> ModuleType:
    """Import BCC's bindings, from that folder if this Python doesn't see them.

    Raises:
        Unavailable: they aren't installed, or they don't work with this Python.
    """
    if "bcc" in sys.modules and hasattr(sys.modules["bcc"], "BPF"):
        return sys.modules["bcc"]
    spec = importlib.util.find_spec("bcc")
    # The project of that name on PyPI is something else.
    if spec is None or not _is_ours(spec):
        if not (package / "libbcc.py").is_file():
            msg = "BCC isn't installed (Debian: apt install python3-bpfcc)"
            raise Unavailable(msg)
        spec = importlib.util.spec_from_file_location(
            "bcc", package / "__init__.py", submodule_search_locations=[str(package)]
        )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bcc"] = module
    try:
        spec.loader.exec_module(module)
    except (ImportError, OSError, AttributeError, SyntaxError) as error:
        for name in [name for name in sys.modules if name.partition(".")[0] == "bcc"]:
            del sys.modules[name]
        msg = f"BCC's bindings don't work here ({error})"
        raise Unavailable(msg) from error
    return module


def _is_ours(spec: importlib.machinery.ModuleSpec) -> bool:
    places = spec.submodule_search_locations or ()
    return any((Path(place) / "libbcc.py").is_file() for place in places)


def inlined(source: Path) -> str:
    """A C file with its local headers in their places, each once.

    BCC translates what it does with maps only in the file itself.
    """
    done: set[Path] = set()

    def text_of(path: Path) -> str:
        def replacement(match: re.Match[str]) -> str:
            header = (path.parent / match[1]).resolve()
            if header in done:
                return ""
            done.add(header)
            return text_of(header)

        return _INCLUDE.sub(replacement, path.read_text())

    return text_of(source)


def knobs_initializer(knobs: bytes) -> str:
    """``struct knobs`` as a C initializer."""
    rules = [
        "{{{{{}u,{}u}},{{{}u,{}u}},{},{},{},{},{},{}}}".format(*rule)
        for rule in struct.iter_unpack("<4Q2H4B", knobs[16:])
    ]
    kinds = (rules[:MAX_RULES], rules[MAX_RULES:])
    numbers = ",".join(map(str, struct.unpack_from("<4I", knobs)))
    return f"{{{numbers},{','.join('{' + ','.join(kind) + '}' for kind in kinds)}}}"


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextlib.contextmanager
def _stderr() -> Iterator[Any]:
    """Keep what libraries write to standard error meanwhile; gives a function that reads it."""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lambda: os.pread(file.fileno(), 1 << 16, 0).decode(errors="replace")
        finally:
            os.dup2(kept, 2)
            os.close(kept)
