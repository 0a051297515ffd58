"""Flows counted in the kernel: nothing is lost while tables are swapped, and when modes change."""

from __future__ import annotations

import contextlib
import os
import threading
import time

import numpy as np
import pytest

from probe.ebpf import libbpf
from probe.ebpf.capture import CONTROL, EbpfCapture
from probe.ebpf.counters import Counters
from probe.ebpf.flow_tables import FlowTables
from probe.ebpf.knobs import pack_knobs
from probe.ebpf.loaded import Loaded, LoadFiles, LoadRequest, load
from probe.ebpf.syscalls import mapped
from probe.live import CaptureOptions
from schemas.record import PACKET, Packets
from tests.support.bpf_load import run_program
from tests.support.ebpf import UDP_FRAME

pytestmark = [pytest.mark.requires("bpf", "netns", "libbpf")]
SECOND_NS = 10**9
BURST = 20_000
TC_PROGRAMS = ("tc_ingress",)


def loaded(options: CaptureOptions) -> Loaded:
    if not LoadFiles().compiled.is_file():
        pytest.skip("no compiled programs; make bpf")
    programs, _ = load(options, TC_PROGRAMS, LoadFiles())
    return programs


def frame(number: int) -> bytes:
    """A frame of a flow of its own."""
    port = (1024 + number % 5000).to_bytes(2, "big")
    return UDP_FRAME[:34] + port + UDP_FRAME[36:]


class Traffic:
    """Bursts of packets on both processors at once, for as long as the block lasts."""

    def __init__(self, program_fd: int) -> None:
        self.sent = 0
        self._program_fd = program_fd
        self._stop = threading.Event()
        self._lock = threading.Lock()
        cpus = sorted(os.sched_getaffinity(0))[:2]
        self._threads = [threading.Thread(target=self._run, args=(cpu,)) for cpu in cpus]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})
        number = 0
        while not self._stop.is_set():
            number += 1  # some flows are on both processors
            run_program(self._program_fd, frame(number % 7 * (1 + cpu % 2)), repeat=BURST)
            with self._lock:
                self.sent += BURST


