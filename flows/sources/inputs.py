"""What a run reads: finds captures or sets up demo traffic, and asks what is stored already."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flows import logs
from flows.errors import UsageError
from flows.settings import Settings
from flows.sources.logs import CaptureLog, DemoLog, PacketLog
from flows.storage import loads
from flows.storage.store import Store


@dataclass(frozen=True)
class Input:
    """The log to read, and under which name.

    Attributes:
        topic: name of the log in ``commits``; empty when there is nothing to read.
        partitions: what makes the log of each partition, given what recovery kept of it; none
            when there is nothing to read.
        probes: under which the packets are stored, as far as known beforehand.
        load: the captures that are loaded; None for other traffic.
        digest: of the settings that shape the units, for logs that are kept.
    """

    topic: str
    partitions: Mapping[str, Callable[[str | None], PacketLog]]
    probes: tuple[str, ...] = ()
    load: loads.Load | None = None
    digest: str = ""

    @classmethod
    def single(
        cls, topic: str, log: PacketLog, probes: tuple[str, ...], load: loads.Load | None = None
    ) -> Input:
        """One partition, read from its start at every run."""
        return cls(topic, {"0": lambda _: log}, probes, load)


_DEMO: Final = "demo:"
"""With this the topics of demo traffic begin."""

Opener = Callable[[Store], Input]
"""Decides what to read, given what the store holds."""


def find(settings: Settings) -> Opener:
    """Look for what the settings name, before a store is opened for it.

    Raises:
        CaptureError: a capture isn't there or can't be read.
        LiveError: an interface can't be captured from.
        BrokerError: Kafka can't be reached.
        UsageError: demo traffic for a server.
    """
    if settings.source_kind == "pcap":
        return _captures(settings)
    if settings.source_kind == "interface":
        return _interfaces(settings)
    if settings.source_kind == "kafka":
        from flows.sources import kafka_input

        return lambda store: Input(
            settings.kafka.topics.packets,
            kafka_input.find(settings, store),
            digest=kafka_input.shaping_digest(settings),
        )
    if settings.store.startswith("http") and not settings.demo.allow_server:
        msg = (
            "demo traffic goes into a directory (NETSPECTRA_STORE=chdb:<directory>), not a server: "
            "name a source, or set NETSPECTRA_DEMO__ALLOW_SERVER=true"
        )
        raise UsageError(msg)
    return lambda store: _demo(settings, store)


def _captures(settings: Settings) -> Opener:
    from probe.capture import CaptureFile
    from probe.capture.inputs import content_id, expand

    first_ns: dict[Path, int] = {}
    for pattern in settings.source_paths:
        for path in expand(pattern):
            with CaptureFile(path) as file:
                first_ns[path.resolve()] = file.first_ts_ns or 0
    captures: dict[str, loads.Capture] = {}
    for path in sorted(first_ns, key=lambda path: (first_ns[path], str(path))):
        identity = content_id([path])
        captures.setdefault(identity, loads.Capture(path, identity, settings.probe_name(path)))

    def open_captures(store: loads.LoadStore) -> Input:
        load = loads.plan(
            store,
            list(captures.values()),
            tenant=settings.tenant,
            digest=settings.digest(),
            again=settings.again,
        )
        for note in load.notes:
            print(f"netspectra: {note}", file=sys.stderr)
        if not load.topic:
            return Input("", {}, load=load)
        loads.record(store, load, tenant=settings.tenant, digest=settings.digest(), state="running")
        probes = tuple(capture.probe for capture in load.captures)
        log = CaptureLog(
            [capture.path for capture in load.captures],
            [first_ns[capture.path] for capture in load.captures],
            tenant=settings.tenant,
            probes=probes,
            decapsulate=settings.capture.decapsulate,
        )
        return Input.single(load.topic, log, probes, load)

    return open_captures


def _interfaces(settings: Settings) -> Opener:
    """Attach to this machine's interfaces before a store is opened: it may not be allowed."""
    from flows.sources.interface import InterfaceLog
    from flows.sources.live_options import options
    from flows.windows.receiver import INGRESS_ONLY
    from flows.windows.unit import Stream
    from probe.steady import SteadyCapture

    capture = SteadyCapture(options(settings), logs.get("capture").warning)
    for line in capture.choices:
        print(f"netspectra: {line}", file=sys.stderr)
    several = len(capture.interfaces) > 1 and settings.window.count == "auto"
    if several:
        print("netspectra: tasks count what comes in (window.count)", file=sys.stderr)
    probe = settings.probe_name()
    stream = Stream(
        settings.tenant,
        probe,
        capture.sampling_rate,
        interfaces=capture.interfaces,
        counted=True,
        directions=INGRESS_ONLY if several else None,
    )
    topic = f"interface:{settings.source_target}:{time.time_ns():x}"
    log = InterfaceLog(capture, stream, capture.absences)
    return lambda store: Input.single(topic, log, (probe,))


def _demo(settings: Settings, store: loads.LoadStore) -> Input:
    """Demo traffic of the last minutes, so that charts show it.

    It lies within one window of the longest horizon if it fits, and replaces what an earlier
    run left, so that its summary is about this run.
    """
    from probe.synthetic import Traffic

    if loads.forget_demo(store, settings.tenant, _DEMO):
        print("netspectra: earlier demo traffic is replaced", file=sys.stderr)
    span_ns = settings.demo.packets * 10**9 // settings.demo.packets_per_second
    pane_ns = settings.window.pane_ns
    now_ns, horizon_ns = time.time_ns(), settings.window.horizons_ns[-1]
    end_ns = now_ns if now_ns % horizon_ns >= span_ns else now_ns - now_ns % horizon_ns
    start_ns = (end_ns - span_ns) // pane_ns * pane_ns
    traffic = Traffic(
        seed=settings.demo.seed,
        packets=settings.demo.packets,
        packets_per_second=settings.demo.packets_per_second,
        start_ns=start_ns,
    )
    probe = settings.probe.name or "demo"
    # A name of its own: two short runs may begin in the same pane.
    log = DemoLog(traffic, tenant=settings.tenant, probe=probe)
    return Input.single(f"demo:{time.time_ns():x}", log, (probe,))
