"""The 95 % bounds of distinct counts hold as often as they say, merged or not."""

import numpy as np
import pytest

from flows.sketches.distinct import Distinct

TRIALS = 400


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("n", [1_000, 5_000, 20_000, 200_000])
def test_bounds_hold_in_93_to_99_percent(n, merged):
    """Over many sets the truth lies within the bounds as often as stated, and they are narrow."""
    hits = 0
    widest = 0.0
    for trial in range(TRIALS):
        rng = np.random.default_rng([n, trial])
        items = rng.integers(0, 2**64, n, np.uint64)
        counter = Distinct()
        if merged:
            cuts = np.sort(rng.integers(0, n, 3))
            for start, end in zip([0, *cuts], [*cuts, n], strict=True):
                part = Distinct()
                part.update(items[max(0, start - n // 10) : end])
                counter.merge(part)
        else:
            counter.update(items)
        estimate = counter.estimate()
        hits += estimate.lower <= n <= estimate.upper
        widest = max(widest, (estimate.upper - estimate.lower) / estimate.value)
    assert 0.93 <= hits / TRIALS <= 0.99
    assert widest <= 0.05
