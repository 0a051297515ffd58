"""What the dashboards show: their panels' SQL, all over tables and views that are documented.

Columns of a result never have the name of a column that is summed, for a server resolves such a
name to the sum.
"""

from __future__ import annotations

from typing import Any, Final

from panels import Json, band, chosen, dashboard, lines, link, stat, table, target, typed

TENANT: Final = "tenant = ${tenant:singlequote}"
PROBES: Final = f"{TENANT} AND probe IN (${{probe:singlequote}})"
HERE: Final = f"{PROBES} AND $__timeFilter(window_start)"
FLOWS: Final = (
    f"{HERE} AND toStartOfFiveMinutes(window_start) >= toStartOfFiveMinutes($__fromTime) "
    "AND toStartOfFiveMinutes(window_start) <= toStartOfFiveMinutes($__toTime)"
)
"""Of ``flows``: it is by five minutes that the engine finds rows by time."""

ESTIMATES: Final = f"{TENANT} AND $__timeFilter(window_start)"
"""Estimates are of all probes of a tenant."""

ALERTS: Final = (
    f"{TENANT} AND status IN ('firing', 'resolved', 'muted') "
    "AND first_seen <= $__toTime AND last_seen >= $__fromTime"
)
IP: Final = "eth_type IN (2048, 34525) AND folded_flows = 0"
RATE: Final = "8 * sum(bytes) / $__interval_s"
BYTES: Final = {"byte_sum": "decbytes", "packet_sum": "short"}
EXACT: Final = "Exact sums over the stored flows; the ledger says what is missing."
BOUNDED: Final = "Estimates of one window each; lower and upper hold as often as confidence says."

HOST: Final = "netspectra-host"
ALERT_UID: Final = "netspectra-alerts"
TO_HOST: Final = link("This host", HOST, host="${__value.text}")
TO_ALERT: Final = link("Evidence", ALERT_UID, alert="${__data.fields.alert_id}")

VARIABLES: Final = (
    chosen("tenant", "Tenant", "SELECT DISTINCT tenant FROM totals ORDER BY tenant"),
    chosen(
        "probe", "Probe", f"SELECT DISTINCT probe FROM totals WHERE {TENANT} ORDER BY probe",
        several=True,
    ),
)  # fmt: skip

ANNOTATIONS: Final = (
    {
        "name": "Alerts",
        "datasource": {"type": "grafana-clickhouse-datasource", "uid": "${datasource}"},
        "enable": True,
        "iconColor": "red",
        "target": target(
            "SELECT toDateTime64(first_seen, 3) AS time, toDateTime64(last_seen, 3) AS timeEnd, "
            "title AS text, [toString(severity), rule] AS tags "
            f"FROM alerts WHERE {ALERTS} AND severity >= 'medium' ORDER BY time LIMIT 200"
        ),
    },
)


def top(title: str, key: str, name: str, where: str = "1", **more: Any) -> Json:
    """The largest keys by bytes, exact, out of the flows by minute."""
    return table(
        title,
        f"SELECT {key} AS {name}, sum(packets) AS packet_sum, sum(bytes) AS byte_sum "
        f"FROM flows_1m WHERE {HERE} AND {where} GROUP BY {name} "
        f"ORDER BY byte_sum DESC, {name} LIMIT 20",
        units=BYTES, bars=("byte_sum",), about=EXACT, **more,
    )  # fmt: skip


def counted(task: str, title: str) -> Json:
    """A distinct count by minute, with its bounds."""
    return band(
        title,
        "SELECT window_start AS time, lower, estimate, upper FROM distinct_counts "
        f"WHERE {ESTIMATES} AND task = '{task}' AND horizon = 60 ORDER BY time",
        about=BOUNDED,
    )


