-- Who stayed connected to a service of another host longest.
--
-- By the number of different minutes with packets from the client to the service, which tells a
-- tunnel or a beacon from two connections at both ends of a day.
-- :below = 32768: Ports under this are those of services
SELECT
    ip_text(src_addr) AS client,
    ip_text(dst_addr) AS server,
    concat(toString(dst_port), '/', proto_name(ip_proto)) AS service,
    uniqExact(toStartOfMinute(window_start)) AS active_minutes,
    round(dateDiff('second', min(first_seen), max(last_seen)) / 60, 1) AS span_minutes,
    sum(bytes) AS sent_bytes,
    sum(packets) AS sent_packets,
    toDateTime64(min(first_seen), 3, 'UTC') AS first,
    toDateTime64(max(last_seen), 3, 'UTC') AS last
FROM {{flows}}
WHERE {{where}} AND dst_port < {below:UInt32}
GROUP BY src_addr, dst_addr, dst_port, ip_proto
ORDER BY active_minutes DESC, sent_bytes DESC, client, server, service
