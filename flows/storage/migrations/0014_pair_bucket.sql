-- Which of 65,536 buckets the pair of addresses of a row falls into, the same for both ways. Sums by
-- bucket are cheap and bound those of each pair, so the saved queries look only into those buckets
-- that can hold one of the largest pairs or flows. Rows that are older have it calculated.

ALTER TABLE flows
ADD COLUMN IF NOT EXISTS pair_bucket UInt16 MATERIALIZED toUInt16(bitXor(cityHash64(src_addr), cityHash64(dst_addr))) COMMENT 'Bucket of the pair of addresses, the same for both ways' CODEC(LZ4);

ALTER TABLE flows_1m
ADD COLUMN IF NOT EXISTS pair_bucket UInt16 MATERIALIZED toUInt16(bitXor(cityHash64(src_addr), cityHash64(dst_addr))) COMMENT 'Bucket of the pair of addresses, the same for both ways' CODEC(LZ4);

ALTER TABLE flows_1h
ADD COLUMN IF NOT EXISTS pair_bucket UInt16 MATERIALIZED toUInt16(bitXor(cityHash64(src_addr), cityHash64(dst_addr))) COMMENT 'Bucket of the pair of addresses, the same for both ways' CODEC(LZ4);
