"""netspectra check: a store that is in order is balanced, and each kind of damage is named."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flows.sinks.store import StoredCounts, UnitWriter
from flows.sinks.unit_rows import commits, ledger, totals
from flows.sinks.unit_rows import flows as flow_rows
from flows.storage import audit
from flows.storage.store import Store
from flows.windows.unit import Stream, Unit
from tests.support.clickhouse_http import ClickHouse
from tests.support.jobs import CLI, command, ipv4_packets, truth, units_of
from tests.support.store_rows import rows

PACKETS = ipv4_packets(np.random.default_rng(3), 1200)
STREAMS = {
    "file": Stream("t", "some.pcap"),
    "sampled": Stream("t", "sampled", sampling_rate=16),
    "shipped": Stream("t", "it's edge", shipped=True, counted=True),
}
DAMAGE = {
    "flows": "ALTER TABLE flows DELETE WHERE packets % 2 = 0",
    "totals": "ALTER TABLE totals DELETE WHERE probe = 'sampled'",
    "flows_1m": "ALTER TABLE flows_1m DELETE WHERE src_addr < toIPv6('::ffff:10.0.0.20')",
    "flows_1h": "ALTER TABLE flows_1h UPDATE bytes = bytes + 1 WHERE probe = 'sampled'",
    "commits": "ALTER TABLE commits DELETE WHERE offset = 1",
    "contents of a unit in commits": (
        "INSERT INTO commits (topic, partition, offset, packets, bytes) "
        "SELECT topic, partition, offset, packets + 1, bytes FROM commits WHERE offset = 2 LIMIT 1"
    ),
    "ledger window seen": "ALTER TABLE ledger DELETE WHERE hop = 'window'",
    "ledger decode seen": "ALTER TABLE ledger DELETE WHERE hop = 'decode'",
    "ledger transport delivered": "ALTER TABLE ledger UPDATE delivered = 0 WHERE hop = 'transport'",
    "ledger store seen": "ALTER TABLE ledger UPDATE in_flight = 7 WHERE hop = 'store'",
    "ledger store delivered": (
        "ALTER TABLE ledger UPDATE delivered = delivered + 1, seen = seen + 1 WHERE hop = 'store'"
    ),
    "ledger window unaccounted": (
        "ALTER TABLE ledger UPDATE dropped = map('unaccounted', toUInt64(delivered)), "
        "seen = seen + delivered WHERE hop = 'window'"
    ),
}


def units(kind: str) -> list[Unit]:
    stream = STREAMS[kind]
    return units_of(PACKETS, topic=stream.probe, message=300, stream=stream)


def fill(store: Store) -> None:
    writer = UnitWriter(store, StoredCounts())
    for kind in STREAMS:
        for unit in units(kind):
            writer.write(unit)
    # What the probe says it captured.
    count = truth(PACKETS)[0]
    store.insert("ledger", captured(count), "capture/all")


def captured(count: int) -> pa.Table:
    return rows("ledger", tenant="t", probe="it's edge", seen=count, delivered=count, in_flight=0)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed store with units of a file, of a sampled one and of a probe."""
    directory = tmp_path_factory.mktemp("filled") / "store"
    with Store.open(f"chdb:{directory}", serve=False) as opened:
        fill(opened)
    return directory


@pytest.fixture
def store(filled: Path, tmp_path: Path) -> Iterator[Store]:
    """A copy of it, open, that the test may damage."""
    shutil.copytree(filled, tmp_path / "store", symlinks=True)
    with Store.open(f"chdb:{tmp_path}/store") as opened:
        yield opened


def look(store: Store, **options: Any) -> audit.Audit:
    options.setdefault("looks", 1)
    return audit.audit(store.query, **options)


def names(found: audit.Audit) -> set[str]:
    return {name for each in found.differences for name in (each.left, each.right)}


def test_a_store_in_order_is_balanced(store: Store) -> None:
    """What units wrote agrees in all tables, sampled or not, and the sums are told."""
    found = look(store)
    assert found.balanced, found.differences
    assert not found.under_way
    packets, octets = truth(PACKETS)
    assert (found.packets, found.bytes) == (18 * packets, 18 * octets)
    assert found.units == sum(not unit.empty for kind in STREAMS for unit in units(kind))
    assert {(hop.name, hop.seen) for hop in found.hops} == {
        ("capture", 3 * packets),
        ("transport", packets),
        ("decode", packets),
        ("window", 3 * packets),
        ("store", 3 * packets),
    }


def test_an_empty_store_is_balanced(tmp_path: Path) -> None:
    """Nothing agrees with nothing."""
    with Store.open(f"chdb:{tmp_path}/store") as empty:
        assert look(empty) == audit.Audit()


@pytest.mark.parametrize("where", DAMAGE)
def test_damage_is_found(store: Store, where: str) -> None:
    """Whatever table is damaged, a difference names it, with a statement that shows it."""
    store.command(f"{DAMAGE[where]} SETTINGS mutations_sync = 2" if "ALTER" in DAMAGE[where]
                  else DAMAGE[where])  # fmt: skip
    found = look(store)
    assert where in names(found)
    for each in found.differences:
        assert any(each.gaps)
        shown = store.query(each.sql).to_pylist()
        values = [tuple(row[unit] for unit in each.figures) for row in shown]
        by_name = {row["side"]: value for row, value in zip(shown, values, strict=True)}
        left = tuple(pair[0] for pair in each.figures.values())
        right = tuple(pair[1] for pair in each.figures.values())
        assert by_name == {each.left: left, each.right: right}


