"""What a store holds after runs of the job, to compare with what another one holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from flows.storage.store import Store
from tests.support.jobs import sums, tables

ADDITIVE: Final = ("flows", "totals", "ledger", "commits")
ROLLUPS: Final = ("flows_1m", "flows_1h")
RESULTS: Final = ("distinct_counts", "heavy_hitters", "spreaders", "sketches")


@dataclass
class Stored:
    """What a store holds of tenant ``t``.

    Attributes:
        rows: of the additive tables, by table, but for the time of their insert.
        tables: as they show.
        sums: packets and bytes by table; all the same when all is well.
        late: starts of panes that late packets were added to.
    """

    rows: dict[str, list[str]]
    tables: dict[str, list[Any]]
    sums: set[tuple[int, int]]
    late: set[Any]

    def results(self, shortest_s: int = 2, longest_s: int = 600) -> dict[str, list[Any]]:
        """Results that don't depend on the order in which partitions are read."""
        return {
            name: [
                row
                for row in self.tables[name]
                if shortest_s <= row[1] <= longest_s and not (row[1] == 2 and row[0] in self.late)
            ]
            for name in RESULTS
        }


def look(setting: str, topic: str = "") -> Stored:
    """What is in a store; ``topic`` is left out of it, so that several can be compared."""
    with Store.open(setting, serve=False) as store:
        rows = {}
        for table in ADDITIVE:
            found = store.query(f"SELECT * EXCEPT (ingested_at) FROM {table}").to_pylist()
            rows[table] = sorted(
                repr([value for value in row.values() if not topic or value != topic])
                for row in found
            )
        late = store.query(
            "SELECT window_start FROM totals WHERE late_packets > 0 GROUP BY window_start"
        ).to_pylist()
        return Stored(
            rows,
            tables(store, "t", (*ROLLUPS, *RESULTS, "totals", "ledger", "flows")),
            set(sums(store, "t").values()),
            {row["window_start"] for row in late},
        )


def same_as(found: Stored, wanted: Stored, *, whole: bool = True) -> None:
    """Assert that nothing is lost and nothing is there twice.

    Args:
        found: after a disturbed run.
        wanted: after an undisturbed one.
        whole: results must be the same too; else those that are there and say that they are
            complete. What a run without recovery files had computed and not yet stored is missing.
    """
    assert found.sums == wanted.sums
    assert found.rows == wanted.rows
    for name in ROLLUPS:
        assert found.tables[name] == wanted.tables[name]
    if whole:
        assert found.results() == wanted.results()
        return
    seen = {row[:3]: row for row in found.tables["distinct_counts"]}
    both = [(seen[row[:3]], row) for row in wanted.results()["distinct_counts"] if row[:3] in seen]
    complete = [(ours, row) for ours, row in both if ours[-1]]
    assert complete
    assert [ours for ours, _ in complete] == [row for _, row in complete]
