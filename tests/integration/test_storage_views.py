"""What the views and functions of the schema mean."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flows.errors import StoreError
from flows.storage.store import Store
from tests.support.store_rows import T0_MS, address, rows

ADDRESSES = st.ip_addresses(v=4) | st.ip_addresses(v=6)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One store for all tests here; tenants keep them apart."""
    with Store.open(f"chdb:{tmp_path_factory.mktemp('views')}", serve=False) as store:
        yield store


@pytest.fixture
def store(shared: Store) -> Store:
    """The shared store without rows."""
    for table in ("distinct_counts_log", "heavy_hitters_log", "sketches_log", "totals", "ledger"):
        shared.command(f"TRUNCATE TABLE {table}")
    return shared


def put(store: Store, table: str, *given: dict[str, Any]) -> None:
    for number, columns in enumerate(given):
        store.insert(table, rows(table, **columns), f"{number}")


def one(store: Store, sql: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = store.query(sql).to_pylist()
    assert len(found) == 1
    return found[0]


COUNT = {"estimate": 10.0, "lower": 8.0, "upper": 12.0, "confidence": 0.95, "late_packets": 0}


def test_newest_distinct_count(store: Store) -> None:
    """The newest revision counts, whatever order they came in."""
    put(
        store,
        "distinct_counts_log",
        COUNT | {"revision": 2, "estimate": 20.0, "late_packets": 1, "complete": True},
        COUNT | {"revision": 1, "complete": False},
    )
    found = one(store, "SELECT * FROM distinct_counts")
    assert (found["estimate"], found["revision"], found["complete"]) == (20.0, 2, True)
    assert (found["lower"], found["upper"], found["late_packets"]) == (8.0, 12.0, 1)


def test_late_corrections_widen_the_count(store: Store) -> None:
    """Late packets that no accumulator holds any more raise the upper bound, each time."""
    late = {"revision": 0, "estimate": 1.0, "lower": 1.0, "upper": 3.0}
    put(
        store,
        "distinct_counts_log",
        COUNT | late | {"late_packets": 3},
        COUNT | {"revision": 1, "late_packets": 2},
        COUNT | late | {"late_packets": 4},
    )
    found = one(store, "SELECT * FROM distinct_counts")
    assert (found["estimate"], found["lower"], found["upper"]) == (10.0, 8.0, 12.0 + 7)
    assert (found["late_packets"], found["revision"]) == (9, 1)


def test_count_of_late_packets_only(store: Store) -> None:
    """Where only late packets exist, the largest is the estimate, the sum the upper bound."""
    late = COUNT | {"revision": 0}
    put(
        store,
        "distinct_counts_log",
        late | {"estimate": 2.0, "lower": 2.0, "upper": 3.0, "late_packets": 3},
        late | {"estimate": 5.0, "lower": 4.0, "upper": 6.0, "late_packets": 6},
        late | {"estimate": 1.0, "lower": 1.0, "upper": 1.0, "late_packets": 1},
    )
    found = one(store, "SELECT * FROM distinct_counts")
    assert (found["estimate"], found["lower"], found["upper"]) == (5.0, 4.0, 10.0)
    assert (found["late_packets"], found["revision"]) == (10, 0)


def test_counts_are_kept_apart(store: Store) -> None:
    """Tenant, window, horizon and task tell results apart."""
    base = COUNT | {"revision": 1}
    put(
        store,
        "distinct_counts_log",
        base,
        base | {"tenant": "other"},
        base | {"window_start": T0_MS + 2000},
        base | {"horizon": 60},
        base | {"task": "other"},
    )
    assert store.run("SELECT count(), sum(estimate) FROM distinct_counts") == "5\t50\n"


def hitters(revision: int, *keys: str, **more: Any) -> dict[str, Any]:
    n = len(keys)
    return {
        "rank": list(range(1, n + 1)),
        "key": [{"src_addr": key} for key in keys],
        "key_text": [f"src_addr={key}" for key in keys],
        "packets": [100] * n,
        "packets_lower": [90] * n,
        "packets_upper": [110] * n,
        "bytes": [1000] * n,
        "bytes_lower": [900] * n,
        "bytes_upper": [1100] * n,
        "error": [7] * n,
        "late_packets": 0,
        "late_bytes": 0,
        "revision": revision,
        "updated_at": T0_MS + revision,
        **more,
    }


LATE = {"rank": 0, "key_text": "", "revision": 0, "packets": 0, "bytes": 0, "error": 0}


def test_newest_list_replaces_the_whole(store: Store) -> None:
    """A key that left the list with a revision is gone."""
    put(store, "heavy_hitters_log", hitters(2, "b", "c"), hitters(1, "a", "b", "c"))
    found = store.query("SELECT * FROM heavy_hitters ORDER BY rank").to_pylist()
    assert [(row["rank"], row["key_text"]) for row in found] == [
        (1, "src_addr=b"),
        (2, "src_addr=c"),
    ]
    assert [dict(row["key"]) for row in found] == [{"src_addr": "b"}, {"src_addr": "c"}]
    assert {row["revision"] for row in found} == {2}
    assert {(r["packets_lower"], r["packets"], r["packets_upper"]) for r in found} == {
        (90, 100, 110)
    }


def test_late_packets_widen_every_key(store: Store) -> None:
    """Late packets and bytes could belong to any key, so every upper bound rises."""
    put(
        store,
        "heavy_hitters_log",
        LATE | {"late_packets": 5, "late_bytes": 500},
        hitters(1, "a", "b", late_packets=1),
        LATE | {"late_packets": 2, "late_bytes": 100},
        hitters(1, "a", ranked_by=2),
    )
    found = store.query("SELECT * FROM heavy_hitters ORDER BY ranked_by, rank").to_pylist()
    assert [(r["packets_upper"], r["bytes_upper"]) for r in found] == [
        (117, 1700),
        (117, 1700),
        (110, 1100),
    ]
    assert [(r["packets_lower"], r["error"], r["late_packets"]) for r in found] == [
        (90, 14, 8),
        (90, 14, 8),
        (90, 7, 0),
    ]


def test_late_packets_alone_list_nothing(store: Store) -> None:
    """A late correction without a list is no heavy hitter."""
    put(store, "heavy_hitters_log", LATE | {"late_packets": 5, "late_bytes": 500})
    assert store.run("SELECT count() FROM heavy_hitters") == "0\n"


def test_lists_of_many_windows_are_read_by_time(store: Store) -> None:
    """Filters on time and task reach the log: other months and tasks aren't read."""
    later = T0_MS + 90 * 86_400_000
    put(store, "heavy_hitters_log", hitters(1, "a"), hitters(1, "b", window_start=later))
    put(store, "distinct_counts_log", {}, {"window_start": later})
    put(store, "sketches_log", {}, {"window_start": later})
    where = "WHERE window_start < '2023-12-01 00:00:00' AND task = 'x'"
    for view in ("heavy_hitters", "distinct_counts", "sketches"):
        assert store.run(f"SELECT count() FROM {view} {where}") == "1\n"
        plan = store.run(f"EXPLAIN indexes = 1 SELECT * FROM {view} {where}")
        assert "Parts: 1/2" in plan, plan
        assert "task in ['x', 'x']" in plan.replace("\\", ""), plan


def test_newest_sketch(store: Store) -> None:
    """The newest bytes of each kind are shown, exactly, and those of late packets beside them."""
    payload = bytes(range(256))
    put(
        store,
        "sketches_log",
        {"kind": "cpc", "sketch": payload, "revision": 2},
        {"kind": "cpc", "sketch": b"old", "revision": 1},
        {"kind": "frequency", "sketch": b"", "revision": 1},
        {"kind": "frequency", "sketch": b"a", "revision": 0},
        {"kind": "frequency", "sketch": b"b", "revision": 0},
    )
    stored = store.run("SELECT kind, hex(sketch), revision FROM sketches ORDER BY ALL")
    late = "frequency\t61\t0\nfrequency\t62\t0\n"
    assert stored == f"cpc\t{payload.hex().upper()}\t2\nfrequency\t\t1\n{late}"


def test_rates(store: Store) -> None:
    """A pane's bits and packets per second are its sums over its length, late rows included."""
    put(
        store,
        "totals",
        {"packets": 6, "bytes": 1000, "direction": 1},
        {"packets": 2, "bytes": 500, "direction": 2},
        {"packets": 1, "bytes": 50, "late_packets": 1},
        {"packets": 3, "bytes": 60, "window_start": T0_MS + 2000, "pane_ms": 500},
    )
    found = store.query("SELECT * EXCEPT (tenant, probe, window_start) FROM rates ORDER BY 1 DESC")
    assert found.to_pylist() == [
        {"seconds": 2.0, "bits_per_second": 6200.0, "packets_per_second": 4.5},
        {"seconds": 0.5, "bits_per_second": 960.0, "packets_per_second": 6.0},
    ]


def ledger(hop: int, seen: int, dropped: dict[str, int], **more: Any) -> dict[str, Any]:
    lost = sum(dropped.values())
    flying = more.pop("in_flight", 0)
    return {
        "hop": hop,
        "seen": seen,
        "delivered": seen - lost - flying,
        "dropped": [dropped],
        "in_flight": flying,
        **more,
    }


@pytest.mark.parametrize(
    ("hops", "percent", "dropped"),
    [
        ([ledger(1, 100, {}), ledger(2, 100, {})], 100, 0),
        (
            [ledger(1, 100, {"ring_full": 10}), ledger(3, 90, {"bad_message": 5, "truncated": 4})],
            81,
            19,
        ),
        ([ledger(1, 100, {}, in_flight=40)], 100, 0),
        ([ledger(1, 60, {"ring_full": 6}), ledger(1, 40, {"ring_full": 4})], 90, 10),
        ([ledger(1, 0, {})], 100, 0),
        ([ledger(1, 5, {"kafka_error": 5}), ledger(5, 0, {})], 0, 5),
    ],
)
def test_completeness(
    store: Store, hops: list[dict[str, Any]], percent: float, dropped: int
) -> None:
    """The shares that the hops kept multiply; nothing dropped is 100; in flight isn't lost."""
    put(store, "ledger", *hops)
    found = one(store, "SELECT * FROM completeness")
    assert found["percent_complete"] == pytest.approx(percent)
    assert (found["dropped"], found["seen"]) == (dropped, max(seen_by_hop(hops)))


def seen_by_hop(hops: list[dict[str, Any]]) -> list[int]:
    totals: dict[int, int] = {}
    for hop in hops:
        totals[hop["hop"]] = totals.get(hop["hop"], 0) + hop["seen"]
    return list(totals.values())


def test_unknown_loss_without_seen_is_incomplete(store: Store) -> None:
    """A hop that lost packets and saw none is not complete."""
    put(store, "ledger", {"seen": 0, "delivered": 0, "dropped": [{"unknown": 3}], "in_flight": 0})
    assert one(store, "SELECT percent_complete FROM completeness") == {"percent_complete": 0.0}


@settings(max_examples=60, deadline=None)
@given(ADDRESSES, ADDRESSES, st.integers(0, 128))
@example(ipaddress.ip_address("10.1.2.3"), ipaddress.ip_address("10.0.0.0"), 8)
@example(ipaddress.ip_address("255.255.255.255"), ipaddress.ip_address("0.0.0.0"), 0)
@example(ipaddress.ip_address("2001:db8::1"), ipaddress.ip_address("2001:db8::"), 32)
@example(ipaddress.ip_address("::1"), ipaddress.ip_address("0.0.0.0"), 0)
def test_in_net(shared: Store, addr: Any, base: Any, length: int) -> None:
    """in_net agrees with Python's ipaddress, IPv4 being ::ffff:0:0/96 of IPv6."""
    network = ipaddress.ip_network((base, min(length, base.max_prefixlen)), strict=False)
    mapped = ipaddress.IPv6Address(address(str(addr)))
    lowest = int(ipaddress.IPv6Address(address(str(network.network_address))))
    highest = int(ipaddress.IPv6Address(address(str(network.broadcast_address))))
    expected = int(lowest <= int(mapped) <= highest)
    sql = "SELECT in_net(toIPv6({a:String}), {n:String}), in_net({a:String}, {n:String})"
    found = shared.query(sql, {"a": str(addr), "n": str(network)})
    assert [found[0][0].as_py(), found[1][0].as_py()] == [expected, expected]


def test_in_net_of_a_lone_address(shared: Store) -> None:
    """A network without a length is one address."""
    sql = "in_net('10.0.0.1', '10.0.0.1'), in_net('10.0.0.2', '10.0.0.1'), in_net('::1', '::1')"
    assert shared.run(f"SELECT {sql}") == "1\t0\t1\n"


@pytest.mark.parametrize("network", ["", "10.0.0.0/", "10.0.0.0/x", "nonsense/8", "10.0.0/8"])
def test_in_net_refuses_nonsense(shared: Store, network: str) -> None:
    """A network that is none is an error, not an empty answer."""
    with pytest.raises(StoreError):
        shared.query("SELECT in_net('10.0.0.1', {n:String})", {"n": network})


def test_in_net_is_folded(shared: Store) -> None:
    """A constant network is worked out once, not per row."""
    source = "generateRandom('a IPv6') WHERE in_net(a, '10.0.0.0/8')"
    plan = shared.run(f"EXPLAIN actions = 1 SELECT 1 FROM {source}")
    assert "IPv6CIDRToRange" not in plan, plan
    assert "::ffff:10.255.255.255" in plan, plan


@settings(max_examples=40, deadline=None)
@given(ADDRESSES)
@example(ipaddress.ip_address("::"))
@example(ipaddress.ip_address("::ffff:1.2.3.4"))
def test_ip_text(shared: Store, addr: Any) -> None:
    """An address reads as people write it, a mapped one as IPv4."""
    mapped = getattr(addr, "ipv4_mapped", None)
    found = shared.query("SELECT ip_text(toIPv6({a:String})) AS t", {"a": str(addr)})
    assert ipaddress.ip_address(found["t"][0].as_py()) == (mapped or addr)


def test_mac_text(shared: Store) -> None:
    """A MAC address reads in the usual form."""
    sql = "SELECT mac_text(toFixedString(unhex('02005E10A0FF'), 6)), mac_text(toFixedString('', 6))"
    assert shared.run(sql) == "02:00:5e:10:a0:ff\t00:00:00:00:00:00\n"


def test_proto_name(shared: Store) -> None:
    """Common protocols have names, others stay numbers."""
    sql = "SELECT arrayMap(p -> proto_name(p), [1, 6, 17, 58, 132, 0, 253]) AS n"
    names = shared.query(sql)["n"][0].as_py()
    assert names == ["ICMP", "TCP", "UDP", "ICMPv6", "SCTP", "HOPOPT", "253"]


def test_tcp_flags_text(shared: Store) -> None:
    """Flags read by name, lowest bit first."""
    sql = ", ".join(f"tcp_flags_text(toUInt8({flags}))" for flags in (0, 18, 255))
    assert shared.run(f"SELECT {sql}") == "\tSYN ACK\tFIN SYN RST PSH ACK URG ECE CWR\n"