ALERT_TABLE: Final = table(
    "Alerts",
    "SELECT toDateTime64(first_seen, 3) AS first, toDateTime64(last_seen, 3) AS last, "
    "toString(severity) AS severity, toString(status) AS state, rule, title, entity_text AS about, "
    "lower, value, upper, threshold, unit, alert_id "
    f"FROM alerts WHERE {ALERTS} ORDER BY alerts.severity DESC, first DESC LIMIT 200",
    links={"title": TO_ALERT, "alert_id": TO_ALERT}, width=24,
    about="The worst first. A rule compares its threshold with the lower bound.",
)  # fmt: skip

COMPLETENESS: Final = lines(
    "Complete",
    "SELECT $__timeInterval(window_start) AS time, probe, min(percent_complete) AS complete "
    f"FROM completeness WHERE {HERE} GROUP BY time, probe ORDER BY time",
    unit="percent", about="Share of the packets that was not lost, the worst pane of each step.",
)  # fmt: skip

BITS_BY_PROBE: Final = lines(
    "Bits per second by probe",
    f"SELECT $__timeInterval(window_start) AS time, probe, {RATE} AS bits "
    f"FROM totals WHERE {HERE} GROUP BY time, probe ORDER BY time",
    unit="bps", stacked=True, about=EXACT,
)  # fmt: skip


def overview() -> Json:
    """The first look."""
    return _dashboard(
        "netspectra-overview",
        "NetSpectra: overview",
        "How much there is, how many there are, what stands out, and how complete it is.",
        [
            ("", [
                stat("Packets", f"SELECT sum(packets) AS n FROM totals WHERE {HERE}", unit="short"),
                stat("Bytes", f"SELECT sum(bytes) AS n FROM totals WHERE {HERE}", unit="decbytes"),
                stat("Busiest 2 s", "SELECT max(bits) AS n FROM (SELECT window_start, "
                     f"sum(bits_per_second) AS bits FROM rates WHERE {HERE} "
                     "GROUP BY window_start)", unit="bps"),
                stat("Alerts firing", f"SELECT count() AS n FROM alerts WHERE {TENANT} "
                     "AND status = 'firing'", unit="short"),
                stat("Complete, worst pane", "SELECT min(percent_complete) AS n FROM completeness "
                     f"WHERE {HERE}", unit="percent",
                     about="Below 100 packets were lost: see the pipeline."),
                stat("Sources in a minute", "SELECT argMax(estimate, window_start) AS n "
                     f"FROM distinct_counts WHERE {ESTIMATES} AND task = 'distinct_src_addr' "
                     "AND horizon = 60", unit="short", about=BOUNDED),
            ]),
            ("", [
                BITS_BY_PROBE,
                lines("Packets per second by protocol",
                      "SELECT $__timeInterval(window_start) AS time, "
                      "sum(tcp_packets) / $__interval_s AS TCP, "
                      "sum(udp_packets) / $__interval_s AS UDP, "
                      "sum(icmp_packets) / $__interval_s AS ICMP, "
                      "sum(other_proto_packets) / $__interval_s AS other, "
                      "sum(other_packets) / $__interval_s AS `not IP` "
                      f"FROM totals WHERE {HERE} GROUP BY time ORDER BY time",
                      unit="pps", stacked=True, about=EXACT),
                counted("distinct_src_addr", "Different sources per minute"),
                counted("distinct_dst_addr", "Different destinations per minute"),
                top("Top sources", "ip_text(src_addr)", "source", IP, links={"source": TO_HOST}),
                top("Top destinations", "ip_text(dst_addr)", "destination", IP,
                    links={"destination": TO_HOST}),
                ALERT_TABLE,
                COMPLETENESS,
            ]),
        ],
    )  # fmt: skip


