-- Rollups of flows by minute and by hour. The materialized views run inside the insert into
-- flows and carry its token, so an insert that is repeated changes nothing here either. They
-- don't group: the tables do that when parts merge, which keeps an insert within its memory
-- and at half the cost. So aggregate always.

CREATE TABLE IF NOT EXISTS flows_1m
(
    tenant LowCardinality(String) COMMENT 'Tenant that the probe belongs to',
    probe LowCardinality(String) COMMENT 'Probe that saw the packets; the file name for a capture',
    window_start DateTime64(3, 'UTC') COMMENT 'Start of the minute, event time, UTC, ms' CODEC(GCD, T64, ZSTD(1)),
    src_addr IPv6 COMMENT 'Source address; IPv4 as ::ffff:a.b.c.d; :: for non-IP' CODEC(ZSTD(1)),
    dst_addr IPv6 COMMENT 'Destination address; IPv4 as ::ffff:a.b.c.d; :: for non-IP' CODEC(ZSTD(1)),
    dst_port UInt16 COMMENT 'Destination port; ICMP: type * 256 + code' CODEC(ZSTD(1)),
    ip_proto UInt8 COMMENT 'IP protocol number (IANA)' CODEC(ZSTD(1)),
    eth_type UInt16 COMMENT 'EtherType of the payload' CODEC(ZSTD(1)),
    vlan_id UInt16 COMMENT 'Outermost VLAN id; 0 for none' CODEC(ZSTD(1)),
    tunnel_id UInt32 COMMENT 'VNI or key of the outermost tunnel; 0 for none' CODEC(ZSTD(1)),
    if_index UInt32 COMMENT 'Index of the interface that saw the packets' CODEC(ZSTD(1)),
    direction Enum8('unknown' = 0, 'ingress' = 1, 'egress' = 2) COMMENT 'Way through the interface' CODEC(ZSTD(1)),
    capture_point Enum8('file' = 0, 'xdp' = 1, 'tc' = 2, 'af_packet' = 3, 'synthetic' = 4) COMMENT 'Where the packets were seen' CODEC(ZSTD(1)),
    src_net LowCardinality(String) COMMENT 'Name of the configured network of the source; empty for none',
    dst_net LowCardinality(String) COMMENT 'Name of the configured network of the destination; empty for none',
    packets SimpleAggregateFunction(sum, UInt64) COMMENT 'Packets, scaled by the sampling rate' CODEC(T64, ZSTD(1)),
    bytes SimpleAggregateFunction(sum, UInt64) COMMENT 'Layer-2 bytes on the wire, without preamble and FCS, scaled by the sampling rate' CODEC(T64, ZSTD(1)),
    first_seen SimpleAggregateFunction(min, DateTime64(9, 'UTC')) COMMENT 'Capture time of the first packet, UTC, ns' CODEC(GCD, T64, ZSTD(1)),
    last_seen SimpleAggregateFunction(max, DateTime64(9, 'UTC')) COMMENT 'Capture time of the last packet, UTC, ns' CODEC(GCD, T64, ZSTD(1)),
    tcp_flags SimpleAggregateFunction(groupBitOr, UInt8) COMMENT 'TCP flags of all packets, OR-ed; see tcp_flags_text()' CODEC(ZSTD(1)),
    folded_flows SimpleAggregateFunction(sum, UInt64) COMMENT 'Flows that folded rows stand for, summed over panes' CODEC(T64, ZSTD(1)),
    ingested_at SimpleAggregateFunction(max, DateTime('UTC')) COMMENT 'Time of the newest insert, UTC, s' CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMMDD(window_start)
ORDER BY (tenant, window_start, src_addr, dst_addr, ip_proto, dst_port, probe, eth_type, vlan_id, tunnel_id,
    if_index, direction, capture_point, src_net, dst_net)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Flows by minute and without source port. Aggregate always';

CREATE MATERIALIZED VIEW IF NOT EXISTS flows_1m_feed TO flows_1m AS
SELECT
    tenant, probe, toStartOfInterval(s.window_start, INTERVAL 1 MINUTE) AS window_start,
    src_addr, dst_addr, dst_port, ip_proto, eth_type, vlan_id, tunnel_id,
    if_index, direction, capture_point, src_net, dst_net,
    packets, bytes, first_seen, last_seen, tcp_flags, folded_flows, ingested_at
FROM flows AS s;

CREATE TABLE IF NOT EXISTS flows_1h
(
    tenant LowCardinality(String) COMMENT 'Tenant that the probe belongs to',
    probe LowCardinality(String) COMMENT 'Probe that saw the packets; the file name for a capture',
    window_start DateTime64(3, 'UTC') COMMENT 'Start of the hour, event time, UTC, ms' CODEC(GCD, T64, ZSTD(1)),
    src_addr IPv6 COMMENT 'Source address; IPv4 as ::ffff:a.b.c.d; :: for non-IP' CODEC(ZSTD(1)),
    dst_addr IPv6 COMMENT 'Destination address; IPv4 as ::ffff:a.b.c.d; :: for non-IP' CODEC(ZSTD(1)),
    ip_proto UInt8 COMMENT 'IP protocol number (IANA)' CODEC(ZSTD(1)),
    eth_type UInt16 COMMENT 'EtherType of the payload' CODEC(ZSTD(1)),
    vlan_id UInt16 COMMENT 'Outermost VLAN id; 0 for none' CODEC(ZSTD(1)),
    tunnel_id UInt32 COMMENT 'VNI or key of the outermost tunnel; 0 for none' CODEC(ZSTD(1)),
    if_index UInt32 COMMENT 'Index of the interface that saw the packets' CODEC(ZSTD(1)),
    direction Enum8('unknown' = 0, 'ingress' = 1, 'egress' = 2) COMMENT 'Way through the interface' CODEC(ZSTD(1)),
    capture_point Enum8('file' = 0, 'xdp' = 1, 'tc' = 2, 'af_packet' = 3, 'synthetic' = 4) COMMENT 'Where the packets were seen' CODEC(ZSTD(1)),
    src_net LowCardinality(String) COMMENT 'Name of the configured network of the source; empty for none',
    dst_net LowCardinality(String) COMMENT 'Name of the configured network of the destination; empty for none',
    packets SimpleAggregateFunction(sum, UInt64) COMMENT 'Packets, scaled by the sampling rate' CODEC(T64, ZSTD(1)),
    bytes SimpleAggregateFunction(sum, UInt64) COMMENT 'Layer-2 bytes on the wire, without preamble and FCS, scaled by the sampling rate' CODEC(T64, ZSTD(1)),
    first_seen SimpleAggregateFunction(min, DateTime64(9, 'UTC')) COMMENT 'Capture time of the first packet, UTC, ns' CODEC(GCD, T64, ZSTD(1)),
    last_seen SimpleAggregateFunction(max, DateTime64(9, 'UTC')) COMMENT 'Capture time of the last packet, UTC, ns' CODEC(GCD, T64, ZSTD(1)),
    tcp_flags SimpleAggregateFunction(groupBitOr, UInt8) COMMENT 'TCP flags of all packets, OR-ed; see tcp_flags_text()' CODEC(ZSTD(1)),
    folded_flows SimpleAggregateFunction(sum, UInt64) COMMENT 'Flows that folded rows stand for, summed over panes' CODEC(T64, ZSTD(1)),
    ingested_at SimpleAggregateFunction(max, DateTime('UTC')) COMMENT 'Time of the newest insert, UTC, s' CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMMDD(window_start)
ORDER BY (tenant, window_start, src_addr, dst_addr, ip_proto, probe, eth_type, vlan_id, tunnel_id,
    if_index, direction, capture_point, src_net, dst_net)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Flows by hour and without ports. Aggregate always';

CREATE MATERIALIZED VIEW IF NOT EXISTS flows_1h_feed TO flows_1h AS
SELECT
    tenant, probe, toStartOfInterval(s.window_start, INTERVAL 1 HOUR) AS window_start,
    src_addr, dst_addr, ip_proto, eth_type, vlan_id, tunnel_id,
    if_index, direction, capture_point, src_net, dst_net,
    packets, bytes, first_seen, last_seen, tcp_flags, folded_flows, ingested_at
FROM flows_1m AS s;
