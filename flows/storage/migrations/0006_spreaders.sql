-- Spreaders: keys that touch the most different elements, listed per horizon like heavy hitters.

CREATE TABLE IF NOT EXISTS spreaders_log
(
    tenant LowCardinality(String) COMMENT 'Tenant',
    window_start DateTime64(3, 'UTC') COMMENT 'Start of the horizon, event time, UTC, ms' CODEC(Delta, ZSTD(1)),
    horizon UInt32 COMMENT 'Length of the horizon, s' CODEC(ZSTD(1)),
    task LowCardinality(String) COMMENT 'Name of the task',
    rank UInt16 COMMENT 'Place in the list, from 1; 0 for a late correction and for an empty list' CODEC(ZSTD(1)),
    key Map(LowCardinality(String), String) COMMENT 'Fields of the key in the order of the task' CODEC(ZSTD(1)),
    key_text String COMMENT 'The key as text, src_addr=10.0.2.15' CODEC(ZSTD(1)),
    estimate Float64 COMMENT 'Estimated number of different elements of the key' CODEC(ZSTD(1)),
    lower Float64 COMMENT 'Lower bound of the number of different elements' CODEC(ZSTD(1)),
    upper Float64 COMMENT 'Upper bound of the number of different elements' CODEC(ZSTD(1)),
    confidence Float64 COMMENT 'Probability that the bounds hold, two-sided, 0 to 1; 1 where exact' CODEC(ZSTD(1)),
    recall_peers Float64 COMMENT 'A key with at least so many different elements is a candidate with a probability of 99.9 %; 0 where all keys are known' CODEC(ZSTD(1)),
    late_packets UInt64 COMMENT 'Late packets that the list does not contain' CODEC(ZSTD(1)),
    complete Bool COMMENT 'Whether all of the horizon was seen' CODEC(ZSTD(1)),
    revision UInt32 COMMENT 'Version of the list, from 1; 0 for a late correction' CODEC(ZSTD(1)),
    updated_at DateTime64(3, 'UTC') COMMENT 'Time of this revision, UTC, ms; the same in all rows of a list' CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(window_start)
ORDER BY (tenant, task, horizon, window_start, revision, rank)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Every revision of the spreaders; the view spreaders shows the newest lists';

-- A late packet adds at most one element to a key, so it widens upper bounds by one.
CREATE OR REPLACE VIEW spreaders
(
    tenant String COMMENT 'Tenant',
    window_start DateTime64(3, 'UTC') COMMENT 'Start of the horizon, event time, UTC, ms',
    horizon UInt32 COMMENT 'Length of the horizon, s',
    task String COMMENT 'Name of the task',
    rank UInt16 COMMENT 'Place in the list, from 1',
    key Map(LowCardinality(String), String) COMMENT 'Fields of the key in the order of the task',
    key_text String COMMENT 'The key as text, src_addr=10.0.2.15',
    estimate Float64 COMMENT 'Estimated number of different elements of the key',
    lower Float64 COMMENT 'Lower bound of the number of different elements',
    upper Float64 COMMENT 'Upper bound of the number of different elements',
    confidence Float64 COMMENT 'Probability that the bounds hold, two-sided, 0 to 1; 1 where exact',
    recall_peers Float64 COMMENT 'A key with at least so many different elements is a candidate with a probability of 99.9 %; 0 where all keys are known',
    late_packets UInt64 COMMENT 'Late packets that the list does not contain',
    complete Bool COMMENT 'Whether all of the horizon was seen',
    revision UInt32 COMMENT 'Version of the list',
    updated_at DateTime64(3, 'UTC') COMMENT 'Time of the newest revision, UTC, ms'
)
AS SELECT
    tenant, window_start, horizon, task,
    l.1 AS rank, l.2 AS key, l.3 AS key_text,
    l.4 AS estimate, l.5 AS lower, l.6 + late AS upper, l.7 AS confidence,
    l.8 AS recall_peers, l.9 + late AS late_packets, l.10 AS complete,
    version.1 AS revision, version.2 AS updated_at
FROM
(
    SELECT
        tenant, window_start, horizon, task,
        max(v) AS version, argMax(list, v) AS newest, sum(late_) AS late
    FROM
    (
        SELECT
            tenant, window_start, horizon, task,
            tuple(s.revision, s.updated_at) AS v,
            groupArrayIf(
                tuple(
                    s.rank, s.key, s.key_text, s.estimate, s.lower, s.upper, s.confidence,
                    s.recall_peers, s.late_packets, s.complete),
                s.revision > 0 AND s.rank > 0) AS list,
            sumIf(s.late_packets, s.revision = 0) AS late_
        FROM spreaders_log AS s
        GROUP BY tenant, window_start, horizon, task, v
    )
    GROUP BY tenant, window_start, horizon, task
)
ARRAY JOIN newest AS l;
