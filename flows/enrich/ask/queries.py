"""The queries that the model may have run. Each reads, of one tenant, and gives few rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from flows.enrich.ask.query import (
    MOST_ROWS,
    Host,
    Port,
    Query,
    Spanned,
    Statement,
    is_host,
    table_of,
    touches,
    within,
)
from flows.enrich.ask.scope import DAY_MS, Scope, time_text
from flows.storage import selects
from flows.storage.embedded import quote
from flows.storage.resolution import widened

Limit = Annotated[int, Field(ge=1, le=MOST_ROWS)]
ANY_HOST: Final = "Address or network that the flows come from or go to; empty: any"

_BUCKETS_S: Final = (2, 10, 60, 300, 900, 3600, 4 * 3600, 86_400, 7 * 86_400)
_MOST_BUCKETS: Final = 48
_HOUR_MS: Final = 3_600_000
_KEYS: Final[Mapping[str, str]] = {
    "source": "ip_text(src_addr) AS source",
    "destination": "ip_text(dst_addr) AS destination",
    "pair": "ip_text(src_addr) AS source, ip_text(dst_addr) AS destination",
    "service": "proto_name(ip_proto) AS protocol, dst_port AS port",
    "protocol": "proto_name(ip_proto) AS protocol",
    "network": "src_net AS from_network, dst_net AS to_network",
}
_SEEN: Final = (
    "toString(toDateTime(min(first_seen), 'UTC')) AS first, "
    "toString(toDateTime(max(last_seen), 'UTC')) AS last"
)


def _names(columns: str) -> str:
    """Names that columns are given."""
    return ", ".join(each.rpartition(" AS ")[2] for each in columns.split(", "))


class TopTalkers(Spanned):
    """Who or what had most traffic in a time, ranked, each with its share of all of it."""

    name: ClassVar = "top_talkers"
    of: Literal["source", "destination", "pair", "service", "protocol", "network"] = "source"
    by: Literal["bytes", "packets", "peers"] = "bytes"
    host: Host = Field("", description=ANY_HOST)
    dst_port: Port = Field(0, description="Only flows to this port; 0: any")
    limit: Limit = 10

    def statements(self, scope: Scope) -> Sequence[Statement]:
        """See ``Query``."""
        ports = self.of == "service" or self.dst_port > 0
        table, since, until = self.place(scope, ports=ports)
        where = within(scope, since, until)
        where += f" AND {touches(self.host)}" if self.host else ""
        where += f" AND dst_port = {self.dst_port}" if self.dst_port else ""
        keys = _KEYS[self.of]
        sql = (
            f"SELECT {_names(keys)}, byte_sum AS bytes, packet_sum AS packets, peers, "
            "round(100 * byte_sum / greatest(sum(byte_sum) OVER (), 1), 2) AS percent_of_bytes, "
            "sum(byte_sum) OVER () AS bytes_of_all "
            f"FROM (SELECT {keys}, sum(bytes) AS byte_sum, sum(packets) AS packet_sum, "
            f"uniq({'src_addr' if self.of == 'destination' else 'dst_addr'}) AS peers "
            f"FROM {table} WHERE {where} GROUP BY {_names(keys)}) "
            f"ORDER BY {self.by} DESC, {_names(keys)} LIMIT {self.limit}"
        )
        return [(f"top {self.of} by {self.by}", sql)]


class TrafficOverTime(Spanned):
    """How traffic went over a time, in equal steps; of a host, what it sent and received."""

    name: ClassVar = "traffic_over_time"
    host: Host = Field("", description=ANY_HOST)

    def statements(self, scope: Scope) -> Sequence[Statement]:
        """See ``Query``."""
        since, until = widened(*self.span_ms(scope))
        length_s = (until - since) / 1000
        step_s = next((s for s in _BUCKETS_S if length_s / s <= _MOST_BUCKETS), _BUCKETS_S[-1])
        table = table_of(since, until, step_s=step_s)
        where = within(scope, since, until)
        sums = "sum(packets) AS packets, sum(bytes) AS bytes"
        if self.host:
            where += f" AND {touches(self.host)}"
            sums = _sums(self.host)
        sql = (
            f"SELECT toString(toDateTime(toStartOfInterval(window_start, INTERVAL {step_s} SECOND, "
            f"'UTC'), 'UTC')) AS start, {step_s} AS seconds, {sums}, "
            f"round(8 * sum(bytes) / {step_s} / 1000000, 3) AS mbit_per_s "
            f"FROM {table} WHERE {where} GROUP BY start ORDER BY start LIMIT {_MOST_BUCKETS + 1}"
        )
        return [("traffic over time", sql)]


def _sums(host: str) -> str:
    sends, receives = is_host("src_addr", host), is_host("dst_addr", host)
    return (
        f"sumIf(bytes, {sends}) AS bytes_sent, sumIf(packets, {sends}) AS packets_sent, "
        f"sumIf(bytes, {receives}) AS bytes_received, "
        f"sumIf(packets, {receives}) AS packets_received, "
        f"uniqExactIf(dst_addr, {sends}) AS hosts_sent_to, "
        f"uniqExactIf(src_addr, {receives}) AS hosts_received_from"
    )


class HostProfile(Spanned):
    """What a host, or a network, did in a time: totals, main services, main peers."""

    name: ClassVar = "host_profile"
    host: Host = Field(description="Address or network", min_length=1)

    def statements(self, scope: Scope) -> Sequence[Statement]:
        """See ``Query``."""
        table, since, until = self.place(scope)
        where = f"{within(scope, since, until)} AND {touches(self.host)}"
        sends = is_host("src_addr", self.host)
        totals = (
            f"SELECT {quote(self.host)} AS host, {quote(time_text(since))} AS since, "
            f"{quote(time_text(until))} AS until, {_sums(self.host)}, "
            f"uniqExactIf(dst_port, {sends}) AS ports_sent_to, {_SEEN} FROM {table} "
            f"WHERE {where} HAVING count() > 0"
        )
        services = (
            f"SELECT if({sends}, 'sent to port', 'received at port') AS way, "
            "proto_name(ip_proto) AS protocol, dst_port AS port, sum(bytes) AS bytes, "
            f"sum(packets) AS packets, uniqExact(if({sends}, dst_addr, src_addr)) AS peers "
            f"FROM {table} WHERE {where} GROUP BY way, protocol, port "
            "ORDER BY sum(bytes) DESC, way, protocol, port LIMIT 10"
        )
        return [
            ("host totals", totals),
            ("service of the host", services),
            ("peer of the host", _peers(self.host, table, where, 6)),
        ]


def _peers(host: str, table: str, where: str, most: int) -> str:
    sends, receives = is_host("src_addr", host), is_host("dst_addr", host)
    return (
        f"SELECT ip_text(if({sends}, dst_addr, src_addr)) AS peer, "
        f"sumIf(bytes, {sends}) AS bytes_to_peer, sumIf(bytes, {receives}) AS bytes_from_peer, "
        f"sum(packets) AS packets FROM {table} WHERE {where} GROUP BY peer "
        f"ORDER BY sum(bytes) DESC, peer LIMIT {most}"
    )


class Baseline(Spanned):
    """What is usual: a host, or all traffic (no host), in a time and in equal times before it."""

    name: ClassVar = "baseline"
    host: Host = Field("", description="Address or network; empty: all traffic")

    def statements(self, scope: Scope) -> Sequence[Statement]:
        """See ``Query``."""
        table, since, until = self.place(scope, ports=False)
        length = until - since
        shifts = {
            "the time asked about": 0,
            "as long before it": length,
            "a day earlier": DAY_MS,
            "a week earlier": 7 * DAY_MS,
        }
        sums = _sums(self.host) if self.host else "sum(packets) AS packets, sum(bytes) AS bytes"
        host = f" AND {touches(self.host)}" if self.host else ""
        parts = [
            f"SELECT {number} AS place, {quote(name)} AS period, "
            f"{quote(time_text(since - shift))} AS since, {length // 1000} AS seconds, {sums} "
            f"FROM {table} WHERE {within(scope, since - shift, until - shift)}{host} "
            "HAVING count() > 0"
            for number, (name, shift) in enumerate(shifts.items())
        ]
        compared = f"SELECT * EXCEPT place FROM ({' UNION ALL '.join(parts)}) ORDER BY place"
        hour = since - since % _HOUR_MS
        week = within(scope, hour - 7 * DAY_MS, hour)
        usual = (
            "SELECT count() AS hours, round(quantileExact(0.5)(b)) AS median_bytes_per_hour, "
            "round(quantileExact(0.95)(b)) AS percentile_95_bytes_per_hour, "
            "max(b) AS most_bytes_per_hour FROM (SELECT window_start, sum(bytes) AS b "
            f"FROM flows_1h WHERE {week}{host} GROUP BY window_start) HAVING count() > 0"
        )
        return [("period", compared), ("hours with traffic in the week before", usual)]


class DistinctPeers(Spanned):
    """How many different hosts a host talked to, and which it had not talked to before."""

    name: ClassVar = "distinct_peers"
    host: Host = Field(description="Address or network", min_length=1)
    before_hours: Annotated[int, Field(ge=1, le=24 * 31)] = Field(
        24, description="How many hours before the time count as before"
    )

    def statements(self, scope: Scope) -> Sequence[Statement]:
        """See ``Query``."""
        since, until = self.span_ms(scope)
        before = self.before_hours * _HOUR_MS
        first, until = widened(since - before, until)
        since, table = first + before, table_of(first, until)
        where = f"{within(scope, first, until)} AND {touches(self.host)}"
        now = f"window_start >= fromUnixTimestamp64Milli({since}, 'UTC')"
        peers = (
            f"SELECT ip_text(if({is_host('src_addr', self.host)}, dst_addr, src_addr)) AS peer, "
            f"sumIf(bytes, {now}) AS bytes_now, countIf({now}) > 0 AS is_now, "
            f"countIf(NOT {now}) > 0 AS was_before FROM {table} WHERE {where} GROUP BY peer"
        )
        counts = (
            f"SELECT {quote(self.host)} AS host, countIf(is_now) AS peers, "
            "countIf(is_now AND NOT was_before) AS new_peers, "
            f"countIf(was_before) AS peers_before, {self.before_hours} AS hours_before "
            f"FROM ({peers}) HAVING count() > 0"
        )
        new = (
            f"SELECT peer, bytes_now AS bytes FROM ({peers}) WHERE is_now AND NOT was_before "
            "ORDER BY bytes_now DESC, peer LIMIT 10"
        )
        return [("peers of the host", counts), ("new peer of the host", new)]


class FlowsOf(Spanned):
    """The largest flows, one row for each source, destination, protocol and destination port."""

    name: ClassVar = "flows_of"
    host: Host = Field("", description=ANY_HOST)
    src: Host = Field("", description="Address or network of the source; empty: any")
    dst: Host = Field("", description="Address or network of the destination; empty: any")
    dst_port: Port = Field(0, description="Port of the destination; 0: any")
    by: Literal["bytes", "packets"] = "bytes"
    limit: Limit = 10

    def statements(self, scope: Scope) -> Sequence[Statement]:
        """See ``Query``."""
        table, since, until = self.place(scope)
        where = [within(scope, since, until)]
        where += [touches(self.host)] if self.host else []
        where += [is_host("src_addr", self.src)] if self.src else []
        where += [is_host("dst_addr", self.dst)] if self.dst else []
        where += [f"dst_port = {self.dst_port}"] if self.dst_port else []
        sql = (
            "SELECT ip_text(src_addr) AS source, ip_text(dst_addr) AS destination, "
            "proto_name(ip_proto) AS protocol, dst_port AS port, sum(bytes) AS bytes, "
            "sum(packets) AS packets, tcp_flags_text(groupBitOr(tcp_flags)) AS flags, "
            f"{_SEEN} FROM {table} WHERE {' AND '.join(where)} "
            "GROUP BY src_addr, dst_addr, ip_proto, dst_port "
            f"ORDER BY sum({self.by}) DESC, source, destination, port LIMIT {self.limit}"
        )
        return [("flow", sql)]


class AlertsOf(Spanned):
    """Alerts that were on in a time, the worst first; of a host, those that are about it."""

    name: ClassVar = "alerts_of"
    host: Host = Field("", description="Address; empty: any")

    def statements(self, scope: Scope) -> Sequence[Statement]:
        """See ``Query``."""
        since, until = self.span_ms(scope)
        where = (
            f"a.tenant = {quote(scope.tenant)} "
            f"AND a.last_seen >= fromUnixTimestamp64Milli({since}, 'UTC') "
            f"AND a.first_seen < fromUnixTimestamp64Milli({until}, 'UTC')"
        )
        if self.host:
            host = quote(self.host)
            where += f" AND (a.src_addr = {host} OR a.dst_addr = {host})"
        sql = (
            "SELECT substring(a.alert_id, 1, 8) AS alert, a.rule AS rule, a.title AS title, "
            "toString(a.severity) AS severity, toString(a.status) AS status, "
            "a.entity_text AS entity, a.value AS value, a.unit AS unit, a.lower AS lower, "
            "a.upper AS upper, a.threshold AS threshold, "
            "toString(toDateTime(a.first_seen, 'UTC')) AS first, "
            "toString(toDateTime(a.last_seen, 'UTC')) AS last, toString(a.verdict) AS verdict "
            f"FROM alerts AS a WHERE {where} "
            "ORDER BY toUInt8(a.severity) DESC, a.first_seen DESC, a.alert_id LIMIT 15"
        )
        return [("alert", sql)]


class Completeness(Spanned):
    """Whether anything is missing: packets seen and dropped, by probe and hop, with reasons."""

    name: ClassVar = "completeness"

    def statements(self, scope: Scope) -> Sequence[Statement]:
        """See ``Query``."""
        where = within(scope, *self.span_ms(scope))
        sql = (
            "SELECT probe, toString(hop) AS hop, sum(seen) AS packets_seen, "
            "sum(delivered) AS packets_delivered, sum(in_flight) AS packets_in_flight, "
            "sum(arraySum(mapValues(dropped))) AS packets_dropped, "
            "sumMap(dropped) AS dropped_by_reason "
            f"FROM ledger WHERE {where} GROUP BY probe, hop "
            "ORDER BY packets_dropped DESC, probe, hop LIMIT 20"
        )
        return [("hop of the ledger", sql)]


class Estimates(Spanned):
    """Estimates of sketches, with bounds.

    spreaders: who touches most different others; heavy_hitters: the largest keys;
    distinct_counts: how many different elements there were.
    """

    name: ClassVar = "estimates"
    what: Literal["spreaders", "heavy_hitters", "distinct_counts"] = "spreaders"
    host: Host = Field("", description="Only keys with this address; empty: all")
    limit: Limit = 10

    def statements(self, scope: Scope) -> Sequence[Statement]:
        """See ``Query``."""
        where = f"{within(scope, *self.span_ms(scope))} AND horizon >= 60"
        about = "task"
        bounds = "estimate, lower, upper, confidence, complete"
        order = "estimate"
        if self.what != "distinct_counts":
            about += ", key_text"
            if self.host:
                exact = f"concat(' ', key_text, ' ') LIKE {quote(f'%={self.host} %')}"
                where += f" AND {exact}"
        if self.what == "heavy_hitters":
            where += " AND ranked_by = 'bytes'"
            bounds = "bytes, bytes_lower, bytes_upper, total_bytes, confidence, complete"
            order = "bytes"
        sql = (
            "SELECT toString(toDateTime(window_start, 'UTC')) AS start, horizon AS seconds, "
            f"{about}, {bounds} FROM {self.what} WHERE {where} "
            f"ORDER BY {order} DESC, window_start, {about} LIMIT {self.limit}"
        )
        return [(self.what.replace("_", " "), sql)]


class Sql(Query):
    """One SELECT in ClickHouse's SQL, for what no other query answers.

    Tables: flows, flows_1m, flows_1h (tenant, probe, window_start, src_addr, dst_addr, dst_port,
    ip_proto, packets, bytes, tcp_flags, src_net, dst_net), totals, ledger, rates, completeness,
    alerts. Addresses are IPv6 columns: compare with toIPv6('192.0.2.1'), show with ip_text(). Rows
    are additive: always aggregate. Only these tables and plain functions are admitted.
    """

    name: ClassVar = "sql"
    query: str = Field(description="The statement", min_length=1, max_length=selects.MAX_CHARS)

    def statements(self, scope: Scope) -> Sequence[Statement]:
        """See ``Query``."""
        return [("row of a statement", selects.check(self.query, scope.columns))]


def queries(scope: Scope) -> dict[str, type[Query]]:
    """All that may be run, by name."""
    found: list[type[Query]] = [
        TopTalkers, TrafficOverTime, HostProfile, Baseline, DistinctPeers, FlowsOf, AlertsOf,
        Completeness, Estimates,
    ]  # fmt: skip
    found += [Sql] if scope.columns else []
    return {query.name: query for query in found}
