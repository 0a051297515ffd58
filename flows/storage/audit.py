"""Compares what must be equal in a store: the same packets counted in several tables.

A unit is written table by table, ``flows`` first and ``commits`` last, so while a job runs the
sums of the newest hours may differ for a moment. A difference therefore counts only when it is
found twice, and unchanged; one that moves is under way. What retention has dropped counts as if it
were still there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from flows.storage.embedded import quote

LOOKS: Final = 4
"""How often a store that may be written to is looked at before a difference is told."""

LOOK_AGAIN_S: Final = 1.0
MAX_ROWS: Final = 1000
"""Places a comparison tells at most."""

Query = Callable[[str], pa.Table]
"""Runs a statement that reads; see ``Reader.query``."""


@dataclass(frozen=True)
class Difference:
    """One place where two sides differ.

    Attributes:
        left: name of one side.
        right: name of the other.
        where: tenant, probe, hour, or topic, partition, offset, as far as they apply.
        figures: by unit, of the left and of the right side.
        sql: a statement that shows it.
    """

    left: str
    right: str
    where: Mapping[str, str]
    figures: Mapping[str, tuple[int, int]]
    sql: str

    @property
    def gaps(self) -> tuple[int, ...]:
        """What the left side has more, by unit."""
        return tuple(left - right for left, right in self.figures.values())


@dataclass(frozen=True)
class Hop:
    """What a step on the way from the wire to the store says of itself, not scaled."""

    name: str
    seen: int
    delivered: int
    dropped: int
    in_flight: int


@dataclass
class Audit:
    """What an audit found.

    Attributes:
        packets: in ``flows``.
        bytes: in ``flows``.
        units: in ``commits``, each once.
        hops: of the ledger, in their order.
        differences: what must be equal and isn't; none in a balanced store.
        under_way: what differs for now: it changed from one look to the next, or it has been
            captured and not arrived yet.
        unfinished: captures whose load has not ended.
    """

    packets: int = 0
    bytes: int = 0
    units: int = 0
    hops: list[Hop] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    under_way: list[Difference] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)

    @property
    def balanced(self) -> bool:
        """Whether all that must be equal is."""
        return not self.differences


@dataclass(frozen=True)
class Side:
    """Figures to add up.

    Attributes:
        name: for people.
        table: where they are.
        figures: expressions over its rows, one for each unit.
        condition: which rows.
    """

    name: str
    table: str
    figures: tuple[str, ...]
    condition: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two sides whose sums must be equal, in all or in every place.

    Attributes:
        left: one side.
        right: the other.
        units: of the figures that are compared.
        place: what a place is named by; empty for the sums over all.
    """

    left: Side
    right: Side
    units: tuple[str, ...]
    place: tuple[str, ...] = ("tenant", "probe", "hour")

    def sql(self) -> str:
        """Gives a row for each place that differs: its names, ``left_…`` and ``right_…``.

        Sums come as text, for 128 bits have no place in Arrow.
        """
        key = "".join(f"{name}, " for name in self.place)
        group = f" GROUP BY {', '.join(self.place)}" if self.place else ""
        sums = [f"sum({side}_{u}) AS sum_{side}_{u}" for u in self.units for side in _SIDES]
        unlike = " OR ".join(f"sum_left_{u} != sum_right_{u}" for u in self.units)
        texts = [f"toString(sum_{side}_{u}) AS {side}_{u}" for u in self.units for side in _SIDES]
        return (
            f"SELECT {key}{', '.join(texts)} FROM (SELECT {key}{', '.join(sums)} FROM "  # noqa: S608
            f"({self._rows(self.left, 'left')} UNION ALL {self._rows(self.right, 'right')})"
            f"{group} HAVING {unlike}) ORDER BY {key}1 LIMIT {MAX_ROWS}"
        )

    def _rows(self, side: Side, own: str) -> str:
        columns = [f"toString({_PLACES[name]}) AS {name}" for name in self.place]
        for unit, figure in zip(self.units, side.figures, strict=True):
            columns += [
                f"{f'sum(toInt128({figure}))' if name == own else 'toInt128(0)'} AS {name}_{unit}"
                for name in _SIDES
            ]
        group = f" GROUP BY {', '.join(self.place)}" if self.place else ""
        return _select(columns, side, []) + group

    def shown(self, where: Mapping[str, str]) -> str:
        """A statement that gives both sides at one place."""
        conditions = [f"{_PLACES[name]} = {quote(value)}" for name, value in where.items()]
        return " UNION ALL ".join(
            _select(
                [
                    f"{quote(side.name)} AS side",
                    *(f"sum({f}) AS {u}" for u, f in zip(self.units, side.figures, strict=True)),
                ],
                side,
                conditions,
            )
            for side in (self.left, self.right)
        )


