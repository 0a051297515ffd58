"""Which captures are stored already, and what to do with those that are.

A capture is known by its content, not its name. A run of the main job over some captures is a
*load*; its topic names it in ``commits``, so a load that was interrupted goes on where it was.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flows.errors import UsageError
from flows.storage.rows import LOAD_STATES, PER_PROBE, RESULTS, build

Again = Literal["skip", "replace", "add"]


class LoadStore(Protocol):
    """What of the store is needed here."""

    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> pa.Table:
        """Run a statement that gives rows."""

    def command(self, sql: str, parameters: dict[str, Any] | None = None) -> Any:
        """Run a statement that changes something."""

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """Insert rows in one step."""


@dataclass(frozen=True)
class Capture:
    """A capture file of this run.

    Attributes:
        path: where it is.
        content_id: what it holds.
        probe: name under which its packets are stored.
    """

    path: Path
    content_id: str
    probe: str


@dataclass(frozen=True)
class Load:
    """What this run has to load.

    Attributes:
        topic: of its commits; empty when there is nothing to load.
        captures: in the order given.
        generation: how often they had been loaded before.
        notes: lines for the user about what is skipped, resumed or replaced.
    """

    topic: str
    captures: tuple[Capture, ...]
    generation: int
    notes: tuple[str, ...]


def plan(
    store: LoadStore,
    captures: Sequence[Capture],
    *,
    tenant: str,
    digest: str,
    again: Again,
) -> Load:
    """Decide what of ``captures`` to load.

    Args:
        store: where they may be already.
        captures: what the user named.
        tenant: whose they are.
        digest: of the settings that shape the rows.
        again: what to do with those that are stored already.

    Raises:
        UsageError: a capture was loaded in part, with other settings or other files.
    """
    known = _known(store, captures, tenant)
    notes: list[str] = []
    if again == "replace" and known:
        _forget(store, [row for rows in known.values() for row in rows], tenant)
        notes += [
            f"{capture.path.name} was stored before and is replaced"
            for capture in captures
            if capture.content_id in known
        ]
    unfinished = any(rows[0]["state"] != "finished" for rows in known.values())
    if again == "replace" or (again == "add" and not unfinished):
        generation = 1 + max(
            (row["generation"] for rows in known.values() for row in rows), default=-1
        )
        fresh = _named_apart(store, captures, tenant, known if again == "replace" else {})
        return Load(_new_topic(captures), fresh, generation, tuple(notes))
    wanted = []
    for capture in captures:
        newest = known.get(capture.content_id, [None])[0]
        if newest is not None and newest["state"] == "finished":
            notes.append(
                f"{capture.path.name} is stored already ({newest['packets']:,} packets, probe "
                f"{newest['probe']}): skipped. NETSPECTRA_AGAIN=replace or add loads it again"
            )
        else:
            wanted.append(capture)
    if not wanted:
        return Load("", (), 0, tuple(notes))
    started = {c.content_id: known[c.content_id][0] for c in wanted if c.content_id in known}
    if not started:
        return Load(_new_topic(wanted), _named_apart(store, wanted, tenant, {}), 0, tuple(notes))
    row = next(iter(started.values()))
    topic = row["topic"].partition("#")[0]
    alike = topic.rpartition(":")[0] == _contents(wanted)
    if not alike or row["settings_digest"] != digest:
        names = ", ".join(sorted(c.path.name for c in wanted if c.content_id in started))
        what = "other settings" if alike else "other files beside it"
        msg = (
            f"{names} was loaded in part, with {what}: run it again as it was, or set "
            "NETSPECTRA_AGAIN=replace"
        )
        raise UsageError(msg)
    notes.append(
        f"{', '.join(c.path.name for c in wanted)} was loaded in part: going on (what is stored "
        "is read again for the sketches, not stored twice)"
    )
    same = tuple(replace(c, probe=started[c.content_id]["probe"]) for c in wanted)
    return Load(topic, same, row["generation"], tuple(notes))


def record(
    store: LoadStore,
    load: Load,
    *,
    tenant: str,
    digest: str,
    state: Literal["running", "finished", "incomplete"],
) -> None:
    """Write down how far the load is, per capture, with what the store holds of it.

    The counts are read back from ``totals`` and ``flows``, not taken from the program's own
    counters.
    """
    held: dict[str, dict[str, Any]] = {}
    if state != "running":
        sql = (
            "SELECT probe, sum(packets) AS packets, sum(bytes) AS bytes, "
            "min(first_seen) AS first_seen, max(last_seen) AS last_seen FROM flows "
            "WHERE tenant = {tenant:String} AND probe IN {probes:Array(String)} GROUP BY probe"
        )
        probes = [capture.probe for capture in load.captures]
        rows = store.query(sql, {"tenant": tenant, "probes": probes}).to_pylist()
        held = {str(row["probe"]): row for row in rows}
    now = datetime.now(UTC)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    values: list[dict[str, Any]] = []
    for capture in load.captures:
        row = held.get(capture.probe, {})
        values.append(
            {
                "topic": f"{load.topic}#{capture.content_id}",
                "content_id": capture.content_id,
                "settings_digest": digest,
                "source": str(capture.path),
                "tenant": tenant,
                "probe": capture.probe,
                "generation": load.generation,
                "state": LOAD_STATES[state],
                "packets": int(row.get("packets", 0)),
                "bytes": int(row.get("bytes", 0)),
                "first_seen": row.get("first_seen", epoch),
                "last_seen": row.get("last_seen", epoch),
                "updated_at": now,
            }
        )
    columns = {name: [value[name] for value in values] for name in values[0]}
    token = f"loads/{load.topic}/{state}/{now.timestamp()}"
    store.insert("loads", build("loads", columns), token)


def _new_topic(captures: Sequence[Capture]) -> str:
    """A topic that no load had before.

    Not of this tenant, not of another, and not of a load that was replaced: the store drops
    inserts under a token that it knows, even when their rows are gone.
    """
    return f"{_contents(captures)}:{time.time_ns():x}"


def _contents(captures: Sequence[Capture]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for capture in captures:
        digest.update(capture.content_id.encode())
    return f"pcap:{digest.hexdigest()}"


def _known(
    store: LoadStore, captures: Sequence[Capture], tenant: str
) -> dict[str, list[dict[str, Any]]]:
    """Earlier loads of the captures by content, the newest first."""
    sql = (
        "SELECT topic, content_id, settings_digest, probe, generation, toString(state) AS state, "
        "packets FROM loads FINAL WHERE tenant = {tenant:String} "
        "AND content_id IN {ids:Array(String)} ORDER BY generation DESC"
    )
    ids = [capture.content_id for capture in captures]
    known: dict[str, list[dict[str, Any]]] = {}
    for row in store.query(sql, {"tenant": tenant, "ids": ids}).to_pylist():
        known.setdefault(row["content_id"], []).append(row)
    return known


def _named_apart(
    store: LoadStore,
    captures: Sequence[Capture],
    tenant: str,
    forgotten: Mapping[str, Sequence[Mapping[str, Any]]],
) -> tuple[Capture, ...]:
    """Give a capture a probe name of its own, where another one's file has the same name.

    Only so can it be replaced later without touching the other.
    """
    sql = "SELECT DISTINCT probe FROM loads FINAL WHERE tenant = {tenant:String}"
    taken = {str(row["probe"]) for row in store.query(sql, {"tenant": tenant}).to_pylist()}
    taken -= {str(row["probe"]) for rows in forgotten.values() for row in rows}
    named = []
    for capture in captures:
        name, number = capture.probe, 2
        while name in taken:
            name, number = f"{capture.probe}#{number}", number + 1
        taken.add(name)
        named.append(replace(capture, probe=name))
    return tuple(named)


def minutes_of_others(
    store: LoadStore, tenant: str, probes: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Minutes (Unix time / 60 s, ascending) in which other probes of the tenant have packets.

    Sketches of different loads are not merged in the store, so the results of windows that
    touch one of these minutes describe only a part.
    """
    sql = (
        "SELECT DISTINCT intDiv(toUnixTimestamp(window_start), 60) AS minute FROM totals "
        "WHERE tenant = {tenant:String} AND probe NOT IN {probes:Array(String)} ORDER BY minute"
    )
    rows = store.query(sql, {"tenant": tenant, "probes": list(probes)})
    return np.array(rows["minute"].to_pylist(), np.int64)


