"""Capture by eBPF: programs on the wire, records by way of a ring or of flow tables."""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np

from probe.ebpf import syscalls
from probe.ebpf.attach import XDP_PROGRAM, Attachment, attach_tc, attach_xdp, tc_targets
from probe.ebpf.clock import Clock
from probe.ebpf.counters import Counters, as_counts
from probe.ebpf.devices import Device, find_devices
from probe.ebpf.flow_tables import FlowTables
from probe.ebpf.loaded import Loaded, LoadFiles, load
from probe.ebpf.mode import ModeSwitch
from probe.ebpf.pins import Pins
from probe.ebpf.ring import Ring
from probe.errors import LiveError, Unavailable
from probe.live import CaptureCounts, CaptureOptions
from probe.unclean import SentState, UncleanStop
from schemas.record import PACKET, CapturePoint, Direction, Packets, as_words, join

CONTROL: Final = np.dtype(
    [("aggregate", "<u4"), ("pad", "<u4"), ("unix_offset_ns", "<u8"), ("reserved", "<u8", 6)]
)
"""``struct control`` of ``bpf/``: switches that programs look at for each packet."""

_CHECK_NS: Final = 100_000_000
_NS_PER_S: Final = 1_000_000_000
_CLOCKS_APART_NS: Final = 100_000
"""Programs read the kernel's fast clock, which was seen to be up to 1,652 ns behind ours."""
_LOOKS: Final = 64
"""How many looks at the ring are remembered until everything that was there is read."""


def open_ebpf(
    options: CaptureOptions, hook: Literal["tc", "xdp"], files: LoadFiles | None = None
) -> EbpfCapture:
    """Load programs and attach them to the interfaces, in this thread's network namespace.

    Args:
        options: what to capture.
        hook: where packets are seen.
        files: where the loaders find what they need, by default where it is installed.

    Raises:
        LiveError: the options can't be met, or a probe of that name runs already.
        Unavailable: this machine doesn't offer the hook; the text has the reasons.
    """
    if options.ring_bytes < mmap.PAGESIZE or options.ring_bytes & (options.ring_bytes - 1):
        msg = f"ring_bytes is {options.ring_bytes}; it must be a power of two, at least 4096"
        raise LiveError(msg)
    devices = find_devices(options.interfaces)
    if hook == "xdp" and Direction.INGRESS not in options.directions:
        msg = "XDP sees only what comes in; capture what goes out by tc"
        raise LiveError(msg)
    if hook == "xdp":
        programs = {XDP_PROGRAM}
    else:
        programs = {program for _, _, program in tc_targets(devices, options.directions)}
    loaded, choices = load(options, tuple(sorted(programs)), files or LoadFiles())
    try:
        return EbpfCapture(options, hook, devices, loaded, choices)
    except OSError as error:
        msg = f"eBPF: the kernel refuses what capturing needs ({error.strerror})"
        raise Unavailable(msg) from error


