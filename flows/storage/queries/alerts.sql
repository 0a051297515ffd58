-- Alerts that are open, the worst first.
--
-- `netspectra alerts` does more with them: evidence, explanation, muting.
SELECT
    substring(alert_id, 1, 8) AS alert,
    severity,
    status,
    rule,
    entity_text AS entity,
    value,
    lower,
    upper,
    threshold,
    unit,
    toDateTime64(first_seen, 3, 'UTC') AS first,
    toDateTime64(last_seen, 3, 'UTC') AS last
FROM alerts
WHERE {{where}} AND status IN ('pending', 'firing')
ORDER BY severity DESC, first DESC, alert
