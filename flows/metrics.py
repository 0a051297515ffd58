"""Prometheus metrics of a running job, on ``metrics.address`` and ``metrics.port``.

Nothing is counted here: each scrape reads what the parts of the job count anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import start_http_server
from prometheus_client.registry import Collector
from typing_extensions import override

from flows.errors import UsageError
from flows.settings.model import Metrics

_Labelled = Mapping[tuple[str, ...], float]
_PREFIX: Final = "netspectra"


@dataclass(frozen=True)
class Readings:
    """What a job counts, at one moment.

    Attributes:
        read: packets by partition.
        event_time_s: newest event time by partition, Unix s; absent before the first packet.
        stored_packets: in units of this run.
        stored_bytes: in units of this run.
        stored_units: of this run.
        skipped_units: that were stored already.
        missing: packets by reason.
        open_packets: in panes that are not closed.
        absences: times that an interface went away or down, by its name.
        notifications: alerts by notifier and what became of them.
        notifications_pending: alerts that wait, by notifier.
        explanations: alerts by how their explanation ended.
        used_bytes: of the store on disk; 0 before the first look at it.
        oldest_s: start of the oldest pane of ``flows``, Unix s; 0 for none.
        dropped_partitions: that retention has dropped in this run.
        dropped_rows: rows in them.
        dropped_bytes: what they took on disk.
    """

    read: Mapping[str, int] = field(default_factory=dict)
    event_time_s: Mapping[str, float] = field(default_factory=dict)
    stored_packets: int = 0
    stored_bytes: int = 0
    stored_units: int = 0
    skipped_units: int = 0
    missing: Mapping[str, int] = field(default_factory=dict)
    open_packets: int = 0
    absences: Mapping[str, int] = field(default_factory=dict)
    notifications: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    notifications_pending: Mapping[str, int] = field(default_factory=dict)
    explanations: Mapping[str, int] = field(default_factory=dict)
    used_bytes: int = 0
    oldest_s: int = 0
    dropped_partitions: int = 0
    dropped_rows: int = 0
    dropped_bytes: int = 0


class _Readout(Collector):
    """Readings as Prometheus has them."""

    def __init__(self, read: Callable[[], Readings]) -> None:
        self._read = read

    @override
    def collect(self) -> Iterator[Metric]:
        now = self._read()
        yield _counter("packets_read", "Packets taken from the source", _one(now.read), "partition")
        yield _gauge(
            "event_time_seconds",
            "Newest packet's time, Unix s",
            _one(now.event_time_s),
            "partition",
        )
        yield _counter("packets_stored", "Packets in units of this run", {(): now.stored_packets})
        yield _counter("stored_bytes", "Layer-2 bytes in units of this run", {(): now.stored_bytes})
        yield _counter("units_stored", "Units of this run", {(): now.stored_units})
        yield _counter("units_skipped", "Units that were stored already", {(): now.skipped_units})
        yield _counter("packets_missing", "Packets known to be lost", _one(now.missing), "reason")
        yield _gauge("open_packets", "Packets in panes not closed yet", {(): now.open_packets})
        yield _counter(
            "interface_absences",
            "Times that an interface went away or down",
            _one(now.absences),
            "interface",
        )
        yield _counter(
            "notifications",
            "Alerts by what became of them",
            now.notifications,
            "notifier",
            "outcome",
        )
        yield _gauge(
            "notifications_pending",
            "Alerts to be sent",
            _one(now.notifications_pending),
            "notifier",
        )
        yield _counter(
            "explanations", "Alerts by how explaining ended", _one(now.explanations), "outcome"
        )
        yield from _space(now)


def _space(now: Readings) -> Iterator[Metric]:
    """What the store takes, and what had to go."""
    if now.used_bytes:
        yield _gauge("store_bytes", "What the store takes on disk", {(): now.used_bytes})
    if now.oldest_s:
        yield _gauge("store_oldest_seconds", "Oldest pane of flows, Unix s", {(): now.oldest_s})
    for what in ("partitions", "rows", "bytes"):
        count = getattr(now, f"dropped_{what}")
        yield _counter(
            f"store_dropped_{what}", f"{what.title()} dropped to save space", {(): count}
        )


class MetricsServer:
    """Serves readings until it is closed.

    Args:
        settings: where; without a port nothing is served.
        read: gives the readings, called by another thread at each scrape.

    Raises:
        UsageError: the port can't be had.
    """

    def __init__(self, settings: Metrics, read: Callable[[], Readings]) -> None:
        self._stop: Callable[[], None] = lambda: None
        if settings.port is None:
            return
        registry = CollectorRegistry()
        for collector in (_Readout(read), PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            registry.register(collector)
        try:
            server, thread = start_http_server(settings.port, settings.address, registry)
        except OSError as error:
            msg = (
                f"metrics can't be served at {settings.address}:{settings.port}: {error.strerror}; "
                "set NETSPECTRA_METRICS__PORT to another port (each process of a cluster needs its "
                "own), or to nothing"
            )
            raise UsageError(msg) from error

        def stop() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        self._stop = stop

    def close(self) -> None:
        """Stop serving."""
        self._stop()
        self._stop = lambda: None


def _one(values: Mapping[str, float]) -> _Labelled:
    return {(name,): value for name, value in values.items()}


def _counter(name: str, about: str, values: _Labelled, *labels: str) -> Metric:
    return _filled(CounterMetricFamily(f"{_PREFIX}_{name}", about, labels=labels), values)


def _gauge(name: str, about: str, values: _Labelled, *labels: str) -> Metric:
    return _filled(GaugeMetricFamily(f"{_PREFIX}_{name}", about, labels=labels), values)


def _filled(
    family: CounterMetricFamily | GaugeMetricFamily, values: _Labelled
) -> CounterMetricFamily | GaugeMetricFamily:
    for labels, value in sorted(values.items()):
        family.add_metric(list(labels), value)
    return family
