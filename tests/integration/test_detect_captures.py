"""Real captures through the whole job with one set of rules: what is a scan, and what is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows import job
from flows.backtest import Fired, fired
from flows.detect.alert import Alert, Severity
from flows.settings import Settings
from flows.storage import alerts as stored
from flows.storage.store import Store

pytestmark = pytest.mark.requires("captures")

ROUNDING = 1e-6
"""Of bounds, which are sums of floats."""

SCANS = {
    "synscan.pcap": ("172.16.0.8", "64.13.134.52"),
    "masscan_tcp_0_1000.pcap": ("172.31.15.102", "198.124.152.15"),
}
QUIET = (
    "reddit.pcap",
    "http_ipv6.pcap",
    "quic.pcap",
    "alexa-app.pcapng",
    "dns_udp_tcp_random.pcap",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(f"chdb:{tmp_path_factory.mktemp('captures')}", serve=False) as opened:
        yield opened


def raised(store: Store, file: Path, **settings: Any) -> list[Fired]:
    """The alerts of a capture, which has a tenant of its own."""
    source = {"source": f"pcap:{file}", "store": store.setting, "tenant": file.name}
    assert job.run(Settings(**source, **settings), tell=False) == 0
    return [each for each in fired(stored.revisions(store.query)) if _of(file, each.alert)]


def _of(file: Path, alert: Alert) -> bool:
    return alert.tenant == file.name


def check_evidence(store: Store, alert: Alert) -> None:
    """The stored statement says the measurement exactly, which the bounds hold."""
    rows = store.query(alert.evidence_sql).to_pylist()
    value = float(rows[0]["value"])
    assert alert.lower - ROUNDING <= value <= alert.upper + ROUNDING
    assert alert.entity.items() <= {name: str(v) for name, v in rows[0].items()}.items()


@pytest.mark.parametrize("file", sorted(SCANS))
def test_a_scan_is_found(store: Store, captures: Path, file: str) -> None:
    """One alert of medium or above, port_scan, with the scanner and its target."""
    alerts = raised(store, captures / file)
    (scan,) = [each.alert for each in alerts if each.alert.severity >= Severity.medium]
    source, target = SCANS[file]
    assert (scan.rule, scan.src_addr, scan.dst_addr) == ("port_scan", source, target)
    for each in alerts:
        check_evidence(store, each.alert)


@pytest.mark.parametrize("file", QUIET)
def test_ordinary_traffic_is_quiet(store: Store, captures: Path, file: str) -> None:
    """Browsing, streaming and name resolution raise nothing of medium or above."""
    alerts = raised(store, captures / file)
    serious = [each.alert for each in alerts if each.alert.severity >= Severity.medium]
    assert [(alert.rule, alert.entity_text) for alert in serious] == []
    for each in alerts:
        check_evidence(store, each.alert)


def test_a_lower_threshold_finds_the_peer_to_peer_host(store: Store, captures: Path) -> None:
    """With 200 hosts for super_spreader, and nothing else changed, the Gnutella host is one."""
    rules = {"detectors": {"super_spreader": {"threshold": 200}}}
    alerts = raised(store, captures / "gnutella.pcap", **rules)
    found = [each.alert for each in alerts if each.alert.rule == "super_spreader"]
    assert [alert.src_addr for alert in found] == ["10.0.2.15"]
    for each in alerts:
        check_evidence(store, each.alert)
