"""What detectors say beyond the count itself: bounds, watched entities, words, limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pytest

from flows.detect.detector import MAX_READINGS, Detector, Reading, Readings
from flows.detect.detectors import wording
from flows.detect.detectors.amplification import Amplification
from flows.detect.detectors.host_scan import HostScan
from flows.detect.detectors.port_scan import PortScan
from flows.detect.detectors.syn_flood import SynFlood
from flows.detect.detectors.task_rule import TaskDetector
from flows.detect.window import View
from flows.windows.fields import FieldList
from flows.windows.sampling import Sampling
from flows.windows.tasks import Task
from probe.capture import CaptureFile
from schemas.record import PACKET, Packets
from tests.support.detection import PANE_NS, views, views_of
from tests.support.jobs import SECOND, split, units_of

START_NS: Final = 1_700_000_040 * SECOND
MINUTE_NS: Final = 60 * SECOND


def probes(count: int, *, first: int = 0, at_s: float = 0.0, source: int = 1) -> Packets:
    """SYNs from 10.0.0.source to port 445 of as many hosts."""
    packets = np.zeros(count, PACKET)
    number = np.arange(first, first + count)
    packets["ts_ns"] = START_NS + int(at_s * SECOND) + np.arange(count)
    for name in ("src_addr", "dst_addr"):
        packets[name][:, 10:12] = 0xFF
        packets[name][:, 12] = 10
    packets["src_addr"][:, 15] = source
    packets["dst_addr"][:, 13] = 1
    packets["dst_addr"][:, 14], packets["dst_addr"][:, 15] = number >> 8, number & 0xFF
    packets["src_port"], packets["dst_port"] = 40_000, 445
    packets["eth_type"], packets["ip_proto"], packets["tcp_flags"] = 0x0800, 6, 2
    packets["packets"], packets["wire_bytes"] = 1, 60
    return packets


def answers(senders: int, *, frame: int = 1400, port: int = 53) -> Packets:
    """Large answers of as many senders to one host."""
    packets = probes(senders)
    packets["src_addr"], packets["dst_addr"] = packets["dst_addr"], packets["src_addr"].copy()
    packets["src_port"], packets["dst_port"] = port, 5555
    packets["ip_proto"], packets["tcp_flags"], packets["wire_bytes"] = 17, 0, frame
    return packets


def read(detector: Detector, packets: Packets, *watched: Any, **options: Any) -> list[Readings]:
    return [detector.read(view, watched) for view in views(packets, detector, **options)]


def test_a_scan_is_read_as_soon_as_it_adds_up() -> None:
    """Pane by pane over the open window, and anew in the next one."""
    parts = [probes(40, first=40 * n, at_s=2 * n) for n in range(4)]
    again = probes(150, at_s=70)
    found = read(HostScan(100, MINUTE_NS), np.concatenate([*parts, again]))
    assert [[row.value for row in each.rows] for each in found] == [[], [], [120], [160], [150]]
    reading = found[2].rows[0]
    assert reading.entity == {"src_addr": "10.0.0.1", "dst_port": "445", "ip_proto": "6"}
    assert reading.title == "10.0.0.1 tried TCP port 445 of 120 hosts"
    within = "in the 60 s window from 22:14:00 UTC"
    assert reading.summary == f"10.0.0.1 tried TCP port 445 of 120 hosts {within}."
    assert (reading.lower, reading.upper, reading.confidence) == (120, 120, 1)
    assert reading.over()


def test_beyond_what_is_kept_one_by_one_there_are_bounds() -> None:
    """Thousands of pairs: an estimate with an interval, whose lower end is compared."""
    found = read(HostScan(100, MINUTE_NS), probes(5000))
    (reading,) = found[0].rows
    assert reading.lower < 5000 < reading.upper
    assert reading.confidence == 0.95
    assert f"({reading.lower:,.0f} to {reading.upper:,.0f})" in reading.title


def test_partitions_add_up() -> None:
    """Hosts seen in different partitions are one count."""
    detector = HostScan(100, MINUTE_NS)
    units = [
        unit
        for number, part in enumerate(split(probes(150), 3))
        for unit in units_of(part, tasks=detector.tasks, partition=str(number))
    ]
    found = [detector.read(view, ()).rows for view in views_of(units, MINUTE_NS, 3)]
    assert [row.value for row in found[-1]] == [150]


def test_watched_entities_are_read_below_the_threshold() -> None:
    """As long as they have been seen in the window."""
    (over, *_) = read(HostScan(100, MINUTE_NS), probes(120))
    key = over.rows[0].key
    calm = np.concatenate([probes(3), probes(9, at_s=60, source=2)])
    first, second = read(HostScan(100, MINUTE_NS), calm, key, "no key of ours")
    assert [(row.key, row.value) for row in first.rows] == [(key, 3)]
    assert (first.over, second.rows) == (0, [])


def test_entities_beyond_the_most_are_counted() -> None:
    """Of 1,500 scanners so many are listed; how many there are is told all the same."""
    packets = np.tile(probes(60), 1500)
    number = np.repeat(np.arange(1500), 60)
    packets["src_addr"][:, 14], packets["src_addr"][:, 15] = number >> 8, number & 0xFF
    packets["ts_ns"] = START_NS + np.arange(len(packets))
    (found,) = read(HostScan(20, MINUTE_NS), packets)
    assert 0.9 * MAX_READINGS < len(found.rows) <= MAX_READINGS
    assert 1350 < found.over <= 1500


def test_sampling_hides_hosts() -> None:
    """The upper bound is the number of packets there may have been; the evidence says so."""
    detector = HostScan(100, MINUTE_NS)
    (view,) = views(probes(120), detector)
    (reading,) = detector.read(replace(view, sampling=Sampling(10), packets=1200), ()).rows
    assert reading.lower == 120
    assert reading.upper > 1200
    assert reading.confidence == 0.95
    assert reading.facts == {"sampling": "1 in 10"}


def test_a_flood_says_how_many_sources_it_has() -> None:
    """Packets per second of the whole window, different sources, and whether they look spoofed."""
    packets = probes(4000)
    packets["src_addr"], packets["dst_addr"] = packets["dst_addr"], packets["src_addr"].copy()
    ((reading,),) = [each.rows for each in read(SynFlood(1000, PANE_NS), packets)]
    assert reading.entity == {"dst_addr": "10.0.0.1", "dst_port": "445"}
    assert (reading.value, reading.lower, reading.upper) == (2000, 2000, 2000)
    assert reading.title == "SYN flood to 10.0.0.1 port 445: 2 kpackets/s"
    facts = dict(reading.facts)
    assert facts["packets"] == "4000"
    assert int(facts["sources_lower"]) <= 4000 <= int(facts["sources_upper"])
    assert int(facts["spoofed_share"].rstrip("%")) > 90
    packets["src_addr"] = packets["src_addr"][0]
    ((reading,),) = [each.rows for each in read(SynFlood(1000, PANE_NS), packets)]
    assert reading.facts["spoofed_share"] == "0%"


def test_sampling_widens_a_flood() -> None:
    """A rate near the threshold is no longer over it for certain."""
    detector = SynFlood(1000, PANE_NS)
    packets = probes(2100)
    packets["dst_addr"] = packets["dst_addr"][0]
    (view,) = views(packets, detector)
    assert detector.read(view, ()).over == 1
    assert detector.read(replace(view, sampling=Sampling(100)), ()).over == 0


def test_amplification_needs_many_senders() -> None:
    """Fewer than asked for, for certain, are a busy server."""
    ports = (53, 123)
    detector = Amplification(1_000_000, 20, ports, PANE_NS)
    (many,) = read(detector, np.repeat(answers(50), 10), ports=ports)
    (reading,) = many.rows
    assert reading.value == 50 * 10 * 1400 * 8 / 2
    assert reading.title == "DNS amplification to 10.0.0.1: 2.8 Mbit/s"
    assert reading.facts["senders"] == "50"
    (few,) = read(detector, np.repeat(answers(5), 100), ports=ports)
    assert (few.rows, few.over) == ([], 0)
    (watched,) = read(detector, np.repeat(answers(5), 100), reading.key, ports=ports)
    assert not watched.rows[0].over()


def test_amplification_reads_its_own_ports_only() -> None:
    """Another rule's ports are counted too, but are not its matter."""
    detector = Amplification(1_000_000, 20, (123,), PANE_NS)
    (found,) = read(detector, np.repeat(answers(50), 10), ports=(53, 123))
    assert found.rows == []