def talkers() -> Json:
    """Who talks most, exactly and by sketches."""
    pair = (
        "concat(ip_text(least(src_addr, dst_addr)), ' ↔ ', ip_text(greatest(src_addr, dst_addr)))"
    )
    return _dashboard(
        "netspectra-talkers",
        "NetSpectra: top talkers",
        "Hosts, pairs, ports, protocols and networks with most bytes.",
        [
            ("", [
                lines("Bits per second of the ten largest sources",
                      f"SELECT $__timeInterval(window_start) AS time, ip_text(src_addr) AS source, "
                      f"{RATE} AS bits FROM flows WHERE {FLOWS} AND {IP} AND src_addr IN (SELECT "
                      f"src_addr FROM flows WHERE {FLOWS} AND {IP} GROUP BY src_addr "
                      "ORDER BY sum(bytes) DESC LIMIT 10) GROUP BY time, source ORDER BY time",
                      unit="bps", stacked=True, width=24, about=EXACT),
                top("Sources", "ip_text(src_addr)", "source", IP, links={"source": TO_HOST}),
                top("Destinations", "ip_text(dst_addr)", "destination", IP,
                    links={"destination": TO_HOST}),
                top("Conversations, both ways", pair, "pair", IP),
                top("Destination ports", "concat(lower(proto_name(ip_proto)), '/', "
                    "toString(dst_port))", "port", "ip_proto IN (6, 17, 132) AND dst_port != 0"),
                top("Protocols", "proto_name(ip_proto)", "protocol", "eth_type IN (2048, 34525)"),
                top("Named networks", "concat(if(src_net = '', 'outside', src_net), ' → ', "
                    "if(dst_net = '', 'outside', dst_net))", "networks"),
            ]),
            ("By sketches, with bounds", [
                table("Heaviest keys of the newest window of each task",
                      "SELECT task, key_text, bytes_lower, bytes, bytes_upper, "
                      "100 * bytes / greatest(total_bytes, 1) AS percent, confidence, window_start "
                      f"FROM heavy_hitters WHERE {ESTIMATES} AND horizon = 60 "
                      "AND ranked_by = 'bytes' AND rank <= 10 "
                      "ORDER BY window_start DESC, task, rank LIMIT 10 BY task",
                      units={"bytes": "decbytes", "bytes_lower": "decbytes",
                             "bytes_upper": "decbytes", "percent": "percent"},
                      width=24, height=12, about=BOUNDED),
            ]),
        ],
    )  # fmt: skip


def flows() -> Json:
    """Single flows, found by address, port and protocol."""
    either = (
        "(in_net(src_addr, if(${address:singlequote} = '', '::/0', ${address:singlequote})) "
        "OR in_net(dst_addr, if(${address:singlequote} = '', '::/0', ${address:singlequote})))"
    )
    port = (
        "(${port:singlequote} = '' OR toString(src_port) = ${port:singlequote} "
        "OR toString(dst_port) = ${port:singlequote})"
    )
    protocol = (
        "(${protocol:singlequote} = '' "
        "OR lower(proto_name(ip_proto)) = lower(${protocol:singlequote}))"
    )
    these = f"{FLOWS} AND {either} AND {port} AND {protocol}"
    return _dashboard(
        "netspectra-flows",
        "NetSpectra: flows",
        "Single flows. An address may be a range (10.0.0.0/8); nothing typed in means any.",
        [
            ("", [
                lines("Bits per second of these flows",
                      "SELECT $__timeInterval(window_start) AS time, "
                      f"proto_name(ip_proto) AS name, {RATE} AS bits "
                      f"FROM flows WHERE {these} GROUP BY time, name ORDER BY time",
                      unit="bps", stacked=True, width=24, about=EXACT),
                table("The largest of these flows",
                      "SELECT ip_text(src_addr) AS source, src_port, "
                      "ip_text(dst_addr) AS destination, dst_port, "
                      "proto_name(ip_proto) AS protocol, "
                      "tcp_flags_text(groupBitOr(tcp_flags)) AS flags, sum(packets) AS packet_sum, "
                      "sum(bytes) AS byte_sum, toDateTime64(min(first_seen), 3) AS first, "
                      "toDateTime64(max(last_seen), 3) AS last "
                      f"FROM flows WHERE {these} AND {IP} "
                      "GROUP BY src_addr, src_port, dst_addr, dst_port, ip_proto "
                      "ORDER BY byte_sum DESC LIMIT 500",
                      units=BYTES, links={"source": TO_HOST, "destination": TO_HOST},
                      width=24, height=18, about=EXACT),
            ]),
        ],
        typed("address", "Address or range"),
        typed("port", "Port"),
        typed("protocol", "Protocol"),
    )  # fmt: skip


