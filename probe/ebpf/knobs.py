"""What programs are told before they are loaded, as constants: ``struct knobs`` in ``bpf/``."""

from __future__ import annotations

import struct
from typing import Final

from probe.errors import LiveError
from probe.filters import Rule
from probe.live import CaptureOptions

MAX_RULES: Final = 8
"""Rules of each kind that programs have room for."""
KNOBS_BYTES: Final = 16 + 2 * MAX_RULES * 40

_ALL_PORTS: Final = (0, 65535)


def pack_knobs(options: CaptureOptions) -> bytes:
    """The bytes of ``struct knobs``.

    Raises:
        LiveError: more rules than programs have room for.
    """
    head = struct.pack(
        "<4I",
        options.sampling_rate,
        options.decapsulate,
        len(options.keep),
        len(options.drop),
    )
    return head + _pack_rules("keep", options.keep) + _pack_rules("drop", options.drop)


def _pack_rules(kind: str, rules: tuple[Rule, ...]) -> bytes:
    if len(rules) > MAX_RULES:
        msg = f"{len(rules)} rules to {kind}, at most {MAX_RULES} fit; give wider networks or ports"
        raise LiveError(msg)
    return b"".join(map(_pack_rule, rules)).ljust(MAX_RULES * 40, b"\0")


def _pack_rule(rule: Rule) -> bytes:
    address = mask = bytes(16)
    if rule.network is not None:
        address = rule.network.network_address.packed
        mask = rule.network.netmask.packed
        if rule.network.version == 4:
            address = b"\0" * 10 + b"\xff\xff" + address
            mask = b"\xff" * 12 + mask
    low, high = rule.ports or _ALL_PORTS
    return struct.pack(
        "<16s16sHH4B",
        address,
        mask,
        low,
        high,
        rule.ip_proto or 0,
        rule.ip_proto is not None,
        rule.ports is not None,
        0,
    )
