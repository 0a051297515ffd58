"""Our programs in the kernel with any constants and flags, run on a frame, their maps read."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import struct
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from probe.ebpf import syscalls
from probe.ebpf.capture import CONTROL
from probe.ebpf.counters import COUNTERS, Counters
from probe.ebpf.ring import SLOT_BYTES, Ring
from schemas.record import PACKET, Packets

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "bpf"
OBJECT = SOURCE / "build" / "capture.bpf.o"
LOG_STATS = 4
TEST_RUN = 10

PROGRAMS = ("tc_ingress", "tc_egress", "tc_ingress_ip", "tc_egress_ip", "xdp_capture")

RULE = np.dtype(
    [
        ("addr", "u1", 16),
        ("mask", "u1", 16),
        ("port_low", "<u2"),
        ("port_high", "<u2"),
        ("ip_proto", "u1"),
        ("has_proto", "u1"),
        ("has_ports", "u1"),
        ("pad", "u1"),
    ]
)
KNOBS = np.dtype(
    [
        ("sampling_rate", "<u4"),
        ("decapsulate", "<u4"),
        ("keep_rules", "<u4"),
        ("drop_rules", "<u4"),
        ("keep", RULE, 8),
        ("drop", RULE, 8),
    ]
)
FLOW_KEY = np.dtype(
    [
        ("src_addr", "u1", 16),
        ("dst_addr", "u1", 16),
        ("second", "<u8"),
        ("if_index", "<u4"),
        ("tunnel_id", "<u4"),
        ("src_port", "<u2"),
        ("dst_port", "<u2"),
        ("vlan_id", "<u2"),
        ("eth_type", "<u2"),
        ("ip_proto", "u1"),
        ("direction", "u1"),
        ("capture_point", "u1"),
        ("flags", "u1"),
        ("pad", "u1", 4),
    ]
)
FLOW_VALUE = np.dtype(
    [
        ("packets", "<u8"),
        ("bytes", "<u8"),
        ("first_ns", "<u8"),
        ("last_ns", "<u8"),
        ("src_mac", "u1", 6),
        ("dst_mac", "u1", 6),
        ("tcp_flags", "u1"),
        ("ttl", "u1"),
        ("tos", "u1"),
        ("pad", "u1"),
    ]
)


@cache
def built() -> Path:
    """The object, compiled from the sources as they are."""
    subprocess.run(["make", "--silent", "bpf"], cwd=ROOT, check=True)
    return OBJECT


def compile_object(target: Path, *flags: str) -> Path:
    """Compile the programs as the Makefile does, with more flags."""
    printed = subprocess.run(
        ["make", "--silent", "--no-print-directory", "-f", "-", "print"],
        input="include Makefile\nprint:\n\t@echo $(BPF_CC)\n",
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    subprocess.run(
        [*printed.split(), *flags, "-c", SOURCE / "capture.bpf.c", "-o", target], check=True
    )
    return target


@dataclass(frozen=True)
class Result:
    verdict: int
    duration_ns: int
    data: bytes


def run_program(descriptor: int, frame: bytes, *, repeat: int = 1, context: bytes = b"") -> Result:
    """Let the kernel run a program on a frame; for skbs the context is struct __sk_buff."""
    frame_in = ctypes.create_string_buffer(frame, len(frame))
    context_in = ctypes.create_string_buffer(context, len(context))
    out = ctypes.create_string_buffer(len(frame) + 4096)
    attr = syscalls.attributes(
        "4I2Q4I2Q",
        descriptor,
        0,
        len(frame),
        len(out),
        ctypes.addressof(frame_in),
        ctypes.addressof(out),
        repeat,
        0,
        len(context),
        0,
        ctypes.addressof(context_in) if context else 0,
        0,
    )
    syscalls.bpf(TEST_RUN, attr)
    verdict, _, out_bytes = struct.unpack_from("<i2I", attr, 4)
    (duration_ns,) = struct.unpack_from("<I", attr, 36)
    return Result(verdict, duration_ns, out.raw[:out_bytes])


def libbpf() -> ctypes.CDLL:
    library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    pointer, string = ctypes.c_void_p, ctypes.c_char_p
    for name, result, *arguments in (
        ("bpf_object__open_file", pointer, string, pointer),
        ("bpf_object__load", ctypes.c_int, pointer),
        ("bpf_object__close", None, pointer),
        ("bpf_object__find_program_by_name", pointer, pointer, string),
        ("bpf_object__find_map_by_name", pointer, pointer, string),
        ("bpf_object__next_program", pointer, pointer, pointer),
        ("bpf_program__fd", ctypes.c_int, pointer),
        ("bpf_program__set_flags", ctypes.c_int, pointer, ctypes.c_uint32),
        ("bpf_program__set_autoload", ctypes.c_int, pointer, ctypes.c_bool),
        ("bpf_program__set_log_level", ctypes.c_int, pointer, ctypes.c_uint32),
        ("bpf_program__set_log_buf", ctypes.c_int, pointer, pointer, ctypes.c_size_t),
        ("bpf_map__fd", ctypes.c_int, pointer),
        ("bpf_object__next_map", pointer, pointer, pointer),
        ("bpf_map__name", string, pointer),
        ("bpf_map__type", ctypes.c_int, pointer),
        ("bpf_map__key_size", ctypes.c_uint32, pointer),
        ("bpf_map__value_size", ctypes.c_uint32, pointer),
        ("bpf_map__max_entries", ctypes.c_uint32, pointer),
        ("bpf_map__map_flags", ctypes.c_uint32, pointer),
        ("bpf_map__set_max_entries", ctypes.c_int, pointer, ctypes.c_uint32),
        ("bpf_map__set_initial_value", ctypes.c_int, pointer, pointer, ctypes.c_size_t),
        ("bpf_map_lookup_elem", ctypes.c_int, ctypes.c_int, pointer, pointer),
        ("bpf_map_get_next_key", ctypes.c_int, ctypes.c_int, pointer, pointer),
        ("libbpf_set_print", pointer, pointer),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.libbpf_set_print(None)
    return library


def maps(path: Path) -> dict[str, tuple[int, int, int, int, int]]:
    """Type, sizes of key and value, entries and flags of an object's maps, not loaded."""
    lib = libbpf()
    opened = lib.bpf_object__open_file(os.fsencode(path), None)
    found = {}
    at = lib.bpf_object__next_map(opened, None)
    while at:
        name = lib.bpf_map__name(at).decode()
        parts = ("type", "key_size", "value_size", "max_entries", "map_flags")
        values = tuple(getattr(lib, f"bpf_map__{part}")(at) for part in parts)
        found["." + name.partition(".")[2] if "." in name else name] = values
        at = lib.bpf_object__next_map(opened, at)
    lib.bpf_object__close(opened)
    return found


