-- An explanation of a language model is told as one more message of the same revision. Whether it
-- was told outlives the process that told it.

ALTER TABLE alert_deliveries
    ADD COLUMN IF NOT EXISTS explained Bool COMMENT 'Whether the message had the explanation of a language model' CODEC(ZSTD(1)) AFTER state;
