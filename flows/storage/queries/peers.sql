-- Who talked to a host, or to anyone of a network.
--
-- Peers by bytes, with what the host sent them and what it received from them. With a network,
-- what its hosts say among themselves counts as sent.
-- :host: Address, network (10.0.2.0/24), or name of a configured network (internal)
SELECT
    ip_text(if(sends, dst_addr, src_addr)) AS peer,
    sum(bytes) AS total_bytes,
    sumIf(bytes, sends) AS sent_bytes,
    sumIf(bytes, NOT sends) AS received_bytes,
    sum(packets) AS total_packets,
    toDateTime64(min(first_seen), 3, 'UTC') AS first,
    toDateTime64(max(last_seen), 3, 'UTC') AS last
FROM
(
    SELECT src_addr, dst_addr, bytes, packets, first_seen, last_seen, {host:Source} AS sends
    FROM {{flows}}
    WHERE {{where}} AND ({host:Source} OR {host:Destination})
)
GROUP BY if(sends, dst_addr, src_addr)
ORDER BY total_bytes DESC, peer