class Loaded:
    """Our object in the kernel, with chosen constants; its maps as numpy reads them."""

    def __init__(
        self,
        path: Path = OBJECT,
        *,
        ring_bytes: int = 1 << 20,
        flows: int = 1024,
        programs: tuple[str, ...] = PROGRAMS,
        xdp_flags: int = 0,
        **knobs: Any,
    ) -> None:
        self.lib = libbpf()
        self.cpus = syscalls.possible_cpus()
        self.object = self.lib.bpf_object__open_file(os.fsencode(path), None)
        if not self.object:
            raise OSError(ctypes.get_errno(), f"can't open {path}")
        constants = np.zeros(1, KNOBS)
        for name, value in knobs.items():
            if name in ("keep", "drop"):
                constants[0][name][: len(value)] = value
                constants[0][f"{name}_rules"] = len(value)
            else:
                constants[0][name] = value
        self.must(
            self.lib.bpf_map__set_initial_value(
                self.map(".rodata"), constants.ctypes.data, constants.nbytes
            ),
            "set knobs",
        )
        self.lib.bpf_map__set_max_entries(self.map("packets"), ring_bytes)
        self.lib.bpf_map__set_max_entries(self.map("flows_a"), flows)
        if xdp_flags:
            self.lib.bpf_program__set_flags(self.program("xdp_capture"), xdp_flags)
        self.logs = {}
        for name in set(PROGRAMS) - set(programs):
            self.lib.bpf_program__set_autoload(self.program(name), False)
        for name in programs:
            self.logs[name] = ctypes.create_string_buffer(1 << 16)
            program = self.program(name)
            self.lib.bpf_program__set_log_level(program, LOG_STATS)
            self.lib.bpf_program__set_log_buf(program, self.logs[name], 1 << 16)
        self.must(self.lib.bpf_object__load(self.object), "load")
        self.ring_bytes = ring_bytes
        self.ring = Ring(self.map_fd("packets"), ring_bytes)

    def must(self, result: int, what: str) -> None:
        if result < 0:
            logs = "\n".join(
                log.value.decode()[-2000:] for log in getattr(self, "logs", {}).values()
            )
            raise OSError(-result, f"{what}: {os.strerror(-result)}\n{logs}")

    def map(self, name: str) -> Any:
        return self.lib.bpf_object__find_map_by_name(self.object, name.encode())

    def map_fd(self, name: str) -> int:
        return int(self.lib.bpf_map__fd(self.map(name)))

    def program(self, name: str) -> Any:
        return self.lib.bpf_object__find_program_by_name(self.object, name.encode())

    def program_fd(self, name: str) -> int:
        return int(self.lib.bpf_program__fd(self.program(name)))

    def verified_insns(self) -> dict[str, int]:
        """How many instructions the verifier went through, by program."""
        return {
            name: int(re.search(rb"processed (\d+) insns", log.value)[1])
            for name, log in self.logs.items()
        }

    def run(self, program: str, frame: bytes, *, repeat: int = 1, context: bytes = b"") -> Result:
        return run_program(self.program_fd(program), frame, repeat=repeat, context=context)

    def counters(self) -> dict[str, int]:
        sums = Counters(self.map_fd("counters")).read()
        return {name: int(sums[name][0]) for name in COUNTERS.names or ()}

    def control(self, **fields: int) -> None:
        with contextlib.closing(
            syscalls.mapped(self.map_fd("control"), CONTROL.itemsize)
        ) as memory:
            value = np.zeros(1, CONTROL)
            for name, number in fields.items():
                value[name] = number
            memory[: CONTROL.itemsize] = value.tobytes()

    def flows(self) -> tuple[Any, Any]:
        """Keys (n,) and values (n, CPUs) of the first flow table."""
        fd = self.map_fd("flows_a")
        keys, values = [], []
        key = None
        while True:
            following = np.zeros(1, FLOW_KEY)
            if self.lib.bpf_map_get_next_key(
                fd, None if key is None else key.ctypes.data, following.ctypes.data
            ):
                break
            key = following
            value = np.zeros(self.cpus, FLOW_VALUE)
            self.must(self.lib.bpf_map_lookup_elem(fd, key.ctypes.data, value.ctypes.data), "flow")
            keys.append(key)
            values.append(value)
        if not keys:
            return np.zeros(0, FLOW_KEY), np.zeros((0, self.cpus), FLOW_VALUE)
        return np.concatenate(keys), np.stack(values)

    def read(self) -> Packets:
        """Take what waits in the ring."""
        records = np.zeros(self.ring_bytes // SLOT_BYTES, PACKET)
        return records[: self.ring.read(records, 0)]

    def close(self) -> None:
        if self.object:
            self.ring.close()
            self.lib.bpf_object__close(self.object)
            self.object = None

    def __enter__(self) -> Loaded:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
