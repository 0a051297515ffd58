"""Files of names: what is read out of them, and what is told of lines that can't be."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from flows.errors import UsageError
from flows.names import read as reading
from flows.names.kinds import KINDS, Prefix, holds_ipv4, prefix_of, read_prefix
from flows.names.read import read


def file(folder: Path, text: str, name: str = "names.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def mmdb(folder: Path, records: dict[str, Any], name: str = "names.mmdb", ipv: int = 6) -> Path:
    writer = MMDBWriter(ipv, "Test", ipv4_compatible=ipv == 6)
    for network, record in records.items():
        writer.insert_network(IPSet([network]), record)
    path = folder / name
    writer.to_db_file(str(path))
    return path


def found(kind: str, *paths: Path) -> list[tuple[Any, ...]]:
    """Rows with prefixes as text."""
    rows = read(KINDS[kind], paths).found.values()
    return [tuple(getattr(v, "text", v) for v in row) for row in rows]


def refused(kind: str, *paths: Path) -> list[str]:
    with pytest.raises(UsageError) as caught:
        read(KINDS[kind], paths)
    return str(caught.value).splitlines()


def test_networks(tmp_path: Path) -> None:
    """Columns come in any order and case; comments, blank lines, missing values are fine."""
    header = "\ufeff# ours\nName;PREFIX;owner;Site\n\n"
    path = file(tmp_path, header + "Office;10.0.0.0/8;ann;Bonn\n# lab\nLab; 2001:db8::/32;;\n")
    rows = read(KINDS["networks"], [path])
    assert [tuple(getattr(v, "text", v) for v in row) for row in rows.found.values()] == [
        ("10.0.0.0/8", "Office", "Bonn", ""),
        ("2001:db8::/32", "Lab", "", ""),
    ]
    assert rows.notes == ["names.csv: not used: owner"]


def test_columns_as_databases_name_them(tmp_path: Path) -> None:
    """CSV files of AS numbers as they are offered need no change; a lone address is a prefix."""
    header = "network,autonomous_system_number,autonomous_system_organization\n"
    path = file(tmp_path, header + '1.0.0.0/24,64500,"Example, Inc."\n::1,AS64501,\n')
    assert found("as_numbers", path) == [
        ("1.0.0.0/24", 64500, "Example, Inc."),
        ("::1/128", 64501, ""),
    ]


def test_interfaces_and_services(tmp_path: Path) -> None:
    """Speeds are read with their units, protocols by name or number."""
    path = file(tmp_path, "probe,interface,name,speed\nr1,3,uplink,10Gbps\nr1,eth0,lan,\n")
    assert found("interfaces", path) == [
        ("r1", "3", "uplink", "", 10**10),
        ("r1", "eth0", "lan", "", 0),
    ]
    path = file(tmp_path, "protocol\tport\tname\nTCP\t9999\tours\n47\t0\tgre\n")
    assert found("services", path) == [(6, 9999, "ours"), (47, 0, "gre")]


@pytest.mark.parametrize(
    ("kind", "line", "told"),
    [
        ("networks", "10.0.0.1/8,x", "prefix = 10.0.0.1/8: wanted no bits behind the prefix; did"),
        ("networks", "10.0.0/8,x", "prefix = 10.0.0/8: wanted an address range such as"),
        ("networks", "10.0.0.0/8,", "name is empty"),
        ("networks", "10.0.0.0/8", "1 fields, but the header has 2"),
        ("as_numbers", "10.0.0.0/8,-1", "asn = -1: wanted an AS number such as"),
        ("as_numbers", "10.0.0.0/8,4294967296", "asn = 4294967296: wanted an AS number"),
        ("as_numbers", "10.0.0.0/8,²", "asn = ²: wanted an AS number"),
        ("countries", "10.0.0.0/8,Germany", "country = Germany: wanted two letters such as DE"),
        ("interfaces", "r1,3,up,fast", "speed_bps = fast: wanted a number such as"),
        ("services", "icmpx,1,x", "ip_proto = icmpx: wanted tcp, udp, dccp, sctp or the number"),
        ("services", "256,1,x", "ip_proto = 256: wanted tcp"),
        ("services", "tcp,65536,x", "port = 65536: wanted a port from 0 to 65535"),
    ],
)
def test_bad_lines(tmp_path: Path, kind: str, line: str, told: str) -> None:
    """Each line that can't be used is told with its number, the value, and what is wanted."""
    header = {
        "networks": "prefix,name",
        "as_numbers": "prefix,asn",
        "countries": "prefix,country",
        "interfaces": "probe,interface,name,speed",
        "services": "protocol,port,name",
    }[kind]
    (problem,) = refused(kind, file(tmp_path, f"{header}\n# a comment\n{line}\n"))
    assert problem.startswith(f"names.csv line 3: {told}")


