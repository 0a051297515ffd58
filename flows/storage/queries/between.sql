-- Conversations between two networks.
--
-- Pairs of hosts by bytes, both ways; the first host is of the first network.
-- :a: Address, network (10.0.2.0/24), or name of a configured network (internal)
-- :b: The other one
SELECT
    ip_text(if(forth, src_addr, dst_addr)) AS host_a,
    ip_text(if(forth, dst_addr, src_addr)) AS host_b,
    sum(bytes) AS total_bytes,
    sumIf(bytes, forth) AS a_to_b_bytes,
    sumIf(bytes, NOT forth) AS b_to_a_bytes,
    sum(packets) AS total_packets,
    toDateTime64(min(first_seen), 3, 'UTC') AS first,
    toDateTime64(max(last_seen), 3, 'UTC') AS last
FROM
(
    SELECT
        src_addr, dst_addr, bytes, packets, first_seen, last_seen,
        {a:Source} AND {b:Destination} AS forth
    FROM {{flows}}
    WHERE {{where}} AND (({a:Source} AND {b:Destination}) OR ({b:Source} AND {a:Destination}))
)
GROUP BY if(forth, src_addr, dst_addr), if(forth, dst_addr, src_addr)
ORDER BY total_bytes DESC, host_a, host_b
