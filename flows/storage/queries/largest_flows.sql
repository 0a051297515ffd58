-- Flows with addresses, ports and protocol by bytes, one way each.
--
-- Looks into the pairs of hosts with the most bytes. A flow of another pair has at most
-- others_at_most_bytes; while that is less than the last row's bytes, nothing is missing.
-- :pairs = 1000: How many pairs of hosts to look into
WITH
    largest AS
    (
        SELECT src_addr, dst_addr, sum(bytes) AS pair_bytes
        FROM {{pairs}}
        WHERE {{where}} AND eth_type IN (0x0800, 0x86DD)
        GROUP BY src_addr, dst_addr
        ORDER BY pair_bytes DESC, src_addr, dst_addr
        LIMIT {pairs:UInt32} + 1
    )
SELECT
    ip_text(src_addr) AS source,
    src_port AS source_port,
    ip_text(dst_addr) AS destination,
    dst_port AS destination_port,
    proto_name(ip_proto) AS protocol,
    sum(bytes) AS total_bytes,
    sum(packets) AS total_packets,
    tcp_flags_text(groupBitOr(tcp_flags)) AS flags,
    toDateTime64(min(first_seen), 3, 'UTC') AS first,
    toDateTime64(max(last_seen), 3, 'UTC') AS last,
    (SELECT if(count() > {pairs:UInt32}, min(pair_bytes), 0) FROM largest) AS others_at_most_bytes
FROM {{flows}}
WHERE {{where}} AND eth_type IN (0x0800, 0x86DD)
    AND (src_addr, dst_addr) IN (SELECT src_addr, dst_addr FROM largest)
GROUP BY src_addr, src_port, dst_addr, dst_port, ip_proto
ORDER BY total_bytes DESC, source, destination, source_port, destination_port
