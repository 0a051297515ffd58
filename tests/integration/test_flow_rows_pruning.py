"""Time conditions on ``flows`` leave out what they can."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from flows.detect.detectors.host_scan import HostScan
from flows.storage.flow_rows import in_window
from flows.storage.resolution import Span
from flows.storage.store import Store

HOUR_NS = 3600 * 10**9
START_NS = 1_700_000_000 * 10**9 // HOUR_NS * HOUR_NS


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Ten hours of flows in one part: 200 000 rows, some 25 granules."""
    with Store.open(f"chdb:{tmp_path_factory.mktemp('store')}", serve=False) as opened:
        opened.run(
            "INSERT INTO flows (tenant, probe, window_start, src_addr, dst_addr, dst_port, "
            "ip_proto, eth_type, packets, bytes) SELECT 't', 'p', "
            f"fromUnixTimestamp64Milli(toInt64({START_NS // 10**6} + number * 180), 'UTC'), "
            "toIPv6(concat('10.0.0.', toString(number % 250))), toIPv6('10.1.0.1'), 80, 6, 2048, "
            "1, 60 FROM numbers(200000) SETTINGS max_insert_threads = 1"
        )
        opened.run("OPTIMIZE TABLE flows FINAL")
        yield opened


def share_read(store: Store, sql: str) -> float:
    """Granules that a statement reads of ``flows``, of those there are."""
    explained = store.run(f"EXPLAIN indexes = 1 {sql}")
    found = [(int(n), int(m)) for n, m in re.findall(r"Granules: (\d+)/(\d+)", explained)]
    assert found, explained
    return min(read for read, _ in found) / max(total for _, total in found)


def test_a_window_reads_its_own_rows(store: Store) -> None:
    """Half an hour of ten is a tenth of the granules at most."""
    half = START_NS + 4 * HOUR_NS, START_NS + 4 * HOUR_NS + HOUR_NS // 2
    sql = f"SELECT sum(packets) FROM flows WHERE {in_window('t', *half)}"
    assert share_read(store, sql) <= 0.16
    assert store.run(sql) == "10000\n"
    span = Span(*(ns // 10**6 for ns in half))
    conditions = " AND ".join((*span.conditions(), *span.coarse()))
    assert share_read(store, f"SELECT sum(packets) FROM flows WHERE {conditions}") <= 0.16


def test_so_does_the_evidence_of_an_alert(store: Store) -> None:
    """A detector's statement reads the flows of its window only."""
    detector = HostScan(3, 600 * 10**9)
    sql = detector.sql({"src_addr": "10.0.0.1"}, "t", START_NS, START_NS + 600 * 10**9)
    assert share_read(store, sql) <= 0.16
