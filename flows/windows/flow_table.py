"""The flow table of a partition: exact flows of its open panes, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from flows.kernels.flow_table import absorb, drop_closed, reindex, reindex_totals
from flows.kernels.fold import fold_rows, gather, mark_fed, rank_rows, remove_rows
from flows.kernels.layout import (
    DONE,
    ENTRY_WORDS,
    PANE,
    PANE_FULL,
    PANE_SLOTS,
    S_COUNT,
    S_FIRST_PANE,
    S_LAST_TOTAL,
    S_PANE,
    S_REASON,
    S_TOTALS,
    S_WATERMARK,
    STATE_SLOTS,
    T_PANE,
    TABLE_FULL,
    TOTAL_WORDS,
)

Words = npt.NDArray[np.uint64]

_FIRST_ROWS: Final = 4096
_FIRST_TOTALS: Final = 1024
_NO_PANE: Final = np.uint64(2**64 - 1)
_COARSE_SHARE: Final = 4
_COARSEST: Final = 3
_PANE_MASK: Final = np.uint64(PANE_SLOTS - 1)


def _index_for(rows: int) -> Words:
    return np.zeros(1 << (2 * rows - 1).bit_length(), np.uint64)


def _by_column(rows: int) -> Words:
    """Room for entries on their way out: few of whose words each reader needs."""
    return np.empty((rows, ENTRY_WORDS), np.uint64, order="F")


class _Rows:
    """Entries with their index, growing by doubling."""

    def __init__(self) -> None:
        self.entries: Words = np.empty((_FIRST_ROWS, ENTRY_WORDS), np.uint64)
        self.index = _index_for(_FIRST_ROWS)

    def grow(self, count: int) -> None:
        larger = np.empty((2 * len(self.entries), ENTRY_WORDS), np.uint64)
        larger[:count] = self.entries[:count]
        self.entries = larger
        self.index = _index_for(len(larger))
        reindex(self.entries, count, self.index)


@dataclass(frozen=True, slots=True)
class ClosedPanes:
    """What a run of closed panes held, each array sorted by pane.

    Attributes:
        entries: flows, within a pane in order of first appearance, before rows that stand for
            several flows each, (n + m, 16).
        fed: packets and bytes of each flow that were already fed to the tasks, (n, 2), or None
            where that is nothing.
        folded_rows: how many rows stand for several flows, m.
        totals: rows (k, 16) of sums per pane, interface, direction and stream.
    """

    entries: Words
    fed: Words | None
    folded_rows: int
    totals: Words

    @property
    def flows(self) -> Words:
        """Entries (n, 16) of one flow each."""
        return self.entries[: len(self.entries) - self.folded_rows]

    @property
    def folded(self) -> Words:
        """Entries (m, 16) that stand for several flows each."""
        return self.entries[len(self.entries) - self.folded_rows :]


class FlowTable:
    """Packets into exact flows per pane, with sums that stay exact when it is full.

    A pane keeps at most ``max_flows`` flows. When one more comes, all flows of the pane are
    given to ``before_fold`` (which feeds them to the tasks), then the smaller half, ties broken
    by the key's hash, is folded to (destination, protocol) and further as
    ``flows.kernels.fold`` describes once those rows exceed a quarter of ``max_flows``.

    Args:
        pane_ns: length of a pane.
        lateness_ns: how far the watermark trails the newest packet.
        max_flows: flows kept per pane.
        seed: of the key hash.
        before_fold: called with (entries, already fed packets and bytes (n, 2) or None); the
            entries are overwritten at the next fold.
    """

    def __init__(
        self,
        *,
        pane_ns: int,
        lateness_ns: int,
        max_flows: int,
        seed: int,
        before_fold: Callable[[Words, Words | None], None],
    ) -> None:
        self._pane_ns = np.uint64(pane_ns)
        self._lateness_ns = np.uint64(lateness_ns)
        self._max_flows = max_flows
        self._seed = np.uint64(seed)
        self._before_fold = before_fold
        self._rows = _Rows()
        self._coarse = _Rows()
        self._coarse_count = np.zeros(1, np.uint64)
        self._levels: dict[int, int] = {}
        self._fed: Words | None = None
        self._waiting = _by_column(0)
        self._pane_flows = np.zeros(PANE_SLOTS, np.uint64)
        self._totals: Words = np.zeros((_FIRST_TOTALS, TOTAL_WORDS), np.uint64)
        self._totals_index = np.zeros(4 * _FIRST_TOTALS, np.uint32)
        self._state = np.zeros(STATE_SLOTS, np.uint64)
        self._state[S_FIRST_PANE] = _NO_PANE

    @property
    def watermark_ns(self) -> int:
        """Newest time absorbed, less the lateness, since it was last set."""
        return int(self._state[S_WATERMARK])

    @watermark_ns.setter
    def watermark_ns(self, value: int) -> None:
        self._state[S_WATERMARK] = np.uint64(value)

    @property
    def open_flows(self) -> int:
        """Flows and folded rows held."""
        return int(self._state[S_COUNT]) + int(self._coarse_count[0])

    @property
    def open_entries(self) -> Words:
        """Flows held, (n, 16), without folded rows; overwritten by the next ``absorb``."""
        return self._rows.entries[: int(self._state[S_COUNT])]

    @property
    def open_packets(self) -> int:
        """Packets in panes that are not closed."""
        count = int(self._state[S_TOTALS])
        return int(self._totals[:count, 3].sum())

    def open_panes(self) -> list[int]:
        """Numbers of the panes that hold packets, ascending."""
        count = int(self._state[S_TOTALS])
        panes: list[int] = np.unique(self._totals[:count, T_PANE]).tolist()
        return panes

    def absorb(self, packets: Words, *, stream: int, rate: int, follow: bool) -> None:
        """Add all packets: ``packets`` is the (n, 11) word view of records.

        ``stream`` marks the flows; ``rate`` multiplies packets and bytes; with ``follow`` the
        watermark follows the packets, else it stays what it was set to.
        """
        position = 0
        while True:
            position = absorb(
                packets,
                position,
                np.uint64(stream),
                np.uint64(rate),
                self._pane_ns,
                self._lateness_ns,
                follow,
                self._seed,
                np.uint64(self._max_flows),
                self._rows.entries,
                self._rows.index,
                self._pane_flows,
                self._totals,
                self._totals_index,
                self._state,
            )
            reason = int(self._state[S_REASON])
            if reason == DONE:
                return
            if reason == TABLE_FULL:
                self._rows.grow(int(self._state[S_COUNT]))
            elif reason == PANE_FULL:
                self._fold(int(self._state[S_PANE]))
            else:
                self._grow_totals()

    def has_below(self, boundary: int) -> bool:
        """Whether there are packets of panes below ``boundary``."""
        return int(self._state[S_FIRST_PANE]) < boundary

    def take(self, boundary: int) -> ClosedPanes:
        """Remove the panes below ``boundary`` and return what they held."""
        folded = self._take_folded(boundary)
        entries, fed = self._take_flows(boundary, len(folded))
        entries[len(entries) - len(folded) :] = folded
        return ClosedPanes(entries, fed, len(folded), self._take_totals(boundary))

    def _take_flows(self, boundary: int, spare: int) -> tuple[Words, Words | None]:
        """Entries with ``spare`` rows of room behind them, and what was fed of them."""
        count = int(self._state[S_COUNT])
        entries = self._rows.entries
        panes = np.ascontiguousarray(entries[:count, PANE])
        below = panes < np.uint64(boundary)
        rows = np.flatnonzero(below)
        panes = panes[rows]
        if (panes[1:] < panes[:-1]).any():
            rows = rows[np.argsort(panes, kind="stable")]
        fed = None
        if self._fed is not None:
            known = self._room_for_fed(count)[:count]
            fed, kept = known[rows], known[~below]
            self._fed = None
            if kept.any():
                self._fed = np.zeros((len(kept), 2), np.uint64)
                self._fed[:] = kept
        closed = _by_column(len(rows) + spare)
        gather(entries, rows, closed)
        drop_closed(entries, self._state, np.uint64(boundary))
        left = int(self._state[S_COUNT])
        reindex(entries, left, self._rows.index)
        self._pane_flows[:] = 0
        np.add.at(self._pane_flows, (entries[:left, PANE] & _PANE_MASK).astype(np.int64), 1)
        return closed, fed

    def _take_folded(self, boundary: int) -> Words:
        count = int(self._coarse_count[0])
        rows = self._coarse.entries[:count]
        below = rows[:, PANE] < np.uint64(boundary)
        folded = rows[below]
        if len(folded):
            kept = rows[~below]
            self._coarse.entries[: len(kept)] = kept
            self._coarse_count[0] = len(kept)
            reindex(self._coarse.entries, len(kept), self._coarse.index)
            self._levels = {pane: lv for pane, lv in self._levels.items() if pane >= boundary}
        return folded

    def _take_totals(self, boundary: int) -> Words:
        totals = self._totals[: int(self._state[S_TOTALS])]
        below = totals[:, T_PANE] < np.uint64(boundary)
        closed, kept = totals[below], totals[~below]
        self._totals_index[:] = 0
        self._totals[: len(kept)] = kept
        self._state[S_TOTALS] = len(kept)
        self._state[S_LAST_TOTAL] = 0
        self._reindex_totals()
        return closed[np.argsort(closed[:, T_PANE], kind="stable")]

    def _grow_totals(self) -> None:
        larger = np.zeros((2 * len(self._totals), TOTAL_WORDS), np.uint64)
        larger[: len(self._totals)] = self._totals
        self._totals = larger
        self._totals_index = np.zeros(4 * len(larger), np.uint32)
        self._reindex_totals()

    def _reindex_totals(self) -> None:
        reindex_totals(self._totals, self._state[S_TOTALS], self._totals_index)

    def _fold(self, pane: int) -> None:
        count = int(self._state[S_COUNT])
        entries = self._rows.entries
        slot = np.uint64(pane) & _PANE_MASK
        fed = self._room_for_fed(len(entries))
        rows, pending = np.empty(count, np.int64), np.empty(count, np.int64)
        ranks = np.empty(count, np.uint64)
        found, waiting, lowest, highest = rank_rows(entries, fed, count, slot, rows, ranks, pending)
        self._feed_rows(entries, pending[:waiting], fed)

        half = found // 2
        doomed = np.zeros(count, np.bool_)
        doomed[rows[np.argpartition(ranks[:found], half)[:half]]] = True
        smaller = np.flatnonzero(doomed)
        if lowest == highest:
            self._fold_into(entries, smaller, int(lowest))
        else:
            panes = entries[smaller, PANE]
            for number in np.unique(panes).tolist():
                self._fold_into(entries, smaller[panes == np.uint64(number)], number)
        kept = remove_rows(entries, fed, count, doomed)
        self._state[S_COUNT] = kept
        self._pane_flows[int(slot)] -= np.uint64(half)
        reindex(entries, kept, self._rows.index)

    def _feed_rows(self, entries: Words, rows: npt.NDArray[np.int64], fed: Words) -> None:
        if len(rows) > len(self._waiting):
            self._waiting = _by_column(len(rows))
        waiting = self._waiting[: len(rows)]
        gather(entries, rows, waiting)
        self._before_fold(waiting, fed[rows])
        mark_fed(entries, rows, fed)

    def _room_for_fed(self, rows: int) -> Words:
        if self._fed is None or len(self._fed) < rows:
            larger = np.zeros((rows, 2), np.uint64)
            if self._fed is not None:
                larger[: len(self._fed)] = self._fed
            self._fed = larger
        return self._fed

    def _fold_into(self, entries: Words, rows: npt.NDArray[Any], pane: int) -> None:
        """Fold rows of one pane at its level, then coarsen the pane while it has too many."""
        self._add_folded(entries, rows, self._levels.setdefault(pane, 1))
        while True:
            count = int(self._coarse_count[0])
            mine = self._coarse.entries[:count, PANE] == np.uint64(pane)
            level = self._levels[pane]
            if int(mine.sum()) <= self._max_flows // _COARSE_SHARE or level == _COARSEST:
                return
            refold = self._coarse.entries[:count][mine]
            others = self._coarse.entries[:count][~mine]
            self._coarse.entries[: len(others)] = others
            self._coarse_count[0] = len(others)
            reindex(self._coarse.entries, len(others), self._coarse.index)
            self._levels[pane] = level + 1
            self._add_folded(refold, np.arange(len(refold)), level + 1)

    def _add_folded(self, entries: Words, rows: npt.NDArray[Any], level: int) -> None:
        position = 0
        while position < len(rows):
            position = fold_rows(
                entries,
                rows,
                position,
                level,
                self._seed,
                self._coarse.entries,
                self._coarse.index,
                self._coarse_count,
            )
            if position < len(rows):
                self._coarse.grow(int(self._coarse_count[0]))
