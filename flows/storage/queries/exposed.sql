-- TCP services of a network that somebody outside of it uses.
--
-- By how many different outsiders sent data over a connection (PSH and ACK); tries don't count.
-- :network = internal: Name of a configured network, a network or an address
-- :below = 32768: Ports under this are those of services
SELECT
    ip_text(dst_addr) AS server,
    dst_port AS port,
    uniqExact(src_addr) AS outsiders,
    sum(bytes) AS received_bytes,
    sum(packets) AS received_packets,
    toDateTime64(min(first_seen), 3, 'UTC') AS first,
    toDateTime64(max(last_seen), 3, 'UTC') AS last
FROM {{flows}}
WHERE {{where}} AND {network:Destination} AND NOT ({network:Source})
    AND ip_proto = 6 AND dst_port < {below:UInt32} AND bitAnd(tcp_flags, 0x18) = 0x18
GROUP BY dst_addr, dst_port
ORDER BY outsiders DESC, received_bytes DESC, server, port
