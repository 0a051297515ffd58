-- Additive tables: any sum over them is right, and a correction is one more row.
-- Tokens are remembered for the last 10,000 inserts of each table.

CREATE TABLE IF NOT EXISTS flows
(
    tenant LowCardinality(String) COMMENT 'Tenant that the probe belongs to',
    probe LowCardinality(String) COMMENT 'Probe that saw the packets; the file name for a capture',
    window_start DateTime64(3, 'UTC') COMMENT 'Start of the pane, event time, UTC, ms' CODEC(GCD, T64, ZSTD(1)),
    src_addr IPv6 COMMENT 'Source address; IPv4 as ::ffff:a.b.c.d; :: for non-IP' CODEC(ZSTD(1)),
    dst_addr IPv6 COMMENT 'Destination address; IPv4 as ::ffff:a.b.c.d; :: for non-IP' CODEC(ZSTD(1)),
    src_port UInt16 COMMENT 'Source port; 0 where there is none' CODEC(ZSTD(1)),
    dst_port UInt16 COMMENT 'Destination port; ICMP: type * 256 + code' CODEC(ZSTD(1)),
    ip_proto UInt8 COMMENT 'IP protocol number (IANA)' CODEC(ZSTD(1)),
    eth_type UInt16 COMMENT 'EtherType of the payload' CODEC(ZSTD(1)),
    vlan_id UInt16 COMMENT 'Outermost VLAN id; 0 for none' CODEC(ZSTD(1)),
    tunnel_id UInt32 COMMENT 'VNI or key of the outermost tunnel; 0 for none' CODEC(ZSTD(1)),
    if_index UInt32 COMMENT 'Index of the interface that saw the packets' CODEC(ZSTD(1)),
    if_name LowCardinality(String) COMMENT 'Name of the interface that saw the packets',
    direction Enum8('unknown' = 0, 'ingress' = 1, 'egress' = 2) COMMENT 'Way through the interface' CODEC(ZSTD(1)),
    capture_point Enum8('file' = 0, 'xdp' = 1, 'tc' = 2, 'af_packet' = 3, 'synthetic' = 4) COMMENT 'Where the packets were seen' CODEC(ZSTD(1)),
    src_mac FixedString(6) COMMENT 'Source MAC address, 6 bytes; zero where there is none; see mac_text()' CODEC(ZSTD(1)),
    dst_mac FixedString(6) COMMENT 'Destination MAC address, 6 bytes; zero where there is none; see mac_text()' CODEC(ZSTD(1)),
    src_net LowCardinality(String) COMMENT 'Name of the configured network of the source; empty for none',
    dst_net LowCardinality(String) COMMENT 'Name of the configured network of the destination; empty for none',
    packets UInt64 COMMENT 'Packets, scaled by the sampling rate' CODEC(T64, ZSTD(1)),
    bytes UInt64 COMMENT 'Layer-2 bytes on the wire, without preamble and FCS, scaled by the sampling rate' CODEC(T64, ZSTD(1)),
    first_seen DateTime64(9, 'UTC') COMMENT 'Capture time of the first packet, UTC, ns' CODEC(GCD, T64, ZSTD(1)),
    last_seen DateTime64(9, 'UTC') COMMENT 'Capture time of the last packet, UTC, ns' CODEC(GCD, T64, ZSTD(1)),
    tcp_flags UInt8 COMMENT 'TCP flags of all packets, OR-ed; see tcp_flags_text()' CODEC(ZSTD(1)),
    sampling_rate UInt32 COMMENT 'Packets that one captured packet stands for; 1 without sampling' CODEC(ZSTD(1)),
    folded_flows UInt32 COMMENT 'Flows that a folded row stands for; 0 for an ordinary row' CODEC(ZSTD(1)),
    ingested_at DateTime('UTC') DEFAULT now() COMMENT 'Time of the insert, UTC, s' CODEC(ZSTD(1)),
    INDEX src_addr_bloom src_addr TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX dst_addr_bloom dst_addr TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY {{flows_partition}}
ORDER BY (tenant, toStartOfFiveMinutes(window_start), src_addr, dst_addr, ip_proto, dst_port, src_port, window_start)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Exact flows per pane. Aggregate always: late packets are more rows for the same flow';
;

CREATE TABLE IF NOT EXISTS totals
(
    tenant LowCardinality(String) COMMENT 'Tenant that the probe belongs to',
    probe LowCardinality(String) COMMENT 'Probe that saw the packets; the file name for a capture',
    window_start DateTime64(3, 'UTC') COMMENT 'Start of the pane, event time, UTC, ms' CODEC(Delta, ZSTD(1)),
    pane_ms UInt32 COMMENT 'Length of the pane, ms' CODEC(ZSTD(1)),
    if_index UInt32 COMMENT 'Index of the interface that saw the packets' CODEC(ZSTD(1)),
    direction Enum8('unknown' = 0, 'ingress' = 1, 'egress' = 2) COMMENT 'Way through the interface' CODEC(ZSTD(1)),
    capture_point Enum8('file' = 0, 'xdp' = 1, 'tc' = 2, 'af_packet' = 3, 'synthetic' = 4) COMMENT 'Where the packets were seen' CODEC(ZSTD(1)),
    packets UInt64 COMMENT 'Packets, scaled by the sampling rate' CODEC(T64, ZSTD(1)),
    bytes UInt64 COMMENT 'Layer-2 bytes on the wire, without preamble and FCS, scaled by the sampling rate' CODEC(T64, ZSTD(1)),
    records UInt64 COMMENT 'Packet records read, not scaled' CODEC(T64, ZSTD(1)),
    late_packets UInt64 COMMENT 'Packets that came after their pane was closed, scaled; they are part of packets' CODEC(T64, ZSTD(1)),
    ipv4_packets UInt64 COMMENT 'Packets with an outer IPv4 header, scaled' CODEC(T64, ZSTD(1)),
    ipv6_packets UInt64 COMMENT 'Packets with an outer IPv6 header, scaled' CODEC(T64, ZSTD(1)),
    other_packets UInt64 COMMENT 'Packets without an IP header (ARP and others), scaled' CODEC(T64, ZSTD(1)),
    tcp_packets UInt64 COMMENT 'IP packets of protocol 6, scaled' CODEC(T64, ZSTD(1)),
    udp_packets UInt64 COMMENT 'IP packets of protocol 17, scaled' CODEC(T64, ZSTD(1)),
    icmp_packets UInt64 COMMENT 'IP packets of protocols 1 and 58, scaled' CODEC(T64, ZSTD(1)),
    other_proto_packets UInt64 COMMENT 'IP packets of every other protocol, scaled' CODEC(T64, ZSTD(1)),
    ingested_at DateTime('UTC') DEFAULT now() COMMENT 'Time of the insert, UTC, s' CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
ORDER BY (tenant, probe, window_start)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Sums per probe, interface and pane. Aggregate always: late packets are more rows';

CREATE TABLE IF NOT EXISTS ledger
(
    tenant LowCardinality(String) COMMENT 'Tenant that the probe belongs to',
    probe LowCardinality(String) COMMENT 'Probe that the packets came from',
    window_start DateTime64(3, 'UTC') COMMENT 'Start of the pane, event time, UTC, ms' CODEC(Delta, ZSTD(1)),
    hop Enum8('capture' = 1, 'transport' = 2, 'decode' = 3, 'window' = 4, 'store' = 5) COMMENT 'Step on the way from the wire to the store' CODEC(ZSTD(1)),
    seen UInt64 COMMENT 'Packets that reached the hop, not scaled' CODEC(T64, ZSTD(1)),
    delivered UInt64 COMMENT 'Packets that left the hop for the next one' CODEC(T64, ZSTD(1)),
    dropped Map(LowCardinality(String), UInt64) COMMENT 'Packets lost at the hop, by reason',
    in_flight UInt64 COMMENT 'Packets still inside the hop when the row was written' CODEC(T64, ZSTD(1)),
    ingested_at DateTime('UTC') DEFAULT now() COMMENT 'Time of the insert, UTC, s' CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
ORDER BY (tenant, probe, window_start, hop)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Where every packet went: seen = delivered + dropped + in_flight, per hop and pane';

CREATE TABLE IF NOT EXISTS commits
(
    topic LowCardinality(String) COMMENT 'Kafka topic, or the capture source',
    partition LowCardinality(String) COMMENT 'Partition of the topic',
    offset UInt64 COMMENT 'Offset of the message whose unit is stored' CODEC(Delta, ZSTD(1)),
    packets UInt64 COMMENT 'Packets in the unit, scaled by the sampling rate' CODEC(T64, ZSTD(1)),
    bytes UInt64 COMMENT 'Layer-2 bytes in the unit, scaled by the sampling rate' CODEC(T64, ZSTD(1)),
    ingested_at DateTime('UTC') DEFAULT now() COMMENT 'Time of the insert, UTC, s' CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
ORDER BY (topic, partition, offset)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Units whose rows are all stored; the sink skips them after a restart';

CREATE TABLE IF NOT EXISTS loads
(
    topic String COMMENT 'Topic under which the capture is committed; unique for each load',
    content_id String COMMENT 'Digest of the contents of the capture',
    settings_digest String COMMENT 'Digest of the settings that shape the rows',
    source String COMMENT 'Source setting that named the capture',
    tenant LowCardinality(String) COMMENT 'Tenant of the rows',
    probe LowCardinality(String) COMMENT 'Probe of the rows',
    generation UInt32 COMMENT 'How often the same capture had been loaded before',
    state Enum8('running' = 1, 'finished' = 2, 'incomplete' = 3) COMMENT 'Whether the load has ended, and how',
    packets UInt64 COMMENT 'Packets stored so far',
    bytes UInt64 COMMENT 'Layer-2 bytes stored so far',
    first_seen DateTime64(9, 'UTC') COMMENT 'Capture time of the first packet, UTC, ns',
    last_seen DateTime64(9, 'UTC') COMMENT 'Capture time of the last packet, UTC, ns',
    updated_at DateTime64(3, 'UTC') COMMENT 'Time of this version of the row, UTC, ms'
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY topic
COMMENT 'Captures that were loaded, one row a load, the newest counts: read it with FINAL';
