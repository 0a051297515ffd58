-- Bits and packets per second of each interface over time, each way.
--
-- percent_complete is that of the probe, whose packets are lost before they are told apart.
SELECT
    time,
    probe,
    if_index AS interface,
    direction,
    sum(byte_sum) * 8 / ({{seconds}}) AS bits_per_second,
    sum(packet_sum) / ({{seconds}}) AS packets_per_second,
    max(byte_sum * 8000 / pane) AS peak_bits_per_second,
    round(if(sum(share.seen) = 0, 100, sum(share.percent * share.seen) / sum(share.seen)), 3) AS percent_complete
FROM
(
    SELECT
        tenant, probe, window_start, if_index, direction, {{time}} AS time,
        sum(bytes) AS byte_sum, sum(packets) AS packet_sum, max(pane_ms) AS pane
    FROM totals
    WHERE {{where}}
    GROUP BY tenant, probe, window_start, if_index, direction
) AS panes
LEFT JOIN
(
    SELECT tenant, probe, window_start, seen, percent_complete AS percent
    FROM completeness
    WHERE {{span}}
) AS share USING (tenant, probe, window_start)
GROUP BY time, probe, if_index, direction
ORDER BY time, probe, interface, direction
