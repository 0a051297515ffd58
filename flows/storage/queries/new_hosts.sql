-- Hosts that sent their first packet lately.
--
-- Lately is at the end of the span; new is who wasn't seen before in the span, so give it as much
-- history as you want (--since 7d).
-- :within = 3600: How long before the end is lately, s
WITH
    eth_type IN (0x0800, 0x86DD) AS wanted,
    {{to}} - toIntervalSecond({within:UInt32}) AS lately
SELECT
    ip_text(src_addr) AS host,
    any(if(src_net = '', 'other', src_net)) AS network,
    toDateTime64(min(first_seen), 3, 'UTC') AS first,
    sum(bytes) AS sent_bytes,
    sum(packets) AS sent_packets,
    uniqExact(dst_addr) AS peers
FROM {{flows}}
WHERE {{where}} AND wanted AND last_seen >= lately
    AND src_addr NOT IN (SELECT src_addr FROM {{flows}} WHERE {{where}} AND wanted AND first_seen < lately)
GROUP BY src_addr
ORDER BY sent_bytes DESC, host
