-- What retention has dropped, so that nothing goes without a word: flows and dropped together
-- add up to totals.

CREATE TABLE IF NOT EXISTS dropped
(
    table_name LowCardinality(String) COMMENT 'Table whose rows were dropped',
    partition_id String COMMENT 'Partition that was dropped, an id of the engine',
    first_block UInt64 COMMENT 'First block of the partition: rows that come later belong to another one of the same id' CODEC(ZSTD(1)),
    reason Enum8('max_bytes' = 1, 'max_age' = 2) COMMENT 'Setting that had it dropped' CODEC(ZSTD(1)),
    tenant LowCardinality(String) COMMENT 'Tenant of the rows',
    probe LowCardinality(String) COMMENT 'Probe of the rows; empty for tables without probes',
    window_start DateTime64(3, 'UTC') COMMENT 'Start of the hour that the rows were of, event time, UTC, ms' CODEC(Delta, ZSTD(1)),
    row_count UInt64 COMMENT 'Rows that were dropped' CODEC(T64, ZSTD(1)),
    packets UInt64 COMMENT 'Packets in them, scaled by the sampling rate; 0 for tables without packets' CODEC(T64, ZSTD(1)),
    bytes UInt64 COMMENT 'Layer-2 bytes in them, scaled by the sampling rate' CODEC(T64, ZSTD(1)),
    records UInt64 COMMENT 'Packets in them, not scaled; of flows only' CODEC(T64, ZSTD(1)),
    dropped_at DateTime64(3, 'UTC') COMMENT 'When, UTC, ms' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(dropped_at)
ORDER BY (table_name, partition_id, first_block, tenant, probe, window_start)
COMMENT 'Rows that were dropped to save space, by hour: read it with FINAL';
