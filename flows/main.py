"""The main job: ``python -m bytewax.run flows.main``."""

from __future__ import annotations

import sys

from bytewax.dataflow import Dataflow

from flows import job, logs, settings


def flow() -> Dataflow:
    """The dataflow that the settings describe; errors are a line each and end the process."""
    try:
        loaded = settings.load()
        logs.configure(loaded.log.level, loaded.log.format)
        return job.start(loaded)
    except Exception as error:
        sys.exit(logs.report(error))
