"""The tree of settings: units, properties, digest."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flows.settings import DEFAULT_TASKS, Settings, Task
from flows.settings.model import HASH_SEED
from flows.settings.units import (
    format_duration,
    parse_count,
    parse_duration,
    parse_list,
    parse_network,
    to_ns,
)
from schemas.hashing import DEFAULT_SEED


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2s", 2),
        ("500ms", 0.5),
        ("10m", 600),
        ("1m30s", 90),
        ("1.5h", 5400),
        ("PT2S", 2),
        ("P1DT1H", 90_000),
        ("250us", 0.00025),
        (0, 0),
        ("0", 0),
    ],
)
def test_duration_is_read(text: str | int, seconds: float) -> None:
    """Durations are read with a unit, in parts, and as ISO 8601."""
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "2", 2, "s", "-1s", "1s-", "P", "PT", "1 year", None, "9" * 30 + "d"]
)
def test_other_durations_are_refused(text: Any) -> None:
    """A number without a unit, and anything else, is no duration."""
    with pytest.raises(ValueError, match="a duration such as"):
        parse_duration(text)


@settings(max_examples=100)
@given(st.timedeltas(min_value=timedelta(), max_value=timedelta(days=400)))
def test_duration_survives_writing(value: timedelta) -> None:
    """Every duration is read back from what is written."""
    assert parse_duration(format_duration(value)) == value
    assert to_ns(value) == round(value / timedelta(microseconds=1)) * 1000


def test_counts_have_multiples() -> None:
    """Counts take k, M, G and underscores, and nothing else."""
    assert [parse_count(v) for v in ("500k", "4M", "1_000", 7)] == [500_000, 4_000_000, 1000, 7]
    for bad in ("", "1.5", "k", "-1", True, 1.5, None):
        with pytest.raises(ValueError, match="whole number"):
            parse_count(bad)


def test_lists_are_text_or_lists() -> None:
    """Lists are written a,b or as lists; a number is none."""
    assert parse_list("a, b,") == ("a", "b") == parse_list(["a", "b"])
    with pytest.raises(ValueError, match="a list"):
        parse_list(5)


def test_networks_are_canonical() -> None:
    """A range is written one way, and host bits are refused with what was meant."""
    assert parse_network("FC00::/7") == "fc00::/7"
    assert parse_network("10.1.1.1") == "10.1.1.1/32"
    with pytest.raises(ValueError, match=r"did you mean 10\.0\.0\.0/8"):
        parse_network("10.1.1.1/8")


def test_settings_are_frozen() -> None:
    """No setting changes after loading."""
    with pytest.raises(ValidationError):
        Settings().window.pane = timedelta(seconds=5)  # type: ignore[misc]


def test_seed_is_the_shared_one() -> None:
    """The default seed is the one that the hashing has."""
    assert HASH_SEED == DEFAULT_SEED


def test_environment_is_not_read_behind_our_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only `load` reads the environment; constructing the tree doesn't."""
    monkeypatch.setenv("NETSPECTRA_TENANT", "other")
    assert Settings().tenant == "demo"


def test_source_has_parts() -> None:
    """Kind, target and paths of a source are properties; several paths go one on a line."""
    source = Settings(source="pcap:/a/b:c.pcap\n *.pcapng \n")
    assert source.source_kind == "pcap"
    assert source.source_paths == ("/a/b:c.pcap", "*.pcapng")
    assert Settings(source="interface:eth0").source_target == "eth0"
    assert Settings(source="interface:eth0,eth1.7").source_interfaces == ("eth0", "eth1.7")
    assert Settings().source_paths == Settings().source_interfaces == ()


@pytest.mark.parametrize("names", ["", "a,", ",a", "a,a", "a b", "a/b", "sixteen-letters-"])
def test_names_that_no_interface_has_are_refused(names: str) -> None:
    """Interfaces are named by what Linux takes for a name, each once."""
    with pytest.raises(ValidationError, match="interface:<name>"):
        Settings(source=f"interface:{names}")


@pytest.mark.parametrize("size", [0, 3, 2048, "x"])
def test_ring_is_a_power_of_two(size: Any) -> None:
    """The kernel's ring has a power of two of bytes, and so it is set."""
    assert Settings(capture={"ring_mb": "64"}).capture.ring_mb == 64
    with pytest.raises(ValidationError, match=r"power of two|whole number"):
        Settings(capture={"ring_mb": size})


def test_rules_are_lists() -> None:
    """Several rules of a filter are written with commas, or as a list."""
    capture = Settings(capture={"filter": "tcp port 443, udp", "exclude": ["port 9092"]}).capture
    assert capture.filter == ("tcp port 443", "udp")
    assert capture.exclude == ("port 9092",)


LIVE = [
    {"directions": "ingress"},
    {"mode": "flows"},
    {"sampling_rate": 10},
    {"filter": "tcp"},
    {"exclude": "tcp"},
]


@pytest.mark.parametrize("changed", LIVE)
def test_what_is_captured_matters_to_live_captures_only(changed: dict[str, Any]) -> None:
    """Filters change what an interface gives, and nothing about files."""
    for source, same in (("interface:eth0", False), ("pcap:a.pcap", True)):
        digests = {Settings(source=source, capture=c).digest() for c in ({}, changed)}
        assert (len(digests) == 1) == same


