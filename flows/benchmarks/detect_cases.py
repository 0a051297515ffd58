"""What detection is tried on: attacks and look-alikes of many intensities, in clean traffic."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from probe.synthetic.scenario import (
    ATTACKS,
    LOOKALIKES,
    Amplification,
    Background,
    BusyServer,
    FanIn,
    FewBusyClients,
    FlashCrowd,
    HostScan,
    LargeAnswers,
    ManyConnections,
    NightlyBackup,
    Planted,
    PortScan,
    Rhythm,
    Scenario,
    SuperSpreader,
    SynFlood,
    Volume,
)

HORIZON_S: Final = 600
START_NS: Final = Scenario().start_ns
"""A horizon of 600 s begins there."""

LEARN_S: Final = 3 * 3600
"""Clean traffic before a change of volume, for its detector to learn from."""

DAY_S: Final = 86_400


@dataclass(frozen=True)
class Plan:
    """Something to plant, in how much clean traffic.

    Attributes:
        planted: what, at the beginning.
        duration_s: of the scenario.
        packets_per_second: of the clean traffic.
        latest_s: by how much it may begin later, which the seed decides.
        rhythm: whether the clean traffic has day and night.
    """

    planted: Planted
    duration_s: float = HORIZON_S
    packets_per_second: float = 1000
    latest_s: float = 0
    rhythm: bool = False

    @property
    def slow(self) -> bool:
        """Whether it takes a horizon to add up."""
        return self.planted.start_s == 0 and self.planted.duration_s == HORIZON_S

    def scenario(self, seed: int) -> Scenario:
        """The scenario of a seed."""
        # The golden ratio spreads the starts of few seeds evenly.
        later_s = round(self.latest_s * (seed * 0.618034 % 1), 3)
        begin_s = self.planted.start_s + later_s
        return Scenario(
            seed=seed,
            start_ns=START_NS,
            duration_s=self.duration_s,
            background=Background(self.packets_per_second, Rhythm() if self.rhythm else None),
            attacks=(dataclasses.replace(self.planted, start_s=begin_s),),
        )

    def __str__(self) -> str:
        """The class and what differs from its defaults."""
        given = [
            f"{field.name}={getattr(self.planted, field.name)}"
            for field in dataclasses.fields(self.planted)
            if getattr(self.planted, field.name) != field.default
        ]
        return f"{type(self.planted).__name__}({', '.join(given)})"


def _slow(planted: Planted) -> Plan:
    """It adds up over a whole horizon, with which it begins."""
    return Plan(dataclasses.replace(planted, duration_s=HORIZON_S))


def _fast(planted: Planted, **plan: Any) -> Plan:
    """It crosses within a minute, whenever it begins."""
    return Plan(dataclasses.replace(planted, duration_s=60), duration_s=180, latest_s=100, **plan)


def _volume(planted: Planted) -> Plan:
    late = dataclasses.replace(planted, start_s=LEARN_S, duration_s=600)
    return Plan(late, LEARN_S + 1200, packets_per_second=100, latest_s=300)


PLANS: Final[dict[str, tuple[Plan, ...]]] = {
    "host_scan": (
        _slow(HostScan(hosts_per_second=0.18)),
        _slow(HostScan(hosts_per_second=0.4, closed=0.9)),
        _fast(HostScan(hosts_per_second=4, closed=0, opened=0)),
        _fast(HostScan(hosts_per_second=20, ipv6=True)),
        _fast(HostScan(hosts_per_second=20, port=161, protocol="udp")),
        _fast(HostScan(hosts_per_second=100, port=23, opened=0.2)),
        _fast(HostScan(hosts_per_second=2000)),
        _slow(HostScan(hosts_per_second=0.12)),
    ),
    "port_scan": (
        _slow(PortScan(ports_per_second=0.18)),
        _slow(PortScan(ports_per_second=0.4, closed=0)),
        _fast(PortScan(ports_per_second=5)),
        _fast(PortScan(ports_per_second=20, method="udp")),
        _fast(PortScan(ports_per_second=50, ipv6=True)),
        _fast(PortScan(ports_per_second=50, method="fin")),
        _fast(PortScan(ports_per_second=50, method="null")),
        _fast(PortScan(ports_per_second=50, method="xmas", closed=0)),
        _fast(PortScan(ports_per_second=500, ports=200)),
        _fast(PortScan(ports_per_second=5000)),
        _slow(PortScan(ports_per_second=0.12)),
    ),
    "super_spreader": (
        _slow(SuperSpreader(peers_per_second=6)),
        _slow(SuperSpreader(peers_per_second=12, ipv6=True)),
        _fast(SuperSpreader(peers_per_second=120)),
        _fast(SuperSpreader(peers_per_second=600, longest=12)),
        _fast(SuperSpreader(peers_per_second=3000, longest=8)),
        _slow(SuperSpreader(peers_per_second=3.6)),
    ),
    "fan_in": (
        _slow(FanIn(sources_per_second=20)),
        _slow(FanIn(sources_per_second=40, protocol="udp")),
        _fast(FanIn(sources_per_second=400)),
        _fast(FanIn(sources_per_second=400, ipv6=True)),
        _fast(FanIn(sources_per_second=2000, protocol="udp")),
        _slow(FanIn(sources_per_second=13)),
    ),
    "syn_flood": (
        _fast(SynFlood(syns_per_second=1300)),
        _fast(SynFlood(syns_per_second=2000, answered=0)),
        _fast(SynFlood(syns_per_second=2000, answered=1)),
        _fast(SynFlood(syns_per_second=4000, ipv6=True)),
        _fast(SynFlood(syns_per_second=20_000)),
        _fast(SynFlood(syns_per_second=700)),
    ),
    "amplification": (
        _fast(Amplification(packets_per_second=1400)),
        _fast(Amplification(packets_per_second=2000, port=123, answer_bytes=900)),
        _fast(Amplification(packets_per_second=2000, reflectors=30)),
        _fast(Amplification(packets_per_second=5000, port=1900, answer_bytes=400)),
        _fast(Amplification(packets_per_second=5000, port=11_211, answer_bytes=1400)),
        _fast(Amplification(packets_per_second=5000, ipv6=True)),
        _fast(Amplification(packets_per_second=600)),
    ),
    "volume": (
        _volume(Volume(usual_packets_per_second=20, factor=40)),
        _volume(Volume(usual_packets_per_second=50, factor=20)),
        _volume(Volume(usual_packets_per_second=100, factor=10, network=True)),
        _volume(Volume(usual_packets_per_second=20, factor=40, ipv6=True)),
        _volume(Volume(usual_packets_per_second=50, factor=2)),
    ),
}
"""Attacks by detector; the last of each stays under its threshold."""

CLEAN_PLANS: Final[dict[str, tuple[Plan, ...]]] = {
    "busy server": (
        _slow(BusyServer(clients_per_second=20)),
        _slow(BusyServer(clients_per_second=100)),
        _slow(BusyServer(clients_per_second=100, ipv6=True)),
    ),
    "flash crowd": (
        _fast(FlashCrowd(connections_per_second=500)),
        _fast(FlashCrowd(connections_per_second=2000)),
        _fast(FlashCrowd(connections_per_second=2000, ipv6=True)),
    ),
    "many connections": (
        _slow(ManyConnections(connections=500)),
        _slow(ManyConnections(connections=5000)),
        _fast(ManyConnections(connections=5000)),
        _fast(ManyConnections(connections=20_000)),
    ),
    "few busy clients": (
        _slow(FewBusyClients(connections_per_second=100)),
        _fast(FewBusyClients(clients=200, connections_per_second=1000)),
    ),
    "large answers": (
        _fast(LargeAnswers(queries_per_second=500)),
        _fast(LargeAnswers(queries_per_second=3000)),
        _fast(LargeAnswers(queries_per_second=3000, ipv6=True)),
    ),
    "nightly backup": (
        Plan(NightlyBackup(usual_packets_per_second=5, factor=100), 4 * DAY_S, 2),
        Plan(NightlyBackup(usual_packets_per_second=5, factor=100), 4 * DAY_S, 2, rhythm=True),
    ),
}
"""Look-alikes by what they are."""


@dataclass(frozen=True)
class Case:
    """A plan with a seed: one run.

    Attributes:
        group: detector, or what look-alike it is.
        number: of the plan in its group.
        seed: of its scenario.
    """

    group: str
    number: int
    seed: int

    @property
    def plan(self) -> Plan:
        """What is planted."""
        return (PLANS | CLEAN_PLANS)[self.group][self.number]

    def __str__(self) -> str:
        """What it is, and how to repeat it."""
        return f"{self.plan}, seed {self.seed} (--only {self.group!r} --seed {self.seed})"


def cases(groups: list[str], first_seed: int, seeds: int, quick: bool) -> Iterator[Case]:
    """All plans of some groups with all seeds; quick leaves out those that take days."""
    for group in groups:
        for number, plan in enumerate((PLANS | CLEAN_PLANS)[group]):
            if not quick or plan.duration_s < DAY_S:
                for seed in range(first_seed, first_seed + seeds):
                    yield Case(group, number, seed)


assert PLANS.keys() == ATTACKS.keys()
assert {type(p.planted) for plans in CLEAN_PLANS.values() for p in plans} == {*LOOKALIKES.values()}
