"""Detectors' readings, their SQL over what the real job stored, and a plain count: all agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import pytest

from flows.detect.detector import Detector
from flows.detect.detectors.amplification import Amplification
from flows.detect.detectors.fan_in import FanIn
from flows.detect.detectors.host_scan import HostScan
from flows.detect.detectors.port_scan import PortScan
from flows.detect.detectors.super_spreader import SuperSpreader
from flows.detect.detectors.syn_flood import SynFlood
from flows.detect.detectors.task_rule import TaskDetector
from flows.kernels.classes import ATTEMPT, INITIATED, REFLECTED, SYN
from flows.storage.store import Store
from flows.windows.fields import FieldList
from flows.windows.tasks import Task
from probe.synthetic import scenario as synthetic
from schemas.record import Packets
from tests.support.detection import PANE_NS, classified, config, views_of
from tests.support.jobs import SECOND, run_flow, units_of
from tests.support.naive_classes import Flow
from tests.support.naive_flows import random_packets

HORIZON_NS: Final = 60 * SECOND
PORTS: Final = (53, 123, 80)
ROUNDING: Final = 1e-6
TENANT: Final = "it's"

TALKERS: Final = Task("talkers", "frequency", FieldList(("src_addr", "ip_proto")))
SERVICES: Final = Task(
    "services", "spread", FieldList(("dst_addr",)), FieldList(("dst_port", "ip_proto"))
)
HOSTS: Final = Task("hosts", "distinct", elements=FieldList(("src_addr",)))

Key = Callable[[Flow], tuple[str, ...]]
CASES: Final[Mapping[str, tuple[Detector, int, Key, Callable[[list[Flow]], float]]]] = {
    "host_scan": (
        HostScan(3, HORIZON_NS),
        ATTEMPT,
        lambda f: (f.src, str(f.dst_port), str(f.protocol)),
        lambda flows: len({f.dst for f in flows}),
    ),
    "port_scan": (
        PortScan(3, HORIZON_NS),
        ATTEMPT,
        lambda f: (f.src, f.dst),
        lambda flows: len({f.dst_port for f in flows}),
    ),
    "super_spreader": (
        SuperSpreader(3, HORIZON_NS),
        INITIATED,
        lambda f: (f.src,),
        lambda flows: len({f.dst for f in flows}),
    ),
    "fan_in": (
        FanIn(3, HORIZON_NS),
        INITIATED,
        lambda f: (f.dst,),
        lambda flows: len({f.src for f in flows}),
    ),
    "syn_flood": (
        SynFlood(0.5, PANE_NS),
        SYN,
        lambda f: (f.dst, str(f.dst_port)),
        lambda flows: sum(f.packets for f in flows) / 2,
    ),
    "amplification": (
        Amplification(1000, 1, PORTS, PANE_NS),
        REFLECTED,
        lambda f: (f.dst, str(f.src_port)),
        lambda flows: sum(f.octets for f in flows) * 8 / 2,
    ),
    "frequency": (
        TaskDetector(TALKERS, "bits_per_second", ">", 2000, HORIZON_NS),
        0,
        lambda f: (f.src, str(f.protocol)),
        lambda flows: sum(f.octets for f in flows) * 8 / 60,
    ),
    "spread": (
        TaskDetector(SERVICES, "distinct", ">=", 2, HORIZON_NS),
        0,
        lambda f: (f.dst,),
        lambda flows: len({(f.dst_port, f.protocol) for f in flows}),
    ),
    "distinct": (
        TaskDetector(HOSTS, "distinct", ">=", 1, HORIZON_NS),
        0,
        lambda f: (),
        lambda flows: len({f.src for f in flows}),
    ),
}
TASKS: Final = [task for detector, *_ in CASES.values() for task in detector.tasks]


def traffic() -> Packets:
    """Labelled attacks in a little background, and packets that keep to no rules."""
    made = synthetic.Scenario(
        seed=3,
        duration_s=60,
        background=synthetic.Background(packets_per_second=50),
        attacks=(
            synthetic.HostScan(start_s=0, duration_s=60, hosts_per_second=30),
            synthetic.PortScan(start_s=0, duration_s=60),
            synthetic.SynFlood(start_s=10, duration_s=4, syns_per_second=400),
            synthetic.Amplification(start_s=20, duration_s=4, packets_per_second=300),
        ),
    )
    rng = np.random.default_rng(5)
    odd = random_packets(rng, 4000, span_ns=50 * SECOND)
    odd["ts_ns"] = np.sort(odd["ts_ns"])
    odd["tcp_flags"] = rng.choice([0, 1, 2, 4, 18, 16, 20, 41], len(odd))
    odd["dst_port"] = rng.choice([0, 53, 80, 8 << 8, 4444], len(odd))
    odd["dst_addr"][::50, 12] = 224
    back = rng.random(len(odd)) < 0.3
    for one, other in (("src_addr", "dst_addr"), ("src_port", "dst_port")):
        odd[one][back], odd[other][back] = odd[other][back], odd[one][back].copy()
    pings = odd["ip_proto"] == 1
    odd["src_port"][pings], odd["dst_port"][pings] = 0, rng.choice([8 << 8, 0], pings.sum())
    for name in ("vlan_id", "if_index", "direction", "capture_point"):
        odd[name] = 0
    chunks = list(made.chunks(8192))
    start_ns = int(chunks[0]["ts_ns"][0]) // HORIZON_NS * HORIZON_NS
    odd["ts_ns"] = odd["ts_ns"] - odd["ts_ns"][0] + np.uint64(start_ns)
    packets = np.concatenate([*chunks, odd])
    packets["packets"] = np.maximum(packets["packets"], 1)
    return packets[np.argsort(packets["ts_ns"], kind="stable")]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, list[Any], list[Any]]]:
    """The store after the job, the units, and every flow with its classes."""
    packets = traffic()
    with Store.open(f"chdb:{tmp_path_factory.mktemp('store')}", serve=False) as store:
        run_flow(store, TENANT, [packets], config=config(PORTS))
        units = units_of(packets, config=config(PORTS), tasks=TASKS)
        yield store, units, classified(units, PORTS)


@pytest.mark.parametrize("name", CASES)
def test_sql_says_what_is_true_and_what_was_read(name: str, case: Any) -> None:
    """Each reading's SQL gives the plain count, which lies within the reading's bounds."""
    store, units, flows = case
    detector, bit, key_of, value_of = CASES[name]
    compared = 0
    for view in views_of(units, detector.horizon_ns):
        if view.pane_end_ns % detector.horizon_ns:
            continue
        truth = measured(flows, view.start_ns, view.pane_end_ns, bit, key_of, value_of)
        readings = detector.read(view, ())
        window = view.start_ns, view.pane_end_ns
        listed = store.query(detector.sql({}, TENANT, *window)).to_pylist()
        largest = sorted(truth.values(), reverse=True)[: len(listed)]
        assert [row["value"] for row in listed] == pytest.approx(largest)
        assert len(listed) == min(len(truth), 100)
        over = [reading for reading in readings.rows if reading.over()]
        assert readings.over == len(over)
        for reading in over[:20]:
            own = truth[tuple(v for n, v in reading.entity.items() if n != "task")]
            assert reading.lower - ROUNDING <= own <= reading.upper + ROUNDING
            sql = detector.sql(reading.entity, TENANT, *window)
            (row,) = store.query(sql).to_pylist()
            assert row.pop("value") == pytest.approx(own)
            assert {n: str(v) for n, v in row.items()} == {
                n: v for n, v in reading.entity.items() if n != "task"
            }
            compared += 1
    assert compared >= 1


def measured(
    flows: list[tuple[Flow, int]],
    start_ns: int,
    end_ns: int,
    bit: int,
    key_of: Key,
    value_of: Callable[[list[Flow]], float],
) -> dict[tuple[str, ...], float]:
    """The plain count of each key of a class in a window."""
    chosen: dict[tuple[str, ...], list[Flow]] = {}
    for flow, classes in flows:
        inside = start_ns <= flow.pane * PANE_NS < end_ns
        if inside and flow.is_ip and (classes & bit or not bit):
            chosen.setdefault(key_of(flow), []).append(flow)
    return {key: value_of(found) for key, found in chosen.items()}


def test_the_attacks_are_what_is_read(case: Any) -> None:
    """The planted entities lead the lists."""
    _, units, _ = case
    for name, entity in (
        ("host_scan", {"dst_port": "445", "ip_proto": "6"}),
        ("syn_flood", {"dst_port": "443"}),
    ):
        detector = CASES[name][0]
        best = max(
            (reading for view in views_of(units, detector.horizon_ns)
             for reading in detector.read(view, ()).rows),
            key=lambda reading: reading.value,
        )  # fmt: skip
        assert entity.items() <= best.entity.items()


def test_a_connection_that_a_late_packet_shows_is_no_attempt_in_sql(case: Any) -> None:
    """Flags of all rows of a flow count together: a correction is one more row."""
    store, *_ = case
    packets = np.repeat(random_packets(np.random.default_rng(1), 1), 3)
    packets["eth_type"], packets["ip_proto"] = 0x0800, 6
    for last, name in enumerate(("src_addr", "dst_addr"), start=1):
        packets[name] = 0
        packets[name][:, 10:12], packets[name][:, 15] = 0xFF, last
    start_ns = 1_600_000_020 * SECOND
    packets["ts_ns"] = [start_ns, start_ns + 20 * SECOND, start_ns + SECOND]
    packets["tcp_flags"] = [2, 16, 16]
    sql = HostScan(1, HORIZON_NS).sql({}, "late", start_ns, start_ns + 60 * SECOND)
    run_flow(store, "late", [packets[:2]], message=1)
    assert len(store.query(sql).to_pylist()) == 1
    run_flow(store, "late", [packets[2:]], message=1)
    assert store.query(sql).to_pylist() == []
