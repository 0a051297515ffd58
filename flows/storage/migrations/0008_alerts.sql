-- Alerts: every revision is a row of alerts_log; what people, notifiers and the language model add
-- has tables of its own, so that nobody needs to know the newest revision. The view joins them.

CREATE TABLE IF NOT EXISTS alerts_log
(
    alert_id String COMMENT 'Id, 32 hexadecimal digits: a function of rule, tenant, entity and start' CODEC(ZSTD(1)),
    revision UInt32 COMMENT 'Version of the alert, from 1' CODEC(ZSTD(1)),
    event Enum8('pending' = 1, 'fired' = 2, 'updated' = 3, 'resolved' = 4, 'muted' = 5, 'dropped' = 6) COMMENT 'Why there is this revision' CODEC(ZSTD(1)),
    tenant LowCardinality(String) COMMENT 'Tenant whose traffic it is about',
    probe LowCardinality(String) COMMENT 'Probe that it is about; empty where it is not about one',
    rule LowCardinality(String) COMMENT 'Rule that fired',
    detector LowCardinality(String) COMMENT 'Detector, or task, that the rule uses',
    title String COMMENT 'One line for people' CODEC(ZSTD(1)),
    severity Enum8('info' = 1, 'low' = 2, 'medium' = 3, 'high' = 4, 'critical' = 5) COMMENT 'How bad it is' CODEC(ZSTD(1)),
    status Enum8('pending' = 1, 'firing' = 2, 'resolved' = 3, 'muted' = 4) COMMENT 'Where it is in its life' CODEC(ZSTD(1)),
    entity Map(LowCardinality(String), String) COMMENT 'What it is about: fields of a flow key; of a group those that all members share' CODEC(ZSTD(1)),
    entity_text String COMMENT 'The entity as text, src_addr=10.0.2.15 dst_port=443' CODEC(ZSTD(1)),
    src_addr String COMMENT 'Source address of the entity as text; empty for none' CODEC(ZSTD(1)),
    dst_addr String COMMENT 'Destination address of the entity as text; empty for none' CODEC(ZSTD(1)),
    dst_port UInt16 COMMENT 'Destination port of the entity; 0 for none' CODEC(ZSTD(1)),
    attack_technique LowCardinality(String) COMMENT 'Technique in MITRE ATT&CK; empty for none',
    metric LowCardinality(String) COMMENT 'What was measured',
    unit LowCardinality(String) COMMENT 'Unit of value, lower, upper and threshold',
    horizon UInt32 COMMENT 'Length of the window that was measured over, s' CODEC(ZSTD(1)),
    value Float64 COMMENT 'Measured value; of a group its largest member''s' CODEC(ZSTD(1)),
    lower Float64 COMMENT 'Lower bound of the value' CODEC(ZSTD(1)),
    upper Float64 COMMENT 'Upper bound of the value' CODEC(ZSTD(1)),
    confidence Float64 COMMENT 'Probability that the bounds hold, two-sided, 0 to 1' CODEC(ZSTD(1)),
    threshold Float64 COMMENT 'What the lower bound is compared with' CODEC(ZSTD(1)),
    expected String COMMENT 'Usual range, for detectors that learn one' CODEC(ZSTD(1)),
    window_start DateTime64(3, 'UTC') COMMENT 'Start of the window that was measured last, event time, UTC, ms' CODEC(Delta, ZSTD(1)),
    first_seen DateTime64(9, 'UTC') COMMENT 'When it was first over the threshold, event time, UTC, ns' CODEC(ZSTD(1)),
    last_seen DateTime64(9, 'UTC') COMMENT 'End of the last pane over the threshold, event time, UTC, ns' CODEC(ZSTD(1)),
    resolved_at DateTime64(9, 'UTC') COMMENT 'When it was over, event time, UTC, ns; 1970 for not yet' CODEC(ZSTD(1)),
    evidence Array(Map(LowCardinality(String), String)) COMMENT 'Measurements behind it, the newest first' CODEC(ZSTD(1)),
    evidence_sql String COMMENT 'Statement whose column value says the measurement exactly' CODEC(ZSTD(1)),
    summary String COMMENT 'Some sentences for people' CODEC(ZSTD(1)),
    muted_by String COMMENT 'Mute or maintenance that keeps it quiet; empty for none' CODEC(ZSTD(1)),
    members Array(String) COMMENT 'Of a group the largest entities' CODEC(ZSTD(1)),
    member_count UInt32 COMMENT 'Entities of a group; 0 for an alert that is none' CODEC(ZSTD(1)),
    notify Array(String) COMMENT 'Notifiers that are told; empty tells all' CODEC(ZSTD(1)),
    updated_at DateTime64(3, 'UTC') COMMENT 'Time of this revision, UTC, ms' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(updated_at)
PARTITION BY toYYYYMM(window_start)
ORDER BY (alert_id, revision)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Every revision of every alert; the view alerts shows the newest, with what was added';

CREATE TABLE IF NOT EXISTS alert_evidence
(
    alert_id String COMMENT 'Alert',
    revision UInt32 COMMENT 'Revision of the alert that the rows belong to' CODEC(ZSTD(1)),
    rows Array(Map(LowCardinality(String), String)) COMMENT 'The largest flows behind it' CODEC(ZSTD(1)),
    found_at DateTime64(3, 'UTC') COMMENT 'Time at which they were read, UTC, ms' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(found_at)
ORDER BY alert_id
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Flows behind alerts, kept when the flows themselves have gone';

CREATE TABLE IF NOT EXISTS alert_actions
(
    alert_id String COMMENT 'Alert',
    action Enum8('ack' = 1, 'close' = 2) COMMENT 'What somebody did' CODEC(ZSTD(1)),
    verdict Enum8('none' = 0, 'true_positive' = 1, 'false_positive' = 2, 'benign' = 3) COMMENT 'What it turned out to be' CODEC(ZSTD(1)),
    done_by String COMMENT 'Who' CODEC(ZSTD(1)),
    comment String COMMENT 'Why' CODEC(ZSTD(1)),
    done_at DateTime64(3, 'UTC') COMMENT 'When, UTC, ms' CODEC(ZSTD(1))
)
ENGINE = MergeTree
ORDER BY (alert_id, done_at)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What people did with alerts';

CREATE TABLE IF NOT EXISTS alert_mutes
(
    mute_id String COMMENT 'Id',
    tenant LowCardinality(String) COMMENT 'Tenant; empty for all',
    rule LowCardinality(String) COMMENT 'Rule; empty for all',
    conditions Map(LowCardinality(String), Array(String)) COMMENT 'Fields of the entity with the values that are meant' CODEC(ZSTD(1)),
    since DateTime64(3, 'UTC') COMMENT 'When it begins, UTC, ms' CODEC(ZSTD(1)),
    until DateTime64(3, 'UTC') COMMENT 'When it ends, UTC, ms; 2299 for never' CODEC(ZSTD(1)),
    removed Bool COMMENT 'Whether it was taken back' CODEC(ZSTD(1)),
    made_by String COMMENT 'Who' CODEC(ZSTD(1)),
    reason String COMMENT 'Why' CODEC(ZSTD(1)),
    updated_at DateTime64(3, 'UTC') COMMENT 'Time of this version, UTC, ms' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY mute_id
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Alerts that nobody wants to hear of; read it with FINAL';

CREATE TABLE IF NOT EXISTS alert_deliveries
(
    alert_id String COMMENT 'Alert',
    revision UInt32 COMMENT 'Revision' CODEC(ZSTD(1)),
    notifier LowCardinality(String) COMMENT 'Notifier',
    state Enum8('delivered' = 1, 'refused' = 2, 'superseded' = 3) COMMENT 'How it ended' CODEC(ZSTD(1)),
    tries UInt32 COMMENT 'How often it was tried' CODEC(ZSTD(1)),
    detail String COMMENT 'What the receiver said last' CODEC(ZSTD(1)),
    done_at DateTime64(3, 'UTC') COMMENT 'When, UTC, ms' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(done_at)
ORDER BY (alert_id, revision, notifier)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Deliveries that are over; what is in alerts_log and not here is still to be sent';

CREATE OR REPLACE VIEW alerts
(
    alert_id String COMMENT 'Id, 32 hexadecimal digits: a function of rule, tenant, entity and start',
    tenant LowCardinality(String) COMMENT 'Tenant whose traffic it is about',
    probe LowCardinality(String) COMMENT 'Probe that it is about; empty where it is not about one',
    rule LowCardinality(String) COMMENT 'Rule that fired',
    detector LowCardinality(String) COMMENT 'Detector, or task, that the rule uses',
    title String COMMENT 'One line for people',
    severity Enum8('info' = 1, 'low' = 2, 'medium' = 3, 'high' = 4, 'critical' = 5) COMMENT 'How bad it is',
    status Enum8('pending' = 1, 'firing' = 2, 'resolved' = 3, 'muted' = 4) COMMENT 'Where it is in its life; closed by hand it is resolved',
    entity Map(LowCardinality(String), String) COMMENT 'What it is about: fields of a flow key; of a group those that all members share',
    entity_text String COMMENT 'The entity as text, src_addr=10.0.2.15 dst_port=443',
    src_addr String COMMENT 'Source address of the entity as text; empty for none',
    dst_addr String COMMENT 'Destination address of the entity as text; empty for none',
    dst_port UInt16 COMMENT 'Destination port of the entity; 0 for none',
    attack_technique LowCardinality(String) COMMENT 'Technique in MITRE ATT&CK; empty for none',
    metric LowCardinality(String) COMMENT 'What was measured',
    unit LowCardinality(String) COMMENT 'Unit of value, lower, upper and threshold',
    horizon UInt32 COMMENT 'Length of the window that was measured over, s',
    value Float64 COMMENT 'Measured value; of a group its largest member''s',
    lower Float64 COMMENT 'Lower bound of the value',
    upper Float64 COMMENT 'Upper bound of the value',
    confidence Float64 COMMENT 'Probability that the bounds hold, two-sided, 0 to 1',
    threshold Float64 COMMENT 'What the lower bound is compared with',
    expected String COMMENT 'Usual range, for detectors that learn one',
    window_start DateTime64(3, 'UTC') COMMENT 'Start of the window that was measured last, event time, UTC, ms',
    first_seen DateTime64(9, 'UTC') COMMENT 'When it was first over the threshold, event time, UTC, ns',
    last_seen DateTime64(9, 'UTC') COMMENT 'End of the last pane over the threshold, event time, UTC, ns',
    resolved_at DateTime64(9, 'UTC') COMMENT 'When it was over, event time, UTC, ns; 1970 for not yet',
    evidence Array(Map(LowCardinality(String), String)) COMMENT 'Measurements behind it, the newest first',
    evidence_rows Array(Map(LowCardinality(String), String)) COMMENT 'The largest flows behind it',
    evidence_sql String COMMENT 'Statement whose column value says the measurement exactly',
    summary String COMMENT 'Some sentences for people',
    muted_by String COMMENT 'Mute or maintenance that keeps it quiet; empty for none',
    members Array(String) COMMENT 'Of a group the largest entities',
    member_count UInt32 COMMENT 'Entities of a group; 0 for an alert that is none',
    ack_by String COMMENT 'Who has taken note of it; empty for nobody',
    ack_at DateTime64(3, 'UTC') COMMENT 'When somebody took note of it, UTC, ms; 1970 for not yet',
    verdict Enum8('none' = 0, 'true_positive' = 1, 'false_positive' = 2, 'benign' = 3) COMMENT 'What it turned out to be',
    closed_by String COMMENT 'Who closed it by hand; empty for nobody',
    enrichment_status Enum8('none' = 0, 'pending' = 1, 'done' = 2, 'partial' = 3, 'failed' = 4, 'budget' = 5) COMMENT 'Whether a language model has explained it',
    assessment String COMMENT 'What it likely is, how serious, how sure',
    root_cause String COMMENT 'What is likely behind it',
    mitigation String COMMENT 'What can be done against it',
    model String COMMENT 'Language model that explained it',
    prompt_version String COMMENT 'Version of the prompt',
    revision UInt32 COMMENT 'Newest version of the alert',
    updated_at DateTime64(3, 'UTC') COMMENT 'Time of this revision, UTC, ms'
)
AS SELECT
    l.alert_id AS alert_id,
    l.tenant AS tenant,
    l.probe AS probe,
    l.rule AS rule,
    l.detector AS detector,
    l.title AS title,
    l.severity AS severity,
    CAST(if(a.closed_at > l.updated_at, 'resolved', toString(l.status)), 'Enum8(''pending'' = 1, ''firing'' = 2, ''resolved'' = 3, ''muted'' = 4)') AS status,
    l.entity AS entity,
    l.entity_text AS entity_text,
    l.src_addr AS src_addr,
    l.dst_addr AS dst_addr,
    l.dst_port AS dst_port,
    l.attack_technique AS attack_technique,
    l.metric AS metric,
    l.unit AS unit,
    l.horizon AS horizon,
    l.value AS value,
    l.lower AS lower,
    l.upper AS upper,
    l.confidence AS confidence,
    l.threshold AS threshold,
    l.expected AS expected,
    l.window_start AS window_start,
    l.first_seen AS first_seen,
    l.last_seen AS last_seen,
    l.resolved_at AS resolved_at,
    l.evidence AS evidence,
    e.rows AS evidence_rows,
    l.evidence_sql AS evidence_sql,
    l.summary AS summary,
    l.muted_by AS muted_by,
    l.members AS members,
    l.member_count AS member_count,
    a.ack_by AS ack_by,
    a.ack_at AS ack_at,
    a.verdict AS verdict,
    a.closed_by AS closed_by,
    CAST('none', 'Enum8(''none'' = 0, ''pending'' = 1, ''done'' = 2, ''partial'' = 3, ''failed'' = 4, ''budget'' = 5)') AS enrichment_status,
    '' AS assessment,
    '' AS root_cause,
    '' AS mitigation,
    '' AS model,
    '' AS prompt_version,
    l.revision AS revision,
    l.updated_at AS updated_at
FROM
(
    SELECT *
    FROM (SELECT * FROM alerts_log ORDER BY alert_id, revision DESC, updated_at DESC LIMIT 1 BY alert_id)
    WHERE event != 'dropped'
) AS l
LEFT JOIN (SELECT alert_id, argMax(r.rows, r.found_at) AS rows FROM alert_evidence AS r GROUP BY alert_id) AS e ON e.alert_id = l.alert_id
LEFT JOIN
(
    SELECT
        alert_id,
        argMaxIf(d.done_by, d.done_at, d.action = 'ack') AS ack_by,
        maxIf(d.done_at, d.action = 'ack') AS ack_at,
        argMaxIf(d.verdict, d.done_at, d.verdict != 'none') AS verdict,
        argMaxIf(d.done_by, d.done_at, d.action = 'close') AS closed_by,
        maxIf(d.done_at, d.action = 'close') AS closed_at
    FROM alert_actions AS d
    GROUP BY alert_id
) AS a ON a.alert_id = l.alert_id
COMMENT 'The newest revision of every alert, with evidence and what people did';
