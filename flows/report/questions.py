"""What a report asks the store, by SQL, and the answers.

Sums and rankings are exact, over ``flows``; hosts are counted by grouping, which can go through
files. Estimates come with their bounds, as the job stored them for its windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flows import findings
from flows.findings import IS_IP, Hop, Ledger, Ranked
from flows.report.scope import Scope
from flows.storage import alerts, candidates, dropped
from flows.storage.resolution import Span

Query = Callable[[str], pa.Table]
Counts = npt.NDArray[np.int64]
Row = dict[str, Any]

MOST_STEPS: Final = 120
"""Points of a line."""

FEW_STEPS: Final = 1 / 3
"""Traffic in a smaller part of the steps than this is gappy."""

TALKERS: Final = 10
FLOWS: Final = 20
ALERTS_IN_FULL: Final = 15
_ALERTS_LISTED: Final = 1000
_SPREADERS_A_TASK: Final = 5
_DISTINCT_WINDOWS: Final = 60
_MS: Final = 10**6

SEVERITIES: Final = ("critical", "high", "medium", "low", "info")

CLASSES: Final = ("TCP", "UDP", "ICMP", "other IP", "not IP")
_CLASS: Final = (
    f"multiIf(NOT ({IS_IP}), 5, ip_proto = 6, 1, ip_proto = 17, 2, ip_proto IN (1, 58), 3, 4)"
)
_ASKED: Final = ("flows", "spreaders_log", "distinct_counts_log")
_SERIES: Final = ("window_start", "eth_type", "ip_proto", "packets", "bytes")
_ANY_STATUS: Final = ("pending", "firing", "resolved", "muted")

# Lengths of a step that people read easily, s.
_STEPS_S: Final = (
    1, 2, 4, 5, 6, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 10_800, 21_600, 43_200,
    86_400, 172_800, 604_800, 1_209_600, 2_592_000, 7_776_000, 31_536_000, 315_360_000,
)  # fmt: skip


@dataclass(frozen=True)
class Sums:
    """All flows of the scope together. Hosts are None where flows were folded."""

    packets: int
    bytes: int
    ipv4_packets: int
    ipv6_packets: int
    flow_rows: int
    folded_flows: int
    sampling_rate: int
    first_seen_ns: int
    last_seen_ns: int
    sources: int | None
    destinations: int | None

    @property
    def span_s(self) -> float:
        """Event time from the first packet to the last, s."""
        return (self.last_seen_ns - self.first_seen_ns) / 1e9


@dataclass(frozen=True)
class Series:
    """Traffic in steps of time, without holes; the arrays are as long as there are steps.

    Attributes:
        start_ms: start of the first step, Unix ms.
        step_ms: length of a step.
        packets: of each of ``CLASSES``, (5, n).
        bytes: of each of ``CLASSES``, (5, n).
        percent_complete: by the ledger, of all traffic of the tenant.
    """

    start_ms: int
    step_ms: int
    packets: Counts
    bytes: Counts
    percent_complete: npt.NDArray[np.float64]

    @property
    def gappy(self) -> bool:
        """Whether most of the time is empty, as between captures: averages then say little."""
        return bool(np.count_nonzero(self.packets.any(axis=0)) < FEW_STEPS * self.packets.shape[1])

    @property
    def starts_ms(self) -> Counts:
        """Start of each step, Unix ms."""
        return self.edges_ms[:-1]

    @property
    def edges_ms(self) -> Counts:
        """Start of each step and the end of the last, Unix ms."""
        return self.start_ms + self.step_ms * np.arange(self.packets.shape[1] + 1, dtype=np.int64)


@dataclass(frozen=True)
class Peak:
    """The pane with most bytes."""

    start_ns: int
    pane_s: float
    packets: int
    bytes: int


@dataclass(frozen=True)
class Bounded:
    """An estimate of one window with its bounds."""

    task: str
    key: str
    window_start_ns: int
    horizon_s: int
    estimate: float
    lower: float
    upper: float
    confidence: float
    complete: bool


@dataclass(frozen=True)
class Answers:
    """All that a report tells."""

    scope: Scope
    sums: Sums
    late_packets: int
    series: Series
    peak: Peak
    rankings: dict[str, list[Ranked]]
    pairs: list[Row]
    flows: list[Row]
    spread: list[Bounded]
    distinct: list[Bounded]
    hops: list[Hop]
    alerts: list[Row]
    other_alerts: list[Row]
    alert_count: int
    probes: list[str]
    dropped: str = ""
    """What retention has dropped of it, in a line; empty for nothing."""

    @property
    def ledger(self) -> Ledger:
        """What the hops say together."""
        return Ledger(self.hops)


class Questions:
    """Asks a store about the traffic of a scope."""

    def __init__(self, query: Query, scope: Scope) -> None:
        self._query = query
        self._scope = scope

    def _ask(self, sql: str) -> list[Row]:
        return findings.rows_of(self._query(sql))

    def answers(self) -> Answers | None:
        """Ask everything; nothing if there is no traffic.

        Raises:
            StoreError: the store refused a question, or it took more than it may.
        """
        scope = self._scope
        sums = self._sums()
        if not sums.flow_rows:
            return None
        pane_ms, late, probes = self._totals()
        full, others, count = self._alerts()
        return Answers(
            scope=scope,
            sums=sums,
            late_packets=late,
            series=self._series(sums, pane_ms),
            peak=self._peak(pane_ms),
            rankings={
                name: findings.ranking(
                    self._ask,
                    scope.rows(*{*form[0], *findings.RANKED}),
                    *form,
                    top=TALKERS,
                )
                for name, form in findings.RANKINGS.items()
            },
            pairs=self._pairs(sums),
            flows=self._flows(),
            spread=self._spread(),
            distinct=self._distinct(),
            hops=findings.hops(self._ask, scope.panes),
            alerts=full,
            other_alerts=others,
            alert_count=count,
            probes=probes,
            dropped=self.dropped(),
        )

    def dropped(self) -> str:
        """What retention has dropped of the traffic and of estimates, in a line."""
        span = Span(self._scope.start_ns // _MS, -(-self._scope.end_ns // _MS))
        return dropped.told(self._query, _ASKED, span, self._scope.tenant)

    def _sums(self) -> Sums:
        columns = ("packets", "bytes", "eth_type", "folded_flows", "first_seen", "last_seen")
        (row,) = self._ask(
            "SELECT sum(packets) AS n, sum(bytes) AS b, sumIf(packets, eth_type = 2048) AS ipv4,"
            " sumIf(packets, eth_type = 34525) AS ipv6, sum(folded_flows) AS folded,"
            " toUnixTimestamp64Nano(min(first_seen)) AS first_ns,"
            f" toUnixTimestamp64Nano(max(last_seen)) AS last_ns FROM {self._scope.rows(*columns)}"
        )
        (raw,) = self._ask(
            "SELECT count() AS flow_rows, max(sampling_rate) AS rate"
            f" FROM flows WHERE {self._scope.flows}"
        )
        hosts: list[int | None] = [None, None]
        if not row["folded"]:
            hosts = [
                self._ask(
                    f"SELECT count() AS n FROM (SELECT {end} FROM"
                    f" {self._scope.rows(end, 'eth_type')} WHERE {IS_IP} GROUP BY {end})"
                )[0]["n"]
                for end in ("src_addr", "dst_addr")
            ]
        return Sums(
            packets=row["n"],
            bytes=row["b"],
            ipv4_packets=row["ipv4"],
            ipv6_packets=row["ipv6"],
            flow_rows=raw["flow_rows"],
            folded_flows=row["folded"],
            sampling_rate=raw["rate"],
            first_seen_ns=row["first_ns"],
            last_seen_ns=row["last_ns"],
            sources=hosts[0],
            destinations=hosts[1],
        )

    def _totals(self) -> tuple[int, int, list[str]]:
        (row,) = self._ask(
            "SELECT max(pane_ms) AS pane, sum(late_packets) AS late,"
            " arraySort(groupUniqArray(20)(toString(probe))) AS probes"
            f" FROM totals WHERE {self._scope.panes}"
        )
        return row["pane"] or 1000, row["late"], row["probes"]

    def _series(self, sums: Sums, pane_ms: int) -> Series:
        first_ms, last_ms = sums.first_seen_ns // _MS, sums.last_seen_ns // _MS
        step_ms = step_of(last_ms - first_ms, pane_ms)
        first = first_ms // step_ms
        count = last_ms // step_ms - first + 1
        step = f"intDiv(toUnixTimestamp64Milli(window_start), {step_ms})"
        packets = np.zeros((len(CLASSES), count), np.int64)
        size = np.zeros_like(packets)
        for row in self._ask(
            f"SELECT step, {_CLASS} AS class, sum(p) AS n, sum(b) AS b FROM (SELECT {step} AS step,"
            " eth_type, ip_proto, sum(packets) AS p, sum(bytes) AS b FROM"
            f" {self._scope.rows(*_SERIES, grain_s=step_ms // 1000)}"
            " GROUP BY step, eth_type, ip_proto) GROUP BY step, class"
        ):
            # A pane may begin before its first packet.
            at = row["class"] - 1, min(max(row["step"] - first, 0), count - 1)
            packets[at] += row["n"]
            size[at] += row["b"]
        complete = np.full(count, 100.0)
        for row in self._ask(
            f"SELECT {step} AS step, min(percent_complete) AS percent FROM completeness"
            f" WHERE {self._scope.panes} AND dropped > 0 GROUP BY step"
        ):
            complete[min(max(row["step"] - first, 0), count - 1)] = row["percent"]
        return Series(first * step_ms, step_ms, packets, size, complete)

    def _peak(self, pane_ms: int) -> Peak:
        table = "flows" if self._scope.where else "totals"
        (row,) = self._ask(
            "SELECT toUnixTimestamp64Milli(window_start) AS ms, sum(packets) AS n, sum(bytes) AS b"
            f" FROM {table} WHERE {self._scope.flows} GROUP BY ms ORDER BY b DESC, ms LIMIT 1"
        )
        return Peak(row["ms"] * _MS, pane_ms / 1000, row["n"], row["b"])

    def _pairs(self, sums: Sums) -> list[Row]:
        columns = ["src_addr", "dst_addr", "pair_bucket", "eth_type", "packets", "bytes"]
        # In roll-ups a folded row may have been added to one that isn't.
        columns += ["folded_flows", "sampling_rate"] if sums.folded_flows else ["folded_flows"]
        rows_of = self._scope.rows(*columns)
        return self._ask(
            f"WITH {IS_IP} AND folded_flows = 0 AS wanted,"
            " (least(src_addr, dst_addr), greatest(src_addr, dst_addr)) AS key,"
            " sum(bytes) AS value, pair_bucket AS bucket, sum(bytes) AS bucket_bound,"
            f" {candidates.names(rows_of, '1', str(TALKERS))}"
            " SELECT ip_text(key.1) AS one, ip_text(key.2) AS other,"
            " sumIf(bytes, src_addr <= dst_addr) AS there,"
            " sumIf(bytes, src_addr > dst_addr) AS back,"
            f" sum(packets) AS n, sum(bytes) AS b FROM {rows_of}"
            f" WHERE wanted AND {candidates.CONDITION}"
            f" GROUP BY key ORDER BY b DESC, one, other LIMIT {TALKERS}"
        )

    def _flows(self) -> list[Row]:
        where = self._scope.flows
        return self._ask(
            f"WITH {IS_IP} AND folded_flows = 0 AS wanted,"
            " (src_addr, src_port, dst_addr, dst_port, ip_proto) AS key,"
            " sum(bytes) AS value,"
            " toUInt16(bitXor(pair_bucket, src_port * 31 + dst_port * 17 + ip_proto)) AS bucket,"
            " arrayMax(sumResample(0, 16, 1)(bytes, (src_port + dst_port) % 16)) AS bucket_bound,"
            f" {candidates.names('flows', where, str(FLOWS))}"
            " SELECT ip_text(key.1) AS source, key.2 AS source_port,"
            " ip_text(key.3) AS destination, key.4 AS destination_port,"
            " proto_name(key.5) AS protocol, tcp_flags_text(groupBitOr(tcp_flags)) AS flags,"
            " sum(packets) AS n, sum(bytes) AS b,"
            " toUnixTimestamp64Nano(min(first_seen)) AS first_ns,"
            " toUnixTimestamp64Nano(max(last_seen)) AS last_ns"
            f" FROM flows WHERE {where} AND wanted AND {candidates.CONDITION}"
            f" GROUP BY key ORDER BY b DESC, key LIMIT {FLOWS}"
        )

    def _spread(self) -> list[Bounded]:
        """Of each task the keys with most elements, each in the window where it had most."""
        return [
            Bounded(**row)
            for row in self._ask(
                "SELECT task, key_text AS key,"
                " toUnixTimestamp64Milli(window_start) * 1000000 AS window_start_ns,"
                " horizon AS horizon_s, estimate, lower, upper, confidence, complete FROM (SELECT *"
                f" FROM spreaders WHERE {self._windows('spreaders')}"
                " ORDER BY estimate DESC, window_start LIMIT 1 BY task, key_text)"
                f" ORDER BY task, estimate DESC, key LIMIT {_SPREADERS_A_TASK} BY task"
            )
        ]

    def _distinct(self) -> list[Bounded]:
        """Distinct counts of all windows, or of the first so many, of the best length."""
        return [
            Bounded(**row)
            for row in self._ask(
                "SELECT task, '' AS key,"
                " toUnixTimestamp64Milli(window_start) * 1000000 AS window_start_ns,"
                " horizon AS horizon_s, estimate, lower, upper, confidence, complete"
                f" FROM distinct_counts WHERE {self._windows('distinct_counts', _DISTINCT_WINDOWS)}"
                f" ORDER BY task, window_start LIMIT {_DISTINCT_WINDOWS} BY task"
            )
        ]

    def _windows(self, view: str, most: int = 0) -> str:
        """Condition on windows: the longest, or the shortest of 60 s that are at most so many."""
        overlap = self._scope.windows
        if not most:
            return f"{overlap} AND horizon = (SELECT max(horizon) FROM {view} WHERE {overlap})"
        lengths = self._ask(
            f"SELECT horizon AS h, uniqExact(window_start) AS n FROM {view} WHERE {overlap}"
            " GROUP BY h ORDER BY h"
        )
        fit = [row["h"] for row in lengths if row["h"] >= 60 and row["n"] <= most]
        longest = lengths[-1]["h"] if lengths else 0
        return f"{overlap} AND horizon = {fit[0] if fit else longest}"

    def _alerts(self) -> tuple[list[Row], list[Row], int]:
        """The worst alerts with all that is known of them, others in short, and how many."""
        wanted = alerts.Wanted(
            statuses=_ANY_STATUS,
            tenant=self._scope.tenant,
            since_ns=self._scope.start_ns,
            until_ns=self._scope.end_ns,
        )
        listed, total = alerts.listed(self._query, wanted, _ALERTS_LISTED)
        listed.sort(key=_badness)
        full = [alerts.one(self._query, row["alert_id"]) for row in listed[:ALERTS_IN_FULL]]
        return full, listed[ALERTS_IN_FULL:], total


def step_of(span_ms: int, pane_ms: int) -> int:
    """Length of a step for so long a span, ms: whole panes, at most ``MOST_STEPS`` of them."""
    for step_s in _STEPS_S:
        step_ms = step_s * 1000
        if step_ms % pane_ms == 0 and span_ms <= step_ms * MOST_STEPS:
            return step_ms
    return -(-span_ms // MOST_STEPS // pane_ms) * pane_ms


def _badness(row: Row) -> tuple[bool, int, int, str]:
    quiet = row["status"] in ("muted", "pending")
    return quiet, SEVERITIES.index(row["severity"]), row["first_seen_ns"], row["alert_id"]


def by_severity(rows: Sequence[Row]) -> dict[str, int]:
    """How many alerts there are of each severity, the worst first; others are left out."""
    counts = {name: sum(row["severity"] == name for row in rows) for name in SEVERITIES}
    return {name: count for name, count in counts.items() if count}