def spreaders() -> Json:
    """Who touches many others."""
    captions = {
        "fan_out": "hosts that it contacts",
        "fan_in": "hosts that contact it",
        "fan_out_service": "services that it contacts",
        "pair_ports": "ports that the pair uses",
    }
    largest = [
        band(
            f"The largest by {task}: {caption}, per minute",
            "SELECT window_start AS time, lower, estimate, upper FROM spreaders "
            f"WHERE {ESTIMATES} AND task = '{task}' AND horizon = 60 AND rank = 1 ORDER BY time",
            about=f"{BOUNDED} Of each minute the key with most, whichever that is.",
        )
        for task, caption in captions.items()
    ]
    tables = [
        table(
            f"{task}: {caption}",
            "SELECT key_text, lower, estimate, upper, confidence, recall_peers, window_start "
            f"FROM spreaders WHERE {ESTIMATES} AND task = '{task}' AND horizon = 60 "
            "ORDER BY estimate DESC LIMIT 1 BY key_text LIMIT 20",
            bars=("estimate",),
            about=f"{BOUNDED} recall_peers: keys with at least so many are listed with 99.9 %.",
        )
        for task, caption in captions.items()
    ]
    scans = table(
        "Scans and floods",
        "SELECT toDateTime64(first_seen, 3) AS first, toDateTime64(last_seen, 3) AS last, "
        "toString(severity) AS severity, title, lower, value, upper, threshold, unit, alert_id "
        f"FROM alerts WHERE {ALERTS} AND detector IN ('host_scan', 'port_scan', 'super_spreader', "
        "'fan_in', 'syn_flood') ORDER BY alerts.severity DESC, first DESC LIMIT 100",
        links={"title": TO_ALERT}, width=24,
    )  # fmt: skip
    return _dashboard(
        "netspectra-spreaders",
        "NetSpectra: spreaders and scans",
        "Who touches many others, with bounds, and what the rules make of it.",
        [("", [*largest, scans]), ("In the window where they touched most", tables)],
    )


def alerts() -> Json:
    """All alerts, and the evidence of one."""
    this = "alert_id = ${alert:singlequote}"

    def rows(array: str, fields: str) -> str:
        return (
            f"SELECT {fields} FROM (SELECT arrayJoin({array}) AS r FROM alerts "
            f"WHERE {TENANT} AND {this})"
        )

    flow_fields = ", ".join(
        f"r['{name}'] AS {name}"
        for name in (
            "src_addr", "src_port", "dst_addr", "dst_port", "ip_proto", "tcp_flags", "packets",
            "bytes", "first_seen", "last_seen",
        )
    )  # fmt: skip
    return _dashboard(
        ALERT_UID,
        "NetSpectra: alerts",
        "Alerts of the span; a click on one shows what is behind it.",
        [
            ("", [
                lines("Alerts that begin, by severity",
                      "SELECT $__timeInterval(first_seen) AS time, toString(severity) AS name, "
                      f"count() AS n FROM alerts WHERE {ALERTS} GROUP BY time, name ORDER BY time",
                      unit="short"),
                table("By rule", "SELECT rule, toString(severity) AS severity, count() AS n, "
                      f"countIf(status = 'firing') AS firing FROM alerts WHERE {ALERTS} "
                      "GROUP BY rule, severity ORDER BY n DESC, rule"),
                ALERT_TABLE,
            ]),
            ("The chosen alert: ${alert}", [
                table("What it says", "SELECT arrayJoin([('title', title), ('summary', summary), "
                      "('meaning', assessment), ('likely causes', root_cause), "
                      "('what to check', next_checks), ('what can be done', mitigation), "
                      "('technique', attack_technique), ('SQL that measures it', evidence_sql)]) "
                      f"AS line, line.1 AS what, line.2 AS says FROM alerts WHERE {TENANT} "
                      f"AND {this}", width=24, height=10),
                table("Largest flows behind it",
                      rows("evidence_rows", flow_fields), width=24,
                      links={"src_addr": TO_HOST, "dst_addr": TO_HOST}),
                table("Measurements, the newest first",
                      rows("evidence", "r['window_start'] AS start, r['window_end'] AS end, "
                                  "toFloat64OrNull(r['lower']) AS lower, "
                                  "toFloat64OrNull(r['value']) AS value, "
                                  "toFloat64OrNull(r['upper']) AS upper, "
                                  "toFloat64OrNull(r['threshold']) AS threshold"), width=24),
            ]),
        ],
        typed("alert", "Alert"),
    )  # fmt: skip