def test_a_key_said_twice(tmp_path: Path) -> None:
    """A prefix with two names is refused with both places; with one name it is fine."""
    one = file(tmp_path, "prefix,name\n10.0.0.0/8,a\n10.0.0.0/8,a\n", "one.csv")
    assert len(found("networks", one, one)) == 1
    other = file(tmp_path, "prefix,name\n::ffff:10.0.0.0/104,b\n", "other.csv")
    assert refused("networks", one, other) == [
        "other.csv line 2: 10.0.0.0/8 is said otherwise in one.csv line 2"
    ]


def test_files_that_are_none(tmp_path: Path) -> None:
    """What can't be read at all is one line each: no file, no header, no UTF-8, no CSV, no MMDB."""
    latin = tmp_path / "latin.csv"
    latin.write_bytes("prefix,name\n10.0.0.0/8,Büro\n".encode("latin-1"))
    long = file(tmp_path, "prefix,name\n" + "x" * 200_000 + "\n", "long.csv")
    garbage = tmp_path / "garbage.mmdb"
    garbage.write_bytes(b"\x00" * 1000)
    missing = tmp_path / "missing.csv"
    headless = file(tmp_path, "10.0.0.0/8,a\n", "headless.csv")
    empty = file(tmp_path, "# nothing\n\n", "empty.csv")
    asn = mmdb(tmp_path, {"1.0.0.0/8": {"asn": 1}}, "asn.mmdb")
    assert refused("networks", latin) == ["latin.csv: not in UTF-8; save it as UTF-8"]
    assert refused("networks", long)[0].startswith("long.csv line 2: no CSV: field larger")
    assert refused("networks", missing) == ["missing.csv: can't be read: No such file or directory"]
    assert refused("networks", empty)[0].startswith("empty.csv: is empty; a header alone")
    assert refused("networks", headless) == [
        "headless.csv: the header has no column prefix; columns are prefix, name, site, description"
    ]
    assert refused("networks", asn)[0].startswith("asn.mmdb: an MMDB file holds AS numbers or")
    assert refused("countries", garbage)[0].startswith("garbage.mmdb: not a MaxMind DB")
    assert refused("countries", asn) == ["asn.mmdb: no countries in it (Test)"]


def test_many_problems_are_cut(tmp_path: Path) -> None:
    """Ten problems are told, and how many more there are."""
    path = file(tmp_path, "prefix,name\n" + "x,y\n" * 25)
    problems = refused("networks", path)
    assert len(problems) == 11
    assert problems[-1] == "… and 15 more"


AS = {"autonomous_system_number": 64500, "autonomous_system_organization": "Example"}


