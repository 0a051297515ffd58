"""Metrics as Prometheus reads them."""

from __future__ import annotations

import socket
from contextlib import closing
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flows.errors import UsageError
from flows.metrics import MetricsServer, Readings
from flows.settings.model import Metrics

Samples = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    return number


def scrape(port: int) -> Samples:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_the_job_counts_is_read_at_each_scrape(port: int) -> None:
    """Numbers move with those of the job; hostile label values stay labels."""
    now = [Readings(read={"0": 5}, stored_packets=4, missing={"gap": 2})]
    with closing(MetricsServer(Metrics(port=port), lambda: now[0])):
        first = scrape(port)
        now[0] = Readings(
            read={"0": 9, 'x"}\n': 1},
            event_time_s={"0": 1e9},
            stored_packets=8,
            notifications={("hook", "sent"): 3},
            notifications_pending={"hook": 1},
            explanations={"templates": 2},
            open_packets=1,
            absences={"eth0": 2},
            used_bytes=10**9,
            oldest_s=1_700_000_000,
            dropped_partitions=3,
            dropped_rows=100,
            dropped_bytes=2000,
        )
        second = scrape(port)
    assert first["netspectra_packets_read_total", ("0",)] == 5
    assert first["netspectra_packets_missing_total", ("gap",)] == 2
    assert second["netspectra_packets_read_total", ("0",)] == 9
    assert second["netspectra_packets_read_total", ('x"}\n',)] == 1
    assert second["netspectra_event_time_seconds", ("0",)] == 1e9
    assert second["netspectra_packets_stored_total", ()] == 8
    assert second["netspectra_notifications_total", ("hook", "sent")] == 3
    assert second["netspectra_notifications_pending", ("hook",)] == 1
    assert second["netspectra_explanations_total", ("templates",)] == 2
    assert second["netspectra_open_packets", ()] == 1
    assert second["netspectra_interface_absences_total", ("eth0",)] == 2
    assert not {("netspectra_store_bytes", ()), ("netspectra_store_oldest_seconds", ())} & set(
        first
    )
    assert second["netspectra_store_bytes", ()] == 10**9
    assert second["netspectra_store_oldest_seconds", ()] == 1_700_000_000
    assert first["netspectra_store_dropped_partitions_total", ()] == 0
    assert second["netspectra_store_dropped_partitions_total", ()] == 3
    assert second["netspectra_store_dropped_rows_total", ()] == 100
    assert second["netspectra_store_dropped_bytes_total", ()] == 2000
    assert second["process_resident_memory_bytes", ()] > 0


def test_a_port_that_is_taken_is_named(port: int) -> None:
    """Two processes can't share a port; the second is told what to set."""
    taken = Metrics(port=port)
    with (
        closing(MetricsServer(taken, Readings)),
        pytest.raises(UsageError, match=rf"127.0.0.1:{port}: .*NETSPECTRA_METRICS__PORT"),
    ):
        MetricsServer(taken, Readings)


def test_without_a_port_nothing_is_served() -> None:
    """Metrics are off by default."""
    with closing(MetricsServer(Metrics(), Readings)) as server:
        server.close()
