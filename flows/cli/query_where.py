"""The condition of ``netspectra query NAME --where``: its help, and what is wrong with it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from flows.errors import StoreError, UsageError
from flows.storage.saved import SavedQuery

if TYPE_CHECKING:
    from flows.storage.reader import Reader

_EXAMPLES: Final = {
    "flows": "dst_port = 443",
    "totals": "if_index = 2",
    "ledger": "probe = 'edge'",
    "alerts": "rule = 'port_scan'",
    "distinct_counts": "complete",
}
_CODES: Final = frozenset((6, 27, 41, 42, 43, 46, 47, 53, 62, 70, 72, 386, 675, 676))
"""ClickHouse's codes of a condition that can't be read or compared, or names what isn't there."""

_FAULT: Final = re.compile(r"Code: (\d+)\. DB::Exception: (.*)", re.DOTALL)
_UNKNOWN: Final = re.compile(r"Unknown .*?identifier `([^`]+)`")
_BEHIND: Final = re.compile(
    r"(\. Maybe you meant| at position \d+|\. In scope |\. Expected one of|: [Ww]hile |"
    r":? [Ii]n scope | \([A-Z_]+\)$).*",
    re.DOTALL,
)


def help_text(query: SavedQuery) -> str:
    """What ``--where`` takes, by an example that the query's table knows."""
    example = _EXAMPLES.get(query.table)
    shown = f': "{example}"' if example else ""
    return f"A condition on columns of {query.table}{shown}."


def explained(reader: Reader, query: SavedQuery, where: str, error: StoreError) -> Exception:
    """The error in words for who wrote the condition; the same where it isn't about that.

    Args:
        reader: of the store, which knows the columns.
        query: that was asked.
        where: the condition; empty for none.
        error: what the store said.
    """
    fault = _FAULT.match(str(error))
    if not where or not fault or int(fault[1]) not in _CODES:
        return error
    unknown = _UNKNOWN.match(fault[2])
    if unknown:
        found = reader.query(
            "SELECT name FROM system.columns WHERE database = currentDatabase() "  # noqa: S608
            f"AND table = '{query.table}' ORDER BY position"
        )
        known = ", ".join(map(str, found["name"].to_pylist()))
        what = f"{query.name} reads {query.table}, which has no {unknown[1]}; it has {known}"
    else:
        what = _BEHIND.sub("", fault[2])
    return UsageError(f"--where {where!r}: {what}")
