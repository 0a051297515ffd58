-- Where a log that is kept elsewhere (Kafka) is read on when there are no recovery files.

CREATE TABLE IF NOT EXISTS positions
(
    topic LowCardinality(String) COMMENT 'Kafka topic',
    partition LowCardinality(String) COMMENT 'Partition of the topic',
    offset UInt64 COMMENT 'Offset of the newest unit that the position takes account of' CODEC(ZSTD(1)),
    position String COMMENT 'First offset to read, and what was known there of probes and time; JSON' CODEC(ZSTD(1)),
    settings_digest String COMMENT 'Digest of the settings that shape the units' CODEC(ZSTD(1)),
    updated_at DateTime64(3, 'UTC') COMMENT 'Time of this row, UTC, ms' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY (topic, partition)
COMMENT 'Positions in logs, written after the units that they speak of: read it with FINAL';
