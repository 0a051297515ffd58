"""What a run found: sums, rankings, distinct counts, the ledger; ``flows.summary`` prints it.

Sums and rankings cover all that the store has of a tenant. Rankings are exact sums over
``flows``; where flows were folded they are an interval. Distinct counts and heavy hitters are
sketches of one window, the busiest of the longest horizon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

TOP: Final = 5
"""Rows of a ranking."""

ALERTS: Final = 10
"""Alerts that are told."""


class Store(Protocol):
    """What a summary needs of a store: an answer as an Arrow table."""

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """Answer a SELECT whose parameters are written ``{name:Type}``."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A key of a ranking; `more_packets` and `more_bytes` it may have in folded rows."""

    key: str
    packets: int
    bytes: int
    more_packets: int = 0
    more_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A sketch's answer with its bounds."""

    task: str
    key: str
    estimate: float
    lower: float
    upper: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Hop:
    """One line of the ledger, packets."""

    name: str
    seen: int
    delivered: int
    dropped: dict[str, int]
    in_flight: int

    @property
    def balanced(self) -> bool:
        """Whether every packet that was seen went somewhere."""
        return self.seen == self.delivered + sum(self.dropped.values()) + self.in_flight


@dataclass(frozen=True, slots=True)
class Ledger:
    """Hops in their order, and what they say together."""

    hops: Sequence[Hop]

    @property
    def under_way(self) -> int:
        """Packets between probes and us: given on and not here, or here and not yet counted.

        A probe's counts and its packets come in different partitions, each in its own time.
        """
        by_name = {hop.name: hop for hop in self.hops}
        if "capture" not in by_name or "transport" not in by_name:
            return 0
        return abs(by_name["capture"].delivered - by_name["transport"].seen)

    @property
    def balanced(self) -> bool:
        """Whether each hop is in itself, and each gets what the last one gave."""
        joints = zip(self.hops, self.hops[1:], strict=False)
        return all(hop.balanced for hop in self.hops) and all(
            before.delivered == after.seen
            for before, after in joints
            if (before.name, after.name) != ("capture", "transport")
        )

    @property
    def complete(self) -> bool:
        """Whether it is there, balanced, and nothing was dropped or is under way."""
        whole = all(not any(hop.dropped.values()) and not hop.in_flight for hop in self.hops)
        return bool(self.hops) and self.balanced and whole and not self.under_way


@dataclass(frozen=True, slots=True)
class Raised:
    """An alert: how bad, what of, since when (Unix ns)."""

    severity: str
    status: str
    rule: str
    entity: str
    summary: str
    first_seen_ns: int


@dataclass(frozen=True, slots=True)
class Summary:
    """All that is told about a run. Times are Unix ns, horizons s."""

    packets: int
    bytes: int
    late_packets: int
    ip_packets: dict[str, int]
    flow_rows: int
    folded_flows: int
    first_seen_ns: int
    last_seen_ns: int
    rankings: dict[str, list[Ranked]]
    hosts: dict[str, int]
    horizon: float
    windows: int
    window_start_ns: int
    distinct: list[Estimate]
    heavy: list[Estimate]
    spread: list[Estimate]
    hops: list[Hop]
    alerts: list[Raised] = field(default_factory=list)
    all_alerts: int = 0

    @property
    def span_s(self) -> float:
        """Event time from the first packet to the last, s."""
        return (self.last_seen_ns - self.first_seen_ns) / 1e9

    @property
    def ledger(self) -> Ledger:
        """What the hops say together."""
        return Ledger(self.hops)


IS_IP: Final = "eth_type IN (2048, 34525)"
"""Condition on rows of ``flows``: the packets are IPv4 or IPv6."""

_PORTED: Final = "ip_proto IN (6, 17, 132)"
RANKINGS: Final = {
    "Sources": (
        ("src_addr",),
        "ip_text(src_addr)",
        f"{IS_IP} AND src_addr != toIPv6('::')",
    ),
    "Destinations": (
        ("dst_addr",),
        "ip_text(dst_addr)",
        f"{IS_IP} AND dst_addr != toIPv6('::')",
    ),
    "Destination ports": (
        ("dst_port", "ip_proto"),
        "concat(lower(proto_name(ip_proto)), '/', toString(dst_port))",
        f"{_PORTED} AND dst_port != 0",
    ),
    "Protocols": (
        ("eth_type", "ip_proto"),
        f"multiIf({IS_IP}, proto_name(ip_proto), eth_type = 0x0806, 'ARP',"
        " eth_type = 0x88CC, 'LLDP', concat('EtherType 0x', lower(hex(eth_type))))",
        "1",
    ),
}
"""Of each ranking: columns that the key is made of, the key as text, and which rows have one."""

