"""Live captures in private namespaces: every method, opened alike, and recorded meanwhile."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import pytest

from probe.choose import open_capture
from probe.errors import Unavailable
from probe.live import CaptureCounts, CaptureOptions, LiveCapture
from schemas.record import PACKET, CapturePoint, Direction, Packets
from tests.support.namespaces import DEVICE, End, inside

Missing = Callable[[str, str], NoReturn]

NAP_SECONDS = 0.002


@dataclass(frozen=True)
class Method:
    """A way to capture, and where packets are then seen."""

    point: CapturePoint
    options: dict[str, Any]

    @property
    def needs(self) -> tuple[str, ...]:
        if self.point == CapturePoint.AF_PACKET:
            return "netns", "packet_socket"
        return "netns", "bpf", self.options.get("loader", "libbpf")


def _tc(**options: Any) -> Method:
    return Method(CapturePoint.TC, {"method": "tc", **options})


def _xdp(**options: Any) -> Method:
    return Method(CapturePoint.XDP, {"method": "xdp", **options})


METHODS = {
    "AF_PACKET": Method(CapturePoint.AF_PACKET, {"method": "packet"}),
    "tcx": _tc(attach="tcx"),
    "tcx, BCC": _tc(attach="tcx", loader="bcc"),
    "clsact": _tc(attach="clsact"),
    "XDP native": _xdp(xdp_mode="native"),
    "XDP native, BCC": _xdp(xdp_mode="native", loader="bcc"),
    "XDP generic": _xdp(xdp_mode="generic"),
}


def param(name: str, *more: Any) -> Any:
    """A method, and more values, for ``parametrize``; skipped where it can't be had."""
    method = METHODS[name]
    id_ = " ".join([name, *(str(getattr(value, "name", value)).lower() for value in more)])
    marks = pytest.mark.requires(*method.needs)
    return pytest.param(*((method, *more),) if more else (method,), id=id_, marks=marks)


@contextlib.contextmanager
def capturing(
    method: Method, end: End, missing: Missing, *directions: Direction, **more: Any
) -> Iterator[LiveCapture]:
    """Capture at one end in some directions, both by default.

    The marks of ``param`` have seen to all other needs; that tcx is missing shows only here.
    """
    ways = {"directions": frozenset(directions)} if directions else {}
    options = CaptureOptions(interfaces=(DEVICE,), **ways, **method.options, **more)
    with inside(end.name):
        try:
            capture = open_capture(options)
        except Unavailable as reason:
            if "tcx" not in str(reason):
                raise
            missing("bpf", str(reason))
    with contextlib.closing(capture):
        yield capture


@dataclass
class Recorder:
    """Keeps all that a capture sees while a ``with`` block runs, ended by a detach."""

    capture: LiveCapture
    parts: list[Packets] = field(default_factory=list)

    def __enter__(self) -> Recorder:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.capture.detach()
        self._stop.set()
        self._thread.join()

    @property
    def records(self) -> Packets:
        return np.concatenate([np.empty(0, PACKET), *self.parts])

    @property
    def counts(self) -> CaptureCounts:
        return self.capture.counts()

    def _drain(self) -> None:
        buffer = np.empty(20_000, PACKET)
        while True:
            last = self._stop.is_set()
            rows = self.capture.read(buffer)
            if rows:
                self.parts.append(buffer[:rows].copy())
            elif last:
                return
            else:
                time.sleep(NAP_SECONDS)
