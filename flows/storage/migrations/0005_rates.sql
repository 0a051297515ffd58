-- Views that every chart starts from.

CREATE VIEW IF NOT EXISTS rates
(
    tenant LowCardinality(String) COMMENT 'Tenant that the probe belongs to',
    probe LowCardinality(String) COMMENT 'Probe that saw the packets; the file name for a capture',
    window_start DateTime64(3, 'UTC') COMMENT 'Start of the pane, event time, UTC, ms',
    seconds Float64 COMMENT 'Length of the pane, s',
    bits_per_second Float64 COMMENT 'Layer-2 bits per second, all interfaces and directions',
    packets_per_second Float64 COMMENT 'Packets per second, all interfaces and directions'
)
AS SELECT
    tenant, probe, window_start, pane AS seconds,
    byte_sum * 8 / pane AS bits_per_second, packet_sum / pane AS packets_per_second
FROM
(
    SELECT
        tenant, probe, window_start,
        max(t.pane_ms) / 1000 AS pane, sum(t.bytes) AS byte_sum, sum(t.packets) AS packet_sum
    FROM totals AS t
    GROUP BY tenant, probe, window_start
);

-- The hops follow each other, so the shares that they kept multiply. What is still in flight
-- is not lost.
CREATE VIEW IF NOT EXISTS completeness
(
    tenant LowCardinality(String) COMMENT 'Tenant that the probe belongs to',
    window_start DateTime64(3, 'UTC') COMMENT 'Start of the pane, event time, UTC, ms',
    probe LowCardinality(String) COMMENT 'Probe that the packets came from',
    seen UInt64 COMMENT 'Packets that reached the first hop that reports',
    dropped UInt64 COMMENT 'Packets lost at any hop',
    percent_complete Float64 COMMENT 'Share of the packets that was not lost, percent; 100 when nothing was dropped'
)
AS SELECT
    tenant, window_start, probe,
    toUInt64(max(hop_seen)) AS seen,
    toUInt64(sum(hop_dropped)) AS dropped,
    100 * arrayProduct(groupArray(
        if(hop_dropped = 0, 1, greatest(0, 1 - hop_dropped / greatest(hop_seen, hop_dropped))))) AS percent_complete
FROM
(
    SELECT
        tenant, window_start, probe, hop,
        sum(l.seen) AS hop_seen, sum(arraySum(mapValues(l.dropped))) AS hop_dropped
    FROM ledger AS l
    GROUP BY tenant, window_start, probe, hop
)
GROUP BY tenant, window_start, probe;
