-- Bits and packets per second of each probe over time.
--
-- peak_bits_per_second is that of the busiest pane. percent_complete says how much of what the
-- probe saw is in the figures.
SELECT
    time,
    probe,
    sum(byte_sum) * 8 / ({{seconds}}) AS bits_per_second,
    sum(packet_sum) / ({{seconds}}) AS packets_per_second,
    max(byte_sum * 8000 / pane) AS peak_bits_per_second,
    round(if(sum(share.seen) = 0, 100, sum(share.percent * share.seen) / sum(share.seen)), 3) AS percent_complete
FROM
(
    SELECT
        tenant, probe, window_start, {{time}} AS time,
        sum(bytes) AS byte_sum, sum(packets) AS packet_sum, max(pane_ms) AS pane
    FROM totals
    WHERE {{where}}
    GROUP BY tenant, probe, window_start
) AS panes
LEFT JOIN
(
    SELECT tenant, probe, window_start, seen, percent_complete AS percent
    FROM completeness
    WHERE {{span}}
) AS share USING (tenant, probe, window_start)
GROUP BY time, probe
ORDER BY time, probe
