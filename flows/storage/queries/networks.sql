-- Networks by bytes, by the first bits of addresses.
--
-- A packet between two networks counts for both. Hosts are the different addresses seen.
-- :ipv4 = 24: Bits of an IPv4 network
-- :ipv6 = 48: Bits of an IPv6 network
SELECT
    concat(ip_text(network.1), '/', toString(network.2)) AS prefix,
    sum(host_sent + host_received) AS total_bytes,
    sum(host_sent) AS sent_bytes,
    sum(host_received) AS received_bytes,
    sum(host_packets) AS total_packets,
    uniqExact(host) AS hosts
FROM
(
    SELECT
        host, host_sent, host_received, host_packets,
        in_net(host, '0.0.0.0/0') AS is_ipv4,
        if(is_ipv4,
            (IPv6CIDRToRange(host, toUInt8({ipv4:UInt8} + 96)).1, {ipv4:UInt8}),
            (IPv6CIDRToRange(host, {ipv6:UInt8}).1, {ipv6:UInt8})) AS network
    FROM
    (
        SELECT src_addr AS host, sum(bytes) AS host_sent, 0 AS host_received, sum(packets) AS host_packets
        FROM {{flows}}
        WHERE {{where}} AND eth_type IN (0x0800, 0x86DD)
        GROUP BY src_addr
        UNION ALL
        SELECT dst_addr, 0, sum(bytes), sum(packets)
        FROM {{flows}}
        WHERE {{where}} AND eth_type IN (0x0800, 0x86DD)
        GROUP BY dst_addr
    )
)
GROUP BY network
ORDER BY total_bytes DESC, prefix
