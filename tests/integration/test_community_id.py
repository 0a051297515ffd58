"""community_id(): the vectors of the public specification, and a plain twin."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import struct
from collections.abc import Iterator

import pytest

from flows.storage.store import Store
from tests.support.store_rows import address, rows

FE80_A, FE80_B = "fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea"
FFE_A, FFE_B = "3ffe:507:0:1:200:86ff:fe05:80da", "3ffe:507:0:1:260:97ff:fe07:69ea"
V6_A, V6_B = "2001:470:e5bf:dead:4957:2174:e82c:4887", "2607:f8b0:400c:c03::1a"

PORTS = [
    ("128.232.110.120", "66.35.250.204", 34855, 80, 6, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
    ("10.0.0.1", "10.0.0.2", 10, 11569, 6, "1:SXBGMX1lBOwhhoDrZynfROxnhnM="),
    (V6_A, V6_B, 63943, 25, 6, "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4="),
    ("192.168.1.52", "8.8.8.8", 54585, 53, 17, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
    ("192.168.170.8", "192.168.170.56", 7, 7, 132, "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="),
    ("192.168.170.8", "192.168.170.56", 7, 80, 132, "1:jQgCxbku+pNGw8WPbEc/TS/uTpQ="),
    ("10.1.12.1", "10.1.12.2", 0, 0, 46, "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="),
    ("10.1.24.4", "10.1.12.1", 0, 0, 46, "1:/nQI4Rh/TtY3mf0R2gJFBkVlgS4="),
]
"""Addresses, ports, protocol; both ways are the same."""

ICMP = [
    ("192.168.0.89", "192.168.0.1", 8, 0, 1, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
    ("192.168.0.1", "192.168.0.89", 0, 0, 1, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
    ("192.168.0.1", "192.168.0.89", 0, 20, 1, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
    ("192.168.0.89", "192.168.0.1", 20, 0, 1, "1:3o2RFccXzUgjl7zDpqmY7yJi8rI="),
    ("192.168.0.89", "192.168.0.1", 20, 1, 1, "1:tz/fHIDUHs19NkixVVoOZywde+I="),
    ("10.0.0.1", "10.0.0.2", 11, 0, 1, "1:YHxtAirCG//0OzkcVAukqKQN9xM="),
    (FE80_A, FE80_B, 135, 0, 58, "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
    (FE80_B, FE80_A, 136, 0, 58, "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
    (FE80_B, FE80_A, 135, 0, 58, "1:zavyT/cezQr1fmImYCwYnMXbgck="),
    (FE80_A, FE80_B, 136, 0, 58, "1:zavyT/cezQr1fmImYCwYnMXbgck="),
    ("3ffe:501:1800:2345::2", FFE_A, 3, 0, 58, "1:2ObVBgIn28oZvibYZhZMBgh7WdQ="),
    ("3ffe:501:410:0:2c0:dfff:fe47:33e", FFE_A, 1, 4, 58, "1:hLZd0XGWojozrvxqE0dWB1iM6R0="),
    (FFE_A, "3ffe:501:0:1001::2", 128, 0, 58, "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg="),
    ("3ffe:501:0:1001::2", FFE_A, 129, 0, 58, "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg="),
    (FE80_A, "ff02::2", 133, 0, 58, "1:hO+sN4H+MG5MY/8hIrXPqc4ZQz0="),
    (FE80_B, "ff02::1", 134, 0, 58, "1:pkvHqCL88/tg1k4cPigmZXUtL00="),
    (FFE_B, FFE_A, 3, 0, 58, "1:NdobDX8PQNJbAyfkWxhtL2Pqp5w="),
    (FFE_A, FFE_B, 3, 0, 58, "1:/OGBt9BN1ofenrmSPWYicpij2Vc="),
]
"""Addresses, type and code, protocol; one way."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(f"chdb:{tmp_path_factory.mktemp('cid')}", serve=False) as opened:
        yield opened


def ids(store: Store, tenant: str, *cases: tuple[str, str, int, int, int]) -> list[str]:
    """What the function says of flows that are stored, in order."""
    src, dst, src_port, dst_port, proto = (list(column) for column in zip(*cases, strict=True))
    columns = {
        "tenant": tenant,
        "src_addr": [address(a) for a in src],
        "dst_addr": [address(a) for a in dst],
        "src_port": src_port,
        "dst_port": dst_port,
        "ip_proto": proto,
        "packets": list(range(len(cases))),
    }
    store.insert("flows", rows("flows", **columns), tenant)
    found = store.query(
        "SELECT community_id(src_addr, dst_addr, src_port, dst_port, ip_proto) AS id FROM flows "
        f"WHERE tenant = '{tenant}' ORDER BY packets"
    )
    answers: list[str] = found["id"].to_pylist()
    return answers


def test_vectors_with_ports(store: Store) -> None:
    """TCP, UDP, SCTP and protocols without ports, both ways, as the specification has them."""
    forth = ids(store, "forth", *(case[:5] for case in PORTS))
    back = ids(store, "back", *((d, s, b, a, proto) for s, d, a, b, proto, _ in PORTS))
    assert forth == back == [case[5] for case in PORTS]


def test_vectors_of_icmp(store: Store) -> None:
    """Requests and answers have one id, other types one for each way."""
    found = ids(store, "icmp", *((s, d, 0, t * 256 + c, p) for s, d, t, c, p, _ in ICMP))
    assert found == [case[5] for case in ICMP]


def twin(src: str, dst: str, src_port: int, dst_port: int, proto: int) -> str:
    """The published pseudo code, for protocols other than ICMP."""
    ends = sorted(
        [(ipaddress.ip_address(src).packed, src_port), (ipaddress.ip_address(dst).packed, dst_port)]
    )
    data = b"\0\0" + ends[0][0] + ends[1][0] + bytes([proto, 0])
    if proto in (6, 17, 132):
        data += struct.pack(">HH", ends[0][1], ends[1][1])
    return "1:" + base64.b64encode(hashlib.sha1(data).digest()).decode()


def test_twin(store: Store) -> None:
    """Addresses that end with zeros, equal addresses, every order of ports: as the twin says."""
    hosts = ("10.0.0.0", "10.0.0.255", "255.255.255.255", "0.0.0.0")
    cases = [
        (a, b, p, q, proto)
        for group in (hosts, ("::", "2001:db8::", "2001:db8::ff00", "ffff::"))
        for a in group
        for b in group
        for p, q in ((0, 65535), (255, 256), (80, 80))
        for proto in (6, 17, 47, 132)
    ]
    assert ids(store, "twin", *cases) == [twin(*case) for case in cases]


def test_text_is_taken_too(store: Store) -> None:
    """Addresses may be written as text."""
    src, dst, a, b, proto, expected = PORTS[0]
    assert store.run(f"SELECT community_id('{src}', '{dst}', {a}, {b}, {proto})") == f"{expected}\n"
