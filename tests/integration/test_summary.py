"""The summary against a real store: what it says is what the tables hold."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from flows.findings import Hop, Summary, collect
from flows.storage.store import Store
from flows.summary import hints, render, scaled, show


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(f"chdb:{tmp_path_factory.mktemp('summary')}", serve=False) as opened:
        fill(opened, "exact", folded=False)
        fill(opened, "folded", folded=True)
        yield opened


def fill(store: Store, tenant: str, *, folded: bool) -> None:
    """Three flows and an ARP packet, in two windows of 60 s, and what belongs to them."""
    flows = [
        # second, source, destination, port, protocol, type, packets, bytes, folded
        (0, "::ffff:10.0.0.1", "::ffff:10.0.0.2", 443, 6, 2048, 10, 5000, 0),
        (61, "::ffff:10.0.0.1", "::ffff:10.0.0.3", 53, 17, 2048, 5, 1000, 0),
        (62, "2001:db8::1", "2001:db8::2", 443, 6, 34525, 100, 3000, 0),
        (63, "::", "::", 0, 0, 2054, 1, 60, 0),
    ]
    if folded:
        flows.append((64, "::", "::ffff:10.0.0.2", 0, 6, 2048, 7, 700, 4))
    for second, src, dst, port, proto, kind, packets, size, fold in flows:
        store.command(
            "INSERT INTO flows (tenant, probe, window_start, src_addr, dst_addr, dst_port, "
            "ip_proto, eth_type, packets, bytes, first_seen, last_seen, folded_flows) VALUES ("
            f"'{tenant}', 'p', fromUnixTimestamp64Milli({second * 1000}), toIPv6('{src}'), "
            f"toIPv6('{dst}'), {port}, {proto}, {kind}, {packets}, {size}, "
            f"toDateTime64('1970-01-01 00:00:00', 9, 'UTC') + {second}, "
            f"toDateTime64('1970-01-01 00:00:00', 9, 'UTC') + {second}, {fold})"
        )
        store.command(
            "INSERT INTO totals (tenant, probe, window_start, packets, bytes, ipv4_packets) "
            f"VALUES ('{tenant}', 'p', fromUnixTimestamp64Milli({second * 1000}), {packets}, "
            f"{size}, {packets})"
        )
    for start, estimate in ((0, 1.0), (60, 2.0)):
        store.command(
            "INSERT INTO distinct_counts_log (tenant, window_start, horizon, task, estimate, "
            f"lower, upper, confidence, revision, complete) VALUES ('{tenant}', "
            f"fromUnixTimestamp64Milli({start * 1000}), 60, 'distinct_src_addr', {estimate}, "
            f"{estimate - 0.5}, {estimate + 0.5}, 0.95, 1, true)"
        )
    store.command(
        "INSERT INTO heavy_hitters_log (tenant, window_start, horizon, task, ranked_by, rank, key, "
        "key_text, packets, packets_lower, packets_upper, bytes, bytes_lower, bytes_upper, "
        f"confidence, revision) VALUES ('{tenant}', fromUnixTimestamp64Milli(60000), 60, "
        "'top_src_addr', 'bytes', 1, map('src_addr', '2001:db8::1'), 'src_addr=2001:db8::1', "
        "100, 100, 101, 3000, 2990, 3010, 0.99, 1)"
    )
    store.command(
        "INSERT INTO spreaders_log (tenant, window_start, horizon, task, rank, key, key_text, "
        "estimate, lower, upper, confidence, revision) VALUES "
        f"('{tenant}', toDateTime64(60, 3), 60, 'fan_out', 1, map('src_addr', '192.0.2.7'), "
        "'src_addr=192.0.2.7', 507, 480, 533, 0.95, 1)"
    )
    lost = "map('truncated', 3)" if folded else "map()"
    for hop, seen, dropped in (("capture", 119 if folded else 116, lost), ("store", 116, "map()")):
        store.command(
            "INSERT INTO ledger (tenant, probe, window_start, hop, seen, delivered, dropped, "
            f"in_flight) VALUES ('{tenant}', 'p', toDateTime64(0, 3), '{hop}', {seen}, 116, "
            f"{dropped}, 0)"
        )


def printed(store: Store, tenant: str, width: int = 100, *, terminal: bool = False) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, markup=False, force_terminal=terminal)
    render(store, tenant, source="demo", elapsed_s=2.0, where="chdb:x", console=console)
    return stream.getvalue()


def test_sums_and_rankings_are_the_tables(store: Store) -> None:
    """Packets, bytes, span and rankings are exact sums over the whole run."""
    found = collect(store, "exact")
    assert (found.packets, found.bytes, found.flow_rows, found.folded_flows) == (116, 9060, 4, 0)
    assert found.span_s == 63.0
    sources = [(row.key, row.packets, row.bytes) for row in found.rankings["Sources"]]
    assert sources == [("10.0.0.1", 15, 6000), ("2001:db8::1", 100, 3000)]
    ports = [(row.key, row.bytes) for row in found.rankings["Destination ports"]]
    assert ports == [("tcp/443", 8000), ("udp/53", 1000)]
    protocols = [(row.key, row.bytes) for row in found.rankings["Protocols"]]
    assert protocols == [("TCP", 8000), ("UDP", 1000), ("ARP", 60)]
    assert found.hosts == {"sources": 2, "destinations": 3}
    assert not any(row.more_bytes for ranking in found.rankings.values() for row in ranking)


def test_folded_flows_widen_the_rankings(store: Store) -> None:
    """What is in folded rows may belong to any key that they lost, and to no other."""
    found = collect(store, "folded")
    assert {row.more_bytes for row in found.rankings["Sources"]} == {700}
    assert {row.more_packets for row in found.rankings["Destination ports"]} == {7}
    assert {row.more_bytes for row in found.rankings["Destinations"]} == {0}
    assert {row.more_bytes for row in found.rankings["Protocols"]} == {0}
    assert found.hosts == {}
    text = printed(store, "folded")
    assert "6,000 to 6,700" in text
    assert "not countable from flows" in text


def test_sketches_are_of_the_busiest_window(store: Store) -> None:
    """Of two windows the one with more packets is shown, with its bounds."""
    found = collect(store, "exact")
    assert (found.horizon, found.windows, found.window_start_ns) == (60, 2, 60 * 10**9)
    (hosts,) = found.distinct
    assert (hosts.estimate, hosts.lower, hosts.upper, hosts.confidence) == (2, 1.5, 2.5, 0.95)
    (heavy,) = found.heavy
    assert (heavy.key, heavy.lower, heavy.upper) == ("src_addr=2001:db8::1", 2990, 3010)
    (spread,) = found.spread
    assert (spread.task, spread.key, spread.upper) == ("fan_out", "src_addr=192.0.2.7", 533)
    assert "Most different peers there" in printed(store, "exact")


def test_ledger_says_complete_or_what_was_dropped(store: Store) -> None:
    """A ledger without drops is complete; drops are named by reason."""
    found = collect(store, "exact")
    assert found.ledger.complete
    assert "complete: every packet seen is stored" in printed(store, "exact")
    found = collect(store, "folded")
    assert found.ledger.balanced
    assert not found.ledger.complete
    assert found.hops[0].dropped == {"truncated": 3}
    assert "truncated 3" in printed(store, "folded")


def test_probes_can_be_chosen(store: Store) -> None:
    """Only the named probes' packets are counted."""
    assert collect(store, "exact", ["p"]).packets == 116
    assert collect(store, "exact", ["q"]).packets == 0


