-- Hosts by bytes, sent and received together.
--
-- A packet between two hosts counts for both, so shares add up to 200 %. Peers are the
-- different addresses on the other side.
WITH (SELECT sum(bytes) FROM {{flows}} WHERE {{where}}) AS all_bytes
SELECT
    ip_text(side.1) AS host,
    sum(bytes) AS total_bytes,
    round(100 * total_bytes / all_bytes, 2) AS percent,
    sumIf(bytes, side.3) AS sent_bytes,
    sumIf(bytes, NOT side.3) AS received_bytes,
    sum(packets) AS total_packets,
    uniqExact(side.2) AS peers
FROM {{flows}}
ARRAY JOIN [(src_addr, dst_addr, true), (dst_addr, src_addr, false)] AS side
WHERE {{where}} AND eth_type IN (0x0800, 0x86DD)
GROUP BY side.1
ORDER BY total_bytes DESC, host
