"""Loading a compiled object by libbpf, with no compiler on the machine."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path
from typing import Any, Final

from probe.ebpf.knobs import KNOBS_BYTES
from probe.ebpf.loaded import LoadFiles, LoadRequest, refusal
from probe.errors import Unavailable

_WARNING: Final = 0
_LAST_ERRNO: Final = 4095
_POINTER: Final = ctypes.c_void_p
_TEXT: Final = ctypes.c_char_p
_PRINT: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, _TEXT, _POINTER)
_FUNCTIONS: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "bpf_object__open_file": (_POINTER, (_TEXT, _POINTER)),
    "bpf_object__load": (ctypes.c_int, (_POINTER,)),
    "bpf_object__close": (None, (_POINTER,)),
    "bpf_object__next_program": (_POINTER, (_POINTER, _POINTER)),
    "bpf_object__next_map": (_POINTER, (_POINTER, _POINTER)),
    "bpf_object__find_program_by_name": (_POINTER, (_POINTER, _TEXT)),
    "bpf_object__find_map_by_name": (_POINTER, (_POINTER, _TEXT)),
    "bpf_program__name": (_TEXT, (_POINTER,)),
    "bpf_program__fd": (ctypes.c_int, (_POINTER,)),
    "bpf_program__set_autoload": (ctypes.c_int, (_POINTER, ctypes.c_bool)),
    "bpf_map__name": (_TEXT, (_POINTER,)),
    "bpf_map__fd": (ctypes.c_int, (_POINTER,)),
    "bpf_map__set_max_entries": (ctypes.c_int, (_POINTER, ctypes.c_uint32)),
    "bpf_map__initial_value": (_POINTER, (_POINTER, ctypes.POINTER(ctypes.c_size_t))),
    "libbpf_set_print": (_POINTER, (_PRINT,)),
}


class Libbpf:
    """The library, its functions typed, its warnings kept in ``log``.

    Raises:
        Unavailable: it isn't installed, or it is too old.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.log: list[str] = []
        library = _open_library(names)
        try:
            for name, (result, arguments) in _FUNCTIONS.items():
                function = getattr(library, name)
                function.restype, function.argtypes = result, arguments
                setattr(self, name.removeprefix("bpf_"), function)
        except AttributeError as error:
            msg = "libbpf is older than 0.7; upgrade it (Debian: apt install libbpf1)"
            raise Unavailable(msg) from error
        self._format = ctypes.CDLL(None).vsnprintf
        self._callback = _PRINT(self._print)  # kept, since libbpf calls it as long as it lives
        library.libbpf_set_print(self._callback)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)  # tells mypy that the rest is set in __init__

    def _print(self, level: int, text: bytes, arguments: Any) -> int:
        if level == _WARNING:
            line = ctypes.create_string_buffer(4096)
            self._format(line, ctypes.c_size_t(len(line)), _TEXT(text), _POINTER(arguments))
            self.log.append(line.value.decode(errors="replace").rstrip())
        return 0


def _open_library(names: tuple[str, ...]) -> ctypes.CDLL:
    for name in names:
        try:
            return ctypes.CDLL(name, use_errno=True)
        except OSError:
            continue
    msg = f"libbpf isn't installed ({names[0]}; Debian: apt install libbpf1)"
    raise Unavailable(msg)


_libraries: Final[dict[tuple[str, ...], Libbpf]] = {}


class LibbpfObject:
    """An object file whose programs and maps are in the kernel."""

    def __init__(self, library: Libbpf, handle: int) -> None:
        self._library = library
        self._handle: int | None = handle

    def program_fd(self, name: str) -> int:
        """Descriptor of a program."""
        program = self._library.object__find_program_by_name(self._handle, name.encode())
        return int(self._library.program__fd(program))

    def map_fd(self, name: str) -> int:
        """Descriptor of a map."""
        found = self._library.object__find_map_by_name(self._handle, name.encode())
        return int(self._library.map__fd(found))

    def close(self) -> None:
        """Close all descriptors. May be called twice."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._library.object__close(handle)


def load(request: LoadRequest, files: LoadFiles) -> LibbpfObject:
    """Load the compiled object.

    Raises:
        Unavailable: there is no object or no library, or the kernel refuses the programs. The
            notes of its cause have what libbpf and the verifier said.
    """
    if not files.compiled.is_file():
        msg = f"libbpf: there is no {files.compiled.name}; `make bpf` compiles it"
        raise Unavailable(msg)
    library = _libraries.get(files.libbpf) or Libbpf(files.libbpf)
    _libraries[files.libbpf] = library
    library.log.clear()
    handle = library.object__open_file(os.fsencode(files.compiled), None)
    if not handle or handle >= 2**64 - _LAST_ERRNO:
        raise _refused(library, ctypes.get_errno() or errno.EINVAL)
    loaded = LibbpfObject(library, handle)
    try:
        _prepare(library, handle, request, files.compiled)
        if library.object__load(handle):
            raise _refused(library, ctypes.get_errno())
    except BaseException:
        loaded.close()
        raise
    return loaded


def _refused(library: Libbpf, number: int) -> Unavailable:
    cause = OSError(number, os.strerror(number))
    cause.add_note("\n".join(library.log))
    return refusal("libbpf", cause)


def _prepare(library: Libbpf, handle: int, request: LoadRequest, path: Path) -> None:
    program = library.object__next_program(handle, None)
    while program:
        name = library.program__name(program).decode()
        library.program__set_autoload(program, name in request.programs)
        program = library.object__next_program(handle, program)
    for name, entries in (("packets", request.ring_bytes), ("flows_a", request.flow_entries)):
        found = library.object__find_map_by_name(handle, name.encode())
        library.map__set_max_entries(found, entries)
    constants = library.object__next_map(handle, None)
    while constants and not library.map__name(constants).endswith(b".rodata"):
        constants = library.object__next_map(handle, constants)
    size_bytes = ctypes.c_size_t()
    start = library.map__initial_value(constants, ctypes.byref(size_bytes)) if constants else None
    at = symbol_value(path.read_bytes(), b"knobs")
    if not start or at + KNOBS_BYTES > size_bytes.value:
        msg = f"libbpf: {path.name} isn't of this version; `make bpf` compiles it anew"
        raise Unavailable(msg)
    ctypes.memmove(start + at, request.knobs, KNOBS_BYTES)


def symbol_value(elf: bytes, name: bytes) -> int:
    """Value of a symbol of a 64-bit little-endian ELF file, for data its place in the section.

    Raises:
        Unavailable: there is no such symbol.
    """
    sections_at = struct.unpack_from("<Q", elf, 0x28)[0]
    entry_bytes, count = struct.unpack_from("<HH", elf, 0x3A)
    # name, type, flags, address, offset, size, link, info, alignment, entry size
    sections = [
        struct.unpack_from("<IIQQQQIIQQ", elf, sections_at + i * entry_bytes) for i in range(count)
    ]
    for section in sections:
        if section[1] != 2:  # SHT_SYMTAB
            continue
        names_at = sections[section[6]][4]
        for at in range(section[4], section[4] + section[5], 24):
            name_at, _, _, _, value = struct.unpack_from("<IBBHQ", elf, at)
            start = names_at + name_at
            if elf[start : elf.index(b"\0", start)] == name:
                return int(value)
    msg = f"libbpf: the object has no symbol {name.decode()}; `make bpf` compiles it anew"
    raise Unavailable(msg)
