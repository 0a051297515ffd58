-- What explains alerts: of each the words of a written-down template, and those of a language
-- model, if one was asked. The view alerts shows the model's where there are any.

CREATE TABLE IF NOT EXISTS alert_enrichments
(
    alert_id String COMMENT 'Alert',
    author Enum8('template' = 1, 'model' = 2) COMMENT 'Who explains it' CODEC(ZSTD(1)),
    revision UInt32 COMMENT 'Revision of the alert that is explained' CODEC(ZSTD(1)),
    status Enum8('none' = 0, 'pending' = 1, 'done' = 2, 'partial' = 3, 'failed' = 4, 'budget' = 5) COMMENT 'How far the model is: pending still waits, partial had claims struck, budget was not asked any more; none for a template' CODEC(ZSTD(1)),
    reason String COMMENT 'Why it is not done' CODEC(ZSTD(1)),
    situation String COMMENT 'Alerts that were explained together, by one answer, have the same' CODEC(ZSTD(1)),
    assessment String COMMENT 'What it likely is, how serious, how sure' CODEC(ZSTD(1)),
    root_cause String COMMENT 'What is likely behind it' CODEC(ZSTD(1)),
    next_checks String COMMENT 'What to look at next' CODEC(ZSTD(1)),
    mitigation String COMMENT 'What can be done against it, with its risk and how to undo it' CODEC(ZSTD(1)),
    confidence Float64 COMMENT 'How sure the model says that it is, 0 to 1; 0 for a template' CODEC(ZSTD(1)),
    cited Array(Map(LowCardinality(String), String)) COMMENT 'Rows of evidence that the model cites, row is the name in its text' CODEC(ZSTD(1)),
    struck UInt32 COMMENT 'Claims of the model that the evidence does not bear and that were struck' CODEC(ZSTD(1)),
    model LowCardinality(String) COMMENT 'Language model, or template',
    prompt_version LowCardinality(String) COMMENT 'Version of the prompt or the template',
    requests UInt32 COMMENT 'Requests that the answer took, counted at one alert of a situation' CODEC(ZSTD(1)),
    tokens UInt32 COMMENT 'Tokens of questions and answers, counted at one alert of a situation' CODEC(ZSTD(1)),
    updated_at DateTime64(3, 'UTC') COMMENT 'Time of this row, UTC, ms' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY (alert_id, author)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Explanations of alerts; read it with FINAL';

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
    enrichment_reason String COMMENT 'Why the language model did not, or not fully, explain it',
    assessment String COMMENT 'What it likely is, how serious, how sure',
    root_cause String COMMENT 'What is likely behind it',
    next_checks String COMMENT 'What to look at next',
    mitigation String COMMENT 'What can be done against it, with its risk and how to undo it',
    cited Array(Map(LowCardinality(String), String)) COMMENT 'Rows of evidence that the language model cites',
    model String COMMENT 'Language model that explained it; template for written-down words',
    prompt_version String COMMENT 'Version of the prompt or the template',
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
    x.enrichment_status AS enrichment_status,
    x.reason AS enrichment_reason,
    x.assessment AS assessment,
    x.root_cause AS root_cause,
    x.next_checks AS next_checks,
    x.mitigation AS mitigation,
    x.cited AS cited,
    x.model AS model,
    x.prompt_version AS prompt_version,
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
LEFT JOIN
(
    SELECT
        alert_id,
        argMaxIf(t.status, t.updated_at, t.author = 'model') AS enrichment_status,
        argMaxIf(t.reason, t.updated_at, t.author = 'model') AS reason,
        argMax(t.assessment, t.place) AS assessment,
        argMax(t.root_cause, t.place) AS root_cause,
        argMax(t.next_checks, t.place) AS next_checks,
        argMax(t.mitigation, t.place) AS mitigation,
        argMax(t.cited, t.place) AS cited,
        argMax(t.model, t.place) AS model,
        argMax(t.prompt_version, t.place) AS prompt_version
    FROM (SELECT *, (assessment != '', author, updated_at) AS place FROM alert_enrichments FINAL) AS t
    GROUP BY alert_id
) AS x ON x.alert_id = l.alert_id
COMMENT 'The newest revision of every alert, with evidence, its explanation and what people did';
