-- Networks by bytes, by the first bits of addresses.
--
-- A packet between two networks counts for both. Hosts are the different addresses seen.
-- :ipv4 = 24: Bits of an IPv4 network
-- :ipv6 = 48: Bits of an IPv6 network
SELECT
    concat(ip_text(network.1), '/', toString(network.2)) AS prefix,
    sum(bytes) AS total_bytes,
    sumIf(bytes, sends) AS sent_bytes,
    sumIf(bytes, NOT sends) AS received_bytes,
    sum(packets) AS total_packets,
    uniqExact(host) AS hosts
FROM
(
    SELECT
        side.1 AS host,
        side.2 AS sends,
        in_net(host, '0.0.0.0/0') AS is_ipv4,
        if(is_ipv4,
            (IPv6CIDRToRange(host, toUInt8({ipv4:UInt8} + 96)).1, {ipv4:UInt8}),
            (IPv6CIDRToRange(host, {ipv6:UInt8}).1, {ipv6:UInt8})) AS network,
        bytes,
        packets
    FROM {{flows}}
    ARRAY JOIN [(src_addr, true), (dst_addr, false)] AS side
    WHERE {{where}} AND eth_type IN (0x0800, 0x86DD)
)
GROUP BY network
ORDER BY total_bytes DESC, prefix
