"""Labels of scenarios agree with a naive count, and what is planted does what its name says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from probe.synthetic.scenario import (
    ATTACKS,
    LOOKALIKES,
    METRICS,
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
    Scenario,
    SuperSpreader,
    SynFlood,
    Volume,
)
from schemas.record import CapturePoint
from tests.support.naive_scenario import (
    ACK,
    RST,
    RST_ACK,
    SYN,
    SYN_ACK,
    Seen,
    belongs,
    crossing_ns,
    seen,
    whole,
)

S = 10**9
TCP, UDP = 6, 17
QUIET = Background(packets_per_second=100, client_bits=8)

INTENSITIES: tuple[Planted, ...] = (
    HostScan(start_s=20, hosts_per_second=3),
    HostScan(start_s=5, hosts_per_second=100 / 600, duration_s=600),
    HostScan(hosts_per_second=5, port=161, protocol="udp", opened=0.2, duration_s=20),
    HostScan(hosts_per_second=40, targets="10.130.0.0/26", ipv6=True),
    PortScan(start_s=10, ports_per_second=0.5),
    PortScan(start_s=30.25, ports_per_second=5_000, duration_s=2),
    PortScan(ports_per_second=20, ports=200, ipv6=True),
    PortScan(ports_per_second=20, method="udp"),
    SuperSpreader(peers_per_second=3),
    SuperSpreader(peers_per_second=20, peers=150, ipv6=True),
    FanIn(sources_per_second=30),
    FanIn(sources_per_second=30, sources=120, protocol="udp"),
    SynFlood(start_s=12, syns_per_second=200, duration_s=30),
    SynFlood(start_s=40, syns_per_second=9_000, duration_s=2, answered=0.0, ipv6=True),
    Amplification(start_s=3, packets_per_second=300, duration_s=30, reflectors=50),
    Amplification(start_s=3, packets_per_second=60, port=11211, answer_bytes=1400),
    Volume(start_s=50, usual_packets_per_second=20, duration_s=30),
    Volume(start_s=50, usual_packets_per_second=40, duration_s=30, network=True),
    BusyServer(clients_per_second=5),
    FlashCrowd(connections_per_second=20),
    ManyConnections(duration_s=60),
    FewBusyClients(connections_per_second=10),
    LargeAnswers(queries_per_second=30),
    NightlyBackup(usual_packets_per_second=5, hour=22.18, minutes=2),
)


def planted(attack: Planted, seed: int = 3, duration_s: float = 120.0) -> Scenario:
    return Scenario(seed=seed, duration_s=duration_s, background=QUIET, attacks=(attack,))


def sent_by(attack: Planted, seed: int = 3, duration_s: float = 120.0) -> list[Seen]:
    """All packets of an attack, without a background."""
    alone = Scenario(seed=seed, duration_s=duration_s, background=None, attacks=(attack,))
    return list(seen(whole(alone)))


@pytest.mark.parametrize("attack", INTENSITIES, ids=lambda a: type(a).__name__)
def test_crossings_equal_a_naive_count(attack: Planted) -> None:
    """Every metric reaches every threshold at the packet with which a naive count does."""
    scenario = planted(attack)
    packets = list(seen(whole(scenario)))
    labels = [*scenario.labels, *scenario.negatives]
    assert [label.kind for label in labels] == list(attack.kinds)
    for label in labels:
        own = [packet for packet in packets if belongs(packet, label.entity)]
        assert own
        for metric in label.metrics:
            limits = (1, 10, 60, 1000, 15_000.5, 10**6)
            for horizon_ns in (2 * S, 60 * S, 600 * S):
                for limit in limits:
                    naive = crossing_ns(own, label.kind, metric, limit, horizon_ns)
                    assert label.crossing_ns(limit, horizon_ns, metric) == naive


def test_a_count_begins_anew_with_each_window() -> None:
    """A scan that straddles a window's edge reaches its threshold only after the edge."""
    start_ns = 1_700_000_400 * S - 50 * S  # 50 s before a multiple of 600 s
    scan = HostScan(hosts_per_second=1, duration_s=300)
    label = Scenario(start_ns=start_ns, background=None, attacks=(scan,)).labels[0]
    crossed_ns = label.crossing_ns(60, 600 * S)
    assert crossed_ns is not None
    assert 109 * S <= crossed_ns - start_ns <= 110 * S
    assert label.crossing_ns(250, 600 * S) is not None
    assert label.crossing_ns(251, 600 * S) is None