TALKERS: Final = Task("talkers", "frequency", FieldList(("src_addr",)))
HOSTS: Final = Task("hosts", "distinct", elements=FieldList(("dst_addr",)))


@pytest.mark.parametrize(
    ("metric", "op", "threshold", "value", "over"),
    [
        ("packets", ">", 119, 120, True),
        ("packets", ">", 120, 120, False),
        ("packets", ">=", 120, 120, True),
        ("packets_per_second", ">=", 2, 2, True),
        ("bytes", ">=", 7200, 7200, True),
        ("bits_per_second", ">", 960, 960, False),
    ],
)
def test_rules_on_frequency_tasks(
    metric: Any, op: Any, threshold: float, value: float, over: bool
) -> None:
    """Sums and rates over the window; ``>`` doesn't mean ``>=``."""
    detector = TaskDetector(TALKERS, metric, op, threshold, MINUTE_NS)
    (any_,) = read(detector, probes(120), (0, int.from_bytes(b"\0\0\xff\xff\x0a\0\0\1", "little")))
    (reading,) = any_.rows
    assert (reading.value, reading.over(), any_.over) == (value, over, int(over))


def test_too_little_is_judged_at_the_end_of_a_window() -> None:
    """Before it nobody knows; what this run didn't see whole isn't judged."""
    detector = TaskDetector(HOSTS, "distinct", "<", 100, MINUTE_NS)
    packets = np.concatenate([probes(5), probes(5, at_s=58), probes(200, at_s=119)])
    found = list(read_all(detector, packets))
    assert [[row.value for row in each.rows] for _, each in found] == [[], [5], [200]]
    assert [each.over for _, each in found] == [0, 1, 0]
    view, _ = found[1]
    assert detector.read(replace(view, whole=False), ()).rows == ()
    assert found[1][1].rows[0].below


