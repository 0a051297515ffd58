-- Services by bytes that clients sent to them, with how many used them.
--
-- A service is a destination port and protocol; of ICMP it is type and code.
-- :below = 32768: Ports under this are those of services; 65536 lists all
SELECT
    if(ip_proto IN (1, 58),
        concat(proto_name(ip_proto), ' ', toString(intDiv(dst_port, 256)), '.', toString(dst_port % 256)),
        concat(toString(dst_port), '/', proto_name(ip_proto))) AS service,
    sum(bytes) AS sent_bytes,
    sum(packets) AS sent_packets,
    uniqExact(src_addr) AS clients,
    uniqExact(dst_addr) AS servers,
    toDateTime64(min(first_seen), 3, 'UTC') AS first,
    toDateTime64(max(last_seen), 3, 'UTC') AS last
FROM {{flows}}
WHERE {{where}} AND dst_port < {below:UInt32}
GROUP BY dst_port, ip_proto
ORDER BY sent_bytes DESC, service
