"""Detection as it runs for a user: through the engine, into a store and out of it again."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

from flows import pipeline
from flows.benchmarks.watch import TOPIC, accumulator
from flows.detect.alert import Alert
from flows.detect.policy import RuleSpec
from flows.detection import merged, policy_of
from flows.job import EPOCH
from flows.operators.detect import Detection
from flows.settings import Settings
from flows.sinks.alerts import AlertSink
from flows.sinks.result_rows import Context
from flows.sinks.store import ResultSink, StoredCounts, UnitSink
from flows.sources.logs import PacketLog
from flows.sources.partitions import LogSource
from flows.storage import alerts as stored
from flows.storage.store import Store


def through_the_store(log: PacketLog, settings: Settings, rules: Sequence[RuleSpec]) -> list[Alert]:
    """All revisions that a run leaves in its store, each alert's in order."""
    from bytewax._bytewax import cli_main

    fed = merged([], rules)
    with (
        tempfile.TemporaryDirectory(prefix="netspectra-bench-") as directory,
        Store.open(f"chdb:{directory}/store", serve=False) as store,
    ):
        dataflow = pipeline.build(
            LogSource({"0": lambda _: (log, accumulator(settings, fed))}),
            UnitSink(store, StoredCounts()),
            ResultSink(store, Context([""])),
            AlertSink(store),
            tasks=[],
            horizons_ns=settings.window.horizons_ns,
            partitions=[f"{TOPIC}/0"],
            detection=Detection(rules, policy_of(settings)),
            recovers=False,
        )
        cli_main(dataflow, workers_per_process=1, epoch_interval=EPOCH)
        return stored.revisions(store.query)