class EbpfCapture:
    """A live capture, see ``probe.live.LiveCapture``; made by ``open_ebpf``.

    A record gets its time after its place in the ring, and a flow's packet after its table was
    found. So what isn't there at a look is younger than the look: when everything that was
    there is read, the time of the look is the watermark. One thread may read while another
    counts, detaches or closes.

    Attributes:
        point: TC or XDP.
        choices: lines for the user: what was chosen, and why nothing better.
        interfaces: names by number.
        sampling_rate: one of how many buffers is recorded.
        unclean: what earlier boots of this name left, the oldest first.
        sent_state: where to note what was sent, or None where nothing can be pinned.
    """

    def __init__(
        self,
        options: CaptureOptions,
        hook: Literal["tc", "xdp"],
        devices: tuple[Device, ...],
        loaded: Loaded,
        choices: tuple[str, ...],
    ) -> None:
        self.point = CapturePoint.TC if hook == "tc" else CapturePoint.XDP
        self.interfaces: Mapping[int, str] = {device.index: device.name for device in devices}
        self.sampling_rate = max(options.sampling_rate, 1)
        self.unclean: tuple[UncleanStop, ...] = ()
        self.sent_state: SentState | None = None
        self._mode = options.mode
        self._loaded = loaded
        self._clock = Clock()
        self._switch = ModeSwitch()
        self._looks: deque[tuple[int, int]] = deque()
        self._ring_ns = self._tables_ns = self._swapped_ns = self._checked_ns = self._clock.now_ns()
        self._flows = np.zeros(0, PACKET)
        self._counting_flows = options.mode == "flows"
        self._watermark_ns = 0
        self._counts: CaptureCounts | None = None
        self._detached = self._gave_flows = False
        self._lock = threading.Lock()
        self._pins: Pins | None = None
        self._pins_missing: tuple[str, ...] = ()
        with contextlib.ExitStack() as undo:
            undo.callback(loaded.close)
            self._ring = Ring(loaded.map_fd("packets"), options.ring_bytes)
            undo.callback(self._ring.close)
            control = syscalls.mapped(loaded.map_fd("control"), CONTROL.itemsize)
            self._control: Any = np.frombuffer(control, CONTROL, 1)
            self._tables = FlowTables(loaded.map_fd("flow_tables"), loaded.map_fd("flows_a"))
            undo.callback(self._tables.close)
            self._counters = Counters(loaded.map_fd("counters"))
            if options.name is not None:
                self._open_pins(options)
                undo.callback(self._close_pins, clean=False)
            self._control["unix_offset_ns"] = self._clock.offset_ns
            self._control["aggregate"] = self._counting_flows
            self.read(np.zeros(1, PACKET))  # compiles what reading needs, before packets come
            if options.mode != "packets":
                self._tables.take(self._clock.offset_ns)
            self._attachment = _attach(options, hook, devices, loaded)
            undo.pop_all()
        self.choices: tuple[str, ...] = (*choices, *self._attachment.choices)
        if self._pins is not None:
            self._take_over_pins()
        self.choices += self._pins_missing

    @property
    def aggregated(self) -> bool:
        """Whether records, as of the last read, may stand for a flow's packets of a second."""
        return self._counting_flows or self._gave_flows or len(self._flows) > 0

    def read(self, out: Packets) -> int:
        """Copy what waits to ``out``, at most its length; returns how many. Never blocks.

        Once a second, when flows are counted, it takes some milliseconds to swap their tables.
        """
        with self._lock:
            return self._read(out)

    def _read(self, out: Packets) -> int:
        now_ns = self._clock.now_ns()
        if self._clock.update():
            self._control["unix_offset_ns"] = self._clock.offset_ns
        if now_ns - self._checked_ns >= _CHECK_NS:
            self._checked_ns = now_ns
            self._choose_mode(now_ns)
        if self._counting_flows and not len(self._flows):
            self._swap_if_due(now_ns)
        count = min(len(self._flows), len(out))
        self._gave_flows = count > 0
        if count:
            as_words(out)[:count] = as_words(self._flows)[:count]
            self._flows = self._flows[count:]
        if not len(self._flows):
            self._tables_ns = self._swapped_ns
        return count + self._read_ring(out[count:])

    def watermark_ns(self) -> int:
        """Unix time before which no more packets will come, as of the last read; never falls."""
        return self._watermark_ns

    def counts(self) -> CaptureCounts:
        """Totals since the start."""
        with self._lock:
            return self._counts or as_counts(self._counters.read())

    def ring_fill(self) -> float:
        """How much of the ring waits to be read, 0 to 1."""
        return self._ring.fill()

    def detach(self) -> None:
        """Take no new packets; what waits can still be read. May be called twice."""
        with self._lock:
            self._attachment.close()
            if not self._detached:
                self._detached = True
                self._stop_counting_flows()

    def close(self, *, clean: bool = True) -> None:
        """Detach and give everything back; may be called twice.

        Args:
            clean: everything is accounted for. If not, what is pinned stays for the next start.
        """
        if self._counts is not None:
            return
        self.detach()
        with self._lock:
            self._counts = as_counts(self._counters.read())
            self._close_pins(clean=clean)
            self._tables.close()
            self._ring.close()
            self._control = np.zeros(1, CONTROL)
            self._loaded.close()

    def _open_pins(self, options: CaptureOptions) -> None:
        assert options.name is not None
        self._bpffs = options.bpffs
        try:
            self._pins = Pins(options.bpffs, options.name)
        except OSError as error:
            self._do_without_pins(error)
        else:
            self.unclean = self._pins.unclean

    def _take_over_pins(self) -> None:
        assert self._pins is not None
        try:
            self.sent_state = self._pins.take_over(self._loaded.map_fd("counters"))
        except OSError as error:
            self._close_pins(clean=False)
            self._do_without_pins(error)

    def _do_without_pins(self, error: OSError) -> None:
        self._pins = None
        self._pins_missing = (
            f"nothing is pinned in {self._bpffs} ({error.strerror}), so that what a killed probe "
            f"loses stays unknown; as root, `mount -t bpf bpf {self._bpffs}`",
        )

    def _close_pins(self, *, clean: bool) -> None:
        if self._pins is not None:
            self._pins.close(clean=clean)

    def _read_ring(self, out: Packets) -> int:
        look_ns = self._clock.now_ns()
        count = self._ring.read(out, self._clock.offset_ns)
        if len(self._looks) < _LOOKS:
            self._looks.append((self._ring.produced, look_ns))
        while self._looks and self._looks[0][0] <= self._ring.consumed:
            self._ring_ns = self._looks.popleft()[1]
        complete_ns = self._ring_ns
        if self._counting_flows or len(self._flows):
            complete_ns = min(complete_ns, self._tables_ns)
        promised_ns = complete_ns - _CLOCKS_APART_NS + self._clock.offset_ns
        self._watermark_ns = max(self._watermark_ns, promised_ns)
        return count

    def _swap_if_due(self, now_ns: int) -> None:
        offset_ns = self._clock.offset_ns
        if (now_ns + offset_ns) // _NS_PER_S != (self._swapped_ns + offset_ns) // _NS_PER_S:
            self._swapped_ns = now_ns
            self._tables.swap()
            self._flows = self._tables.take(offset_ns)

    def _choose_mode(self, now_ns: int) -> None:
        if self._mode != "auto" or self._detached:
            return
        sums = self._counters.read()
        aggregate = self._switch.check(
            now_ns / _NS_PER_S,
            int(sums["seen"][0]),
            int(sums["ring_full"][0]),
            self._ring.fill(),
        )
        if aggregate and not self._counting_flows:
            self._tables_ns = self._swapped_ns = now_ns
            self._counting_flows = True
            self._control["aggregate"] = 1
        elif self._counting_flows and not aggregate:
            self._stop_counting_flows()

    def _stop_counting_flows(self) -> None:
        """Take all flows out; also waits until no program runs that began before."""
        self._control["aggregate"] = 0
        self._tables.swap()
        if self._counting_flows:
            offset_ns = self._clock.offset_ns
            rest = (self._flows, self._tables.take(offset_ns), self._tables.take_last(offset_ns))
            self._flows = join(rest)
            self._counting_flows = False


def _attach(
    options: CaptureOptions,
    hook: Literal["tc", "xdp"],
    devices: tuple[Device, ...],
    loaded: Loaded,
) -> Attachment:
    if hook == "tc":
        return attach_tc(loaded, devices, options.directions, options.attach)
    attachment = attach_xdp(loaded, devices, options.xdp_mode)
    if Direction.EGRESS in options.directions:
        attachment.choices += ("XDP sees only what comes in; tc would see both ways",)
    return attachment