def forget_demo(store: LoadStore, tenant: str, prefix: str) -> bool:
    """Delete earlier demo traffic; returns whether there was any.

    Args:
        store: where it is.
        tenant: whose it is; all that the tenant has is deleted.
        prefix: with which topics of demo traffic begin.
    """
    sql = "SELECT count() AS n FROM commits WHERE startsWith(topic, {prefix:String})"
    (row,) = store.query(sql, {"prefix": prefix}).to_pylist()
    if not row["n"]:
        return False
    for table in (*PER_PROBE, *RESULTS):
        _delete(store, table, "tenant = {tenant:String}", {"tenant": tenant})
    _delete(store, "commits", "startsWith(topic, {prefix:String})", {"prefix": prefix})
    return True


def _forget(store: LoadStore, rows: Sequence[Mapping[str, Any]], tenant: str) -> None:
    """Delete all that earlier loads stored: rows of their probes, their windows, their commits.

    Results of a window that another load has a part in stay, and are revised by the next.
    """
    parameters: dict[str, Any] = {
        "tenant": tenant,
        "probes": sorted({str(row["probe"]) for row in rows}),
        "topics": sorted({str(row["topic"]).partition("#")[0] for row in rows}),
        "loads": sorted({str(row["topic"]) for row in rows}),
    }
    # Killed from here on, the next run finds a load in part, not one that is finished.
    store.command(
        "ALTER TABLE loads UPDATE state = 'incomplete', settings_digest = 'being replaced' "
        "WHERE topic IN {loads:Array(String)} SETTINGS mutations_sync = 2",
        parameters,
    )
    for table in RESULTS:
        _delete(store, table, "tenant = {tenant:String} AND " + _ONLY_THEIRS, parameters)
    of_probes = "tenant = {tenant:String} AND probe IN {probes:Array(String)}"
    for table in PER_PROBE:
        _delete(store, table, of_probes, parameters)
    _delete(store, "commits", "topic IN {topics:Array(String)}", parameters)
    _delete(store, "loads", "topic IN {loads:Array(String)}", parameters)


_ONLY_THEIRS: Final = """
(horizon, intDiv(toUnixTimestamp(window_start), horizon)) IN (
    SELECT h, intDiv(toUnixTimestamp(window_start), h)
    FROM (SELECT window_start FROM totals
          WHERE tenant = {tenant:String} AND probe IN {probes:Array(String)})
    ARRAY JOIN (SELECT groupUniqArray(horizon) FROM distinct_counts_log) AS h)
AND (horizon, intDiv(toUnixTimestamp(window_start), horizon)) NOT IN (
    SELECT h, intDiv(toUnixTimestamp(window_start), h)
    FROM (SELECT window_start FROM totals
          WHERE tenant = {tenant:String} AND probe NOT IN {probes:Array(String)})
    ARRAY JOIN (SELECT groupUniqArray(horizon) FROM distinct_counts_log) AS h)
"""
"""Windows in which the probes have packets and nobody else has."""


def _delete(store: LoadStore, table: str, condition: str, parameters: dict[str, Any]) -> None:
    store.command(
        f"ALTER TABLE {table} DELETE WHERE {condition} SETTINGS mutations_sync = 2", parameters
    )
