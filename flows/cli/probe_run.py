"""``netspectra probe`` at work: attach, give up privileges, find Kafka, ship until stopped.

The order matters. Capturing and keeping frames take privileges to begin. Then everything is given
up, and only then librdkafka starts its threads, since capabilities belong to a thread. While
Kafka isn't there, packets wait in the ring; what finds it full is dropped, and counted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, cast

import numpy as np

from flows.cli import probe_status
from flows.cli.probe_route import own_traffic
from flows.cli.probe_status import Status
from flows.settings import Settings
from probe import privileges
from probe.errors import KafkaUnreachable, ShipError
from probe.keep import Keeper, KeepOptions, open_keeper
from probe.live import CaptureOptions, LiveCapture
from probe.ship.agent import Agent, AgentStatus
from probe.ship.batcher import Batcher
from probe.ship.kafka import KafkaOptions, KafkaShipper
from probe.ship.replay import FileCapture
from schemas import registry
from schemas.batch import SUBJECT
from schemas.record import PACKET, CapturePoint
from schemas.remote_registry import RegistryAway, RemoteRegistry

FAILED: Final = 1
INCOMPLETE: Final = 3

_CONNECT_S: Final = 3.0
"""Time for one try to reach Kafka."""

_AGAIN_S: Final = 1.0
_KEPT_WHEN_NEEDED: Final = "BPF"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run is to do.

    Attributes:
        settings: Kafka, names, tenant.
        capture: interfaces and how to capture them; no interfaces when files are replayed.
        files: capture files to replay.
        speed: of replaying.
        keep: what to keep beside shipping.
        user: to become when privileges are given up.
    """

    settings: Settings
    capture: CaptureOptions
    files: tuple[Path, ...] = ()
    speed: float = 1.0
    keep: KeepOptions | None = None
    user: str | None = None

    @property
    def name(self) -> str:
        """Name of the probe."""
        return self.settings.probe_name(self.files[0] if self.files else None)


class Stop:
    """Asked by signals: once to end well, twice to end at once."""

    def __init__(self) -> None:
        self.asked = False
        self.then: Callable[[], None] = lambda: None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        # The next one has its usual effect.
        signal.signal(number, signal.SIG_DFL)
        self.asked = True
        with contextlib.suppress(OSError):
            os.write(sys.__stderr__.fileno(), b"\nstopping; again to end at once\n")  # type: ignore[union-attr]
        self.then()


def run(plan: Plan) -> int:
    """Capture and ship until a signal comes, or the files end; returns the exit code."""
    with contextlib.ExitStack() as undo:
        status = undo.enter_context(Status())
        stop = undo.enter_context(_stopped_by_signals())
        capture = _open(plan)
        start_s = time.monotonic()
        session = _Session(plan, capture, status)
        undo.callback(session.close)
        for line in capture.choices:
            status.say(line)
        if plan.keep is not None:
            session.keeper = open_keeper(plan.keep, plan.capture, capture.interfaces)
        if not plan.files:
            _warn_of_own_traffic(plan, capture, status)
            status.say(_drop_privileges(plan, capture))
        status.follow(session.sample, getattr(capture, "ring_fill", None))
        shipper = _connect(session, stop)
        error = None
        if shipper is not None:
            error = session.ship(shipper, stop)
        else:
            session.leave()
        rest = session.rest()
    kept = session.keeper.counts() if session.keeper else None
    elapsed_s = time.monotonic() - start_s
    print(probe_status.summary(session.sample(), plan.name, elapsed_s, kept, rest), flush=True)
    if error is not None:
        print(f"netspectra: {error}", file=sys.stderr)
        return FAILED
    return 0 if probe_status.complete(session.sample(), rest) else INCOMPLETE


