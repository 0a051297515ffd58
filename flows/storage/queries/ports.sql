-- Services by bytes, both ways together, with how many used them.
--
-- A service is a port and protocol: of the two ports of a flow the lower one, where the server is;
-- with equal ports it is the destination's. Of ICMP it is type and code. to_service_bytes went to
-- the servers, from_service_bytes came from them. Source ports are in the rows of panes only, so
-- all of those are read, not the roll-ups.
-- :below = 32768: Ports under this are those of services; 65536 lists all
WITH
    ip_proto IN (1, 58) OR dst_port <= src_port AS to_service,
    if(to_service, dst_port, src_port) AS port
SELECT
    if(ip_proto IN (1, 58),
        concat(proto_name(ip_proto), ' ', toString(intDiv(port, 256)), '.', toString(port % 256)),
        concat(toString(port), '/', proto_name(ip_proto))) AS service,
    sum(bytes) AS total_bytes,
    sumIf(bytes, to_service) AS to_service_bytes,
    sumIf(bytes, NOT to_service) AS from_service_bytes,
    sum(packets) AS total_packets,
    uniqExact(if(to_service, src_addr, dst_addr)) AS clients,
    uniqExact(if(to_service, dst_addr, src_addr)) AS servers,
    toDateTime64(min(first_seen), 3, 'UTC') AS first,
    toDateTime64(max(last_seen), 3, 'UTC') AS last
FROM {{flows}}
WHERE {{where}} AND port < {below:UInt32}
GROUP BY port, ip_proto
ORDER BY total_bytes DESC, service
