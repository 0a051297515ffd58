-- Bits and packets per second of each IP protocol over time.
--
-- percent is the share of all bytes in that time; percent_complete says how much of what the
-- probes saw is in the figures.
SELECT
    time,
    protocol,
    byte_sum * 8 / ({{seconds}}) AS bits_per_second,
    packet_sum / ({{seconds}}) AS packets_per_second,
    round(100 * byte_sum / sum(byte_sum) OVER (PARTITION BY time), 2) AS percent,
    round(share.percent_complete, 3) AS percent_complete
FROM
(
    SELECT
        {{time}} AS time,
        if(eth_type IN (0x0800, 0x86DD), proto_name(ip_proto), 'not IP') AS protocol,
        sum(bytes) AS byte_sum,
        sum(packets) AS packet_sum
    FROM {{flows}}
    WHERE {{where}}
    GROUP BY time, protocol
) AS panes
LEFT JOIN
(
    SELECT
        time,
        if(sum(seen) = 0, 100, sum(percent * seen) / sum(seen)) AS percent_complete
    FROM
    (
        SELECT {{time}} AS time, seen, percent_complete AS percent
        FROM completeness
        WHERE {{span}}
    )
    GROUP BY time
) AS share USING time
ORDER BY time, byte_sum DESC, protocol