@pytest.mark.parametrize(
    "changed",
    [
        {"ring_mb": 1},
        {"method": "packet"},
        {"loader": "bcc"},
        {"attach": "clsact"},
        {"xdp_mode": "generic"},
    ],
)
def test_how_packets_are_got_is_not_in_the_digest(changed: dict[str, Any]) -> None:
    """The same packets are the same units, whatever read them."""
    source = "interface:eth0"
    assert Settings(source=source, capture=changed).digest() == Settings(source=source).digest()


def test_probe_is_named_after_the_file() -> None:
    """A capture's probe is its file, unless the settings name one."""
    assert Settings().probe_name("/x/a.pcap") == "a.pcap"
    assert Settings().probe_name()
    assert Settings(probe={"name": "p"}).probe_name("/x/a.pcap") == "p"


def test_pane_may_stand_among_the_horizons() -> None:
    """The pane is a horizon once, named or not."""
    named = Settings(window={"horizons": "2s,60s,60s"})
    assert named.window.horizons_ns == (2 * 10**9, 60 * 10**9)


def test_internal_can_be_replaced() -> None:
    """The user's networks are added to ours, and replace those of the same name."""
    networks = Settings(networks={"internal": [], "dns": "1.1.1.1/32"}).networks
    assert networks == {"internal": (), "dns": ("1.1.1.1/32",)}


def test_five_tuple_is_a_default_task() -> None:
    """The default tasks are the documented ones."""
    assert [task.name for task in DEFAULT_TASKS] == [
        "five_tuple",
        "distinct_src_addr",
        "distinct_dst_addr",
        "distinct_addr_pair",
        "distinct_five_tuple",
        "top_src_addr",
        "top_dst_addr",
        "top_dst_port",
        "top_ip_proto",
        "fan_out",
        "fan_in",
        "fan_out_service",
        "pair_ports",
    ]


def test_a_spread_key_is_at_most_two_addresses() -> None:
    """A key that a spread sketch can't hold is refused."""
    with pytest.raises(ValidationError, match="at most two addresses"):
        Task(
            name="t",
            type="spread",
            key=("src_addr", "dst_addr", "ip_proto"),
            elements=("dst_port",),
        )


@pytest.mark.parametrize(
    "changed",
    [
        {"window": {"pane": "5s"}},
        {"window": {"max_flows": 2000}},
        {"window": {"count": "all"}},
        {"capture": {"decapsulate": True}},
        {"networks": {"dns": "1.1.1.1/32"}},
        {"tasks": DEFAULT_TASKS[:-1]},
        {"seed": 1},
        {"tenants": "a"},
        {"demo": {"seed": 2}},
    ],
)
def test_digest_changes_with_contents(changed: dict[str, Any]) -> None:
    """Whatever changes the rows of a unit changes the digest."""
    assert Settings(**changed).digest() != Settings().digest()


@pytest.mark.parametrize(
    "changed",
    [
        {"store": "chdb:x"},
        {"log": {"level": "debug"}},
        {"again": "add"},
        {"window": {"pane": "2000ms"}},
        {"networks": {}},
    ],
)
def test_digest_ignores_the_rest(changed: dict[str, Any]) -> None:
    """Where it goes, how it is logged, and how a value is spelt don't change the digest."""
    assert Settings(**changed).digest() == Settings().digest()


def test_demo_settings_matter_to_the_demo_only() -> None:
    """Another source's digest doesn't depend on the demo's settings."""
    real = Settings(source="kafka")
    assert Settings(source="kafka", demo={"seed": 2}).digest() == real.digest()
    assert len(real.digest()) == 16


@pytest.mark.parametrize(
    "brokers",
    [
        "localhost:9092",
        "10.0.0.1:1,10.0.0.2:65535, kafka_3",
        "[::1]:19092,[fe80::1%eth0]",
        "SASL_SSL://a.b:1,plaintext://[::1]:2,",
    ],
)
def test_brokers_are_what_librdkafka_takes(brokers: str) -> None:
    """Addresses with and without protocol and port are taken as they are."""
    assert Settings.model_validate({"kafka": {"brokers": brokers}}).kafka.brokers == brokers


@pytest.mark.parametrize(
    "brokers",
    [
        *("foo:bar", "", ",", "a:", "a:0", "a:65536", "a:-1", "a:1:2", "a:1,b:x", "a:1/x"),
        *("::1", "[::1", "[x]:1", "http://a:1", 5),
    ],
)
def test_what_is_no_broker_is_refused(brokers: Any) -> None:
    """A port that is no port, or a host that is none, is told before anything is tried."""
    with pytest.raises(ValidationError, match="host:port, several with commas"):
        Settings.model_validate({"kafka": {"brokers": brokers}})


@pytest.mark.parametrize(
    ("store", "storage", "wanted"),
    [
        ("chdb:x", {"serve_port": 8123}, "12 characters or more"),
        ("chdb:x", {"serve_port": 8123, "serve_password": "short"}, "at least 12"),
        ("chdb:x", {"serve_port": 0, "serve_password": "long enough to be"}, "greater than"),
        ("http://h/d", {"serve_port": 8123, "serve_password": "long enough to be"}, "server"),
    ],
)
def test_a_store_isn_t_served_to_everybody(
    store: str, storage: dict[str, Any], wanted: str
) -> None:
    """A port takes an embedded store and a password that can't be guessed."""
    with pytest.raises(ValidationError, match=wanted):
        Settings(store=store, storage=storage)


def test_the_password_of_the_port_isn_t_shown() -> None:
    """Settings that are printed or dumped hold no password."""
    made = Settings(storage={"serve_port": 8123, "serve_password": "long enough to be"})
    assert "long enough" not in f"{made} {made.model_dump_json()}"