def test_tenant_is_data_not_sql(store: Store) -> None:
    """A tenant's name can't change the question."""
    assert collect(store, "x' OR '1'='1").packets == 0


def test_empty_store_is_told(store: Store) -> None:
    """Without packets the summary says so, and still where the data is."""
    text = printed(store, "nobody")
    assert "no packets were stored" in text
    assert "empty: no packets" in text
    assert "chdb:x" in text


@pytest.mark.parametrize("width", [60, 100])
def test_summary_fits(store: Store, width: int) -> None:
    """Nothing but the commands is wider than the terminal, and plain text has no escapes."""
    text = printed(store, "folded", width)
    body = text[: text.index("Try next")]
    assert max(map(len, body.splitlines())) <= width
    assert "\x1b" not in text
    assert "\x1b" in printed(store, "folded", width, terminal=True)


def test_commands_stay_on_their_lines(store: Store) -> None:
    """Three commands are given, each on one line."""
    lines = printed(store, "exact", 60).split("Try next\n")[1].splitlines()
    assert len(lines) == 3
    assert all(line.endswith('"') for line in lines)


def test_hints_fit_the_store(store: Store) -> None:
    """The commands name the store unless it is the demo's, and their SQL is right."""
    assert not hints("chdb:netspectra-demo")[0].startswith("NETSPECTRA_STORE")
    assert hints("chdb:x")[0].startswith("NETSPECTRA_STORE=chdb:x ")
    assert "secret" not in "".join(hints("https://me:secret@host/db"))
    for hint in hints("chdb:x"):
        store.query(hint.split('"')[1])
    assert "--keep" in hints(None)[0]


