-- Networks by bytes, by the names of their prefixes.
--
-- A packet between two counts for both. The longest prefix of `names.networks` names an address;
-- what is in none has an empty name. Hosts are the different addresses seen.
SELECT
    network_name(host) AS network,
    site_name(host) AS site,
    sum(host_sent) + sum(host_received) AS total_bytes,
    sum(host_sent) AS sent_bytes,
    sum(host_received) AS received_bytes,
    sum(host_packets) AS total_packets,
    count() AS hosts
FROM
(
    SELECT
        side.1 AS host,
        sumIf(bytes, side.2) AS host_sent,
        sumIf(bytes, NOT side.2) AS host_received,
        sum(packets) AS host_packets
    FROM {{flows}}
    ARRAY JOIN [(src_addr, true), (dst_addr, false)] AS side
    WHERE {{where}} AND eth_type IN (0x0800, 0x86DD)
    GROUP BY host
)
GROUP BY network, site
ORDER BY total_bytes DESC, network, site
