-- Pairs of hosts of which one sends much more than the other, or all.
--
-- One-way traffic hints at uploads, floods, unanswered probes, or a way back that isn't seen.
-- :ratio = 10: The larger side sends so many times the bytes of the other, or more
SELECT
    ip_text(if(forth_bytes >= back_bytes, lesser, greater)) AS sender,
    ip_text(if(forth_bytes >= back_bytes, greater, lesser)) AS receiver,
    greatest(forth_bytes, back_bytes) AS sent_bytes,
    least(forth_bytes, back_bytes) AS returned_bytes,
    if(forth_bytes >= back_bytes, forth_packets, back_packets) AS sent_packets,
    if(forth_bytes >= back_bytes, back_packets, forth_packets) AS returned_packets
FROM
(
    SELECT
        least(src_addr, dst_addr) AS lesser,
        greatest(src_addr, dst_addr) AS greater,
        sumIf(bytes, src_addr <= dst_addr) AS forth_bytes,
        sumIf(bytes, src_addr > dst_addr) AS back_bytes,
        sumIf(packets, src_addr <= dst_addr) AS forth_packets,
        sumIf(packets, src_addr > dst_addr) AS back_packets
    FROM {{flows}}
    WHERE {{where}} AND eth_type IN (0x0800, 0x86DD)
    GROUP BY lesser, greater
)
WHERE sent_bytes >= {ratio:UInt32} * returned_bytes
ORDER BY sent_bytes DESC, sender, receiver