def pipeline() -> Json:
    """Whether every packet is where it should be."""
    by_hop = f"FROM ledger WHERE {HERE}"
    return _dashboard(
        "netspectra-pipeline",
        "NetSpectra: pipeline and ledger",
        "Where every packet went, hop by hop: seen = delivered + dropped + in flight.",
        [
            ("", [
                table("Ledger", "SELECT toString(hop) AS name, sum(seen) AS seen_sum, "
                      "sum(delivered) AS delivered_sum, "
                      "sum(arraySum(mapValues(dropped))) AS dropped_sum, "
                      "sum(in_flight) AS in_flight_sum, "
                      "seen_sum - delivered_sum - dropped_sum - in_flight_sum AS unaccounted "
                      f"{by_hop} GROUP BY hop ORDER BY hop",
                      about="unaccounted must be 0 in every row."),
                table("Dropped, by hop and reason", "SELECT toString(hop) AS name, reason, "
                      "sum(n) AS packets FROM ledger ARRAY JOIN mapKeys(dropped) AS reason, "
                      f"mapValues(dropped) AS n WHERE {HERE} AND n > 0 "
                      "GROUP BY name, reason ORDER BY packets DESC, name, reason"),
                lines("Delivered per second, by hop",
                      "SELECT $__timeInterval(window_start) AS time, toString(hop) AS name, "
                      f"sum(delivered) / $__interval_s AS packets {by_hop} "
                      "GROUP BY time, name ORDER BY time", unit="pps"),
                lines("Dropped per second, by hop",
                      "SELECT $__timeInterval(window_start) AS time, toString(hop) AS name, "
                      "sum(arraySum(mapValues(dropped))) / $__interval_s AS packets "
                      f"{by_hop} GROUP BY time, name ORDER BY time", unit="pps"),
                COMPLETENESS,
                lines("Late packets per second, by probe",
                      "SELECT $__timeInterval(window_start) AS time, probe, "
                      f"sum(late_packets) / $__interval_s AS late FROM totals WHERE {HERE} "
                      "GROUP BY time, probe ORDER BY time", unit="pps",
                      about="Counted in their own panes, however late."),
                lines("From the packet to the store",
                      "SELECT $__timeInterval(window_start) AS time, probe, "
                      "max(dateDiff('second', window_start, ingested_at)) AS delay "
                      f"FROM totals WHERE {HERE} GROUP BY time, probe ORDER BY time", unit="s",
                      about="From the start of a pane to its insert; large where a capture of the "
                      "past is read."),
                table("Probes", "SELECT probe, max(window_start) AS newest_pane, "
                      "max(ingested_at) AS newest_insert, sum(packets) AS packet_sum, "
                      f"sum(records) AS record_sum, sum(late_packets) AS late_sum FROM totals "
                      f"WHERE {HERE} GROUP BY probe ORDER BY newest_pane, probe"),
                table("Flows folded for lack of room", "SELECT probe, sum(folded_flows) AS folded, "
                      f"count() AS flow_rows FROM flows WHERE {FLOWS} GROUP BY probe "
                      "ORDER BY probe",
                      about="Sums stay exact; single flows of these rows are not known."),
                table("Units stored, by topic and partition", "SELECT topic, partition, "
                      "count() AS units, max(offset) AS newest_offset, sum(packets) AS packet_sum, "
                      "max(ingested_at) AS newest_insert FROM commits "
                      "GROUP BY topic, partition ORDER BY topic, partition LIMIT 200"),
            ]),
        ],
    )  # fmt: skip