RANKED: Final = ("packets", "bytes", "folded_flows", "eth_type")
"""Columns of ``flows`` that ``ranking`` needs besides those of the key."""


def collect(store: Store, tenant: str, probes: Sequence[str] | None = None) -> Summary:
    """Ask the store for everything that a summary tells.

    Args:
        store: Where to ask.
        tenant: Whose traffic.
        probes: Only of these probes; sketches are per tenant and so cover all of them.
    """
    # Every text below is ours; what is the user's goes as a parameter.
    where = "tenant = {tenant:String}" + (" AND has({probes:Array(String)}, probe)" * bool(probes))
    given: dict[str, Any] = {"tenant": tenant, "probes": list(probes or ())}

    def ask(sql: str, **more: Any) -> list[dict[str, Any]]:
        return rows_of(store.query(sql, {**given, **more}))

    (totals,) = ask(
        "SELECT sum(packets) AS packets, sum(bytes) AS bytes, sum(late_packets) AS late_packets,"
        " sum(ipv4_packets) AS ipv4, sum(ipv6_packets) AS ipv6, sum(other_packets) AS other"
        f" FROM totals WHERE {where}"
    )
    (flows,) = ask(
        "SELECT count() AS flow_rows, sum(folded_flows) AS folded_flows,"
        " toUnixTimestamp64Nano(min(first_seen)) AS first_seen_ns,"
        " toUnixTimestamp64Nano(max(last_seen)) AS last_seen_ns,"
        f" uniqExactIf(src_addr, {IS_IP}) AS sources,"
        f" uniqExactIf(dst_addr, {IS_IP}) AS destinations"
        f" FROM flows WHERE {where}"
    )
    hosts = {"sources": flows.pop("sources"), "destinations": flows.pop("destinations")}
    window = _busiest_window(ask, where)
    return Summary(
        packets=totals["packets"],
        bytes=totals["bytes"],
        late_packets=totals["late_packets"],
        ip_packets={"IPv4": totals["ipv4"], "IPv6": totals["ipv6"], "other": totals["other"]},
        rankings={
            name: ranking(ask, f"(SELECT * FROM flows WHERE {where})", *form)
            for name, form in RANKINGS.items()
        },
        hosts={} if flows["folded_flows"] else hosts,
        hops=hops(ask, where),
        **_alerts(ask),
        **flows,
        **window,
    )


def ranking(
    ask: Any, rows_of: str, columns: Sequence[str], key: str, has_key: str, top: int = TOP
) -> list[Ranked]:
    """The largest keys by bytes.

    Args:
        ask: answers a SELECT with rows.
        rows_of: a statement in brackets whose rows have ``columns`` and ``RANKED``.
        columns: what the key is made of, see ``RANKINGS``.
        key: the key as text.
        has_key: condition on rows that have such a key.
        top: how many keys.
    """
    (lost,) = ask(
        "SELECT sum(packets) AS more_packets, sum(bytes) AS more_bytes"
        f" FROM {rows_of} WHERE folded_flows > 0 AND NOT ({has_key})"
    )
    # Texts are made of keys, not of rows. Sums are in columns of other names, so that ORDER BY
    # can't mean the plain ones.
    listed = ", ".join(columns)
    rows = ask(
        f"SELECT {key} AS key, sum(p) AS all_packets, sum(b) AS all_bytes FROM"
        f" (SELECT {listed}, sum(packets) AS p, sum(bytes) AS b FROM {rows_of}"
        f" WHERE {has_key} GROUP BY {listed})"
        f" GROUP BY key ORDER BY all_bytes DESC, key LIMIT {top}"
    )
    return [Ranked(row["key"], row["all_packets"], row["all_bytes"], **lost) for row in rows]


