-- How many different sources and destinations there were, with bounds.
--
-- A row for each window of the given length and each task, newest first. The bounds hold at the
-- stated confidence; complete says whether all of the window was seen.
-- :horizon = 600: Length of the windows, s
SELECT
    window_start AS time,
    task,
    round(estimate) AS hosts,
    floor(lower) AS hosts_lower,
    ceil(upper) AS hosts_upper,
    confidence,
    late_packets,
    complete
FROM distinct_counts
WHERE {{where}} AND horizon = {horizon:UInt32} AND task IN ('distinct_src_addr', 'distinct_dst_addr')
ORDER BY time DESC, task
