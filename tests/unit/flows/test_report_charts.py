"""Charts for whatever span and whatever numbers."""

from __future__ import annotations

import numpy as np
import pytest

from flows.report.charts import intervals, stacked
from flows.report.questions import CLASSES, Bounded, Series, step_of

_SPANS_S = (0, 1, 47, 61, 119, 239, 3599, 7199, 14_399, 80_000, 172_799, 345_599, 10**6, 5 * 10**6,
            10**7, 3 * 10**7, 6 * 10**7, 7 * 10**7, 10**8, 3 * 10**9)  # fmt: skip


@pytest.mark.parametrize("span_s", _SPANS_S)
def test_any_span_has_an_axis(span_s: int) -> None:
    """From one step to a century: times are marked and the library has nothing to complain of."""
    step_ms = step_of(1000 * span_s, 2000)
    packets = np.zeros((len(CLASSES), 1000 * span_s // step_ms + 1), np.int64)
    packets[0, 0] = 3
    series = Series(0, step_ms, packets, packets, np.full(packets.shape[1], 99.0))
    drawn = stacked(series, "bits", series.bytes, "B", "Bytes.")
    assert "incomplete" in drawn.wide
    assert drawn.wide.count("<text") >= 3
    assert drawn.narrow.count("<text") >= 3


@pytest.mark.parametrize("largest", [0.0, 1.0, 7.0, 1e3, 1e12])
def test_any_bounds_have_a_scale(largest: float) -> None:
    """Nothing, one, and a million million fit a logarithmic scale."""
    rows = [
        Bounded("fan_out", f"src_addr=10.0.0.{at}", 0, 60, value, value / 2, value * 2, 0.95, True)
        for at, value in enumerate((largest, largest / 3))
    ]
    assert "10.0.0.1" in intervals(rows, "spread", "hosts", "Hosts.").wide
