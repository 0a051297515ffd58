"""The dataflow on one screen.

    partitions --> units --+--> store: flows, totals, ledger, commits
                           |
                           +--> horizons --> store: distinct counts, heavy hitters, sketches
                           |
                           +--> detect ----> alerts: notifiers, store, evidence

Raw packets never leave the source step: a partition reads, decodes and aggregates them, and
emits what each of its messages closes (``flows.windows.unit.Unit``). Step ids name recovery
state: changing one resets it.
"""

from __future__ import annotations

from collections.abc import Sequence

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from flows.detect.alert import Alert
from flows.operators.detect import Detection, detect
from flows.operators.horizons import TaskResults, merge_horizons
from flows.windows.tasks import Task
from flows.windows.unit import Unit

FLOW_ID = "netspectra"
PACKETS = "packets"
STORE_UNITS = "store_units"
HORIZONS = "horizons"
STORE_RESULTS = "store_results"
DETECT = "detect"
ALERTS = "alerts"


def build(
    source: Source[Unit],
    unit_sink: Sink[Unit],
    result_sink: Sink[TaskResults],
    alert_sink: Sink[Alert],
    *,
    tasks: Sequence[Task],
    horizons_ns: Sequence[int],
    partitions: Sequence[str],
    detection: Detection,
    recovers: bool,
) -> Dataflow:
    """Connect a source to the store and to whoever is told of alerts.

    ``recovers`` says whether the run keeps recovery files, and so whether state is worth writing.
    """
    flow = Dataflow(FLOW_ID)
    units = op.input(PACKETS, flow, source)
    results = merge_horizons(
        HORIZONS,
        units,
        tasks=tasks,
        horizons_ns=horizons_ns,
        partitions=partitions,
        kept=recovers,
    )
    alerts = detect(DETECT, units, detection=detection, partitions=partitions, kept=recovers)
    op.output(STORE_UNITS, units, unit_sink)
    op.output(STORE_RESULTS, results, result_sink)
    op.output(ALERTS, alerts, alert_sink)
    return flow
