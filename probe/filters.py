"""Which packets are of interest: rules over protocol, address and port of either end."""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt

from probe.errors import FilterError

PROTOCOLS: Final = {"tcp": 6, "udp": 17, "icmp": 1, "icmp6": 58, "sctp": 132}
"""Protocols that have a word of their own."""

GRAMMAR: Final = "[tcp|udp|icmp|icmp6|sctp|proto N] [net CIDR|host ADDRESS] [port N|port N-M]"
"""What a rule may say, each part at most once and in any order."""

MAX_RULES: Final = 8
"""Rules of one kind (keep, drop) that a program in the kernel has room for."""

RULE_BYTES: Final = 40
"""Size of ``struct rule`` of the programs in the kernel."""

_MAPPED_BITS: Final = 96
_MAPPED: Final = bytes(10) + b"\xff\xff"
_ANY_PORT: Final = (0, 65_535)

U8, U16, U32, U48 = np.uint64(8), np.uint64(16), np.uint64(32), np.uint64(48)
BYTE, WORD16 = np.uint64(0xFF), np.uint64(0xFFFF)


@dataclass(frozen=True, slots=True)
class Rule:
    """Matches a packet when the protocol does, and address and port of one of its ends do.

    It is the record's fields that are compared, so type * 256 + code of an ICMP message is its
    destination port, and ``net ::/0`` is every packet, for IPv4 addresses are mapped ones.

    Attributes:
        network: of the address; None for any.
        ports: first and last port; None for any.
        ip_proto: protocol number; None for any.
    """

    network: IPv4Network | IPv6Network | None = None
    ports: tuple[int, int] | None = None
    ip_proto: int | None = None

    def to_bytes(self) -> bytes:
        """The 40-byte ``struct rule``: address, mask, ports, protocol, which of them count."""
        address = mask = bytes(16)
        if self.network is not None:
            address = self.network.network_address.packed
            mask = self.network.netmask.packed
            if self.network.version == 4:
                address, mask = _MAPPED + address, b"\xff" * (_MAPPED_BITS // 8) + mask
        low, high = self.ports or _ANY_PORT
        has_proto, has_ports = self.ip_proto is not None, self.ports is not None
        return struct.pack(
            "<16s16sHHBBBx", address, mask, low, high, self.ip_proto or 0, has_proto, has_ports
        )

    def __str__(self) -> str:
        """The rule as `parse_rule` reads it; empty when it matches everything."""
        words = []
        if self.ip_proto is not None:
            names = {number: name for name, number in PROTOCOLS.items()}
            words.append(names.get(self.ip_proto, f"proto {self.ip_proto}"))
        if self.network is not None:
            single = self.network.prefixlen == self.network.max_prefixlen
            words.append(
                f"host {self.network.network_address}" if single else f"net {self.network}"
            )
        if self.ports is not None:
            low, high = self.ports
            words.append(f"port {low}" if low == high else f"port {low}-{high}")
        return " ".join(words)


def parse_rule(text: str) -> Rule:
    """Read a rule such as ``tcp port 443`` or ``net 10.0.0.0/8 port 8000-8099 udp``.

    Raises:
        FilterError: something in it can't be read, or is there twice; the text shows `GRAMMAR`.
    """
    found: dict[str, Any] = {}
    words = iter(text.lower().split())
    part: str
    value: object
    for word in words:
        if word in PROTOCOLS:
            part, value = "ip_proto", PROTOCOLS[word]
        elif word == "proto":
            part, value = "ip_proto", _number(text, word, next(words, ""), 255)
        elif word in ("net", "host"):
            part, value = "network", _network(text, word, next(words, ""))
        elif word == "port":
            part, value = "ports", _ports(text, next(words, ""))
        else:
            raise _error(text, f"what is {word!r}?")
        if part in found:
            raise _error(text, f"{word!r} comes on top of another one of its kind")
        found[part] = value
    if not found:
        raise _error(text, "it is empty")
    return Rule(**found)


def rules_array(rules: Sequence[Rule]) -> npt.NDArray[np.uint64]:
    """Rules as `keep_matching` and the programs in the kernel read them: ``(n, 5)`` words.

    Raises:
        FilterError: there are more than `MAX_RULES`.
    """
    if len(rules) > MAX_RULES:
        msg = f"{len(rules)} filter rules of a kind, and there is room for {MAX_RULES}; merge some"
        raise FilterError(msg)
    data = b"".join(rule.to_bytes() for rule in rules)
    return np.frombuffer(data, np.uint64).reshape(-1, RULE_BYTES // 8)


@numba.njit(nogil=True, cache=True)
def keep_matching(packet_words: Any, keep_rules: Any, drop_rules: Any, out_mask: Any) -> Any:
    """Decide which packets are of interest; returns how many.

    A packet is if some keep rule matches it, or there is none, and no drop rule does.

    Args:
        packet_words: ``(n, 11)`` words of records (`schemas.record.as_words`).
        keep_rules: `rules_array`.
        drop_rules: `rules_array`.
        out_mask: ``(n,)`` bool, set for the packets that are.
    """
    kept = 0
    for i in range(packet_words.shape[0]):
        wanted = keep_rules.shape[0] == 0 or _matches_any(packet_words, i, keep_rules)
        wanted = wanted and not _matches_any(packet_words, i, drop_rules)
        out_mask[i] = wanted
        kept += wanted
    return kept


@numba.njit(inline="always")
def _matches_any(packets: Any, i: Any, rules: Any) -> Any:
    proto = (packets[i, 9] >> U32) & BYTE
    src_port = (packets[i, 6] >> U32) & WORD16
    dst_port = packets[i, 6] >> U48
    found = False
    for r in range(rules.shape[0]):
        what = rules[r, 4]  # port_low, port_high, ip_proto, has_proto, has_ports
        low, high = what & WORD16, (what >> U16) & WORD16
        if (what >> (U32 + U8)) & BYTE and (what >> U32) & BYTE != proto:
            continue
        any_port = (what >> U48) & BYTE == 0
        src = any_port or (low <= src_port and src_port <= high)
        dst = any_port or (low <= dst_port and dst_port <= high)
        for j in range(2):
            src = src and packets[i, 1 + j] & rules[r, 2 + j] == rules[r, j]
            dst = dst and packets[i, 3 + j] & rules[r, 2 + j] == rules[r, j]
        found = found or src or dst
    return found


def _number(text: str, word: str, value: str, highest: int) -> int:
    if not (re.fullmatch("[0-9]{1,5}", value) and int(value) <= highest):
        raise _error(text, f"{word} wants a number from 0 to {highest}, not {value!r}")
    return int(value)


def _ports(text: str, value: str) -> tuple[int, int]:
    first, dash, last = value.partition("-")
    low = _number(text, "port", first, _ANY_PORT[1])
    high = _number(text, "port", last, _ANY_PORT[1]) if dash else low
    if low > high:
        raise _error(text, f"port {value} ends before it begins")
    return low, high


def _network(text: str, word: str, value: str) -> IPv4Network | IPv6Network:
    if word == "host" and "/" in value:
        raise _error(text, f"host wants one address, not {value!r}")
    try:
        return ipaddress.ip_network(value)
    except ValueError:
        wanted = "an address" if word == "host" else "a range such as 10.0.0.0/8"
        hint = "".join(f"; did you mean {near}?" for near in _meant(value))
        raise _error(text, f"{word} wants {wanted}, not {value!r}{hint}") from None


def _meant(value: str) -> Iterator[str]:
    """The range without the bits that are set behind its prefix."""
    try:
        yield str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        return


def _error(text: str, why: str) -> FilterError:
    return FilterError(f"can't read the filter rule {text!r}: {why} (wanted: {GRAMMAR})")
