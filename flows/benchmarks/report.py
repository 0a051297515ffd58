"""Figures as text for people and as JSON for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from flows.benchmarks.measure import Figure

_NAME_WIDTH = 66
_VALUE_WIDTH = 9


def text(figures: Sequence[Figure]) -> str:
    """A table: each figure, beneath it what it is compared with."""
    lines = []
    for figure in figures:
        value = f"{number(figure.value):>{_VALUE_WIDTH}}  {figure.unit}"
        lines.append(f"  {figure.name:<{_NAME_WIDTH}}{value:<26}{goal(figure)}".rstrip())
        for baseline in figure.baselines:
            name = f"{number(ratio(figure, baseline.value)):>8} x  {baseline.name}"
            lines.append(f"  {name:<{_NAME_WIDTH}}{number(baseline.value):>{_VALUE_WIDTH}}")
    return "\n".join(lines)


def ratio(figure: Figure, baseline: float) -> float:
    """How many times the baseline's value a figure is."""
    return figure.value / baseline if baseline else 0.0


def number(value: float) -> str:
    """Three digits: ``4.53 M``, ``77.2 k``, ``0.96``."""
    for least, size, letter in ((1e9, 1e9, " G"), (1e6, 1e6, " M"), (1e4, 1e3, " k")):
        if value >= least:
            return f"{value / size:.3g}{letter}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def goal(figure: Figure) -> str:
    """The goal and whether it is reached, or nothing."""
    if figure.goal is None:
        return ""
    sign = ">=" if figure.goal.at_least else "<="
    return f"goal {sign} {number(figure.goal.value)}: {'' if figure.reached else 'not '}reached"


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    versions = {name: metadata.version(name) for name in ("numba", "chdb", "datasketches")}
    return {"cpus": os.cpu_count(), "machine": platform.machine(), **versions}


def as_json(figures: Sequence[Figure], *, quick: bool) -> str:
    """One object: the machine, and the figures with ratios and goals."""
    rows = [
        {
            "part": figure.part,
            "name": figure.name,
            "value": figure.value,
            "unit": figure.unit,
            "baselines": [
                {"name": name, "value": value, "ratio": ratio(figure, value)}
                for name, value in figure.baselines
            ],
            "goal": figure.goal and {**figure.goal._asdict(), "reached": figure.reached},
        }
        for figure in figures
    ]
    return json.dumps({"quick": quick, "machine": machine(), "figures": rows}, indent=2)
