"""The smallest loader that can run our programs: libbpf and bpf(2) through ctypes."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from schemas.record import PACKET, Packets

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "bpf"
OBJECT = SOURCE / "build" / "capture.bpf.o"
LOG_STATS = 4
TEST_RUN, LINK_CREATE = 10, 28
SYSCALL = {"x86_64": 321, "aarch64": 280}.get(platform.machine(), 0)

PROGRAMS = ("tc_ingress", "tc_egress", "tc_ingress_ip", "tc_egress_ip", "xdp_capture")

COUNTERS = np.dtype(
    [
        (name, "<u8")
        for name in (
            "seen",
            "seen_bytes",
            "ring_full",
            "sampled_out",
            "filtered",
            "table_full",
            "buffers",
            "reserved",
        )
    ]
)
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
CONTROL = np.dtype(
    [("aggregate", "<u4"), ("pad", "<u4"), ("unix_offset_ns", "<u8"), ("reserved", "<u8", 6)]
)


class TestRun(ctypes.Structure):
    """The part of union bpf_attr that BPF_PROG_TEST_RUN reads."""

    __test__ = False
    _fields_ = [
        ("prog_fd", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("data_in", ctypes.c_uint64),
        ("data_out", ctypes.c_uint64),
        ("repeat", ctypes.c_uint32),
        ("duration", ctypes.c_uint32),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_uint64),
        ("ctx_out", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
    ]


def bpf(command: int, attr: Any) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(SYSCALL, command, ctypes.byref(attr), ctypes.sizeof(attr))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"bpf({command}): {os.strerror(code)}")
    return int(result)


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
    attr = TestRun(
        prog_fd=descriptor,
        data_size_in=len(frame),
        data_in=ctypes.addressof(frame_in),
        data_size_out=len(out),
        data_out=ctypes.addressof(out),
        repeat=repeat,
        ctx_size_in=len(context),
        ctx_in=ctypes.addressof(context_in) if context else 0,
    )
    bpf(TEST_RUN, attr)
    verdict = ctypes.c_int32(attr.retval).value
    return Result(verdict, attr.duration, out.raw[: attr.data_size_out])


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
        ("bpf_map_update_elem", ctypes.c_int, ctypes.c_int, pointer, pointer, ctypes.c_uint64),
        ("bpf_map_get_next_key", ctypes.c_int, ctypes.c_int, pointer, pointer),
        ("libbpf_num_possible_cpus", ctypes.c_int),
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
        self.cpus = self.lib.libbpf_num_possible_cpus()
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
        values = np.zeros(self.cpus, COUNTERS)
        self.lookup("counters", values)
        return {name: int(values[name].sum()) for name in COUNTERS.names or ()}

    def lookup(self, name: str, out: Any) -> None:
        key = ctypes.c_uint32(0)
        self.must(
            self.lib.bpf_map_lookup_elem(self.map_fd(name), ctypes.byref(key), out.ctypes.data),
            name,
        )

    def control(self, **fields: int) -> None:
        value = np.zeros(1, CONTROL)
        for name, number in fields.items():
            value[name] = number
        key = ctypes.c_uint32(0)
        self.must(
            self.lib.bpf_map_update_elem(
                self.map_fd("control"), ctypes.byref(key), value.ctypes.data, 0
            ),
            "control",
        )

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

    @contextlib.contextmanager
    def _ring(self) -> Iterator[tuple[mmap.mmap, mmap.mmap]]:
        """The page with the consumer's position, and the producer's page with the data twice."""
        fd, page = self.map_fd("packets"), mmap.PAGESIZE
        size = page + 2 * self.ring_bytes
        with (
            mmap.mmap(fd, page) as consumer,
            mmap.mmap(fd, size, prot=mmap.PROT_READ, offset=page) as producer,
        ):
            yield consumer, producer

    def read(self) -> Packets:
        """Take what waits in the ring."""
        records = []
        with self._ring() as (consumer, producer):
            head, tail = (int.from_bytes(page[:8], "little") for page in (consumer, producer))
            while head < tail:
                at = mmap.PAGESIZE + head % self.ring_bytes
                size = int.from_bytes(producer[at : at + 4], "little")
                assert size == PACKET.itemsize, hex(size)
                records.append(producer[at + 8 : at + 8 + size])
                head += 8 + size
            consumer[:8] = head.to_bytes(8, "little")
        return np.frombuffer(b"".join(records), PACKET)

    def skip(self) -> None:
        """Forget what waits in the ring."""
        with self._ring() as (consumer, producer):
            consumer[:8] = producer[:8]

    def close(self) -> None:
        if self.object:
            self.lib.bpf_object__close(self.object)
            self.object = None

    def __enter__(self) -> Loaded:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
