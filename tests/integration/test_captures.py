"""Real captures through the whole job, against what tshark reads in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows import job
from flows.settings import Settings
from flows.storage.store import Store
from tests.conftest import captures_directory

pytestmark = pytest.mark.requires("captures")


def expected() -> dict[str, dict[str, Any]]:
    path = captures_directory() / "expected.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return {row["file"]: row for row in map(json.loads, lines)}


EXPECTED = expected()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(f"chdb:{tmp_path_factory.mktemp('captures')}", serve=False) as opened:
        yield opened


def load(store: Store, tenant: str, source: str, **settings: Any) -> None:
    code = job.run(
        Settings(source=f"pcap:{source}", store=store.setting, tenant=tenant, **settings)
    )
    assert code == 0


def found(store: Store, tenant: str, by: str = "tenant") -> dict[str, dict[str, int]]:
    """What the tables say, by tenant or by probe."""
    totals = store.query(
        f"SELECT toString({by}) AS who, sum(packets) AS packets, sum(bytes) AS bytes, "
        "sum(ipv4_packets) AS ipv4_packets, sum(ipv6_packets) AS ipv6_packets, "
        "sum(other_packets) AS other_packets, sum(records) AS records FROM totals "
        f"WHERE tenant = '{tenant}' GROUP BY who"
    )
    flows = store.query(
        f"SELECT toString({by}) AS who, sum(packets) AS packets, sum(bytes) AS bytes, "
        "sumIf(packets, eth_type = 2048) AS ipv4_packets, "
        "sumIf(packets, eth_type = 34525) AS ipv6_packets, "
        "sumIf(packets, eth_type NOT IN (2048, 34525)) AS other_packets, "
        "uniqExactIf(src_addr, eth_type IN (2048, 34525)) AS distinct_src, "
        "uniqExactIf(dst_addr, eth_type IN (2048, 34525)) AS distinct_dst, "
        "toUnixTimestamp64Nano(min(first_seen)) AS first, "
        "toUnixTimestamp64Nano(max(last_seen)) AS last FROM flows "
        f"WHERE tenant = '{tenant}' GROUP BY who"
    )
    out = {str(row.pop("who")): row for row in flows.to_pylist()}
    for row in totals.to_pylist():
        who = str(row.pop("who"))
        assert row.pop("records") == row["packets"]
        assert row.items() <= out[who].items(), "totals and flows differ"
    return out


def check(row: dict[str, int], wanted: dict[str, Any]) -> None:
    names = ("packets", "bytes", "ipv4_packets", "ipv6_packets", "other_packets")
    names += ("distinct_src", "distinct_dst")
    assert {name: row[name] for name in names} == {name: wanted[name] for name in names}
    assert row["first"] / 1e9 == pytest.approx(wanted["first_epoch"], abs=1e-5)
    assert row["last"] / 1e9 == pytest.approx(wanted["last_epoch"], abs=1e-5)


@pytest.mark.parametrize("file", sorted(EXPECTED))
def test_a_capture_is_counted_as_tshark_does(store: Store, captures: Path, file: str) -> None:
    """Packets, bytes, IP versions, distinct addresses, first and last time are exactly equal."""
    load(store, file, str(captures / file))
    wanted = EXPECTED[file]
    check(found(store, file)[file], wanted)
    ledger = store.query(
        "SELECT sum(seen) AS seen, sum(delivered) AS delivered FROM ledger "
        f"WHERE tenant = '{file}' GROUP BY hop"
    ).to_pylist()
    assert ledger == [{"seen": wanted["packets"], "delivered": wanted["packets"]}] * 3


@pytest.mark.parametrize("file", sorted(EXPECTED))
def test_fan_out_is_what_tshark_sees(store: Store, captures: Path, file: str) -> None:
    """The sources with most destinations, and the reverse, by plain SQL on the flows."""
    load(store, file, str(captures / file))  # skipped where another test has loaded it
    for key, other, name in (
        ("src_addr", "dst_addr", "top_src_by_distinct_dst"),
        ("dst_addr", "src_addr", "top_dst_by_distinct_src"),
    ):
        rows = store.query(
            f"SELECT ip_text({key}) AS who, uniqExact({other}) AS many FROM flows "
            f"WHERE tenant = '{file}' AND eth_type IN (2048, 34525) GROUP BY who"
        ).to_pylist()
        counts = {row["who"]: row["many"] for row in rows}
        for who, many in EXPECTED[file][name]:
            assert counts[who] == many
        best = sorted(counts.values(), reverse=True)[: len(EXPECTED[file][name])]
        assert best == [many for _, many in EXPECTED[file][name]]


def test_all_captures_in_one_run(store: Store, captures: Path) -> None:
    """One glob, one run: each file as if it were alone, and the sums of all."""
    tenant = "all"
    load(store, tenant, f"{captures}/*.pcap*")
    rows = found(store, tenant, by="probe")
    assert rows.keys() == EXPECTED.keys()
    for file, wanted in EXPECTED.items():
        check(rows[file], wanted)
    (together,) = found(store, tenant).values()
    for name in ("packets", "bytes", "ipv4_packets", "ipv6_packets", "other_packets"):
        assert together[name] == sum(row[name] for row in EXPECTED.values())


@pytest.mark.parametrize("window", [{"pane": "1s"}, {"pane": "7s", "horizons": "70s"}])
def test_other_panes_give_the_same_sums(
    store: Store, captures: Path, window: dict[str, str]
) -> None:
    """The sums of a capture out of order don't depend on the length of the pane."""
    for file in ("1kxun.pcap", "gnutella.pcap"):
        tenant = f"{file}-{window['pane']}"
        load(store, tenant, str(captures / file), window=window)
        check(found(store, tenant)[tenant], EXPECTED[file])


def test_a_capture_of_several_years_stays_small(store: Store, captures: Path) -> None:
    """Packets of 2016 to 2022, out of order: no more rows than packets, none for the gaps."""
    tenant = "years"
    load(store, tenant, str(captures / "1kxun.pcap"))
    wanted = EXPECTED["1kxun.pcap"]
    for table, most in (
        ("flows", wanted["packets"]),
        ("totals", wanted["packets"]),
        ("ledger", 3 * wanted["packets"]),
        ("distinct_counts_log", 4 * 3 * wanted["packets"]),
        ("heavy_hitters_log", 4 * 3 * 2 * wanted["packets"]),
        ("commits", 1000),
    ):
        condition = "1" if table == "commits" else f"tenant = '{tenant}'"
        (row,) = store.query(f"SELECT count() AS n FROM {table} WHERE {condition}").to_pylist()
        assert 0 < row["n"] <= most, table


def test_old_captures_are_still_there_tomorrow(store: Store, captures: Path) -> None:
    """Event times of 1970 and 2016 are no reason to delete: merges keep every row."""
    for file in ("gnutella.pcap", "1kxun.pcap"):
        tenant = f"kept-{file}"
        load(store, tenant, str(captures / file))
        before = found(store, tenant)
        for table in ("flows", "totals", "flows_1m", "flows_1h", "ledger"):
            store.command(f"OPTIMIZE TABLE {table} FINAL")
        assert found(store, tenant) == before
        (row,) = store.query(
            "SELECT countIf(create_table_query ILIKE '% TTL %window_start%') AS n "
            "FROM system.tables WHERE database = currentDatabase()"
        ).to_pylist()
        assert row["n"] == 0
