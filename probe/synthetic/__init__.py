"""Synthetic traffic: deterministic, labelled, read at any position.

``Traffic`` is a stream of packet records for demonstrations, tests and benchmarks. The record
at position i is a pure function of the parameters and i, so batches of any size, in any order
and in any process, are the same stream. ``Traffic.truth`` tells exactly what is in it.

``probe.synthetic.scenario`` composes clean traffic and attacks of any intensity, for detectors.
"""

from __future__ import annotations

from probe.synthetic.traffic import Traffic
from probe.synthetic.truth import ActorTruth, Truth

__all__ = ["ActorTruth", "Traffic", "Truth"]
