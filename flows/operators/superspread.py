"""Operator: which keys touch the most different elements, per window, in fixed memory.

```python
import flows.operators.superspread as spread
```
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import operator
from bytewax.operators import KeyedStream, StatefulBatchLogic
from typing_extensions import override

from flows.windows.spread import Pairs, SpreadWindow, SpreadWindows, address_words
from schemas.hashing import DEFAULT_SEED

__all__ = ["Pairs", "SpreadOut", "SpreadWindow", "address_words", "window"]


@dataclass(frozen=True)
class SpreadOut:
    """Streams returned from `window`."""

    down: KeyedStream[SpreadWindow]
    """Closed windows, in order of time per key."""

    late: KeyedStream[int]
    """How many pairs of a batch came after their window was closed."""


class _Logic(StatefulBatchLogic[Pairs, SpreadWindow | int, tuple[Any, ...]]):
    def __init__(self, windows: SpreadWindows) -> None:
        self._windows = windows

    @override
    def on_batch(self, values: list[Pairs]) -> tuple[list[SpreadWindow | int], bool]:
        out: list[SpreadWindow | int] = []
        for pairs in values:
            closed, late = self._windows.update(pairs)
            out += [late] if late else []
            out += closed
        return (out, StatefulBatchLogic.RETAIN)

    @override
    def on_eof(self) -> tuple[list[SpreadWindow | int], bool]:
        return (list(self._windows.end()), StatefulBatchLogic.DISCARD)

    @override
    def snapshot(self) -> tuple[Any, ...]:
        return self._windows.snapshot()


@operator
def window(
    step_id: str,
    up: KeyedStream[Pairs],
    *,
    length: timedelta,
    lateness: timedelta = timedelta(0),
    memory_bytes: int = 1 << 20,
    top: int = 10,
    seed: int = DEFAULT_SEED,
) -> SpreadOut:
    r"""Find the keys with most different elements in each tumbling window.

    Windows are of event time and aligned to Unix time 0. A window closes when the newest pair
    of its stream key, less `lateness`, has passed its end, or when the input ends. Up to 1,024
    different pairs a window are counted exactly; above that estimates have 95 % bounds, and
    `top.recall_peers` says from how many elements on a key is found for certain. See
    {py:obj}`flows.sketches.superspread.SuperSpread` for the algorithm and its guarantees.

    ```{testcode}
    from datetime import timedelta

    import bytewax.operators as op
    import flows.operators.superspread as spread
    import numpy as np
    from bytewax.connectors.stdio import StdOutSink
    from bytewax.dataflow import Dataflow
    from bytewax.testing import TestingSource, run_main

    # 10.0.0.9 contacts a new host every second, 10.0.0.1 the same one again and again.
    batch = spread.Pairs(
        ts_ns=np.repeat(np.arange(90, dtype=np.uint64) * np.uint64(10**9), 2),
        keys=spread.address_words(["10.0.0.9", "10.0.0.1"] * 90),
        elements=spread.address_words(
            [host for n in range(90) for host in (f"192.0.2.{n}", "192.0.2.1")]
        ),
    )

    flow = Dataflow("scans")
    batches = op.input("inp", flow, TestingSource([("site", batch)]))
    found = spread.window("spread", batches, length=timedelta(seconds=60))


    def describe(item):
        site, window = item
        peers = [f"{row.estimate:.0f}" for row in window.top.rows]
        return f"{site} from {window.start_ns // 10**9} s: {' and '.join(peers)} peers"


    op.output("out", op.map("describe", found.down, describe), StdOutSink())
    run_main(flow)
    ```

    ```{testoutput}
    site from 0 s: 60 and 1 peers
    site from 60 s: 30 and 1 peers
    ```

    :arg step_id: Unique ID.

    :arg up: Keyed stream of batches of pairs. Each key has windows of its own.

    :arg length: Of a window.

    :arg lateness: How far pairs may lie behind the newest one of their key.

    :arg memory_bytes: Of each open window's sketch.

    :arg top: How many keys to list.

    :arg seed: Of all hashes. Keep it secret where senders may be hostile.

    :returns: Closed windows and counts of late pairs. At-least-once: after a resume windows
        that were closed since the last snapshot are emitted again, with the same contents.

    """

    def logic(state: tuple[Any, ...] | None) -> _Logic:
        return _Logic(
            SpreadWindows(
                length // timedelta(microseconds=1) * 1000,
                lateness_ns=lateness // timedelta(microseconds=1) * 1000,
                memory_bytes=memory_bytes,
                top=top,
                seed=seed,
                state=state,
            )
        )

    out = op.stateful_batch("stateful_batch", up, logic)
    return SpreadOut(
        down=op.filter_map_value("down", out, lambda v: v if isinstance(v, SpreadWindow) else None),
        late=op.filter_map_value("late", out, lambda v: v if isinstance(v, int) else None),
    )
