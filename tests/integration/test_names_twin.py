"""Named columns of flows against a naive lookup in plain Python."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.storage.store import Store
from tests.support.names import put
from tests.support.store_rows import address, rows

Row = dict[str, Any]

ADDRESSES = st.builds(
    lambda base, low: ip_address(base) + low,
    st.sampled_from(["10.0.0.0", "10.1.0.0", "192.0.2.0", "2001:db8::", "fc00::", "::"]),
    st.integers(0, 300),
)
PREFIXES = st.builds(
    lambda a, cut: ip_network(
        (int(a), a.max_prefixlen - cut) if a.version == 4 else f"{a}/{a.max_prefixlen - cut}",
        strict=False,
    ),
    ADDRESSES,
    st.sampled_from([0, 1, 4, 8, 9, 16, 24, 32]),
)
LABELS = st.sampled_from(["a", "b", "c", "Zürich", 'it\'s, "quoted"'])
PORTS = st.sampled_from([1, 22, 53, 443, 5000, 40_000, 65_535])
FLOW = st.tuples(
    ADDRESSES, ADDRESSES, PORTS, PORTS, st.sampled_from([1, 6, 17]), st.sampled_from([1, 2])
)


def longest(table: dict[Any, Any], ip: Any, nothing: Any) -> Any:
    """The naive twin of a lookup."""
    ip = getattr(ip, "ipv4_mapped", None) or ip
    inside = [p for p in table if p.version == ip.version and ip in p]
    return table[max(inside, key=lambda p: p.prefixlen)] if inside else nothing


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(f"chdb:{tmp_path_factory.mktemp('names')}/store", serve=False) as opened:
        yield opened


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(PREFIXES, LABELS, max_size=12),
    st.dictionaries(PREFIXES, st.integers(1, 2**32 - 1), max_size=12),
    st.dictionaries(PREFIXES, st.sampled_from(["DE", "FR"]), max_size=12),
    st.dictionaries(st.tuples(st.sampled_from([6, 17]), PORTS), LABELS),
    st.dictionaries(st.tuples(st.just("p"), st.sampled_from(["1", "2", "eth1"])), LABELS),
    st.lists(FLOW, min_size=1, max_size=20),
)
def test_the_view_says_what_a_naive_lookup_says(
    shared: Store,
    tmp_path: Path,
    networks: Any,
    numbers: Any,
    countries: Any,
    services: Any,
    interfaces: Any,
    flows: Any,
) -> None:
    """Every named column of every flow equals a walk over all prefixes in plain Python."""

    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    put(
        shared, tmp_path,
        networks=[f"{p},{cell(name)}," for p, name in networks.items()],
        as_numbers=[f"{p},{n},AS {n}" for p, n in numbers.items()],
        countries=[f"{p},{c}" for p, c in countries.items()],
        services=[f"{proto},{port},{cell(name)}" for (proto, port), name in services.items()],
        interfaces=[f"{p},{i},{cell(name)},behind,1Gbps" for (p, i), name in interfaces.items()],
    )  # fmt: skip
    shared.command("TRUNCATE TABLE flows")
    src, dst, sport, dport, proto, index = map(list, zip(*flows, strict=True))
    given_rows = rows(
        "flows",
        src_addr=[address(str(a)) for a in src], dst_addr=[address(str(a)) for a in dst],
        src_port=sport, dst_port=dport, ip_proto=proto, if_index=index,
        if_name=[f"eth{i}" for i in index], probe="p", packets=list(range(1, len(src) + 1)),
    )  # fmt: skip
    shared.insert("flows", given_rows, os.urandom(8).hex())
    found = shared.query(
        "SELECT packets, src_as, src_as_name, src_country, src_network, dst_as, dst_country, "
        "dst_network, service, interface, interface_description, interface_speed "
        "FROM flows_named ORDER BY packets"
    ).to_pylist()
    known = {(6, 22): "ssh", (6, 53): "dns", (6, 443): "https", (17, 53): "dns", (17, 443): "quic"}

    def service(flow: Any) -> str:
        ports = sorted(flow[2:4])
        names = ({**known, **services}.get((flow[4], port), "") for port in ports)
        return next((name for name in names if name), "")

    def wanted(at: int, flow: Any) -> Row:
        number = longest(numbers, flow[0], 0)
        key = ("p", str(flow[5]))
        key = key if key in interfaces else ("p", f"eth{flow[5]}")
        return {
            "packets": at,
            "src_as": number,
            "src_as_name": f"AS {number}" if number else "",
            "src_country": longest(countries, flow[0], ""),
            "src_network": longest(networks, flow[0], ""),
            "dst_as": longest(numbers, flow[1], 0),
            "dst_country": longest(countries, flow[1], ""),
            "dst_network": longest(networks, flow[1], ""),
            "service": service(flow),
            "interface": interfaces.get(key, f"eth{flow[5]}"),
            "interface_description": "behind" if key in interfaces else "",
            "interface_speed": 10**9 if key in interfaces else 0,
        }

    assert found == [wanted(at, flow) for at, flow in enumerate(flows, 1)]