def test_a_slow_scan_crosses_in_its_horizon_only_if_it_fits_in_it() -> None:
    """A hundred hosts in ten minutes are a hundred in one horizon only from its beginning on."""
    scan = {"hosts_per_second": 100 / 600, "duration_s": 600}
    attacks = (HostScan(start_s=0, **scan), HostScan(start_s=300, **scan))
    scenario = Scenario(duration_s=1200, background=None, attacks=attacks)
    aligned, straddling = (label.crossing_ns(100, 600 * S) for label in scenario.labels)
    assert aligned is not None
    assert 594 * S <= aligned - scenario.start_ns < 600 * S
    assert straddling is None


def test_each_detector_has_an_attack_and_metrics() -> None:
    """Attacks, look-alikes and metrics cover the same seven detectors."""
    kinds = {
        "host_scan",
        "port_scan",
        "super_spreader",
        "fan_in",
        "syn_flood",
        "amplification",
        "volume",
    }
    assert set(ATTACKS) == set(LOOKALIKES) == set(METRICS) == kinds
    assert {type(attack) for attack in INTENSITIES} == {*ATTACKS.values(), *LOOKALIKES.values()}


def test_labels_tell_attacks_from_look_alikes() -> None:
    """Attacks are in labels, look-alikes in negatives, each with its window cut at the end."""
    late = HostScan(start_s=500, duration_s=900)
    scenario = Scenario(background=None, attacks=(late, BusyServer(duration_s=10)))
    (label,), negatives = scenario.labels, scenario.negatives
    assert [n.kind for n in negatives] == ["host_scan", "super_spreader"]
    assert (label.start_ns, label.end_ns) == tuple(scenario.start_ns + s * S for s in (500, 600))
    assert negatives[0].end_ns == scenario.start_ns + 10 * S
    assert label.entity["dst_port"] == "445"


@pytest.mark.parametrize(
    ("attack", "per_second"),
    [
        (HostScan(hosts_per_second=7.5, duration_s=40, start_s=30), 7.5),
        (PortScan(ports_per_second=5_000, duration_s=4, start_s=30), 5_000),
        (SynFlood(syns_per_second=2_000, duration_s=5, start_s=30), 2_000),
        (Amplification(packets_per_second=500, duration_s=20, start_s=30), 500),
    ],
    ids=lambda a: type(a).__name__,
)
def test_intensity_is_as_asked(attack: Planted, per_second: float) -> None:
    """As many probes as the rate says, evenly: one in each n-th part of the duration."""
    label = planted(attack).labels[0]
    sent = [p for p in sent_by(attack) if belongs(p, label.entity)]
    first = [p for p in sent if p.tcp_flags != RST]  # RST ends a probe
    assert len(first) == round(per_second * attack.duration_s)
    starts = np.array([p.ts_ns for p in first]) - label.start_ns
    parts = np.floor(np.sort(starts) / 1e9 * per_second)
    assert (np.abs(parts - np.arange(len(first))) <= 1).all()
    assert starts.min() >= 0
    assert starts.max() < attack.duration_s * 1e9


@pytest.mark.parametrize(
    ("scan", "flags"),
    [
        (HostScan(port=22), SYN),
        (PortScan(), SYN),
        (PortScan(method="fin"), 0x01),
        (PortScan(method="null"), 0),
        (PortScan(method="xmas"), 0x29),
    ],
    ids=lambda x: str(x),
)
def test_scans_get_resets_and_break_off_what_is_open(scan: Any, flags: int) -> None:
    """Probes have the flags of their kind; closed ports answer RST, open ones to SYN only."""
    packets = sent_by(scan)
    label = planted(scan).labels[0]
    source = label.entity["src_addr"]
    probes = [p for p in packets if p.src_addr == source and p.tcp_flags != RST]
    assert {p.tcp_flags for p in probes} == {flags}
    assert len({(p.dst_addr, p.dst_port) for p in probes}) == len(probes)
    answers = [p for p in packets if p.src_addr != source]
    closed = [p for p in answers if p.tcp_flags == RST_ACK]
    opened = [p for p in answers if p.tcp_flags == SYN_ACK]
    assert len(closed) == pytest.approx(scan.closed * len(probes), rel=0.05)
    expected = scan.opened * len(probes) if flags == SYN else 0
    assert len(opened) == pytest.approx(expected, rel=0.15)
    broken_off = [p for p in packets if p.src_addr == source and p.tcp_flags == RST]
    assert abs(len(broken_off) - len(opened)) <= (1 if flags == SYN and opened else 0)


def test_udp_probes_carry_data_and_a_few_get_answers() -> None:
    """A UDP scan has no flags, and the asked-for part of the hosts answers from its port."""
    packets = sent_by(HostScan(port=161, protocol="udp", opened=0.25))
    assert {(p.ip_proto, p.tcp_flags) for p in packets} == {(UDP, 0)}
    sent = [p for p in packets if p.dst_port == 161]
    assert len(packets) - len(sent) == pytest.approx(len(sent) / 4, rel=0.03)