def read_all(detector: Detector, packets: Packets) -> Iterator[tuple[View, Readings]]:
    for view in views(packets, detector):
        yield view, detector.read(view, ())


def test_more_different_things_than_allowed() -> None:
    """A distinct task is judged with every pane, and named as what it is."""
    detector = TaskDetector(HOSTS, "distinct", ">", 100, MINUTE_NS)
    found = read(detector, np.concatenate([probes(90), probes(90, first=90, at_s=2)]))
    assert [each.over for each in found] == [0, 1]
    reading: Reading = found[1].rows[0]
    assert reading.entity == {"task": "hosts"}
    assert reading.title == "hosts: distinct > 100"
    assert reading.summary == "distinct of hosts is 180 after 4 s."


@pytest.mark.requires("captures")
@pytest.mark.parametrize(
    ("name", "entity"),
    [
        ("synscan.pcap", {"src_addr": "172.16.0.8", "dst_addr": "64.13.134.52"}),
        (
            "masscan_tcp_0_1000.pcap",
            {"src_addr": "172.31.15.102", "dst_addr": "198.124.152.15"},
        ),
        ("reddit.pcap", None),
        ("gnutella.pcap", None),
        ("dns_udp_tcp_random.pcap", None),
    ],
)
def test_port_scans_in_captures(name: str, entity: dict[str, str] | None, captures: Any) -> None:
    """The scans are found, the rest isn't taken for one."""
    parts = []
    with CaptureFile(captures / name) as capture:
        while len(part := capture.read(10_000)):
            parts.append(part)
    found = read(PortScan(100, 10 * MINUTE_NS), np.concatenate(parts))
    entities = [dict(row.entity) for each in found for row in each.rows if row.over()]
    assert all(each == entity for each in entities)
    assert bool(entities) == (entity is not None)


@pytest.mark.parametrize(
    ("value", "text"),
    [(999, "999 bit/s"), (12_500, "12.5 kbit/s"), (1.25e9, "1.25 Gbit/s"), (3e6, "3 Mbit/s")],
)
def test_rates_have_prefixes(value: float, text: str) -> None:
    """Three digits."""
    assert wording.rate(value, "bit/s") == text


def test_counts_have_bounds_where_there_are_some() -> None:
    """And nouns in the right number."""
    assert wording.counted(1, 1, 1, "host") == "1 host"
    assert wording.counted(1320, 1300, 1340, "host") == "1,320 hosts (1,300 to 1,340)"
