"""How much each part measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of a run; the defaults take about a minute on a machine with two cores.

    Attributes:
        seed: of the traffic.
        active_flows: flows that Zipf traffic is drawn from.
        messages: PacketBatch messages that are decoded.
        avro_messages: of these, read by fastavro.
        capture_packets: packets of the capture files.
        scapy_packets: of these, read by scapy.
        kernel_packets: packets that the flow table absorbs.
        dict_packets: of these, absorbed by a dict.
        pane_flows: flows of a pane that is closed.
        library_flows: of these, fed to the library item by item.
        demo_packets: demo traffic whose panes are closed, and stored, and run as a whole.
        store_packets: Zipf traffic whose flows are stored.
        zipf_packets: of the whole run at 5 million packets/s.
        flood_packets: of the whole run at 1.5 million packets/s.
    """

    seed: int = 1
    active_flows: int = 200_000
    messages: int = 64
    avro_messages: int = 2
    capture_packets: int = 200_000
    scapy_packets: int = 3_000
    kernel_packets: int = 1_000_000
    dict_packets: int = 100_000
    pane_flows: int = 200_000
    library_flows: int = 20_000
    demo_packets: int = 1_000_000
    store_packets: int = 6_000_000
    zipf_packets: int = 20_000_000
    flood_packets: int = 6_000_000


QUICK: Final = Sizes(
    messages=32,
    avro_messages=1,
    capture_packets=40_000,
    scapy_packets=1_000,
    kernel_packets=400_000,
    dict_packets=40_000,
    pane_flows=100_000,
    library_flows=5_000,
    demo_packets=100_000,
    store_packets=500_000,
    zipf_packets=5_000_000,
    flood_packets=1_000_000,
)
"""Sizes of a run under half a minute; its ratios are rougher."""