def test_super_spreader_completes_its_connections() -> None:
    """Each peer is met once, at its own port, with handshake, data and close."""
    packets = sent_by(SuperSpreader(duration_s=60))
    source = packets[0].src_addr
    opened = [p for p in packets if p.tcp_flags == SYN]
    assert (
        len(opened) == 300 == len({p.dst_addr for p in opened}) == len({p.dst_port for p in opened})
    )
    assert sum(p.tcp_flags == SYN_ACK for p in packets) == 300
    assert sum(p.wire_bytes == 1514 for p in packets if p.src_addr != source) > 600


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_fan_in_comes_from_many_sources(protocol: str) -> None:
    """Each source comes once; over TCP with a whole connection, over UDP without an answer."""
    packets = sent_by(FanIn(protocol=protocol, duration_s=30))
    target = planted(FanIn()).labels[0].entity["dst_addr"]
    to_target = [p for p in packets if p.dst_addr == target]
    assert len({p.src_addr for p in to_target}) == 3000
    assert (len(to_target) == len(packets)) == (protocol == "udp")
    assert sum(p.tcp_flags == SYN_ACK for p in packets) == (3000 if protocol == "tcp" else 0)


def test_syn_flood_is_never_completed() -> None:
    """Each SYN has its own source, a third gets SYN-ACK, and no ACK ever comes."""
    packets = sent_by(SynFlood(duration_s=10))
    target = planted(SynFlood()).labels[0].entity["dst_addr"]
    flood = [p for p in packets if p.dst_addr == target]
    assert {p.tcp_flags for p in flood} == {SYN}
    assert len({p.src_addr for p in flood}) == len(flood) == 20_000
    answers = [p for p in packets if p.src_addr == target]
    assert {p.tcp_flags for p in answers} == {SYN_ACK}
    assert len(answers) == pytest.approx(0.3 * len(flood), rel=0.01)


def test_amplification_is_answers_alone() -> None:
    """Every reflector sends answers of about the size asked for; the victim asked nothing."""
    attack = Amplification(duration_s=10, port=123, reflectors=70, answer_bytes=440)
    packets = sent_by(attack)
    target = planted(attack).labels[0].entity["dst_addr"]
    assert {(p.dst_addr, p.src_port, p.ip_proto) for p in packets} == {(target, 123, UDP)}
    assert len({p.src_addr for p in packets}) == 70
    payload = np.array([p.wire_bytes - 42 for p in packets])
    assert (payload.min(), payload.max()) == (396, 484)
    assert payload.mean() == pytest.approx(440, rel=0.01)


@pytest.mark.parametrize("network", [False, True])
def test_volume_rises_by_its_factor(network: bool) -> None:
    """The rate in the middle of the attack is the factor times that before and after it."""
    attack = Volume(
        start_s=300, duration_s=300, factor=10, usual_packets_per_second=200, network=network
    )
    packets = whole(Scenario(duration_s=900, background=None, attacks=(attack,)))
    sent = packets[packets["src_addr"][:, 12] == 10]  # all peers are outside
    at_s = (sent["ts_ns"] - np.uint64(Scenario().start_ns)) / 1e9 - 300
    before, during, after = (
        ((at_s >= low) & (at_s < high)).sum() / (high - low)
        for low, high in ((-290, -10), (10, 290), (310, 590))
    )
    assert during / before == pytest.approx(10, rel=0.15)
    assert after / before == pytest.approx(1, rel=0.15)
    hosts = len({a.tobytes() for a in sent["src_addr"][::10]})
    assert hosts > 200 if network else hosts == 1


def test_look_alikes_are_clean() -> None:
    """Look-alikes complete their connections, ask before they are answered, and use one port."""
    crowd = sent_by(FlashCrowd(connections_per_second=300, duration_s=20))
    opened, taken = (sum(p.tcp_flags == f for p in crowd) for f in (SYN, SYN_ACK))
    assert len({p.src_addr for p in crowd if p.tcp_flags == SYN}) == 6000
    assert taken == pytest.approx(0.98 * 6000, rel=0.005)
    assert opened < 1.04 * 6000
    assert sum(p.tcp_flags == ACK for p in crowd) > 3 * taken

    answers = sent_by(LargeAnswers(duration_s=20))
    asked = [p for p in answers if p.dst_port == 53]
    assert 0.97 * len(asked) < len(answers) - len(asked) < len(asked)

    many = sent_by(ManyConnections(connections=500, duration_s=60))
    server = planted(ManyConnections()).negatives[0].entity["src_addr"]
    assert len({p.dst_port for p in many if p.src_addr == server}) == 500
    assert {p.dst_port for p in many if p.dst_addr == server} == {443}

    few = sent_by(FewBusyClients(connections_per_second=100, duration_s=30))
    assert len({p.src_addr for p in few if p.tcp_flags == SYN}) == 20
    assert sum(p.tcp_flags == SYN for p in few) == 3000

    busy = sent_by(BusyServer(clients_per_second=100, duration_s=60))
    assert {min(p.src_port, p.dst_port) for p in busy} == {443}
    assert len({p.src_addr for p in busy if p.tcp_flags == SYN}) > 2000


