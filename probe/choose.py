"""The choice among the ways to capture: the best that works here, and why nothing better."""

from __future__ import annotations

from probe.errors import Unavailable
from probe.live import CaptureOptions, LiveCapture


def open_capture(options: CaptureOptions) -> LiveCapture:
    """Start to capture.

    TC by eBPF is tried first, then a packet socket; XDP only when it is asked for, since it sees
    one way only and is no faster on most devices.

    Raises:
        LiveError: the options can't be met, whatever the way.
        Unavailable: no way that the options allow works here; the text has all reasons.
    """
    if options.method in ("tc", "xdp"):
        return _by_ebpf(options)
    reason: tuple[str, ...] = ()
    if options.method == "auto":
        try:
            return _by_ebpf(options)
        except Unavailable as error:
            reason = (f"no eBPF: {error}",)
    from probe.packet_socket.capture import PacketSocketCapture

    try:
        capture = PacketSocketCapture(options)
    except Unavailable as error:
        raise Unavailable("; ".join((*reason, str(error)))) from error
    capture.choices = (*reason, *capture.choices)
    return capture


def _by_ebpf(options: CaptureOptions) -> LiveCapture:
    from probe.ebpf.capture import open_ebpf

    return open_ebpf(options, "xdp" if options.method == "xdp" else "tc")