def test_nothing_is_lost_while_tables_are_swapped() -> None:
    """With programs running on all processors, what all swaps give is exactly what was seen."""
    options = CaptureOptions(interfaces=(), mode="flows")
    with contextlib.closing(loaded(options)) as programs:
        control = np.frombuffer(mapped(programs.map_fd("control"), CONTROL.itemsize), CONTROL, 1)
        tables = FlowTables(programs.map_fd("flow_tables"), programs.map_fd("flows_a"))
        counters = Counters(programs.map_fd("counters"))
        control["aggregate"] = 1
        parts: list[Packets] = []
        with contextlib.closing(tables):
            with Traffic(programs.program_fd("tc_ingress")) as traffic:
                while sum(len(part) > 0 for part in parts) < 10:
                    tables.swap()
                    parts.append(tables.take(0))
            parts += [tables.take_last(0), tables.take(0)]
            assert len(tables.take_last(0)) == 0
        sums = counters.read()[0]
        records = np.concatenate(parts)
    assert sums["seen"] == traffic.sent
    assert sums["table_full"] == sums["ring_full"] == 0
    assert records["packets"].sum(dtype=np.uint64) == sums["seen"]
    assert records["wire_bytes"].sum(dtype=np.uint64) == sums["seen_bytes"]
    assert set(records["direction"]) == {1}
    # A swap gives each flow and second once.
    for part in parts:
        keys = [(int(row["src_port"]), int(row["ts_ns"]) // SECOND_NS) for row in part]
        assert len(set(keys)) == len(keys)


def test_a_full_table_leaves_the_rest_to_the_ring() -> None:
    """Packets of flows for which a table has no room become records of their own."""
    options = CaptureOptions(interfaces=(), mode="flows")
    request = LoadRequest(
        programs=TC_PROGRAMS,
        knobs=pack_knobs(options),
        ring_bytes=options.ring_bytes,
        flow_entries=64,
    )
    with contextlib.closing(libbpf.load(request, LoadFiles())) as programs:
        capture = EbpfCapture(options, "tc", (), programs, ())
        for number in range(300):
            run_program(programs.program_fd("tc_ingress"), frame(number), repeat=2)
        capture.detach()
        out = np.zeros(2000, PACKET)
        count = capture.read(out)
        counts = capture.counts()
        capture.close()
    assert counts.seen == out["packets"][:count].sum() == 600
    assert count > 300


class Reader:
    """Reads a capture as an agent does, and keeps the sums."""

    def __init__(self, capture: EbpfCapture, room: int = 50_000) -> None:
        self.capture = capture
        self.out = np.zeros(room, PACKET)
        self.packets = 0
        self.late = 0
        self.watermarks = [capture.watermark_ns()]

    def read(self) -> int:
        count = self.capture.read(self.out)
        rows = self.out[:count]
        self.packets += int(rows["packets"].sum(dtype=np.uint64))
        self.late += int((rows["ts_ns"] < self.watermarks[-1]).sum())
        self.watermarks.append(self.capture.watermark_ns())
        return count


@pytest.mark.parametrize("mode", ["packets", "flows", "auto"])
@pytest.mark.parametrize("room", [50_000, 100])
def test_identity_and_watermark(mode: str, room: int) -> None:
    """Seen is read plus dropped, whatever the reader's pace; nothing comes before a watermark."""
    options = CaptureOptions(interfaces=(), mode=mode, ring_bytes=1 << 20)  # type: ignore[arg-type]
    programs = loaded(options)
    capture = EbpfCapture(options, "tc", (), programs, ())
    with contextlib.closing(capture):
        reader = Reader(capture, room)
        with Traffic(programs.program_fd("tc_ingress")) as traffic:
            while traffic.sent < 60 * BURST:
                reader.read()
        capture.detach()
        while reader.read() == len(reader.out):
            pass
        counts = capture.counts()
    assert counts.seen == traffic.sent
    assert counts.seen == reader.packets + sum(counts.dropped.values())
    assert reader.late == 0
    assert reader.watermarks == sorted(reader.watermarks)
    assert abs(reader.watermarks[-1] - time.time_ns()) < 60 * SECOND_NS
    assert not counts.filtered
    if mode == "flows":
        assert counts.dropped["ring_full"] == 0


def test_auto_goes_to_flows_under_overload_and_says_so() -> None:
    """A reader that is too slow makes programs count flows; when all is read, it's over."""
    options = CaptureOptions(interfaces=(), mode="auto", ring_bytes=1 << 16)
    programs = loaded(options)
    capture = EbpfCapture(options, "tc", (), programs, ())
    with contextlib.closing(capture):
        reader = Reader(capture)
        assert not capture.aggregated
        for _ in range(20):
            run_program(programs.program_fd("tc_ingress"), UDP_FRAME, repeat=2000)
            time.sleep(0.11)
            reader.read()
            if capture.aggregated:
                break
        assert capture.aggregated
        lost = capture.counts().dropped["ring_full"]
        assert lost > 0
        run_program(programs.program_fd("tc_ingress"), UDP_FRAME, repeat=50_000)
        reader.read()
        capture.detach()
        reader.read()
        assert capture.aggregated  # the records that were just read
        assert reader.read() == 0
        assert not capture.aggregated
        counts = capture.counts()
    assert counts.dropped["ring_full"] == lost
    assert counts.seen == reader.packets + lost


def test_sampling() -> None:
    """What sampling leaves out is counted as dropped, for that reason."""
    options = CaptureOptions(interfaces=(), sampling_rate=10)
    programs = loaded(options)
    capture = EbpfCapture(options, "tc", (), programs, ())
    with contextlib.closing(capture):
        reader = Reader(capture)
        run_program(programs.program_fd("tc_ingress"), UDP_FRAME, repeat=20_000)
        reader.read()
        counts = capture.counts()
    assert counts.seen == 20_000
    assert counts.dropped["sampled_out"] + reader.packets == 20_000
    assert 1500 < reader.packets < 2500
    assert capture.sampling_rate == 10
