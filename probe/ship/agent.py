"""The loop between a capture and Kafka."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from probe.live import CaptureCounts, LiveCapture
from probe.ship import settle
from probe.ship.batcher import Batcher, Message
from probe.ship.kafka import KafkaShipper
from probe.unclean import SentState, UncleanStop
from schemas.record import PACKET, Packets

CUT_EVERY_S: Final = 0.2
"""Age at which records are sent, and time between heartbeats."""

QUEUE_FULL: Final = "queue_full"
"""Reason of drops: Kafka was away when the probe stopped, so that these were not handed over."""

_READ_RECORDS: Final = 16_384
_IDLE_S: Final = 0.002
_MOST_WAITING: Final = 25
"""Messages in flight to a partition above which only full batches are added: 5 s of them."""
_LEAST_FLUSH_S: Final = 1.0
_RATE_TICKS: Final = 6
_WELL_BELOW: Final = 0.5

_log = logging.getLogger("netspectra.probe")
_log.addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """How an agent is doing, for a line that is shown while it runs.

    Attributes:
        packets_per_second: seen in about the last second.
        counts: totals of the capture.
        packets_sent: handed to Kafka.
        packets_delivered: acknowledged by Kafka.
        packets_in_flight: handed over and not acknowledged.
        queue_bytes: what they take.
        kafka: how it stands with Kafka.
        paused: the queue is full, the capture isn't read and loses packets when its ring is full.
        aggregated: records may stand for a flow's packets.
    """

    packets_per_second: float
    counts: CaptureCounts
    packets_sent: int
    packets_delivered: int
    packets_in_flight: int
    queue_bytes: int
    kafka: str
    paused: bool
    aggregated: bool


class Agent:
    """Ships what a capture sees until it is stopped.

    Every 200 ms each partition gets a batch, empty or not, and a full one at any time. While the
    shipper has no room the capture isn't read: the kernel drops, which is cheap and counted.
    While a partition's messages pile up, only full ones are added.

    A capture with an attribute ``sent_state`` (``probe.unclean.SentState``) has each message noted
    there; one with an attribute ``unclean`` (a tuple of ``UncleanStop``) has these earlier boots
    settled first.

    Args:
        capture: closed by whoever opened it.
        shipper: closed by ``run``.
        batcher: for the shipper's partitions; is told the capture's interfaces.
        emit_time_ns: Unix time for batches; a replayed capture's own.
        taps: told each run of records that was read, before it is reused.
        report: told a line when something happens.
    """

    def __init__(
        self,
        capture: LiveCapture,
        shipper: KafkaShipper,
        batcher: Batcher,
        *,
        emit_time_ns: Callable[[], int] = time.time_ns,
        taps: Iterable[Callable[[Packets], None]] = (),
        report: Callable[[str], None] = _log.warning,
    ) -> None:
        self._capture = capture
        self._shipper = shipper
        self._batcher = batcher
        batcher.interfaces = capture.interfaces
        self._emit_time_ns = emit_time_ns
        self._taps = tuple(taps)
        self._report = report
        self._sent_state: SentState | None = getattr(capture, "sent_state", None)
        self._buffer = np.empty(_READ_RECORDS, PACKET)
        self._stopping = False
        self._paused = False
        self._pause_told = False
        self._counts = CaptureCounts(0)
        self._ticks: deque[tuple[float, int]] = deque(maxlen=_RATE_TICKS)

    @property
    def status(self) -> AgentStatus:
        """How it is doing; may be read from another thread."""
        rate = 0.0
        if len(ticks := tuple(self._ticks)) > 1:
            (first_s, first), (last_s, last) = ticks[0], ticks[-1]
            rate = (last - first) / (last_s - first_s)
        return AgentStatus(
            packets_per_second=rate,
            counts=self._counts,
            packets_sent=self._batcher.packets_sent,
            packets_delivered=self._shipper.delivered_packets,
            packets_in_flight=self._shipper.in_flight_packets,
            queue_bytes=self._shipper.in_flight_bytes,
            kafka=self._shipper.state,
            paused=self._paused,
            aggregated=self._capture.aggregated,
        )

    def stop(self) -> None:
        """Make ``run`` finish; may be called from a signal handler or another thread."""
        self._stopping = True

    def run(
        self, *, finished: Callable[[], bool] | None = None, stop_timeout_s: float = 10.0
    ) -> bool:
        """Ship until ``stop`` is called, then say goodbye.

        Args:
            finished: asked when nothing waits to be read; True ends the run like ``stop``.
            stop_timeout_s: most time for what is left after the end.

        Returns:
            Whether Kafka acknowledged everything.

        Raises:
            ShipError: Kafka refuses packets for good; the text says what to do.
        """
        try:
            self._settle()
            self._loop(finished)
            return self._finish(time.monotonic() + stop_timeout_s)
        except BaseException:
            self._shipper.close(0.0)
            raise

    def _loop(self, finished: Callable[[], bool] | None) -> None:
        next_cut_s = time.monotonic()
        while not self._stopping:
            count = self._read()
            now_s = time.monotonic()
            if now_s >= next_cut_s:
                self._cut(now_s)
                missed = (now_s - next_cut_s) // CUT_EVERY_S
                next_cut_s += (1 + missed) * CUT_EVERY_S
            full = count == len(self._buffer)
            if count == 0 and finished is not None and not self._paused and finished():
                break
            self._shipper.poll(0.0 if full else _IDLE_S)

    def _read(self) -> int:
        """Read what waits, if there is room for it; returns the number of records."""
        self._paused = not self._shipper.room
        self._tell_pause()
        if self._paused:
            return 0
        watermark_ns = self._capture.watermark_ns()
        count = self._capture.read(self._buffer)
        if count:
            packets = self._buffer[:count]
            for tap in self._taps:
                tap(packets)
            self._ship(
                self._batcher.add(
                    packets,
                    emit_time_ns=self._emit_time_ns(),
                    watermark_ns=watermark_ns,
                    aggregated=self._capture.aggregated,
                )
            )
        return count

    def _tell_pause(self) -> None:
        """Report when the queue is full and when it is well below that, not each change between."""
        if self._paused and not self._pause_told:
            self._pause_told = True
            self._report(
                "Kafka takes less than is captured: the queue is full, packets wait in the ring "
                "and drop when that is full too"
            )
        elif self._pause_told and self._shipper.fill < _WELL_BELOW:
            self._pause_told = False
            self._report("the queue to Kafka has room again")

    def _cut(self, now_s: float) -> None:
        self._counts = self._capture.counts()
        self._ticks.append((now_s, self._counts.seen))
        if self._paused:
            return
        waiting = self._shipper.waiting
        self._ship(
            self._batcher.cut(
                emit_time_ns=self._emit_time_ns(),
                watermark_ns=self._capture.watermark_ns(),
                counts=self._counts,
                only=[p for p, count in enumerate(waiting) if count < _MOST_WAITING],
            )
        )

    def _ship(self, messages: Iterable[Message]) -> None:
        for message in messages:
            if self._sent_state is not None:
                settle.note(self._sent_state, message)
            self._shipper.ship(message)

    def _finish(self, deadline_s: float) -> bool:
        self._capture.detach()
        while (self._read() or self._unread()) and time.monotonic() < deadline_s:
            self._shipper.poll(_IDLE_S if self._paused else 0.0)
        self._counts = self._capture.counts()
        if unread := self._unread():
            dropped = {**self._counts.dropped, QUEUE_FULL: unread}
            self._counts = replace(self._counts, dropped=dropped)
            self._report(
                f"{unread:,} captured packets could not be handed to Kafka, its queue is full"
            )
        messages = self._batcher.cut(
            emit_time_ns=self._emit_time_ns(),
            watermark_ns=self._capture.watermark_ns(),
            counts=self._counts,
            goodbye=True,
        )
        self._ship(messages)
        left = self._shipper.close(max(deadline_s - time.monotonic(), _LEAST_FLUSH_S))
        return not unread and left.messages == 0

    def _unread(self) -> int:
        """Packets that the capture, detached, still holds."""
        counts = self._capture.counts()
        return max(0, counts.seen - sum(counts.dropped.values()) - self._batcher.packets_taken)

    def _settle(self) -> None:
        """Say goodbye for boots before that couldn't, and write down for this one."""
        unclean: tuple[UncleanStop, ...] = getattr(self._capture, "unclean", ())
        for stop in unclean:
            messages, lost = settle.farewell(
                stop,
                tenant=self._batcher.tenant,
                probe=self._batcher.probe,
                partitions=self._batcher.partitions,
                emit_time_ns=self._emit_time_ns(),
                watermark_ns=self._capture.watermark_ns() or self._emit_time_ns(),
            )
            told = settle.Told(stop, len(messages))
            for message in messages:
                self._shipper.ship(message, told)
            self._report(
                "an earlier start of this probe was ended without a chance to clean up: "
                f"{lost:,} packets that it had seen never went to Kafka"
            )
        if self._sent_state is not None:
            try:
                settle.begin(self._sent_state, self._batcher.boot_id, self._batcher.partitions)
            except ValueError as error:
                self._sent_state.ended[:] = 1
                self._sent_state = None
                self._report(f"what a kill of this probe loses will not be known: {error}")