def test_unbalanced_hop_is_told() -> None:
    """A hop that lost packets without a reason, or gets less than was given, isn't balanced."""
    assert not Hop("decode", 10, 8, {"bad_message": 1}, 0).balanced
    assert Hop("decode", 10, 8, {"bad_message": 1}, 1).balanced
    whole = [Hop("decode", 10, 10, {}, 0), Hop("store", 9, 9, {}, 0)]
    summary = Summary(
        *(0, 0, 0, {}, 0, 0, 0, 0, {}, {}, 0, 0, 0, [], [], []),
        hops=whole,
    )
    assert not summary.ledger.balanced
    stream = io.StringIO()
    show(summary, heading="x", console=Console(file=stream, width=80))
    assert "NOT balanced" in stream.getvalue()


def test_passwords_are_not_printed(store: Store) -> None:
    """A store's address is shown without its password."""
    stream = io.StringIO()
    render(store, "exact", where="http://u:hush@h/d", console=Console(file=stream, width=100))
    assert "hush" not in stream.getvalue()


def test_rate_is_of_this_run(store: Store) -> None:
    """Packets that were stored before don't make this run look faster, and are told apart."""
    stream = io.StringIO()
    console = Console(file=stream, width=100)
    render(store, "exact", elapsed_s=2.0, run_packets=100, console=console)
    assert "2.0 s, 50 packets/s" in stream.getvalue()
    assert "100 packets; the store held the others before" in stream.getvalue()
    assert "held the others" not in printed(store, "exact")


def test_numbers_have_prefixes() -> None:
    """Large numbers are written with powers of 1000."""
    shown = [scaled(value, "B") for value in (0, 999, 1500, 2.5e9, 3e18)]
    assert shown == ["0 B", "999 B", "1.5 kB", "2.5 GB", "3,000 PB"]


def test_default_console_is_stdout(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a console the summary goes to stdout, plain where it is no terminal."""
    render(store, "exact")
    assert "NetSpectra: run, tenant exact" in capsys.readouterr().out


def test_an_unfinished_run_is_not_complete(store: Store) -> None:
    """What was read and isn't stored stands under the ledger, instead of praise."""
    stream = io.StringIO()
    console = Console(file=stream, width=100)
    render(store, "exact", unfinished="stopped: 7 packets wait", console=console)
    assert "INCOMPLETE: stopped: 7 packets wait" in stream.getvalue()
    assert "every packet seen is stored" not in stream.getvalue()
