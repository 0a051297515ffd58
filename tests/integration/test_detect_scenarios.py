"""A small ``netspectra bench detect``: what is planted is found in time, all else stays quiet."""

from __future__ import annotations

import pytest

from flows import labels
from flows.backtest import Fired, fired, judge
from flows.benchmarks.detect import MESSAGE_PACKETS, settings, thresholds
from flows.benchmarks.detect_cases import LEARN_S
from flows.benchmarks.detect_report import PATIENCE_PANES
from flows.benchmarks.watch import PacketsLog, watch
from flows.detect import registry
from flows.detect.alert import Severity
from probe.synthetic.scenario import (
    Amplification,
    Background,
    BusyServer,
    FanIn,
    FewBusyClients,
    FlashCrowd,
    HostScan,
    LargeAnswers,
    ManyConnections,
    Planted,
    PortScan,
    Scenario,
    SuperSpreader,
    SynFlood,
    Volume,
    lines,
)

SEEDS = (11, 12, 13)
PANE_NS = settings().window.pane_ns

ATTACKS = {
    "host_scan": HostScan(start_s=8, hosts_per_second=30),
    "port_scan": PortScan(start_s=8, ports_per_second=30),
    "super_spreader": SuperSpreader(start_s=4, peers_per_second=300, longest=10),
    "fan_in": FanIn(start_s=4, sources_per_second=2000, protocol="udp"),
    "syn_flood": SynFlood(start_s=8, syns_per_second=3000),
    "amplification": Amplification(start_s=8, packets_per_second=3000),
}


def site(seed: int, *planted: Planted, duration_s: float = 30, rate: float = 300) -> Scenario:
    return Scenario(seed=seed, duration_s=duration_s, background=Background(rate), attacks=planted)


def alerts(scenario: Scenario, only: str = "") -> list[Fired]:
    rules = [rule for rule in registry.rules(settings()) if only in ("", rule.name)]
    log = PacketsLog(scenario.chunks(MESSAGE_PACKETS), scenario.start_ns)
    return fired(watch(log, settings(), rules))


def check_found(scenario: Scenario, name: str, found: list[Fired]) -> None:
    """The attack is found in time, and no other alert of medium or above is unrelated."""
    known = labels.read(lines(scenario, thresholds(settings())), "site")
    score = judge([each for each in found if each.alert.rule == name], known, (name,))
    assert (len(score.found), len(score.missed)) == (1, 0)
    assert not score.wrong
    assert score.found[0].delay_panes(PANE_NS) <= PATIENCE_PANES
    others = judge([each for each in found if each.alert.rule != name], known, ())
    assert not [each for each in others.wrong if each.alert.severity >= Severity.medium]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", list(ATTACKS))
def test_an_attack_is_found(name: str, seed: int) -> None:
    """Its entity is named within two panes of its crossing, and nobody else is accused."""
    scenario = site(seed, ATTACKS[name])
    check_found(scenario, name, alerts(scenario))


def test_a_change_of_volume_is_found() -> None:
    """A host that sends forty times as much as in the hours before is named in time (as low)."""
    more = Volume(start_s=LEARN_S + 60, duration_s=300, usual_packets_per_second=20, factor=40)
    scenario = site(11, more, duration_s=LEARN_S + 240, rate=20)
    check_found(scenario, "volume", alerts(scenario, "volume"))


@pytest.mark.parametrize(
    "planted",
    [
        BusyServer(clients_per_second=100),
        FlashCrowd(connections_per_second=1000),
        ManyConnections(connections=3000, duration_s=30),
        FewBusyClients(connections_per_second=300),
        LargeAnswers(queries_per_second=2000),
    ],
    ids=lambda planted: type(planted).__name__,
)
def test_a_look_alike_is_none(planted: Planted) -> None:
    """Clean traffic that resembles an attack accuses nobody, but for what it is related to."""
    scenario = site(SEEDS[0], planted)
    known = labels.read(lines(scenario, {}), "site")
    score = judge(alerts(scenario), known, ())
    assert not [each for each in score.wrong if each.alert.severity >= Severity.medium]


@pytest.mark.parametrize("seed", SEEDS)
def test_clean_traffic_is_quiet(seed: int) -> None:
    """Two minutes of a site raise nothing of medium or above."""
    found = alerts(site(seed, duration_s=120, rate=1000))
    assert not [each for each in found if each.alert.severity >= Severity.medium]
