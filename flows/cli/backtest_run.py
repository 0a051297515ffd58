"""What a backtest does: the real job into a temporary store, and what its rules found there."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flows import interrupts, job
from flows.backtest import Fired, Score, Tally, fired, judge, tally
from flows.cli.near_misses import near_misses
from flows.detect import registry
from flows.errors import UsageError
from flows.labels import Label
from flows.settings import Settings
from flows.sources import inputs
from flows.storage import alerts as stored
from flows.storage.store import Store


@dataclass(frozen=True)
class Finding:
    """What one rule found.

    Attributes:
        rule: its name.
        tally: what it would have meant.
        score: against labels; None without any.
        near: entities that came near its threshold, with their share of it.
    """

    rule: str
    tally: Tally
    score: Score | None
    near: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Report:
    """What a backtest found.

    Attributes:
        code: exit code of the run.
        packets: that were read.
        start_ns: of the first pane.
        end_ns: of the last pane.
        pane_ns: length of a pane.
        findings: of each rule, in their order.
    """

    code: int
    packets: int
    start_ns: int
    end_ns: int
    pane_ns: int
    findings: tuple[Finding, ...]


def run(
    settings: Settings, labels: Sequence[Label] | None, since_ns: int | None, workers: int
) -> Report:
    """Run the rules of some settings over their source.

    Args:
        settings: their store is not touched.
        labels: what really happened; None where nobody knows.
        since_ns: only what Kafka got at or after this Unix time.
        workers: worker threads.

    Raises:
        UsageError: the source is live, or can't be read from a time on.
    """
    _check(settings, since_ns)
    with (
        tempfile.TemporaryDirectory(
            prefix="netspectra-backtest-", ignore_cleanup_errors=True
        ) as directory,
        interrupts.ending_at_once(Path(directory)),
    ):
        # Ports are those of the job that runs beside.
        alone = {
            "storage": settings.storage.model_copy(update={"serve_port": None}),
            "metrics": settings.metrics.model_copy(update={"port": None}),
        }
        there = settings.model_copy(update={"store": f"chdb:{directory}/store", **alone})
        code = job.try_out(there, workers, find=partial(_find, since_ns=since_ns))
        with Store.open(there.store, serve=False) as store:
            return _report(store, settings, labels, int(code))


def _check(settings: Settings, since_ns: int | None) -> None:
    if settings.source_kind == "interface":
        msg = "rules are tried on what can be read again: give --source pcap:FILE or kafka"
        raise UsageError(msg)
    if since_ns is not None and settings.source_kind != "kafka":
        msg = f"--since is for Kafka, and the source is {settings.source}"
        raise UsageError(msg)


def _find(settings: Settings, since_ns: int | None) -> inputs.Opener:
    if settings.source_kind != "kafka":
        return inputs.find(settings)
    from flows.sources import kafka_past

    partitions = kafka_past.find(settings, since_ns)
    return lambda store: inputs.Input(settings.kafka.topics.packets, partitions)


def _report(store: Store, settings: Settings, labels: Sequence[Label] | None, code: int) -> Report:
    pane_ns = settings.window.pane_ns
    (span,) = store.query(
        "SELECT toUnixTimestamp64Milli(min(window_start)) * 1000000 AS first_ns, "
        "toUnixTimestamp64Milli(max(window_start)) * 1000000 AS last_ns, "
        "sum(packets) AS packets FROM totals"
    ).to_pylist()
    start_ns, end_ns = int(span["first_ns"]), int(span["last_ns"]) + pane_ns
    by_rule: defaultdict[str, list[Fired]] = defaultdict(list)
    for each in fired(stored.revisions(store.query)):
        by_rule[each.alert.rule].append(each)
    near = near_misses(store.query, settings)
    findings = []
    for rule in registry.rules(settings):
        found = sorted(by_rule[rule.name], key=lambda each: each.fired_ns)
        detector = rule.detector().about.name
        score = None if labels is None else judge(found, labels, (rule.name, detector))
        summed = tally(found, end_ns - start_ns)
        findings.append(Finding(rule.name, summed, score, near.get(rule.name, ())))
    return Report(code, int(span["packets"]), start_ns, end_ns, pane_ns, tuple(findings))
