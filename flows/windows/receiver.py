"""Batches of probes into a partition: who sent them, what is missing, how far time is.

All decisions are functions of the partition's log alone (headers and the log's own timestamps),
so that a replay makes the same ones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from flows.windows.capture_totals import CaptureTotals
from flows.windows.partition import PartitionAccumulator
from flows.windows.sequence import Place
from flows.windows.unit import Stream
from schemas.batch import BatchHeader
from schemas.record import Direction, Packets

OTHER_TENANT: Final = "_other"
"""Tenant of the packets of tenants over the limit."""

INGRESS_ONLY: Final = frozenset({int(Direction.INGRESS)})
"""What tasks count of a probe that sees forwarded packets twice."""

_FORGET_NS: Final = 3600 * 10**9
Boot = tuple[str, str, bytes]
"""Tenant, probe and boot id: one start of a probe."""

StreamKey = tuple[str, str, int, bool]
"""Tenant, probe, sampling rate, whether tasks count only what came in."""


class BadMessage(Exception):
    """A message that can't be used: for the dead letters, with the reason as its text."""


@dataclass(frozen=True)
class ReceiverConfig:
    """What is accepted from the wire.

    Attributes:
        tenants: those accepted; empty accepts any, up to ``max_tenants``.
        max_tenants: more of them count as ``_other``.
        idle_ns: a probe silent for so long (log time) no longer holds the watermark back.
        max_skew_ns: how far packets and watermark may be ahead of their batch's emit time, and
            that ahead of the log's own.
        ingress_of_several: tasks count only what came in at probes with several interfaces.
    """

    tenants: frozenset[str] = frozenset()
    max_tenants: int = 16
    idle_ns: int = 30 * 10**9
    max_skew_ns: int = 60 * 10**9
    ingress_of_several: bool = False


@dataclass
class ReceiverCounts:
    """Totals of a receiver, for metrics and log lines."""

    batches: int = 0
    packets: int = 0
    repeats: int = 0
    gaps: int = 0
    missing_batches: int = 0
    missing_packets: int = 0


class Sender(NamedTuple):
    """What is known of one start of a probe; replaced, never changed.

    Attributes:
        place: how far it has written to this partition.
        log_ns: log time of its last batch.
        totals: of its capture, as far as told.
    """

    place: Place
    log_ns: int
    totals: CaptureTotals = CaptureTotals()


Senders = Mapping[Boot, Sender]


