"""Every saved query on the demo's traffic, against sums over the rows of flows in plain Python."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

import pytest

from flows import job
from flows.settings import Settings
from flows.storage.resolution import Span
from flows.storage.saved import saved
from flows.storage.saved_sql import Asked, statement
from flows.storage.store import Store
from tests.support.jobs import ROOT
from tests.support.store_rows import T0_MS, address, rows

Row = dict[str, Any]
Ask = Callable[..., list[Row]]

OF_NAMES = {"as-numbers", "countries", "named-networks"}
"""Queries that are tested with names, in ``test_names``."""

PACKETS = 200_000
DURATION_S = 200


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The demo's 200 seconds, thinner, with its scans, flood and slow scan, through the job."""
    with Store.open(f"chdb:{tmp_path_factory.mktemp('saved')}", serve=False) as opened:
        settings = Settings(
            source="demo",
            store=opened.setting,
            demo={"packets": PACKETS, "packets_per_second": PACKETS // DURATION_S},
        )
        assert job.run(settings, tell=False) == 0
        yield opened


@pytest.fixture(scope="module")
def flows(store: Store) -> list[Row]:
    """The rows of flows, addresses as text."""
    rows = store.query(
        "SELECT *, ip_text(src_addr) AS src, ip_text(dst_addr) AS dst, "
        "toUnixTimestamp64Nano(first_seen) AS first_ns, "
        "toUnixTimestamp64Milli(window_start) AS start_ms FROM flows"
    )
    found: list[Row] = rows.drop_columns(["first_seen", "last_seen"]).to_pylist()
    return found


@pytest.fixture(scope="module")
def span(flows: list[Row]) -> Span:
    starts = [row["start_ms"] for row in flows]
    return Span(min(starts), max(starts) + 2000)


@pytest.fixture(scope="module")
def ask(store: Store, span: Span) -> Ask:
    """Asks a saved query; without a span, of all."""

    def ask(name: str, limit: int = 10_000, **given: Any) -> list[Row]:
        asked = Asked(
            given.pop("span", span if saved()[name].is_bounded else Span()),
            where=given.pop("where", ""),
            step_s=given.pop("step_s", 0),
            rows=limit,
        )
        rows: list[Row] = store.query(statement(saved()[name], given, asked)).to_pylist()
        return rows

    return ask


def bytes_by(flows: list[Row], *keys: str) -> Counter[Any]:
    """Sums by key, of IP only where the key has addresses."""
    found: Counter[Any] = Counter()
    for row in ip_only(flows) if "src" in keys or "dst" in keys else flows:
        found[tuple(row[key] for key in keys)] += row["bytes"]
    return found


def ip_only(flows: list[Row]) -> Iterator[Row]:
    return (row for row in flows if row["eth_type"] in (0x0800, 0x86DD))


def pair_of(row: Row) -> tuple[str, str]:
    """Addresses in the order of the engine, which is that of their 16 bytes."""
    a, b = sorted((row["src"], row["dst"]), key=number)
    return a, b


def number(text: str) -> int:
    ip = ip_address(text)
    return int(ip) if isinstance(ip, IPv6Address) else int(ip) + (0xFFFF << 32)


def test_the_readme_names_them_all() -> None:
    """Each saved query is in the README's table."""
    table = (ROOT / "README.md").read_text().split("## Ask the usual questions")[1]
    assert all(f"`{name}`" in table or f"`{name} " in table for name in saved())


def test_there_are_twenty(ask: Ask) -> None:
    """All saved queries run, with their parameters; the tests below are of twenty of them."""
    assert len(saved()) == 20 + len(OF_NAMES)
    given = {"host": "internal", "a": "10.0.0.0/8", "b": "fc00::/7"}
    for name, query in saved().items():
        values = {p.name: given[p.name] for p in query.parameters if p.default is None}
        ask(name, **values)
        assert name in OF_NAMES or f"test_{query.name.replace('-', '_')}" in globals(), name


def test_top_talkers(ask: Ask, flows: list[Row]) -> None:
    """Sent and received bytes of every host, and its different peers."""
    sent, received = bytes_by(flows, "src"), bytes_by(flows, "dst")
    peers = defaultdict(set)
    for row in flows:
        peers[row["src"]].add(row["dst"])
        peers[row["dst"]].add(row["src"])
    found = ask("top-talkers")
    assert found == sorted(found, key=lambda row: (-row["total_bytes"], row["host"]))
    assert len(found) >= 1000
    for row in found[:200]:
        host = (row["host"],)
        assert (row["sent_bytes"], row["received_bytes"]) == (sent[host], received[host])
        assert row["total_bytes"] == sent[host] + received[host]
        assert row["peers"] == len(peers[row["host"]])
    assert found[0]["percent"] == round(100 * found[0]["total_bytes"] / bytes_by(flows).total(), 2)


def test_conversations(ask: Ask, flows: list[Row]) -> None:
    """Each pair once, with the bytes of either way."""
    ways = bytes_by(flows, "src", "dst")
    found = ask("conversations")
    pairs = [(row["host_a"], row["host_b"]) for row in found]
    assert len(set(pairs)) == len(pairs)
    for row in found[:200]:
        a, b = row["host_a"], row["host_b"]
        assert row["a_to_b_bytes"] == ways[a, b]
        assert row["b_to_a_bytes"] == (ways[b, a] if a != b else 0)
    totals: Counter[Any] = Counter()
    for row in ip_only(flows):
        totals[pair_of(row)] += row["bytes"]
    assert [row["total_bytes"] for row in found[:50]] == [n for _, n in totals.most_common(50)]


@pytest.mark.parametrize("host", ["10.10.0.10", "10.1.0.0/16", "internal"])
def test_peers(ask: Ask, flows: list[Row], host: str) -> None:
    """All who talked to an address, a network, a named network, with the bytes of either way."""

    def inside(row: Row, side: str) -> bool:
        if host == "internal":
            return bool(row[f"{side}_net"] == host)
        ip = ip_address(row[side])
        return ip.version == 4 and ip in ip_network(host)

    sent: Counter[str] = Counter()
    received: Counter[str] = Counter()
    for row in flows:
        if inside(row, "src"):
            sent[row["dst"]] += row["bytes"]
        elif inside(row, "dst"):
            received[row["src"]] += row["bytes"]
    found = ask("peers", limit=1_000_000, host=host)
    assert found
    assert {row["peer"]: row["sent_bytes"] for row in found if row["sent_bytes"]} == sent
    assert {
        row["peer"]: row["received_bytes"] for row in found if row["received_bytes"]
    } == received


def test_between(ask: Ask, flows: list[Row]) -> None:
    """What hosts of one network and of another say to each other, the first network first."""
    a, b = ip_network("10.10.0.0/16"), ip_network("10.1.0.0/16")
    wanted: Counter[Any] = Counter()
    for row in flows:
        src, dst = ip_address(row["src"]), ip_address(row["dst"])
        if src.version == dst.version == 4:
            if src in a and dst in b:
                wanted[row["src"], row["dst"]] += row["bytes"]
            elif src in b and dst in a:
                wanted[row["dst"], row["src"]] += row["bytes"]
    found = ask("between", a=str(a), b=str(b))
    assert len(found) > 5
    assert {(row["host_a"], row["host_b"]): row["total_bytes"] for row in found} == wanted


FIVE = ("src", "src_port", "dst", "dst_port", "ip_proto")


def test_largest_flows(ask: Ask, flows: list[Row]) -> None:
    """The largest flows, each way for itself."""
    wanted = bytes_by(flows, *FIVE)
    found = ask("largest-flows", limit=20)
    assert [row["total_bytes"] for row in found] == [n for _, n in wanted.most_common(20)]
    assert found[0]["protocol"] in ("TCP", "UDP")


@pytest.mark.parametrize(
    "name", ["top-talkers", "conversations", "largest-flows", "longest-flows", "asymmetric-flows"]
)
def test_the_first_of_a_list_are_those_of_the_whole(ask: Ask, name: str) -> None:
    """However few rows are wanted, they are the first of all: no key is left out too early."""
    everything = ask(name, limit=1_000_000)
    assert len(everything) > 100
    for few in (1, 7, 100):
        assert ask(name, limit=few) == everything[:few]


def test_keys_that_are_alike_are_listed_in_order(store: Store) -> None:
    """With a thousand pairs of the same bytes, whose buckets hold unlike numbers of them."""
    hosts = [f"10.9.{n // 250}.{n % 250}" for n in range(1000)]
    columns = {
        "tenant": "alike",
        "src_addr": [address(host) for host in hosts],
        "dst_addr": address("10.8.0.1"),
        "eth_type": 0x0800,
        "bytes": 100,
    }
    store.insert("flows", rows("flows", **columns), "flows/alike")
    try:
        asked = Asked(Span(), "alike", rows=40)
        found = store.query(statement(saved()["conversations"], {}, asked)).to_pylist()
        assert [row["host_b"] for row in found] == sorted(hosts)[:40]
        assert {row["total_bytes"] for row in found} == {100}
    finally:
        for table in ("flows", "flows_1m", "flows_1h"):
            store.command(f"DELETE FROM {table} WHERE tenant = 'alike'")


def test_both_ways_of_a_pair_are_in_one_bucket(store: Store) -> None:
    """Rows with the same two addresses share it in each table, and pairs spread evenly."""
    even = "65536 * (1 - exp(-count() / 65536))"
    for table in ("flows", "flows_1m", "flows_1h"):
        counted = store.run(
            f"SELECT max(n), uniqExact(bucket) > 0.97 * {even} FROM (SELECT"
            f" uniqExact(pair_bucket) AS n, any(pair_bucket) AS bucket FROM {table}"
            " GROUP BY least(src_addr, dst_addr), greatest(src_addr, dst_addr))"
        )
        assert counted.split() == ["1", "1"], table


def test_longest_flows(ask: Ask, flows: list[Row]) -> None:
    """Minutes in which a client sent to a service are counted."""
    minutes = defaultdict(set)
    for row in flows:
        if row["dst_port"] < 1024:
            key = row["src"], row["dst"], row["dst_port"], row["ip_proto"]
            minutes[key].add(row["start_ms"] // 60_000)
    found = ask("longest-flows", limit=100, below="1024")
    assert found[0]["active_minutes"] == max(map(len, minutes.values())) >= 4
    assert found[0]["span_minutes"] > 2.5
    assert sum(len(m) == found[0]["active_minutes"] for m in minutes.values()) >= 1


def test_asymmetric_flows(ask: Ask, flows: list[Row]) -> None:
    """Pairs of which one side sends ten times as much, and no others."""
    ways = bytes_by(flows, "src", "dst")
    wanted = {(a, b): n for (a, b), n in ways.items() if n >= 10 * ways.get((b, a), 0)}
    found = ask("asymmetric-flows", limit=1_000_000)
    listed = {(row["sender"], row["receiver"]): row["sent_bytes"] for row in found}
    assert listed == wanted
    for row in found[:50]:
        assert row["returned_bytes"] == ways.get((row["receiver"], row["sender"]), 0)


def test_ports(ask: Ask, flows: list[Row]) -> None:
    """Bytes of both ways, clients and servers of each service."""
    to = [row for row in flows if row["ip_proto"] == 6 and row["dst_port"] == 443]
    back = [row for row in flows if row["ip_proto"] == 6 and row["src_port"] == 443]
    to = [row for row in to if row["src_port"] >= 443]
    back = [row for row in back if row["dst_port"] > 443]
    found = {row["service"]: row for row in ask("ports", limit=1_000_000, below="65536")}
    https = found["443/TCP"]
    assert https["to_service_bytes"] == sum(row["bytes"] for row in to) > 0
    assert https["from_service_bytes"] == sum(row["bytes"] for row in back) > 0
    assert https["total_bytes"] == https["to_service_bytes"] + https["from_service_bytes"]
    assert https["total_packets"] == sum(row["packets"] for row in to + back)
    assert https["clients"] == len({row["src"] for row in to} | {row["dst"] for row in back})
    assert https["servers"] == len({row["dst"] for row in to} | {row["src"] for row in back})
    assert {"53/UDP", "ICMP 8.0"} <= found.keys()
    assert sum(row["total_bytes"] for row in found.values()) == sum(row["bytes"] for row in flows)


def test_networks(ask: Ask, flows: list[Row]) -> None:
    """Networks of the wanted length, of either version, with all their bytes and hosts."""
    for ipv4, ipv6 in ((24, 48), (8, 64)):
        sent: Counter[str] = Counter()
        hosts = defaultdict(set)
        for row in ip_only(flows):
            for side in ("src", "dst"):
                bits = ipv6 if ":" in row[side] else ipv4
                network = str(ip_network(f"{row[side]}/{bits}", strict=False))
                hosts[network].add(row[side])
                if side == "src":
                    sent[network] += row["bytes"]
        found = ask("networks", limit=1_000_000, ipv4=str(ipv4), ipv6=str(ipv6))
        assert {row["prefix"]: row["hosts"] for row in found} == {
            name: len(each) for name, each in hosts.items()
        }
        assert {row["prefix"]: row["sent_bytes"] for row in found if row["sent_bytes"]} == sent


def test_network_matrix(ask: Ask, flows: list[Row]) -> None:
    """A cell for each pair of configured networks; nothing is left out."""
    wanted = {
        (src or "other", dst or "other"): n
        for (src, dst), n in bytes_by(flows, "src_net", "dst_net").items()
    }
    found = ask("network-matrix")
    assert {(row["source"], row["destination"]): row["total_bytes"] for row in found} == wanted
    assert ("internal", "internal") in wanted


@pytest.mark.parametrize("step_s", [2, 60])
@pytest.mark.parametrize("name", ["bandwidth", "interfaces", "protocols"])
def test_rates_add_up(ask: Ask, flows: list[Row], span: Span, name: str, step_s: int) -> None:
    """Rates times the seconds of their bucket within the span are the bytes and the packets."""
    assert span.start_ms is not None
    assert span.end_ms is not None
    found = ask(name, step_s=step_s)
    bits = packets = 0.0
    for row in found:
        start_ms = int(row["time"].timestamp() * 1000)
        seconds = min(start_ms + step_s * 1000, span.end_ms) - max(start_ms, span.start_ms)
        bits += row["bits_per_second"] * seconds / 1000
        packets += row["packets_per_second"] * seconds / 1000
    assert bits == pytest.approx(8 * sum(row["bytes"] for row in flows))
    assert packets == pytest.approx(sum(row["packets"] for row in flows))
    buckets = -(span.end_ms // (step_s * -1000)) - span.start_ms // (step_s * 1000)
    assert len({row["time"] for row in found}) == buckets
    assert {row["percent_complete"] for row in found} == {100}


def test_bandwidth(ask: Ask) -> None:
    """The peak is that of a pane, so no less than the average of the bucket."""
    found = ask("bandwidth", step_s=60)
    assert all(row["peak_bits_per_second"] >= 0.999 * row["bits_per_second"] for row in found)
    assert {row["probe"] for row in found} == {"demo"}


def test_interfaces(ask: Ask) -> None:
    """A row for each interface and way."""
    found = ask("interfaces", step_s=60)
    assert {(row["interface"], row["direction"]) for row in found} == {(0, 0)}


def test_protocols(ask: Ask) -> None:
    """Shares of a bucket add up to the whole; ARP is no IP protocol."""
    found = ask("protocols", step_s=60)
    for time in {row["time"] for row in found}:
        assert sum(row["percent"] for row in found if row["time"] == time) == pytest.approx(
            100, abs=0.1
        )
    assert {"TCP", "UDP", "ICMP", "ICMPv6", "not IP"} <= {row["protocol"] for row in found}


def test_loss_shows_in_the_series(store: Store) -> None:
    """A bucket in which a probe lost a fifth of its packets is 80 % complete."""
    totals = {"tenant": "lossy", "probe": "edge", "packets": 80, "bytes": 8000}
    ledger = {"tenant": "lossy", "probe": "edge", "seen": 100, "delivered": 80}
    store.insert("totals", rows("totals", **totals), "totals/lossy")
    store.insert("ledger", rows("ledger", **ledger, dropped=[{"ring_full": 20}]), "ledger/lossy")
    asked = Asked(Span(T0_MS, T0_MS + 2000), "lossy")
    try:
        for name in ("bandwidth", "interfaces"):
            (row,) = store.query(statement(saved()[name], {}, asked)).to_pylist()
            assert row["percent_complete"] == 80
            assert row["bits_per_second"] == 32_000
        (row,) = store.query(statement(saved()["loss"], {}, asked)).to_pylist()
        assert (row["reason"], row["dropped"], row["percent"]) == ("ring_full", 20, 20)
    finally:
        for table in ("totals", "ledger"):
            store.command(f"DELETE FROM {table} WHERE tenant = 'lossy'")


def test_ip_versions(ask: Ask, flows: list[Row]) -> None:
    """Bytes by version, and the share of IPv6 in them."""
    by_type = bytes_by(flows, "eth_type")
    found = ask("ip-versions", step_s=3600)
    v4, v6 = (sum(row[name] for row in found) for name in ("ipv4_bytes", "ipv6_bytes"))
    assert (v4, v6) == (by_type[0x0800,], by_type[0x86DD,])
    assert sum(row["other_bytes"] for row in found) == by_type.total() - v4 - v6
    if len(found) == 1:
        assert found[0]["ipv6_percent_of_bytes"] == round(100 * v6 / (v4 + v6), 2)


def test_distinct_hosts(ask: Ask, flows: list[Row]) -> None:
    """The exact numbers of a window lie within the bounds, or close to them."""
    found = ask("distinct-hosts", horizon="60")
    assert len(found) >= 6
    for row in found:
        side = row["task"].removeprefix("distinct_")[:3]
        start_ms = int(row["time"].timestamp() * 1000)
        inside = [f for f in ip_only(flows) if start_ms <= f["start_ms"] < start_ms + 60_000]
        exact = len({f[side] for f in inside})
        assert row["hosts_lower"] <= row["hosts"] <= row["hosts_upper"]
        # Four widths, for 95 % of cases would fail one in twenty.
        width = row["hosts_upper"] - row["hosts_lower"]
        assert abs(row["hosts"] - exact) <= 2 * width + 1


def test_new_hosts(ask: Ask, flows: list[Row], span: Span) -> None:
    """Who sent first within the last seconds of the span, and not before."""
    assert span.end_ms is not None
    first: dict[str, int] = {}
    for row in ip_only(flows):
        first[row["src"]] = min(first.get(row["src"], 2**63), row["first_ns"])
    since_ns = (span.end_ms - 20_000) * 10**6
    wanted = {host for host, ns in first.items() if ns // 10**6 * 10**6 >= since_ns}
    found = ask("new-hosts", limit=1_000_000, within="20")
    assert {row["host"] for row in found} == wanted
    assert 0 < len(wanted) < len(first)


def test_scans(ask: Ask) -> None:
    """The two scanners of the demo are found, one by hosts, one by ports, and nobody else."""
    found = {row["source"]: row for row in ask("scans", least="250")}
    assert found.keys() == {"10.12.99.21", "10.21.99.7"}
    assert found["10.12.99.21"]["hosts"] > 100
    assert (found["10.21.99.7"]["hosts"], found["10.12.99.21"]["ports"]) == (1, 1)
    assert found["10.21.99.7"]["ports"] > 100


def test_exposed(store: Store) -> None:
    """Services inside to which somebody outside sent data; tries and insiders don't count."""
    clients = ("192.0.2.1", "192.0.2.2", "192.0.2.3", "10.0.0.9", "192.0.2.1")
    columns = {
        "tenant": "exposed",
        "src_addr": [address(client) for client in clients],
        "dst_addr": [address("10.0.0.1")] * 5,
        "src_net": ["", "", "", "internal", ""],
        "dst_net": "internal",
        "ip_proto": 6,
        "tcp_flags": [0x1A, 0x1B, 0x02, 0x1A, 0x1A],
        "dst_port": [22, 22, 22, 22, 40_000],
        "bytes": 100,
    }
    store.insert("flows", rows("flows", **columns), "flows/exposed")
    try:
        asked = Asked(Span(), "exposed")
        (row,) = store.query(statement(saved()["exposed"], {}, asked)).to_pylist()
        assert (row["server"], row["port"], row["outsiders"]) == ("10.0.0.1", 22, 2)
        assert row["received_bytes"] == 200
        (row,) = store.query(
            statement(saved()["exposed"], {"network": "10.0.0.9", "below": "99"}, asked)
        ).to_pylist() or [{}]
        assert row == {}
    finally:
        for table in ("flows", "flows_1m", "flows_1h"):
            store.command(f"DELETE FROM {table} WHERE tenant = 'exposed'")


def test_alerts(ask: Ask, store: Store) -> None:
    """Alerts that are not over, the worst first."""
    found = ask("alerts")
    assert found
    severities = [row["severity"] for row in found]
    assert severities == sorted(severities, reverse=True)
    open_ = store.run("SELECT count() FROM alerts WHERE status IN ('pending', 'firing')")
    assert len(found) == int(open_)


def test_loss(ask: Ask) -> None:
    """Each hop with what it saw; nothing was lost."""
    found = ask("loss")
    assert [row["hop"] for row in found] == [1, 4, 5]
    assert {row["seen"] for row in found} == {PACKETS}
    assert {(row["reason"], row["dropped"], row["percent"]) for row in found} == {("", 0, 0)}
