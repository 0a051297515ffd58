-- Sketches of all tasks, not only of distinct counts, with what it takes to merge and read them
-- without the settings under which they were made.

ALTER TABLE sketches_log
    ADD COLUMN IF NOT EXISTS fields Array(LowCardinality(String)) COMMENT 'Fields of the key in the order of the task; of the elements where the task has no key' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS seed_id UInt32 COMMENT 'Tells hash seeds apart: only sketches of one seed can be merged; 0 for not known' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS packets UInt64 COMMENT 'Packets that the sketch stands for, scaled by the sampling rate; 0 for not known' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS sampling_rate UInt32 DEFAULT 1 COMMENT 'One in so many packets was kept; 1 for all' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS sampling_clustered Bool COMMENT 'Whether buffers of several packets were kept or not as a whole' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS complete Bool DEFAULT true COMMENT 'Whether all of the horizon was seen' CODEC(ZSTD(1));

-- Late packets that came when the horizon was gone have rows of their own, revision 0: a merge of
-- all rows of a window has everything.
CREATE OR REPLACE VIEW sketches
(
    tenant LowCardinality(String) COMMENT 'Tenant',
    window_start DateTime64(3, 'UTC') COMMENT 'Start of the horizon, event time, UTC, ms',
    horizon UInt32 COMMENT 'Length of the horizon, s',
    task LowCardinality(String) COMMENT 'Name of the task',
    kind LowCardinality(String) COMMENT 'Kind of sketch: cpc, frequency, superspread',
    version UInt16 COMMENT 'Version of the format of the bytes',
    sketch String COMMENT 'Serialised sketch, bytes',
    fields Array(LowCardinality(String)) COMMENT 'Fields of the key in the order of the task; of the elements where the task has no key',
    seed_id UInt32 COMMENT 'Tells hash seeds apart: only sketches of one seed can be merged; 0 for not known',
    packets UInt64 COMMENT 'Packets that the sketch stands for, scaled by the sampling rate; 0 for not known',
    sampling_rate UInt32 COMMENT 'One in so many packets was kept; 1 for all',
    sampling_clustered Bool COMMENT 'Whether buffers of several packets were kept or not as a whole',
    complete Bool COMMENT 'Whether all of the horizon was seen',
    revision UInt32 COMMENT 'Version of the result; 0 for late packets, to be merged with the others of the window',
    updated_at DateTime64(3, 'UTC') COMMENT 'Time of the newest revision, UTC, ms'
)
AS SELECT
    tenant, window_start, horizon, task, kind,
    newest.1 AS version, newest.2 AS sketch, newest.3 AS fields, newest.4 AS seed_id,
    newest.5 AS packets, newest.6 AS sampling_rate, newest.7 AS sampling_clustered,
    newest.8 AS complete, newest.9 AS revision, newest.10 AS updated_at
FROM
(
    SELECT
        tenant, window_start, horizon, task, kind,
        argMax(
            tuple(
                s.version, s.sketch, s.fields, s.seed_id, s.packets, s.sampling_rate,
                s.sampling_clustered, s.complete, s.revision, s.updated_at),
            tuple(s.revision, s.updated_at)) AS newest
    FROM sketches_log AS s
    WHERE s.revision > 0
    GROUP BY tenant, window_start, horizon, task, kind
)
UNION ALL
SELECT
    tenant, window_start, horizon, task, kind, version, sketch, fields, seed_id, packets,
    sampling_rate, sampling_clustered, complete, revision, updated_at
FROM sketches_log
WHERE revision = 0;
