"""What ``netspectra probe`` shows: lines, a live line below them, a summary at the end."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TextIO

from flows import logs
from flows.progress import LOG_EVERY_S

if TYPE_CHECKING:
    from probe.keep import KeepCounts
    from probe.ship.agent import AgentStatus

DRAW_EVERY_S: Final = 0.5

UNREACHABLE: Final = "unreachable"
"""How it stands with Kafka before any broker answered."""

WANTED: Final = frozenset({"sampled_out"})
"""Reasons of drops that somebody asked for."""


class Status:
    """Lines on a terminal with a live one below them; log lines anywhere else.

    Used as a context manager; a thread of its own draws. Say nothing from a signal handler.

    Args:
        stream: Where to write, by default stderr.
        every_s: Seconds between two looks; by default short on a terminal, long elsewhere.
    """

    def __init__(self, stream: TextIO | None = None, every_s: float | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._every_s = every_s or (DRAW_EVERY_S if self._live else LOG_EVERY_S)
        self._log = logs.get("probe")
        self._lock = threading.RLock()
        self._done = threading.Event()
        self._sample: Callable[[], AgentStatus] | None = None
        self._ring_fill: Callable[[], float] | None = None
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)
        self._line = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the live line away."""
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        self._draw("")

    def follow(
        self, sample: Callable[[], AgentStatus], ring_fill: Callable[[], float] | None = None
    ) -> None:
        """Show from now on how it goes.

        The first call starts the thread, which is why it comes after privileges are dropped.

        Args:
            sample: Tells how it goes; called by the thread.
            ring_fill: How full the ring is, 0 to 1, where that is known; likewise.
        """
        self._sample, self._ring_fill = sample, ring_fill
        if not self._thread.is_alive():
            self._thread.start()

    def say(self, line: str) -> None:
        """Tell something now."""
        if not self._live:
            self._log.info(line)
            return
        with self._lock:
            below, self._line = self._line, ""
            self._stream.write(f"\r\x1b[K{line}\n")
            self._draw(below)

    def warn(self, line: str) -> None:
        """Tell something that isn't as it should be."""
        if self._live:
            self.say(f"netspectra: {line}")
        else:
            self._log.warning(line)

    def _run(self) -> None:
        while not self._done.wait(self._every_s):
            assert self._sample is not None
            status = self._sample()
            fill = self._ring_fill() if self._ring_fill else None
            if self._live:
                self._draw(live_line(status, fill))
            else:
                self._log.info("capturing", **log_fields(status, fill))

    def _draw(self, line: str) -> None:
        with self._lock:
            if self._live and line != self._line:
                width = shutil.get_terminal_size().columns - 1
                self._stream.write(f"\r\x1b[K{line[:width]}")
                self._stream.flush()
                self._line = line


def lost(dropped: Mapping[str, int]) -> int:
    """Packets that were dropped without anybody having asked for it."""
    return sum(count for reason, count in dropped.items() if reason not in WANTED)


def live_line(status: AgentStatus, ring_fill: float | None) -> str:
    """How it goes, in a line for people."""
    parts = [
        f"{status.packets_per_second:,.0f} packets/s",
        f"seen {status.counts.seen:,}",
        f"lost {lost(status.counts.dropped):,}",
        *([] if ring_fill is None else [f"ring {ring_fill:.0%}"]),
        f"queue {status.queue_bytes / 1e6:.1f} MB",
        f"Kafka {status.kafka}, {status.packets_in_flight:,} packets behind",
        *(["flow mode"] if status.aggregated else []),
    ]
    return "  ".join(parts)


def log_fields(status: AgentStatus, ring_fill: float | None) -> dict[str, object]:
    """How it goes, in fields of a log line."""
    return {
        "packets_per_second": round(status.packets_per_second),
        "seen": status.counts.seen,
        "lost": lost(status.counts.dropped),
        **({} if ring_fill is None else {"ring_percent": round(100 * ring_fill)}),
        "queue_bytes": status.queue_bytes,
        "kafka": status.kafka,
        "behind": status.packets_in_flight,
        "aggregated": status.aggregated,
    }


def left(status: AgentStatus) -> int:
    """Packets that were seen, and neither acknowledged by Kafka nor dropped."""
    dropped = sum(status.counts.dropped.values())
    return status.counts.seen - dropped - status.packets_delivered


@dataclass(frozen=True, slots=True)
class Rest:
    """What a replay that was stopped has not read of its files.

    Attributes:
        packets: those that were counted.
        counted: whether there are no more than these.
    """

    packets: int = 0
    counted: bool = True

    def __bool__(self) -> bool:
        """Whether anything was left unread."""
        return self.packets > 0 or not self.counted


NOTHING: Final = Rest()


def complete(status: AgentStatus, rest: Rest = NOTHING) -> bool:
    """Whether every packet that was wanted is in Kafka."""
    return lost(status.counts.dropped) == 0 and left(status) == 0 and not rest


def summary(
    status: AgentStatus,
    name: str,
    elapsed_s: float,
    kept: KeepCounts | None,
    rest: Rest = NOTHING,
) -> str:
    """What became of all packets: seen = delivered + dropped + left; the rest wasn't seen."""
    counts = status.counts
    dropped = {reason: count for reason, count in sorted(counts.dropped.items()) if count}
    rows = [("seen", counts.seen, ""), ("delivered", status.packets_delivered, "")]
    rows += [("dropped", count, reason) for reason, count in dropped.items()]
    rows += [("left", left(status), "not acknowledged by Kafka")] if left(status) else []
    width = max(len(f"{count:,}") for _, count, _ in rows)
    lines = [f"probe {name}, {elapsed_s:.1f} s, packets:"]
    lines += [f"  {what:<10} {count:>{width},}  {why}".rstrip() for what, count, why in rows]
    if rest:
        lines.append(f"  and {_at_least(rest.packets, rest)} of the files that were not read")
    if counts.filtered:
        lines.append(f"  and {counts.filtered:,} that the filter left out")
    if kept is not None:
        skipped = "".join(f", {count:,} {why}" for why, count in sorted(kept.skipped.items()))
        lines.append(
            f"  kept {kept.kept:,} of {kept.offered:,} in {_files(kept.files)}, "
            f"{kept.kept_bytes / 1e6:,.1f} MB{skipped}{_deleted(kept.deleted_files)}"
        )
    whole = "complete: every packet that was wanted is in Kafka"
    missing = lost(counts.dropped) + left(status) + rest.packets
    if complete(status, rest):
        lines.append(f"  {whole}")
    else:
        why = "; no broker answered" if status.kafka == UNREACHABLE else ""
        lines.append(f"  incomplete: {_at_least(missing, rest)} packets missing{why}")
    return "\n".join(lines)


def _at_least(count: int, rest: Rest) -> str:
    return f"{count:,}" if rest.counted else f"at least {count:,}"


def _files(count: int, kind: str = "") -> str:
    return f"{count:,} {kind}file{'' if count == 1 else 's'}"


def _deleted(count: int) -> str:
    """What the limit on kept files cost, nothing if nothing."""
    were = "was" if count == 1 else "were"
    return f"; {_files(count, 'older ')} {were} deleted for the limit" if count else ""
