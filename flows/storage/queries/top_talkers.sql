-- Hosts by bytes, sent and received together.
--
-- A packet between two hosts counts for both, so shares add up to 200 %. Peers are the
-- different addresses on the other side.
WITH
    eth_type IN (0x0800, 0x86DD) AS wanted,
    (SELECT sum(bytes) FROM {{flows}} WHERE {{where}}) AS all_bytes,
    largest AS
    (
        SELECT arrayJoin([src_addr, dst_addr]) AS host
        FROM {{flows}}
        WHERE {{where}} AND wanted
        GROUP BY host
        ORDER BY sum(bytes) DESC
        LIMIT {{rows}} WITH TIES
    )
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
WHERE {{where}} AND wanted AND (src_addr IN largest OR dst_addr IN largest) AND side.1 IN largest
GROUP BY side.1
ORDER BY total_bytes DESC, host