def test_mmdb_of_as_numbers(tmp_path: Path) -> None:
    """IPv4 and IPv6 networks of both usual forms are read; records without a number are not."""
    records = {
        "1.2.0.0/16": AS,
        "1.3.0.0/16": {"asn": "AS7", "as_name": "Seven"},
        "1.4.0.0/16": {"other": 1},
        "2001:db8::/32": AS,
    }
    assert found("as_numbers", mmdb(tmp_path, records)) == [
        ("1.2.0.0/16", 64500, "Example"),
        ("1.3.0.0/16", 7, "Seven"),
        ("2001:db8::/32", 64500, "Example"),
    ]
    del records["2001:db8::/32"]
    assert len(found("as_numbers", mmdb(tmp_path, records, ipv=4))) == 2


def test_mmdb_of_countries(tmp_path: Path) -> None:
    """Countries come out of databases of countries and of cities, neighbours joined."""
    records = {
        "1.0.0.0/24": {"country": {"iso_code": "DE"}, "city": {"names": {"en": "Bonn"}}},
        "1.0.1.0/24": {"country": {"iso_code": "DE"}, "city": {"names": {"en": "Ulm"}}},
        "1.0.2.0/24": {"country": {"iso_code": "FR"}},
        "1.0.3.0/24": {"country_code": "fr"},
        "1.0.4.0/24": {"registered_country": {"iso_code": "US"}},
    }
    assert found("countries", mmdb(tmp_path, records)) == [
        ("1.0.0.0/23", "DE"),
        ("1.0.2.0/23", "FR"),
    ]


NETWORKS = st.tuples(st.integers(0, 255), st.integers(24, 32)).map(
    lambda t: ip_network((t[0], t[1]), strict=False)
)


@given(st.dictionaries(NETWORKS, st.sampled_from("ab")))
def test_joining_changes_no_address(given: dict[Any, str]) -> None:
    """Every address says after joining what it said before, and no two neighbours are left."""
    apart: list[Any] = []
    for network in sorted(given):
        if not apart or not network.overlaps(apart[-1]):
            apart.append(network)
    joined = reading.joined((network, (given[network],)) for network in apart)

    def said(pairs: list[Any]) -> dict[Any, Any]:
        return {address: values for network, values in pairs for address in network}

    assert said(joined) == said([(n, (given[n],)) for n in apart])
    left = {(network, values) for network, values in joined}
    for network, values in joined:
        if network.prefixlen:
            a, b = network.supernet().subnets()
            assert not {(a, values), (b, values)} <= left


@given(st.ip_addresses(), st.integers(0, 128))
def test_prefixes(address: Any, bits: int) -> None:
    """A prefix keeps its meaning; IPv4-mapped ones are those of IPv4."""
    network = ip_network((int(address), min(bits, address.max_prefixlen)), strict=False)
    if address.version == 6:
        network = IPv6Network((int(address), bits), strict=False)
    prefix = prefix_of(network)
    assert read_prefix(str(network)) == prefix
    assert read_prefix(prefix.text) == prefix
    first = IPv6Network((prefix.address, 128)).network_address
    assert ip_address(str(first.ipv4_mapped or first)) in ip_network(prefix.text)
    mapped = IPv6Network("::ffff:0:0/96")
    above = isinstance(network, IPv6Network) and network.supernet_of(mapped) and network != mapped
    assert holds_ipv4(prefix) == above
    if network == mapped:
        assert prefix.text == "0.0.0.0/0"


def test_no_ipv4_in_prefixes_of_ipv6(tmp_path: Path) -> None:
    """Beside a prefix of IPv6 that would take IPv4 in stands one that says nothing."""
    rows = read(KINDS["networks"], [file(tmp_path, "prefix,name\n::/0,all\n")])
    assert rows.found[(prefix_of(IPv4Network("0.0.0.0/0")),)][1:] == ("", "", "")
    both = read(
        KINDS["as_numbers"], [file(tmp_path, "prefix,asn\n::/0,6\n0.0.0.0/0,4\n2001::/16,1\n")]
    )
    assert [row[1] for row in both.found.values()] == [6, 4, 1]
    assert all(isinstance(row[0], Prefix) for row in both.found.values())
