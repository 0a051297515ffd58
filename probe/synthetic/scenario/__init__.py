"""Labelled scenarios: clean traffic with attacks planted in it, for testing detectors.

A scenario is data, and deterministic. Its packets come in time order, in chunks of any size:

    from probe.synthetic.scenario import Background, HostScan, LargeAnswers, Scenario

    scenario = Scenario(
        seed=7,
        duration_s=900,
        background=Background(packets_per_second=5_000),
        attacks=(
            HostScan(start_s=0, duration_s=600, hosts_per_second=100 / 600),
            LargeAnswers(start_s=0, duration_s=900),
        ),
    )
    for packets in scenario.chunks(8192):  # arrays of schemas.record.PACKET
        detector.feed(packets)

``labels`` says what must be found and ``negatives`` what must not. A label knows when its count
reaches a threshold, so a detection can be judged by its delay:

    for label in scenario.labels:  # one here: host_scan of 10.200.0.x at port 445, TCP
        crossed_ns = label.crossing_ns(threshold=100, horizon_ns=600 * 10**9)
        late = alert.fired_ns - crossed_ns  # None where no horizon reaches the threshold

A slow attack that straddles the edge of two horizons may reach its threshold in neither: mind
where it starts. For a rate of 1,000 SYN/s in panes of 2 s give 2,000 and 2 * 10**9. Counts other
than the detector's first one have names (``label.metrics``). What is counted are the planted
packets: all that the entity has, unless it was given an address that others use.

An alert that matches no label is a false positive, except that each attack may rightly trip the
detectors in ``label.related`` as well. Detectors get to know ``scenario.networks``. Intensity is
a parameter of each class: ``ATTACKS`` and ``LOOKALIKES`` list the classes by detector, so
precision and recall over seeds and intensities are a loop over scenarios. For long clean runs:

    Scenario(duration_s=8 * 86_400, background=Background(packets_per_second=5, rhythm=Rhythm()))

``lines(scenario, thresholds)`` writes the labels as ``netspectra backtest --labels`` reads them.

What it doesn't resemble: no loss or retransmission (but of SYNs), round-trip times or congestion,
ICMP, fragments, VLANs or tunnels; packets of a conversation are spread evenly; all clients
behave alike but for how much they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from probe.synthetic.scenario.addresses import NETWORKS
from probe.synthetic.scenario.arrivals import Rhythm
from probe.synthetic.scenario.attacks import (
    Amplification,
    FanIn,
    HostScan,
    PortScan,
    SuperSpreader,
    SynFlood,
    Volume,
)
from probe.synthetic.scenario.background import Background
from probe.synthetic.scenario.labels import METRICS, Label
from probe.synthetic.scenario.labels_file import Threshold, lines
from probe.synthetic.scenario.lookalikes import (
    BusyServer,
    FewBusyClients,
    FlashCrowd,
    LargeAnswers,
    ManyConnections,
    NightlyBackup,
)
from probe.synthetic.scenario.planted import Planted
from probe.synthetic.scenario.scenario import Scenario

__all__ = [
    "ATTACKS",
    "LOOKALIKES",
    "METRICS",
    "NETWORKS",
    "Amplification",
    "Background",
    "BusyServer",
    "FanIn",
    "FewBusyClients",
    "FlashCrowd",
    "HostScan",
    "Label",
    "LargeAnswers",
    "ManyConnections",
    "NightlyBackup",
    "Planted",
    "PortScan",
    "Rhythm",
    "Scenario",
    "SuperSpreader",
    "SynFlood",
    "Threshold",
    "Volume",
    "lines",
]

ATTACKS: Final[Mapping[str, type[Planted]]] = {
    kind: attack
    for attack in (HostScan, PortScan, SuperSpreader, FanIn, SynFlood, Amplification, Volume)
    for kind in attack.kinds
}
"""The attack for each detector."""

LOOKALIKES: Final[Mapping[str, type[Planted]]] = {
    kind: lookalike
    for lookalike in (
        BusyServer,
        FlashCrowd,
        ManyConnections,
        FewBusyClients,
        LargeAnswers,
        NightlyBackup,
    )
    for kind in lookalike.kinds
}
"""The clean traffic that each detector must not mistake."""
