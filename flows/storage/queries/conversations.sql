-- Pairs of hosts by bytes, both ways together.
--
-- Each pair is listed once, whoever began.
WITH
    eth_type IN (0x0800, 0x86DD) AS wanted,
    (least(src_addr, dst_addr), greatest(src_addr, dst_addr)) AS key,
    sum(bytes) AS value,
    pair_bucket AS bucket,
    sum(bytes) AS bucket_bound,
    {{candidates}}
SELECT
    ip_text(key.1) AS host_a,
    ip_text(key.2) AS host_b,
    sum(bytes) AS total_bytes,
    sumIf(bytes, src_addr <= dst_addr) AS a_to_b_bytes,
    sumIf(bytes, src_addr > dst_addr) AS b_to_a_bytes,
    sum(packets) AS total_packets,
    toDateTime64(min(first_seen), 3, 'UTC') AS first,
    toDateTime64(max(last_seen), 3, 'UTC') AS last
FROM {{flows}}
WHERE {{where}} AND wanted AND {{candidate}}
GROUP BY key
ORDER BY total_bytes DESC, host_a, host_b
