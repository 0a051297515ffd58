-- Reads NetSpectra's topics with ClickHouse's Kafka engine, on a SERVER of your own.
--
-- Never run this in an embedded store (chdb:DIR): there the engine Kafka fails, and leaves
-- metadata with which the directory can't be opened again.
--
-- The messages must be in the Confluent wire format: NETSPECTRA_KAFKA__SCHEMA_REGISTRY is set for
-- probes and for the job. Without a registry they are in Avro single-object encoding, which
-- ClickHouse doesn't read; then use the Python consumers beside this file.

CREATE TABLE alerts_queue
(
    alert_id String,
    revision Int32,
    event String,
    status String,
    severity String,
    tenant String,
    rule String,
    title String,
    entity Map(String, String),
    unit String,
    value Float64,
    lower Float64,
    upper Float64,
    threshold Float64,
    first_seen_ns Int64,
    last_seen_ns Int64
)
ENGINE = Kafka
SETTINGS kafka_broker_list = 'kafka:9092', kafka_topic_list = 'netspectra.alerts',
    kafka_group_name = 'clickhouse', kafka_format = 'AvroConfluent',
    format_avro_schema_registry_url = 'http://registry:8081';

CREATE TABLE alerts_received
(
    alert_id String,
    revision UInt32,
    event LowCardinality(String),
    status LowCardinality(String),
    severity LowCardinality(String),
    tenant LowCardinality(String),
    rule LowCardinality(String),
    title String,
    entity Map(String, String),
    unit LowCardinality(String),
    value Float64,
    lower Float64,
    upper Float64,
    threshold Float64,
    first_seen DateTime64(9, 'UTC'),
    last_seen DateTime64(9, 'UTC')
)
ENGINE = ReplacingMergeTree(revision)
ORDER BY alert_id
COMMENT 'The newest revision of every alert: read it with FINAL';

CREATE MATERIALIZED VIEW alerts_feed TO alerts_received AS
SELECT
    alert_id, toUInt32(q.revision) AS revision, event, status, severity, tenant, rule, title, entity,
    unit, value, lower, upper, threshold,
    fromUnixTimestamp64Nano(first_seen_ns, 'UTC') AS first_seen,
    fromUnixTimestamp64Nano(last_seen_ns, 'UTC') AS last_seen
FROM alerts_queue AS q;

-- Batches of packets: numbers of a record are little-endian bytes. All fields of a record must be
-- named, in the order of the schema.

CREATE TABLE packets_queue
(
    tenant String,
    probe String,
    sampling_rate Int32,
    packets Array(Tuple(
        ts_ns FixedString(8), src_addr FixedString(16), dst_addr FixedString(16),
        src_mac FixedString(6), dst_mac FixedString(6),
        src_port FixedString(2), dst_port FixedString(2),
        wire_bytes FixedString(4), packets FixedString(4), if_index FixedString(4),
        tunnel_id FixedString(4), vlan_id FixedString(2), eth_type FixedString(2),
        ip_proto FixedString(1), tcp_flags FixedString(1), ttl FixedString(1), tos FixedString(1),
        direction FixedString(1), capture_point FixedString(1), flags FixedString(1),
        reserved FixedString(1), duration_us FixedString(4)))
)
ENGINE = Kafka
SETTINGS kafka_broker_list = 'kafka:9092', kafka_topic_list = 'netspectra.packets',
    kafka_group_name = 'clickhouse', kafka_format = 'AvroConfluent',
    format_avro_schema_registry_url = 'http://registry:8081';

-- Sums by minute. Kafka's engine delivers at least once: after a crash a batch can be counted
-- again, which NetSpectra's own job never does.
CREATE TABLE packets_1m
(
    minute DateTime('UTC'),
    tenant LowCardinality(String),
    probe LowCardinality(String),
    src_addr IPv6,
    dst_addr IPv6,
    dst_port UInt16,
    ip_proto UInt8,
    packets UInt64,
    bytes UInt64
)
ENGINE = SummingMergeTree
ORDER BY (tenant, minute, src_addr, dst_addr, ip_proto, dst_port, probe)
COMMENT 'Packets and bytes by minute: always aggregate';

CREATE MATERIALIZED VIEW packets_feed TO packets_1m AS
SELECT
    toStartOfMinute(fromUnixTimestamp64Nano(reinterpretAsInt64(r.ts_ns), 'UTC')) AS minute,
    tenant, probe,
    toIPv6(IPv6NumToString(r.src_addr)) AS src_addr,
    toIPv6(IPv6NumToString(r.dst_addr)) AS dst_addr,
    reinterpretAsUInt16(r.dst_port) AS dst_port,
    reinterpretAsUInt8(r.ip_proto) AS ip_proto,
    sum(reinterpretAsUInt32(r.packets) * sampling_rate) AS packets,
    sum(reinterpretAsUInt32(r.wire_bytes) * sampling_rate) AS bytes
FROM
(
    SELECT tenant, probe, toUInt64(q.sampling_rate) AS sampling_rate, arrayJoin(q.packets) AS r
    FROM packets_queue AS q
)
GROUP BY minute, tenant, probe, src_addr, dst_addr, dst_port, ip_proto;
