-- Who stayed connected to a service of another host longest.
--
-- By the number of different minutes with packets from the client to the service, which tells a
-- tunnel or a beacon from two connections at both ends of a day.
-- :below = 32768: Ports under this are those of services
WITH
    dst_port < {below:UInt32} AS wanted,
    (src_addr, dst_addr, dst_port, ip_proto) AS key,
    uniqExact(toStartOfMinute(window_start)) AS value,
    toUInt16(bitXor(pair_bucket, dst_port * 31 + ip_proto)) AS bucket,
    count() AS bucket_bound,
    {{candidates}}
SELECT
    ip_text(key.1) AS client,
    ip_text(key.2) AS server,
    concat(toString(key.3), '/', proto_name(key.4)) AS service,
    uniqExact(toStartOfMinute(window_start)) AS active_minutes,
    round(dateDiff('second', min(first_seen), max(last_seen)) / 60, 1) AS span_minutes,
    sum(bytes) AS sent_bytes,
    sum(packets) AS sent_packets,
    toDateTime64(min(first_seen), 3, 'UTC') AS first,
    toDateTime64(max(last_seen), 3, 'UTC') AS last
FROM {{flows}}
WHERE {{where}} AND wanted AND {{candidate}}
GROUP BY key
ORDER BY active_minutes DESC, sent_bytes DESC, client, server, service
