"""Which entities a condition means."""

from __future__ import annotations

import pytest

from flows.detect.matching import Matcher

NETWORKS = {"lab": ("10.1.0.0/16", "fd00::/8"), "dns": ("10.0.0.53/32",)}
HOST = {"src_addr": "10.1.2.3", "dst_addr": "10.0.0.53", "dst_port": "53"}


@pytest.mark.parametrize(
    ("conditions", "entity", "matches"),
    [
        ({}, HOST, True),
        ({"src_addr": ("10.1.2.3",)}, HOST, True),
        ({"src_addr": ("10.0.0.0/8",)}, HOST, True),
        ({"src_addr": ("dns", "lab")}, HOST, True),
        ({"src_addr": ("dns",)}, HOST, False),
        ({"src_net": ("lab",)}, HOST, True),
        ({"dst_net": ("lab",)}, HOST, False),
        ({"addr": ("dns",)}, HOST, True),
        ({"net": ("lab",)}, {"dst_addr": "fd00::1"}, True),
        ({"dst_port": ("53", "80")}, HOST, True),
        ({"dst_port": ("80",)}, HOST, False),
        ({"dst_port": ("53",), "src_net": ("dns",)}, HOST, False),
        ({"src_addr": ("lab",)}, {"dst_port": "53"}, False),
        ({"src_net": ("lab",)}, {"src_net": "lab"}, True),
        ({"src_net": ("dns",)}, {"src_net": "lab"}, False),
        ({"net": ("lab",)}, {"dst_net": "lab"}, True),
        ({"dst_net": ("lab",)}, {"src_net": "lab"}, False),
        ({"probe": ("edge",)}, {"probe": "edge", "fault": "loss"}, True),
    ],
)
def test_conditions(
    conditions: dict[str, tuple[str, ...]], entity: dict[str, str], matches: bool
) -> None:
    """Addresses match by themselves, by range and by network; networks by name; all must hold."""
    matcher = Matcher(conditions, NETWORKS)
    assert matcher.matches(entity) == matches
    assert bool(matcher) == bool(conditions)
