-- Bytes from each configured network to each other.
--
-- Names are those of `networks` in the settings; what is in none is called other.
SELECT
    if(src_net = '', 'other', src_net) AS source,
    if(dst_net = '', 'other', dst_net) AS destination,
    sum(bytes) AS total_bytes,
    sum(packets) AS total_packets,
    uniqExact(src_addr) AS sources,
    uniqExact(dst_addr) AS destinations
FROM {{flows}}
WHERE {{where}}
GROUP BY src_net, dst_net
ORDER BY total_bytes DESC, source, destination
