"""What is ours is replaced on the way out and put back on the way in."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.enrich import destination
from flows.enrich.pseudonyms import TOKEN, Pseudonyms
from flows.settings.llm import Llm
from flows.settings.model import INTERNAL

NETWORKS = {"internal": INTERNAL, "dns": ("9.9.9.0/24",), "office_bonn": ("203.0.113.0/24",)}


def made(**names: set[str]) -> Pseudonyms:
    return Pseudonyms(NETWORKS, names)


@pytest.mark.parametrize(
    "text",
    [
        "10.0.2.15 scans port 23 of many hosts",
        "src_addr=10.0.2.15 dst_addr=192.168.1.9",
        "from 10.0.2.15, 10.0.2.16 and 10.0.2.15.",
        "fd00::1 to fe80::aa:1, ::1",
        "::ffff:10.1.2.3 and fd00:1:2:3:4:5:6:7",
        "our resolver 9.9.9.9 in dns and 203.0.113.7 in office_bonn",
        "10.0.0.0/8 is wider than 10.20.0.0/16",
        "at 00:1b:44:11:3a:b7 and 00-1B-44-11-3A-B7",
        "(10.0.2.15)[10.0.2.16]<10.0.2.17>",
        "10.0.2.15:443 [fd00::1]:443 tcp_10.0.2.15_x v10.0.2.15 fd00::1_x =fd00::1; 10.0.2.15/32,",
        "0.0.0.0/0 says nothing, 10.0.0.0/7 does",
    ],
)
def test_ours_does_not_leave(text: str) -> None:
    """No address of our networks, no hardware address and no name of ours is left."""
    pseudonyms = made()
    hidden = pseudonyms.hide(text)
    for ours in ("10.", "192.168", "fd00", "fe80", "9.9.9.9", "203.0.113", "office_bonn", "1b:44"):
        assert ours not in hidden.lower(), hidden
    assert "1B-44" not in hidden


def test_what_is_not_ours_stays() -> None:
    """Addresses outside, numbers, times, names of roles and ports are as they were."""
    text = "198.51.100.7 and 2001:db8::1 to internal, 214 hosts, 03:40:12, 1.2.3, v10.0.2.15.9, dns"
    assert made().hide(text) == text


def test_equal_hosts_have_equal_names() -> None:
    """Structure stays: the same host has the same name, others have others."""
    hidden = made().hide("10.0.0.1 10.0.0.2 10.0.0.1 ::ffff:10.0.0.1")
    assert hidden == "host-A host-B host-A host-A"


def test_names_of_ours() -> None:
    """Probes and rules are replaced as whole words wherever they appear, the longest first."""
    pseudonyms = made(probe={"edge", "edge-2"}, rule={"payroll_db"})
    hidden = pseudonyms.hide("edge-2 and edge, not sledge: rule payroll_db")
    assert hidden == "probe-A and probe-B, not sledge: rule rule-A"
    assert pseudonyms.restore(hidden) == "edge-2 and edge, not sledge: rule payroll_db"


def test_many_hosts_have_names() -> None:
    """After Z comes AA; all are put back."""
    pseudonyms = made()
    text = " ".join(f"10.0.{n // 250}.{n % 250}" for n in range(800))
    hidden = pseudonyms.hide(text)
    assert "host-Z host-AA host-AB" in hidden
    assert pseudonyms.restore(hidden) == text


def test_tokens_off_the_wire_are_not_put_back() -> None:
    """A name that looks like one of our tokens doesn't become a host of ours."""
    pseudonyms = made()
    hidden = pseudonyms.hide("host-A says 10.0.2.15")
    assert hidden == "host_A says host-A"
    assert pseudonyms.restore(hidden) == "host_A says 10.0.2.15"


def test_unknown_tokens_stay() -> None:
    """A token that stands for nothing is left as it is."""
    assert made().restore("host-Q did it") == "host-Q did it"


def test_legend_tells_network_and_subnet() -> None:
    """What may be known of a host: the role of its network, and who shares its subnet."""
    pseudonyms = made()
    pseudonyms.hide("10.0.2.15 10.0.2.16 10.0.3.1 9.9.9.9 203.0.113.5")
    legend = {row["host"]: (row["network"], row["subnet"]) for row in pseudonyms.legend()}
    assert legend["host-A"] == legend["host-B"] == ("internal", "subnet-A")
    assert legend["host-C"] == ("internal", "subnet-B")
    assert legend["host-D"][0] == "dns"
    assert legend["host-E"][0] == "net-A"


def test_off_changes_nothing() -> None:
    """For a service of ours nothing is replaced."""
    pseudonyms = Pseudonyms(NETWORKS, {"probe": {"edge"}}, off=True)
    assert pseudonyms.hide("10.0.2.15 at edge") == "10.0.2.15 at edge"
    assert pseudonyms.legend() == []


@given(st.lists(st.one_of(st.ip_addresses().map(str), st.text(max_size=12)), max_size=8))
def test_round_trip(parts: list[str]) -> None:
    """What is hidden comes back, whatever stands around it (tokens of the text apart)."""
    text = " ".join(TOKEN.sub("", part) for part in parts)
    pseudonyms = made()
    back = pseudonyms.restore(pseudonyms.hide(text))
    # Addresses come back in their usual spelling.
    assert back == text or re.sub(r"[0:.a-f]", "", back) == re.sub(r"[0:.a-f]", "", text.lower())


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("http://localhost:11434/v1", True),
        ("http://127.0.0.1/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://10.1.2.3/v1", True),
        ("http://192.168.0.9:8000/v1", True),
        ("http://[fd00::7]/v1", True),
        ("http://169.254.1.1/v1", True),
        ("http://model.localhost/v1", True),
        ("https://8.8.8.8/v1", False),
        ("https://[2001:4860:4860::8888]/v1", False),
        ("https://192.0.2.1/v1", False),
        ("https://100.64.0.1/v1", False),
        ("https://0.0.0.0/v1", False),
        ("https://no-such-host.invalid/v1", False),
        ("https://localhost.example.invalid/v1", False),
    ],
)
def test_private_services(url: str, private: bool) -> None:
    """Only loopback, link-local and private addresses are ours; unknown names aren't."""
    assert destination.is_private(url) is private
    llm = Llm(model="m", base_url=url)
    assert destination.hides(llm) is not private
    assert destination.hides(Llm(model="m", base_url=url, pseudonymise="on"))
    assert not destination.hides(Llm(model="m", base_url=url, pseudonymise="off"))


def test_what_would_leave_is_told() -> None:
    """Doctor's line says where to, what, and whether it is replaced; never the key."""
    assert "nothing leaves" in destination.in_words(Llm())
    far = Llm(model="m", base_url="https://203.0.113.9/v1", api_key="sk-hush")
    near = Llm(model="m", base_url="http://10.0.0.9:8000/v1", min_severity="high")
    assert "203.0.113.9" in destination.in_words(far)
    assert "are replaced" in destination.in_words(far)
    assert "hush" not in destination.in_words(far)
    assert "severity high" in destination.in_words(near)
    assert "as they are" in destination.in_words(near)