class BatchReceiver:
    """Takes the batches of one partition in the order of its log.

    Args:
        accumulator: of the partition.
        config: what is accepted.
    """

    def __init__(self, accumulator: PartitionAccumulator, config: ReceiverConfig) -> None:
        self.counts = ReceiverCounts()
        self._accumulator = accumulator
        self._config = config
        self._senders: dict[Boot, Sender] = {}
        self._streams: dict[StreamKey, tuple[int, dict[int, str]]] = {}
        self._tenants: set[str] = set(config.tenants)

    def receive(
        self, header: BatchHeader, packets: Packets, log_time_ns: int, *, first: bool = False
    ) -> None:
        """Take a batch: find what is missing before it, aggregate it, move the watermark.

        Args:
            header: of the batch.
            packets: its records.
            log_time_ns: Unix time that the log gives the message.
            first: it is the first message that the log ever had, so nothing can have been removed
                before it: what its sender sent earlier is missing.

        Raises:
            BadMessage: its times are absurd: its packets are accounted for, but not taken.
        """
        absurd = self._absurd(header, packets, log_time_ns)
        self._release_idle(log_time_ns)
        boot = (header.tenant, header.probe, header.boot_id)
        stream = self._stream(header)
        known = self._senders.get(boot)
        if absurd:
            # Such a batch is no sign of life: its probe must not hold the watermark back for it.
            log_time_ns = log_time_ns if known is None else known.log_ns
        if known is None:
            known = Sender(Place(0, 0) if first else Place.at(header), 0)
        batches, missing = known.place.missing(header)
        if batches < 0:
            self.counts.repeats += 1
            self._senders[boot] = known._replace(log_ns=log_time_ns)
            if absurd:
                raise BadMessage(absurd)
            return
        # What is missing is told near the batch's own time, if that can be believed.
        near_ns = self._accumulator.watermark_ns if absurd else header.watermark_ns - 1
        if batches:
            self._note_gap(batches, missing, stream, max(near_ns, 0))
        count = int(packets["packets"].sum(dtype=np.uint64)) if len(packets) else 0
        self._senders[boot] = Sender(
            known.place.after(header, count),
            log_time_ns,
            self._tell(header, known.totals, stream, max(near_ns, 0)),
        )
        if absurd:
            self._accumulator.drop(stream, near_ns, "bad_message", count, "decode")
        else:
            if count:
                self._accumulator.absorb(packets, stream)
            self.counts.batches += 1
            self.counts.packets += count
            self._accumulator.advance(boot, header.watermark_ns, stream)
        if header.goodbye:
            self._accumulator.goodbye(boot)
        if absurd:
            raise BadMessage(absurd)

    def senders(self) -> Senders:
        """What is known of the probes."""
        return dict(self._senders)

    def streams(self) -> tuple[tuple[StreamKey, dict[int, str]], ...]:
        """Streams by number: what makes them different, and their interfaces' names."""
        return tuple((key, dict(names)) for key, (_, names) in self._streams.items())

    def tenants(self) -> tuple[str, ...]:
        """Tenants that have a name of their own."""
        return tuple(sorted(self._tenants))

    def restore(
        self,
        senders: Senders,
        streams: Sequence[tuple[StreamKey, Mapping[int, str]]],
        tenants: Collection[str],
    ) -> None:
        """Go on from an earlier state; before anything was received."""
        self._senders = dict(senders)
        self._tenants.update(tenants)
        for key, names in streams:
            self._number(key, names)

    def _absurd(self, header: BatchHeader, packets: Packets, log_time_ns: int) -> str:
        """What is wrong with a batch's times; empty when nothing is.

        A clock that is behind is no fault: replayed captures carry the times of their packets.
        """
        lead_ns = header.emit_time_ns - log_time_ns
        if lead_ns > self._config.max_skew_ns:
            return f"absurd time: the probe's clock is {lead_ns / 1e9:,.0f} s ahead of the log's"
        limit_ns = header.emit_time_ns + self._config.max_skew_ns
        newest_ns = int(packets["ts_ns"].max()) if len(packets) else 0
        for what, time_ns in (("a packet", newest_ns), ("the watermark", header.watermark_ns)):
            if time_ns > limit_ns:
                ahead_s = (time_ns - header.emit_time_ns) / 1e9
                return f"absurd time: {what} is {ahead_s:,.0f} s ahead of its batch's emit time"
        return ""

    def _release_idle(self, log_time_ns: int) -> None:
        for boot, sender in list(self._senders.items()):
            silent_ns = log_time_ns - sender.log_ns
            if silent_ns > self._config.idle_ns:
                self._accumulator.release(boot)
            if silent_ns > _FORGET_NS:
                del self._senders[boot]

    def _stream(self, header: BatchHeader) -> int:
        tenant = self._accepted(header.tenant)
        several = self._config.ingress_of_several and len(header.interfaces) > 1
        names = {index: name for name, index in header.interfaces.items()}
        return self._number((tenant, header.probe, header.sampling_rate, several), names)

    def _number(self, key: StreamKey, names: Mapping[int, str]) -> int:
        if key not in self._streams:
            known: dict[int, str] = {}
            stream = Stream(
                *key[:3],
                interfaces=known,
                counted=True,
                shipped=True,
                directions=INGRESS_ONLY if key[3] else None,
            )
            self._streams[key] = (self._accumulator.add_stream(stream), known)
        number, known = self._streams[key]
        known.update(names)
        return number

    def _accepted(self, tenant: str) -> str:
        if tenant in self._tenants:
            return tenant
        if self._config.tenants or len(self._tenants) >= self._config.max_tenants:
            return OTHER_TENANT
        self._tenants.add(tenant)
        return tenant

    def _note_gap(self, batches: int, packets: int | None, stream: int, time_ns: int) -> None:
        self.counts.gaps += 1
        self.counts.missing_batches += batches
        if packets is not None:
            self.counts.missing_packets += packets
            self._accumulator.drop(stream, time_ns, "gap", packets, "transport")

    def _tell(
        self, header: BatchHeader, known: CaptureTotals, stream: int, time_ns: int
    ) -> CaptureTotals:
        """Account for what is new in a probe's totals."""
        if header.counters is None:
            return known
        totals, seen, dropped = known.advance(header.counters.seen, header.counters.dropped)
        self._accumulator.count(stream, time_ns, seen)
        for reason, lost in dropped.items():
            self._accumulator.drop(stream, time_ns, reason, lost)
        return totals
