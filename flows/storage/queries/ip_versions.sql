-- Share of IPv6 in bytes and packets over time.
--
-- Percent of all traffic that is IP; what is not IP is told apart.
SELECT
    time,
    if(ipv4_bytes + ipv6_bytes = 0, 0, round(100 * ipv6_bytes / (ipv4_bytes + ipv6_bytes), 2)) AS ipv6_percent_of_bytes,
    if(ipv4_packets + ipv6_packets = 0, 0, round(100 * ipv6_packets / (ipv4_packets + ipv6_packets), 2)) AS ipv6_percent_of_packets,
    ipv4_bytes,
    ipv6_bytes,
    other_bytes
FROM
(
    SELECT
        {{time}} AS time,
        sumIf(bytes, eth_type = 0x0800) AS ipv4_bytes,
        sumIf(bytes, eth_type = 0x86DD) AS ipv6_bytes,
        sumIf(bytes, eth_type NOT IN (0x0800, 0x86DD)) AS other_bytes,
        sumIf(packets, eth_type = 0x0800) AS ipv4_packets,
        sumIf(packets, eth_type = 0x86DD) AS ipv6_packets
    FROM {{flows}}
    WHERE {{where}}
    GROUP BY time
)
ORDER BY time