def host() -> Json:
    """One host."""
    this = "toIPv6OrDefault(${host:singlequote})"
    ours = f"{FLOWS} AND (src_addr = {this} OR dst_addr = {this})"
    peer = f"ip_text(if(src_addr = {this}, dst_addr, src_addr))"
    both = f"sumIf(bytes, src_addr = {this}) AS sent, sumIf(bytes, dst_addr = {this}) AS received"
    units = {"sent": "decbytes", "received": "decbytes"}
    return _dashboard(
        HOST,
        "NetSpectra: one host",
        "What one address sends and receives, with whom, and what the rules say about it.",
        [
            ("", [
                lines("Bits per second",
                      "SELECT $__timeInterval(window_start) AS time, "
                      f"8 * sumIf(bytes, src_addr = {this}) / $__interval_s AS sent, "
                      f"8 * sumIf(bytes, dst_addr = {this}) / $__interval_s AS received "
                      f"FROM flows WHERE {ours} GROUP BY time ORDER BY time", unit="bps",
                      about=EXACT),
                lines("Peers", "SELECT $__timeInterval(window_start) AS time, "
                      f"uniqExact({peer}) AS peers FROM flows WHERE {ours} AND folded_flows = 0 "
                      "GROUP BY time ORDER BY time", unit="short", about="Counted exactly."),
                table("Peers", f"SELECT {peer} AS peer, {both} FROM flows WHERE {ours} "
                      "GROUP BY peer ORDER BY sent + received DESC, peer LIMIT 100",
                      units=units, links={"peer": TO_HOST}),
                table("Ports", "SELECT concat(lower(proto_name(ip_proto)), '/', "
                      f"toString(dst_port)) AS port, {both} FROM flows WHERE {ours} "
                      "AND ip_proto IN (6, 17, 132) GROUP BY port "
                      "ORDER BY sent + received DESC, port LIMIT 100", units=units,
                      about="Ports that were sent to, by either side."),
                table("How many others it touches, per minute",
                      "SELECT task, window_start, lower, estimate, upper, confidence "
                      f"FROM spreaders WHERE {ESTIMATES} AND horizon = 60 "
                      "AND has(mapValues(key), ${host:singlequote}) "
                      "ORDER BY window_start DESC, task LIMIT 100", about=BOUNDED),
                table("Alerts about it",
                      "SELECT toDateTime64(first_seen, 3) AS first, "
                      f"toString(severity) AS severity, title, alert_id "
                      f"FROM alerts WHERE {ALERTS} AND (has(mapValues(entity), "
                      "${host:singlequote}) OR arrayExists(m -> has(splitByRegexp('[ =]', m), "
                      "${host:singlequote}), members)) ORDER BY first DESC LIMIT 100",
                      links={"title": TO_ALERT}),
            ]),
        ],
        typed("host", "Host"),
    )  # fmt: skip


def _dashboard(
    uid: str, title: str, about: str, rows: list[tuple[str, list[Json]]], *more: Json
) -> Json:
    return dashboard(uid, title, about, rows, (*VARIABLES, *more), ANNOTATIONS)


ALL: Final = (overview, talkers, flows, spreaders, alerts, pipeline, host)
