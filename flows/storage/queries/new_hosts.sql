-- Hosts that sent their first packet lately.
--
-- Lately is at the end of the span; new is who wasn't seen before in the span, so give it as much
-- history as you want (--since 7d).
-- :within = 3600: How long before the end is lately, s
SELECT
    ip_text(src_addr) AS host,
    any(if(src_net = '', 'other', src_net)) AS network,
    toDateTime64(min(first_seen), 3, 'UTC') AS first,
    sum(bytes) AS sent_bytes,
    sum(packets) AS sent_packets,
    uniqExact(dst_addr) AS peers
FROM {{flows}}
WHERE {{where}} AND eth_type IN (0x0800, 0x86DD)
GROUP BY src_addr
HAVING first >= {{to}} - toIntervalSecond({within:UInt32})
ORDER BY sent_bytes DESC, host
