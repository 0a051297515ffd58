-- Versioned results: <name>_log holds every revision, the view <name> the newest one.
-- Revision 0 marks a late correction, which came after its accumulator was gone: it can't
-- change the estimate, so it widens the upper bound.

CREATE TABLE IF NOT EXISTS distinct_counts_log
(
    tenant LowCardinality(String) COMMENT 'Tenant',
    window_start DateTime64(3, 'UTC') COMMENT 'Start of the horizon, event time, UTC, ms' CODEC(Delta, ZSTD(1)),
    horizon UInt32 COMMENT 'Length of the horizon, s' CODEC(ZSTD(1)),
    task LowCardinality(String) COMMENT 'Name of the task',
    estimate Float64 COMMENT 'Estimated number of different elements' CODEC(ZSTD(1)),
    lower Float64 COMMENT 'Lower bound of the number of different elements' CODEC(ZSTD(1)),
    upper Float64 COMMENT 'Upper bound of the number of different elements' CODEC(ZSTD(1)),
    confidence Float64 COMMENT 'Probability that the bounds hold, two-sided, 0 to 1' CODEC(ZSTD(1)),
    late_packets UInt64 COMMENT 'Late packets that the estimate does not contain' CODEC(ZSTD(1)),
    complete Bool COMMENT 'Whether all of the horizon was seen' CODEC(ZSTD(1)),
    revision UInt32 COMMENT 'Version of the result, from 1; 0 for a late correction' CODEC(ZSTD(1)),
    updated_at DateTime64(3, 'UTC') COMMENT 'Time of this revision, UTC, ms' CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(window_start)
ORDER BY (tenant, task, horizon, window_start, revision)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Every revision of the distinct counts; the view distinct_counts shows the newest';

CREATE VIEW IF NOT EXISTS distinct_counts
(
    tenant LowCardinality(String) COMMENT 'Tenant',
    window_start DateTime64(3, 'UTC') COMMENT 'Start of the horizon, event time, UTC, ms',
    horizon UInt32 COMMENT 'Length of the horizon, s',
    task LowCardinality(String) COMMENT 'Name of the task',
    estimate Float64 COMMENT 'Estimated number of different elements',
    lower Float64 COMMENT 'Lower bound of the number of different elements',
    upper Float64 COMMENT 'Upper bound of the number of different elements',
    confidence Float64 COMMENT 'Probability that the bounds hold, two-sided, 0 to 1',
    late_packets UInt64 COMMENT 'Late packets that the estimate does not contain',
    complete Bool COMMENT 'Whether all of the horizon was seen',
    revision UInt32 COMMENT 'Version of the result; 0 when only late corrections exist',
    updated_at DateTime64(3, 'UTC') COMMENT 'Time of the newest revision, UTC, ms'
)
AS SELECT
    tenant, window_start, horizon, task,
    newest.1 AS estimate,
    newest.2 AS lower,
    if(newest.6 > 0, newest.3 + late_sum, late_upper) AS upper,
    newest.4 AS confidence,
    if(newest.6 > 0, newest.5, 0) + late_sum AS late_packets,
    newest.7 AS complete,
    newest.6 AS revision,
    newest.8 AS updated_at
FROM
(
    SELECT
        tenant, window_start, horizon, task,
        argMax(
            tuple(v.estimate, v.lower, v.upper, v.confidence, v.late_packets, v.revision, v.complete, v.updated_at),
            tuple(v.revision, if(v.revision = 0, v.estimate, 0), v.updated_at)) AS newest,
        sumIf(v.late_packets, v.revision = 0) AS late_sum,
        sumIf(v.upper, v.revision = 0) AS late_upper
    FROM distinct_counts_log AS v
    GROUP BY tenant, window_start, horizon, task
);

CREATE TABLE IF NOT EXISTS heavy_hitters_log
(
    tenant LowCardinality(String) COMMENT 'Tenant',
    window_start DateTime64(3, 'UTC') COMMENT 'Start of the horizon, event time, UTC, ms' CODEC(Delta, ZSTD(1)),
    horizon UInt32 COMMENT 'Length of the horizon, s' CODEC(ZSTD(1)),
    task LowCardinality(String) COMMENT 'Name of the task',
    ranked_by Enum8('packets' = 1, 'bytes' = 2) COMMENT 'Metric by which the list is ranked' CODEC(ZSTD(1)),
    rank UInt16 COMMENT 'Place in the list, from 1; 0 for a late correction' CODEC(ZSTD(1)),
    key Map(LowCardinality(String), String) COMMENT 'Fields of the key in the order of the task' CODEC(ZSTD(1)),
    key_text String COMMENT 'The key as text, src_addr=10.0.2.15 dst_port=443' CODEC(ZSTD(1)),
    packets UInt64 COMMENT 'Estimated packets of the key; late packets in a late correction' CODEC(T64, ZSTD(1)),
    packets_lower UInt64 COMMENT 'Lower bound of the packets of the key' CODEC(T64, ZSTD(1)),
    packets_upper UInt64 COMMENT 'Upper bound of the packets of the key' CODEC(T64, ZSTD(1)),
    bytes UInt64 COMMENT 'Estimated layer-2 bytes of the key; late bytes in a late correction' CODEC(T64, ZSTD(1)),
    bytes_lower UInt64 COMMENT 'Lower bound of the bytes of the key' CODEC(T64, ZSTD(1)),
    bytes_upper UInt64 COMMENT 'Upper bound of the bytes of the key' CODEC(T64, ZSTD(1)),
    error UInt64 COMMENT 'Every key with more than this, in the ranked metric, is in the list' CODEC(T64, ZSTD(1)),
    total_packets UInt64 COMMENT 'Packets of all keys in the horizon' CODEC(ZSTD(1)),
    total_bytes UInt64 COMMENT 'Layer-2 bytes of all keys in the horizon' CODEC(ZSTD(1)),
    confidence Float64 COMMENT 'Probability that the bounds hold, 0 to 1' CODEC(ZSTD(1)),
    late_packets UInt64 COMMENT 'Late packets that the list does not contain' CODEC(ZSTD(1)),
    late_bytes UInt64 COMMENT 'Late layer-2 bytes that the list does not contain' CODEC(ZSTD(1)),
    complete Bool COMMENT 'Whether all of the horizon was seen' CODEC(ZSTD(1)),
    revision UInt32 COMMENT 'Version of the list, from 1; 0 for a late correction' CODEC(ZSTD(1)),
    updated_at DateTime64(3, 'UTC') COMMENT 'Time of this revision, UTC, ms; the same in all rows of a list' CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(window_start)
ORDER BY (tenant, task, ranked_by, horizon, window_start, revision, rank)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Every revision of the heavy hitters; the view heavy_hitters shows the newest lists';

-- A revision replaces the whole list: a key that left it must not stay behind.
CREATE VIEW IF NOT EXISTS heavy_hitters
(
    tenant LowCardinality(String) COMMENT 'Tenant',
    window_start DateTime64(3, 'UTC') COMMENT 'Start of the horizon, event time, UTC, ms',
    horizon UInt32 COMMENT 'Length of the horizon, s',
    task LowCardinality(String) COMMENT 'Name of the task',
    ranked_by Enum8('packets' = 1, 'bytes' = 2) COMMENT 'Metric by which the list is ranked',
    rank UInt16 COMMENT 'Place in the list, from 1',
    key Map(LowCardinality(String), String) COMMENT 'Fields of the key in the order of the task',
    key_text String COMMENT 'The key as text, src_addr=10.0.2.15 dst_port=443',
    packets UInt64 COMMENT 'Estimated packets of the key',
    packets_lower UInt64 COMMENT 'Lower bound of the packets of the key',
    packets_upper UInt64 COMMENT 'Upper bound of the packets of the key',
    bytes UInt64 COMMENT 'Estimated layer-2 bytes of the key',
    bytes_lower UInt64 COMMENT 'Lower bound of the bytes of the key',
    bytes_upper UInt64 COMMENT 'Upper bound of the bytes of the key',
    error UInt64 COMMENT 'Every key with more than this, in the ranked metric, is in the list',
    total_packets UInt64 COMMENT 'Packets of all keys in the horizon',
    total_bytes UInt64 COMMENT 'Layer-2 bytes of all keys in the horizon',
    confidence Float64 COMMENT 'Probability that the bounds hold, 0 to 1',
    late_packets UInt64 COMMENT 'Late packets that the list does not contain',
    late_bytes UInt64 COMMENT 'Late layer-2 bytes that the list does not contain',
    complete Bool COMMENT 'Whether all of the horizon was seen',
    revision UInt32 COMMENT 'Version of the list',
    updated_at DateTime64(3, 'UTC') COMMENT 'Time of the newest revision, UTC, ms'
)
AS SELECT
    tenant, window_start, horizon, task, ranked_by,
    l.1 AS rank, l.2 AS key, l.3 AS key_text,
    l.4 AS packets, l.5 AS packets_lower, l.6 + late_p AS packets_upper,
    l.7 AS bytes, l.8 AS bytes_lower, l.9 + late_b AS bytes_upper,
    l.10 + if(ranked_by = 'packets', late_p, late_b) AS error,
    l.11 AS total_packets, l.12 AS total_bytes, l.13 AS confidence,
    l.14 + late_p AS late_packets, l.15 + late_b AS late_bytes,
    l.16 AS complete, version.1 AS revision, version.2 AS updated_at
FROM
(
    SELECT
        tenant, window_start, horizon, task, ranked_by,
        max(v) AS version, argMax(list, v) AS newest, sum(late_p_) AS late_p, sum(late_b_) AS late_b
    FROM
    (
        SELECT
            tenant, window_start, horizon, task, ranked_by,
            tuple(h.revision, h.updated_at) AS v,
            groupArrayIf(
                tuple(
                    h.rank, h.key, h.key_text, h.packets, h.packets_lower, h.packets_upper,
                    h.bytes, h.bytes_lower, h.bytes_upper, h.error, h.total_packets, h.total_bytes,
                    h.confidence, h.late_packets, h.late_bytes, h.complete),
                h.revision > 0) AS list,
            sumIf(greatest(h.late_packets, h.packets), h.revision = 0) AS late_p_,
            sumIf(greatest(h.late_bytes, h.bytes), h.revision = 0) AS late_b_
        FROM heavy_hitters_log AS h
        GROUP BY tenant, window_start, horizon, task, ranked_by, v
    )
    GROUP BY tenant, window_start, horizon, task, ranked_by
)
ARRAY JOIN newest AS l;

CREATE TABLE IF NOT EXISTS sketches_log
(
    tenant LowCardinality(String) COMMENT 'Tenant',
    window_start DateTime64(3, 'UTC') COMMENT 'Start of the horizon, event time, UTC, ms' CODEC(Delta, ZSTD(1)),
    horizon UInt32 COMMENT 'Length of the horizon, s' CODEC(ZSTD(1)),
    task LowCardinality(String) COMMENT 'Name of the task',
    kind LowCardinality(String) COMMENT 'Kind of sketch, such as cpc',
    version UInt16 COMMENT 'Version of the format of the bytes' CODEC(ZSTD(1)),
    sketch String COMMENT 'Serialised sketch, bytes' CODEC(ZSTD(1)),
    revision UInt32 COMMENT 'Version of the result, from 1' CODEC(ZSTD(1)),
    updated_at DateTime64(3, 'UTC') COMMENT 'Time of this revision, UTC, ms' CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(window_start)
ORDER BY (tenant, task, kind, horizon, window_start, revision)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Every revision of the sketches; the view sketches shows the newest';

CREATE VIEW IF NOT EXISTS sketches
(
    tenant LowCardinality(String) COMMENT 'Tenant',
    window_start DateTime64(3, 'UTC') COMMENT 'Start of the horizon, event time, UTC, ms',
    horizon UInt32 COMMENT 'Length of the horizon, s',
    task LowCardinality(String) COMMENT 'Name of the task',
    kind LowCardinality(String) COMMENT 'Kind of sketch, such as cpc',
    version UInt16 COMMENT 'Version of the format of the bytes',
    sketch String COMMENT 'Serialised sketch, bytes',
    revision UInt32 COMMENT 'Version of the result',
    updated_at DateTime64(3, 'UTC') COMMENT 'Time of the newest revision, UTC, ms'
)
AS SELECT
    tenant, window_start, horizon, task, kind,
    newest.1 AS version, newest.2 AS sketch, newest.3 AS revision, newest.4 AS updated_at
FROM
(
    SELECT
        tenant, window_start, horizon, task, kind,
        argMax(tuple(s.version, s.sketch, s.revision, s.updated_at), tuple(s.revision, s.updated_at)) AS newest
    FROM sketches_log AS s
    GROUP BY tenant, window_start, horizon, task, kind
);