_SIDES: Final = ("left", "right")
_PLACES: Final = {
    **{name: name for name in ("tenant", "probe", "topic", "partition", "offset")},
    "hour": "toStartOfInterval(window_start, INTERVAL 1 HOUR)",
}


def _select(columns: Sequence[str], side: Side, conditions: Sequence[str]) -> str:
    conditions = [c for c in (side.condition, *conditions) if c]
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT {', '.join(columns)} FROM {side.table}{where}"  # noqa: S608


_COUNTED: Final = ("packets", "bytes")
_UNIT_ROWS: Final = "(SELECT DISTINCT topic, partition, offset, packets, bytes FROM commits)"
_OF_LOADS: Final = "(tenant, probe) IN (SELECT tenant, probe FROM loads)"
_SHIPPED: Final = "(tenant, probe) IN (SELECT tenant, probe FROM ledger WHERE hop = 'decode')"
_ACCOUNTED: Final = "delivered + arraySum(mapValues(dropped)) + in_flight"


def _table(name: str) -> Side:
    return Side(name, _with_dropped(name, _COUNTED), _COUNTED)


def _with_dropped(table: str, figures: Sequence[str], expression: str = "") -> str:
    """Rows of a table with what retention has dropped of it."""
    columns = f"tenant, probe, window_start, {', '.join(figures)}"
    own = columns.replace(figures[0], f"{expression} AS {figures[0]}") if expression else columns
    return (
        f"(SELECT {own} FROM {table} UNION ALL SELECT {columns} FROM dropped FINAL "  # noqa: S608
        f"WHERE table_name = '{table}')"
    )


def _hop(hop: str, figure: str, condition: str = "", name: str = "") -> Side:
    conditions = f"hop = '{hop}'" + (f" AND {condition}" if condition else "")
    return Side(f"ledger {hop} {name or figure}", "ledger", (figure,), conditions)


def _packets(left: Side, right: Side) -> Comparison:
    return Comparison(left, right, ("packets",))


MUST_BE_EQUAL: Final = (
    Comparison(_table("flows"), _table("totals"), _COUNTED),
    Comparison(_table("flows"), _table("flows_1m"), _COUNTED),
    Comparison(_table("flows_1m"), _table("flows_1h"), _COUNTED),
    Comparison(_table("flows"), Side("commits", _UNIT_ROWS, _COUNTED), _COUNTED, ()),
    Comparison(
        Side("contents of a unit in commits", _UNIT_ROWS, ("1",)),
        Side("one", "(SELECT DISTINCT topic, partition, offset FROM commits)", ("1",)),
        ("rows",),
        ("topic", "partition", "offset"),
    ),
    *(
        _packets(_hop(hop, "seen"), _hop(hop, _ACCOUNTED, name="delivered + dropped + in_flight"))
        for hop in ("capture", "transport", "decode", "window", "store")
    ),
    _packets(_hop("transport", "delivered"), _hop("decode", "seen")),
    _packets(_hop("decode", "delivered"), _hop("window", "seen", _SHIPPED)),
    _packets(_hop("capture", "delivered", _OF_LOADS), _hop("window", "seen", _OF_LOADS)),
    _packets(
        _hop("window", "dropped['unaccounted']", name="unaccounted"),
        Side("none", "ledger", ("0",)),
    ),
    _packets(_hop("window", "delivered"), _hop("store", "seen")),
    _packets(
        Side(
            "flows / sampling_rate",
            _with_dropped("flows", ("records",), "intDiv(packets, greatest(sampling_rate, 1))"),
            ("records",),
        ),
        _hop("store", "delivered"),
    ),
)
"""What the design promises whenever no unit is half written."""