def test_a_difference_says_where(store: Store) -> None:
    """Tenant, probe and hour of what is missing, and how much."""
    store.command(
        "ALTER TABLE totals DELETE WHERE probe = 'it''s edge' SETTINGS mutations_sync = 2"
    )
    (each,) = look(store).differences
    assert (each.left, each.right) == ("flows", "totals")
    packets, octets = truth(PACKETS)
    assert each.where == {"tenant": "t", "probe": "it's edge", "hour": "2023-11-14 22:00:00"}
    assert each.figures == {"packets": (packets, 0), "bytes": (octets, 0)}


def half_written(store: Store) -> Unit:
    """Write the flows of a unit and nothing else, as a job does first."""
    (unit, *_) = units_of(PACKETS, topic="next", message=10**6, stream=STREAMS["file"])
    for number, part in enumerate(flow_rows(unit)):
        store.insert("flows", part, f"flows/next/{number}")
    return unit


def test_a_unit_that_is_being_written_is_no_difference(store: Store) -> None:
    """What is put right before the second look isn't told."""
    unit = half_written(store)
    slept: list[float] = []

    def finish(seconds: float) -> None:
        slept.append(seconds)
        for table, parts in (("totals", totals(unit)), ("ledger", ledger(unit))):
            for number, part in enumerate(parts):
                store.insert(table, part, f"{table}/next/{number}")
        store.insert("commits", commits(unit), "commits/next")

    assert not look(store).balanced
    found = look(store, looks=audit.LOOKS, sleep=finish)
    assert found.balanced
    assert not found.under_way
    assert slept == [audit.LOOK_AGAIN_S]


def test_what_stays_half_written_is_a_difference(store: Store) -> None:
    """A killed job's half unit is told once it is seen twice."""
    half_written(store)
    found = look(store, looks=audit.LOOKS, sleep=lambda _: None)
    assert {"flows", "totals", "commits"} <= names(found)


def test_what_moves_is_under_way(store: Store) -> None:
    """Sums that differ at each look, and each time by another amount, are being written."""
    half_written(store)

    def more(seconds: float) -> None:
        other = rows("flows", tenant="t", probe="some.pcap", packets=1)
        store.insert("flows", other, f"flows/more/{store.run('SELECT count() FROM flows')}")

    found = look(store, looks=3, sleep=more)
    assert found.balanced
    assert {(each.left, each.right) for each in found.under_way} >= {("flows", "totals")}


def test_what_has_not_arrived_is_only_told(store: Store) -> None:
    """More captured than arrived is under way: the probe is ahead."""
    store.insert("ledger", captured(5000), "capture/more")
    found = look(store)
    assert found.balanced
    (each,) = found.under_way
    assert each.figures == {"packets": (5000 + truth(PACKETS)[0], truth(PACKETS)[0])}


def test_captures_lose_nothing_between_reading_and_counting(store: Store) -> None:
    """For a load, what was read must be what was counted; and an unfinished one is named."""
    load = rows("loads", tenant="t", probe="some.pcap", state=3)
    store.insert("loads", load, "load")
    assert look(store).balanced
    assert look(store).unfinished == ["some.pcap"]
    store.command("ALTER TABLE ledger DELETE WHERE hop = 'capture' SETTINGS mutations_sync = 2")
    assert names(look(store)) == {"ledger capture delivered", "ledger window seen"}


def check(tmp_path: Path, setting: str, *arguments: str) -> tuple[int, str]:
    done = command([*CLI, "check", *arguments], tmp_path, STORE=setting, SOURCE="kafka")
    assert not done.stderr
    return done.returncode, done.stdout


def test_the_command_on_a_running_job_and_after_it(tmp_path: Path) -> None:
    """Through the owner's socket and on a closed directory it finds the same: 0, then 3."""
    setting = f"chdb:{tmp_path}/store"
    with Store.open(setting) as store:
        fill(store)
        code, text = check(tmp_path, setting)
        assert (code, text.split(":")[0]) == (0, "balanced")
        store.command(
            "ALTER TABLE totals DELETE WHERE probe = 'sampled' SETTINGS mutations_sync = 2"
        )
        running = check(tmp_path, setting)
    assert running == check(tmp_path, setting)
    code, text = running
    assert code == 3
    assert re.search(r"^not balanced: 1 difference", text)
    assert "flows - totals: " in text
    assert "probe sampled" in text
    assert "SELECT 'flows' AS side" in text


def test_the_command_over_http(tmp_path: Path) -> None:
    """On a server (our front before the real engine) it finds the same, as an object of JSON."""
    with ClickHouse(tmp_path / "engine") as server:
        with Store.open(server.setting) as store:
            fill(store)
            code, text = check(tmp_path, server.setting, "--format", "json")
            assert (code, json.loads(text)["balanced"]) == (0, True)
            store.command("ALTER TABLE flows_1h DELETE WHERE probe = 'sampled'")
        code, text = check(tmp_path, server.setting, "--format", "json")
        found = json.loads(text)
        assert (code, found["balanced"]) == (3, False)
        (each,) = found["differences"]
        assert (each["left"], each["right"], each["probe"]) == ("flows_1m", "flows_1h", "sampled")
        assert each["packets"][1] == 0


def test_no_store_is_one_line(tmp_path: Path) -> None:
    """Where there is nothing to check it says so."""
    done = command([*CLI, "check"], tmp_path, STORE=f"chdb:{tmp_path}/nothing")
    assert done.returncode == 1
    assert re.fullmatch(r"netspectra: there is no store in .*\n", done.stderr)
