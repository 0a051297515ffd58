-- Flows with addresses, ports and protocol by bytes, one way each.
--
-- Source ports are in the rows of panes only, so all of them are read: a whole day takes a while.
WITH
    eth_type IN (0x0800, 0x86DD) AS wanted,
    (src_addr, src_port, dst_addr, dst_port, ip_proto) AS key,
    sum(bytes) AS value,
    toUInt16(bitXor(pair_bucket, src_port * 31 + dst_port * 17 + ip_proto)) AS bucket,
    -- Flows are small and many, so that each bucket has sixteen parts.
    arrayMax(sumResample(0, 16, 1)(bytes, (src_port + dst_port) % 16)) AS bucket_bound,
    {{candidates}}
SELECT
    ip_text(key.1) AS source,
    key.2 AS source_port,
    ip_text(key.3) AS destination,
    key.4 AS destination_port,
    proto_name(key.5) AS protocol,
    sum(bytes) AS total_bytes,
    sum(packets) AS total_packets,
    tcp_flags_text(groupBitOr(tcp_flags)) AS flags,
    toDateTime64(min(first_seen), 3, 'UTC') AS first,
    toDateTime64(max(last_seen), 3, 'UTC') AS last
FROM {{flows}}
WHERE {{where}} AND wanted AND {{candidate}}
GROUP BY key
ORDER BY total_bytes DESC, source, destination, source_port, destination_port