ARRIVING: Final = Comparison(
    _hop("capture", "delivered", _SHIPPED),
    _hop("transport", "seen"),
    ("packets",),
    ("tenant", "probe"),
)
"""Captured and not arrived yet. Probe and dataflow count by themselves, each at its own time, so
it is only told."""


def audit(
    query: Query, *, looks: int = LOOKS, sleep: Callable[[float], None] = time.sleep
) -> Audit:
    """Compare all that must be equal.

    Args:
        query: runs a statement that reads; see ``Reader.query``.
        looks: how often to look again where something differs; 1 when nobody writes.
        sleep: waits so many seconds between looks.

    Raises:
        StoreError: a statement failed.
    """
    found = Audit(unfinished=_unfinished(query), hops=list(_hops(query)))
    (sums,) = query("SELECT sum(packets) AS p, sum(bytes) AS b FROM flows").to_pylist()
    (units,) = query("SELECT uniqExact(topic, partition, offset) AS n FROM commits").to_pylist()
    found.packets, found.bytes, found.units = sums["p"], sums["b"], units["n"]
    suspects = {
        _key(each): each for comparison in MUST_BE_EQUAL for each in _run(query, comparison)
    }
    for _ in range(looks - 1):
        if not suspects:
            break
        sleep(LOOK_AGAIN_S)
        again = {
            _key(each): each
            for comparison in MUST_BE_EQUAL
            if any((comparison.left.name, comparison.right.name) == key[:2] for key in suspects)
            for each in _run(query, comparison)
        }
        for key, before in list(suspects.items()):
            now = again.get(key)
            if now is None:
                del suspects[key]
            elif now.gaps == before.gaps:
                found.differences.append(now)
                del suspects[key]
            else:
                suspects[key] = now
    (found.differences if looks == 1 else found.under_way).extend(suspects.values())
    found.under_way += _run(query, ARRIVING)
    return found


def _key(difference: Difference) -> tuple[str, ...]:
    return (difference.left, difference.right, *difference.where.values())


def _run(query: Query, both: Comparison) -> Iterator[Difference]:
    for row in query(both.sql()).to_pylist():
        where = {name: str(row[name]) for name in both.place}
        figures = {u: (int(row[f"left_{u}"]), int(row[f"right_{u}"])) for u in both.units}
        yield Difference(both.left.name, both.right.name, where, figures, both.shown(where))


def _hops(query: Query) -> Iterator[Hop]:
    rows = query(
        "SELECT toString(hop) AS name, sum(seen) AS s, sum(delivered) AS d, "
        "sum(arraySum(mapValues(dropped))) AS lost, sum(in_flight) AS f "
        "FROM ledger GROUP BY hop ORDER BY hop"
    ).to_pylist()
    for row in rows:
        yield Hop(row["name"], row["s"], row["d"], row["lost"], row["f"])


def _unfinished(query: Query) -> list[str]:
    rows = query(
        "SELECT DISTINCT toString(probe) AS probe FROM loads FINAL WHERE state != 'finished' "
        "ORDER BY probe"
    ).to_pylist()
    return [str(row["probe"]) for row in rows]


def as_object(found: Audit) -> dict[str, Any]:
    """What was found, as an object of JSON."""

    def tell(each: Difference) -> dict[str, Any]:
        return {
            **each.where,
            "left": each.left,
            "right": each.right,
            **{unit: list(pair) for unit, pair in each.figures.items()},
            "sql": each.sql,
        }

    return {
        "balanced": found.balanced,
        "packets": found.packets,
        "bytes": found.bytes,
        "units": found.units,
        "hops": [vars(hop) for hop in found.hops],
        "differences": [tell(each) for each in found.differences],
        "under_way": [tell(each) for each in found.under_way],
        "unfinished_loads": found.unfinished,
    }