def test_a_backup_recurs_each_night() -> None:
    """On each of three nights the host sends about twenty times its usual rate, at one hour."""
    backup = NightlyBackup(usual_packets_per_second=1, hour=3, minutes=30)
    scenario = Scenario(
        start_ns=1_700_006_400 * S, duration_s=3 * 86_400, background=None, attacks=(backup,)
    )
    assert scenario.start_ns % (86_400 * S) == 0
    half_hours = (whole(scenario)["ts_ns"] - np.uint64(scenario.start_ns)) // np.uint64(1800 * S)
    rate = np.bincount(half_hours.astype(np.int64)).reshape(3, 48) / 1800
    assert (rate[:, 6] > 17).all()
    assert (np.delete(rate, 6, axis=1) < 1.6).all()


def test_planted_records_are_well_formed() -> None:
    """All records are IP packets of one frame, with a TTL, and marked synthetic."""
    packets = whole(planted(SynFlood(duration_s=5, ipv6=True)))
    assert set(packets["eth_type"].tolist()) == {0x0800, 0x86DD}
    assert set(packets["capture_point"]) == {CapturePoint.SYNTHETIC}
    assert set(packets["packets"]) == {1}
    assert (packets["wire_bytes"].min(), packets["wire_bytes"].max()) == (66, 1514)
    assert packets["ttl"].min() > 30
    for field in ("if_index", "tunnel_id", "vlan_id", "direction", "flags", "duration_us", "tos"):
        assert not packets[field].any()


def test_addresses_can_be_chosen() -> None:
    """A scan from a named host to a named network has that source and targets."""
    scan = HostScan(source="10.16.3.4", targets="192.0.2.0/28", duration_s=10)
    packets = sent_by(scan)
    assert {p.src_addr for p in packets if p.dst_port == 445} == {"10.16.3.4"}
    assert len({p.dst_addr for p in packets if p.dst_port == 445}) == 16
    assert planted(scan).labels[0].entity["src_addr"] == "10.16.3.4"


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        (HostScan, {"hosts_per_second": 0}, "hosts_per_second is 0: give 0.001 to 1e"),
        (HostScan, {"port": 65_536}, "port is 65536"),
        (HostScan, {"protocol": "icmp"}, "protocol is 'icmp': give one of tcp, udp"),
        (HostScan, {"closed": 0.9, "opened": 0.2}, "closed . opened is 1.1"),
        (HostScan, {"source": "host"}, "source is 'host': give an IPv4 address"),
        (HostScan, {"targets": "10.0.0.1/8"}, "targets is .*: give an IPv4 network"),
        (PortScan, {"method": "ack"}, "method is 'ack': give one of syn"),
        (PortScan, {"target": "::1"}, "target is '::1'"),
        (PortScan, {"ports": 1}, "ports is 1"),
        (PortScan, {"closed": float("nan")}, "closed is nan"),
        (SuperSpreader, {"longest": 7}, "longest is 7"),
        (SynFlood, {"answered": 1.5}, "answered is 1.5"),
        (SynFlood, {"start_s": -1}, "start_s is -1"),
        (SynFlood, {"duration_s": 0}, "duration_s is 0"),
        (Amplification, {"answer_bytes": 1401}, "answer_bytes is 1401: give 400 to 1400"),
        (Volume, {"factor": 1}, "factor is 1"),
        (NightlyBackup, {"hour": 25}, "hour is 25"),
    ],
)
def test_absurd_parameters_are_refused(
    kind: type[Planted], parameters: dict[str, Any], message: str
) -> None:
    """Each parameter out of its range is refused by name."""
    with pytest.raises(ValueError, match=message):
        kind(**parameters)


def test_unknown_metrics_and_horizons_are_refused() -> None:
    """A metric of another detector and a horizon of nothing are refused."""
    label = planted(HostScan()).labels[0]
    with pytest.raises(ValueError, match="host_scan has no metric 'bytes': give one of hosts"):
        label.crossing_ns(1, S, "bytes")
    with pytest.raises(ValueError, match="horizon_ns is 0"):
        label.crossing_ns(1, 0)
