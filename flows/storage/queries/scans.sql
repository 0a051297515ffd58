-- Hosts that tried many TCP services and had no connection with them.
--
-- A target is an address and port that got a SYN and, in that minute, no ACK. A connection that
-- opens across the end of a minute looks like one try.
-- :least = 50: Targets from which on a host is listed
SELECT
    ip_text(src_addr) AS source,
    uniqExact(dst_addr, dst_port) AS targets,
    uniqExact(dst_addr) AS hosts,
    uniqExact(dst_port) AS ports,
    sum(packets) AS total_packets,
    toDateTime64(min(first_seen), 3, 'UTC') AS first,
    toDateTime64(max(last_seen), 3, 'UTC') AS last
FROM {{flows}}
WHERE {{where}} AND ip_proto = 6 AND bitAnd(tcp_flags, 0x12) = 0x02
GROUP BY src_addr
HAVING targets >= {least:UInt32}
ORDER BY targets DESC, source