class _Session:
    """A capture on its way to Kafka, and what is told about it."""

    def __init__(self, plan: Plan, capture: LiveCapture, status: Status) -> None:
        self.plan = plan
        self.capture = capture
        self.status = status
        self.keeper: Keeper | None = None
        self.schema_id: int | None = None
        self._agent: Agent | None = None
        self._clean = False
        self._trouble: str | None = None
        self.note(capture.counts())

    def note(self, counts: Any) -> None:
        """Take totals of the capture while nothing is shipped."""
        self._before = AgentStatus(
            packets_per_second=0.0,
            counts=counts,
            packets_sent=0,
            packets_delivered=0,
            packets_in_flight=0,
            queue_bytes=0,
            kafka=probe_status.UNREACHABLE,
            paused=True,
            aggregated=self.capture.aggregated,
        )

    def leave(self) -> None:
        """End without having shipped anything."""
        self.capture.detach()
        self.note(self.capture.counts())

    def sample(self) -> AgentStatus:
        """How it goes; tells what troubles the keeper on the way."""
        trouble = self.keeper.trouble if self.keeper else None
        if trouble and trouble != self._trouble:
            self.status.warn(trouble)
        self._trouble = trouble
        return self._agent.status if self._agent else self._before

    def ship(self, shipper: KafkaShipper, stop: Stop) -> ShipError | None:
        """Ship until it is stopped, or the files end; returns what made it fail."""
        settings, capture = self.plan.settings, self.capture
        batcher = Batcher(
            partitions=shipper.partitions,
            tenant=settings.tenant,
            probe=self.plan.name,
            boot_id=os.urandom(16),
            sampling_rate=capture.sampling_rate,
            schema_id=self.schema_id,
        )
        replayed = capture if isinstance(capture, FileCapture) else None
        self._agent = Agent(
            capture,
            shipper,
            batcher,
            emit_time_ns=replayed.emit_time_ns if replayed else time.time_ns,
            taps=[self.keeper.offer] if self.keeper else [],
            report=self.status.warn,
        )
        stop.then = self._agent.stop
        if stop.asked:
            self._agent.stop()
        try:
            finished = (lambda: replayed.finished) if replayed else None
            self._clean = self._agent.run(finished=finished)
        except ShipError as error:
            return error
        return None

    def rest(self) -> probe_status.Rest:
        """What was not read of the files that are replayed."""
        if not isinstance(self.capture, FileCapture):
            return probe_status.NOTHING
        return probe_status.Rest(*self.capture.count_rest())

    def close(self) -> None:
        """Give everything back; what wasn't delivered stays pinned for the next start."""
        if self.keeper is not None:
            self.keeper.close()
        if getattr(self.capture, "sent_state", None) is not None:
            self.capture.close(clean=self._clean)  # type: ignore[call-arg]
        else:
            self.capture.close()


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[Stop]:
    stop = Stop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _open(plan: Plan) -> LiveCapture:
    if plan.files:
        decapsulate = plan.capture.decapsulate
        files = FileCapture(plan.files, speed=plan.speed, decapsulate=decapsulate)
        return cast("LiveCapture", files)  # its mappings are dicts
    from probe.choose import open_capture

    privileges.account_of(plan.user)  # a wrong name is told before anything is attached
    # Compiled now, while the cache of kernels can be read and written: root's, often.
    batcher = Batcher(partitions=1, tenant="", probe="", boot_id=bytes(16))
    batcher.add(np.zeros(1, PACKET), emit_time_ns=0, watermark_ns=0)
    return open_capture(plan.capture)


def _warn_of_own_traffic(plan: Plan, capture: LiveCapture, status: Status) -> None:
    options = plan.capture
    names = tuple(capture.interfaces.values())
    brokers = plan.settings.kafka.brokers
    for line in own_traffic(brokers, names, options.keep, options.drop):
        status.warn(line)


def _drop_privileges(plan: Plan, capture: LiveCapture) -> str:
    """Give up everything that isn't needed; returns a line that says what."""
    needs_bpf = capture.point != CapturePoint.AF_PACKET and not privileges.works_without(
        capture.counts, plan.user
    )
    return privileges.drop(plan.user, (_KEPT_WHEN_NEEDED,) if needs_bpf else ())


def _connect(session: _Session, stop: Stop) -> KafkaShipper | None:
    """Reach Kafka, and the schema registry if there is one, however long that takes.

    Returns:
        What ships; None when stopped before.

    Raises:
        ShipError: Kafka answers, and trying again is no use.
        SchemaError: the registry refused our schema.
    """
    kafka = session.plan.settings.kafka
    options = KafkaOptions(
        brokers=kafka.brokers,
        topic=kafka.topics.packets,
        properties=kafka.properties,
        connect_timeout_s=_CONNECT_S,
    )
    told = False
    while not stop.asked:
        try:
            if kafka.schema_registry and session.schema_id is None:
                session.schema_id = RemoteRegistry(kafka.schema_registry).register(
                    registry.load(SUBJECT, registry.versions(SUBJECT)[-1]), options.topic
                )
            shipper = KafkaShipper(options, session.status.warn)
        except (KafkaUnreachable, RegistryAway) as error:
            session.note(session.capture.counts())
            if not told:
                session.status.warn(f"{error}; capturing meanwhile, and trying again")
            told = True
            time.sleep(_AGAIN_S)
        else:
            session.status.say(
                f"shipping to topic {options.topic} at {options.brokers}, "
                f"{shipper.partitions} partitions, as probe {session.plan.name}"
            )
            return shipper
    return None
