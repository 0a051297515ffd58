"""Capture by AF_PACKET sockets: for machines where eBPF can't be had.

Reading goes ``sockets`` (what the kernel is asked for) -> ``ring`` (frames in memory shared with
it) -> ``frames`` (numba: slot to record) with ``segments`` (coalesced buffers), and ``capture``
makes a ``LiveCapture`` of it.
"""

from probe.packet_socket.capture import PacketSocketCapture

__all__ = ["PacketSocketCapture"]