def _busiest_window(ask: Any, where: str) -> dict[str, Any]:
    """Sketches of the window with most packets among those of the longest horizon."""
    found: dict[str, Any] = dict.fromkeys(("horizon", "windows", "window_start_ns"), 0)
    found |= {"distinct": [], "heavy": [], "spread": []}
    (windows,) = ask(
        "SELECT max(horizon) AS longest, uniqExact(window_start) AS windows FROM distinct_counts"
        " WHERE tenant = {tenant:String} AND horizon ="
        " (SELECT max(horizon) FROM distinct_counts WHERE tenant = {tenant:String})"
    )
    if not windows["windows"]:
        return found
    horizon = windows["longest"]
    found |= {"horizon": horizon, "windows": windows["windows"]}
    (busiest,) = ask(
        "SELECT w * {ms:Int64} AS start_ms FROM (SELECT"
        " intDiv(toUnixTimestamp64Milli(window_start), {ms:Int64}) AS w, sum(packets) AS n"
        f" FROM totals WHERE {where} AND w IN (SELECT"
        " intDiv(toUnixTimestamp64Milli(window_start), {ms:Int64}) FROM distinct_counts"
        " WHERE tenant = {tenant:String} AND horizon = {horizon:Float64})"
        " GROUP BY w ORDER BY n DESC, w LIMIT 1)",
        ms=round(horizon * 1000),
        horizon=horizon,
    ) or ({"start_ms": None},)
    if busiest["start_ms"] is None:
        return found
    this = (
        "WHERE tenant = {tenant:String} AND horizon = {horizon:Float64}"
        " AND toUnixTimestamp64Milli(window_start) = {start:Int64}"
    )
    at = {"horizon": horizon, "start": busiest["start_ms"]}
    found["window_start_ns"] = busiest["start_ms"] * 10**6
    found["distinct"] = [
        Estimate(**row)
        for row in ask(
            "SELECT task, '' AS key, estimate, lower, upper, confidence"
            f" FROM distinct_counts {this} ORDER BY task",
            **at,
        )
    ]
    found["heavy"] = [
        Estimate(**row)
        for row in ask(
            "SELECT task, key_text AS key, toFloat64(bytes) AS estimate,"
            " toFloat64(bytes_lower) AS lower, toFloat64(bytes_upper) AS upper, confidence"
            f" FROM heavy_hitters {this} AND ranked_by = 'bytes' AND rank <= 3"
            " ORDER BY task, rank",
            **at,
        )
    ]
    found["spread"] = [
        Estimate(**row)
        for row in ask(
            "SELECT task, key_text AS key, estimate, lower, upper, confidence"
            f" FROM spreaders {this} AND rank <= 3 ORDER BY task, rank",
            **at,
        )
    ]
    return found


def _alerts(ask: Any) -> dict[str, Any]:
    """The worst alerts of the tenant, muted and pending ones left out, and how many there are."""
    told = "tenant = {tenant:String} AND status IN ('firing', 'resolved')"
    rows = ask(
        "SELECT toString(a.severity) AS severity, toString(a.status) AS status, rule,"
        " entity_text AS entity, summary, toUnixTimestamp64Nano(first_seen) AS first_seen_ns"
        f" FROM alerts AS a WHERE {told}"
        f" ORDER BY a.severity DESC, first_seen, entity_text LIMIT {ALERTS}"
    )
    (count,) = ask(f"SELECT count() AS n FROM alerts WHERE {told}")
    return {"alerts": [Raised(**row) for row in rows], "all_alerts": count["n"]}


def hops(ask: Any, where: str) -> list[Hop]:
    """What the ledger says of the panes of a condition."""
    dropped: dict[str, dict[str, int]] = {}
    for row in ask(
        "SELECT toString(hop) AS name, reason, sum(n) AS n FROM ledger"
        " ARRAY JOIN mapKeys(dropped) AS reason, mapValues(dropped) AS n"
        f" WHERE {where} GROUP BY hop, reason ORDER BY reason"
    ):
        if row["n"]:
            dropped.setdefault(row["name"], {})[row["reason"]] = row["n"]
    rows = ask(
        "SELECT toString(hop) AS name, sum(seen) AS s, sum(delivered) AS d, sum(in_flight) AS f"
        f" FROM ledger WHERE {where} GROUP BY hop ORDER BY hop"
    )
    return [
        Hop(row["name"], row["s"], row["d"], dropped.get(row["name"], {}), row["f"]) for row in rows
    ]


def rows_of(table: Any) -> list[dict[str, Any]]:
    """Rows of an Arrow table; texts that came as bytes are decoded."""
    return [
        {
            name: value.decode(errors="replace") if isinstance(value, bytes) else value
            for name, value in row.items()
        }
        for row in table.to_pylist()
    ]
