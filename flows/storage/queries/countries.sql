-- Countries by bytes.
--
-- A packet between two counts for both. Addresses of which `names.countries` knows nothing,
-- private ones among them, have an empty country. Hosts are the different addresses seen.
SELECT
    country_code(host) AS country,
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
GROUP BY country
ORDER BY total_bytes DESC, country
