-- Packets that were lost, by probe, hop and reason.
--
-- Hops in the order of the packets' way; percent is of the packets that reached the hop. A hop
-- that lost nothing has one row without a reason.
SELECT
    probe,
    hop,
    hop_seen AS seen,
    reason.1 AS reason,
    reason.2 AS dropped,
    if(hop_seen = 0, 0, round(100 * reason.2 / hop_seen, 4)) AS percent,
    hop_open AS in_flight
FROM
(
    SELECT
        probe, hop, sum(l.seen) AS hop_seen, sum(l.in_flight) AS hop_open,
        sumMap(CAST(l.dropped, 'Map(String, UInt64)')) AS reasons
    FROM ledger AS l
    WHERE {{where}}
    GROUP BY probe, hop
)
LEFT ARRAY JOIN reasons AS reason
ORDER BY probe, hop, dropped DESC, reason
