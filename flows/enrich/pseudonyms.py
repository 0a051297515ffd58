"""Addresses and names of ours, replaced on the way out and put back on the way in.

Each request has its own: the first host that appears is ``host-A`` in it, whichever it is, so a
service can't join what it is told at different times. What structure an explanation needs stays:
which host is which, which network it is in, which hosts share a subnet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

GENERIC: Final = frozenset({"internal", "dns", "scanners", "nat", "cdn"})
"""Names of networks that say what a network is for, and nothing about whose it is."""

ADDRESS: Final = re.compile(
    r"(?<![0-9A-Fa-f:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}"
    r"(?:(?<=:)\d{1,3}(?:\.\d{1,3}){3})?(?:/\d{1,3})?(?![0-9A-Fa-f:]|\.\d)"
    r"|(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?:/\d{1,2})?(?!\d|\.\d)"
)
"""What looks like an address or a range of them."""

_MAC: Final = re.compile(
    r"(?<![\w:-])[0-9A-Fa-f]{2}(?:([:-])[0-9A-Fa-f]{2})(?:\1[0-9A-Fa-f]{2}){4}(?![\w:-])"
)
TOKEN: Final = re.compile(r"(?:host|subnet|net|mac|probe|rule|tenant)-[A-Z]{1,3}(?![\w-])")
"""What a replaced address or name looks like."""

_SUBNET_BITS: Final = {4: 24, 6: 64}

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


class Pseudonyms:
    """Those of one request.

    Args:
        networks: ranges of ours by name; addresses in them are replaced.
        names: other texts of ours by kind (``probe``, ``rule``), replaced wherever they appear.
        off: replace nothing; the service is ours too.
    """

    def __init__(
        self,
        networks: Mapping[str, Iterable[str]],
        names: Mapping[str, Iterable[str]] | None = None,
        *,
        off: bool = False,
    ) -> None:
        self._off = off
        self._ranges = [
            (name, network) for name, ranges in networks.items() for network in _networks(ranges)
        ]
        self._tokens: dict[str, str] = {}
        self._kinds: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._names: dict[str, str] = {}
        for kind, texts in {"net": set(networks) - GENERIC, **(names or {})}.items():
            self._names |= {text: kind for text in texts if text}
        longest = sorted(self._names, key=len, reverse=True)
        self._named = (
            re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest))})(?![\w-])")
            if longest
            else None
        )

    def hide(self, text: str) -> str:
        """Text with everything of ours replaced."""
        if self._off:
            return text
        # What looks like one of our tokens already came off the wire: it mustn't be put back.
        text = TOKEN.sub(lambda match: match[0].replace("-", "_"), text)
        if self._named is not None:
            text = self._named.sub(lambda m: self._token(self._names[m[0]], m[0]), text)
        text = _MAC.sub(lambda match: self._token("mac", match[0].lower()), text)
        return ADDRESS.sub(self._address, text)

    def restore(self, text: str, written: Callable[[str], str] = str) -> str:
        """Text with what was replaced put back.

        Args:
            text: of the model.
            written: how an original is written where it is put, such as within a literal of SQL.
        """
        known = {token: written(original) for original, token in self._tokens.items()}
        return TOKEN.sub(lambda match: known.get(match[0], match[0]), text)

    def knows(self, token: str) -> bool:
        """Whether a token stands for something."""
        return token in self._tokens.values()

    def legend(self) -> list[dict[str, str]]:
        """What the service may know of the hosts: network, and subnet where several share it."""
        found = []
        for original, token in list(self._tokens.items()):
            if self._kinds[original] != "host":
                continue
            address = ip_address(original)
            names = [name for name, network in self._ranges if address in network]
            subnet = ip_network(f"{original}/{_SUBNET_BITS[address.version]}", strict=False)
            place = names[-1] if names else ""
            found.append(
                {
                    "host": token,
                    "network": self.hide(place),
                    "subnet": self._token("subnet", str(subnet)),
                }
            )
        return found

    def _address(self, match: re.Match[str]) -> str:
        text = match[0]
        try:
            if "/" in text:
                network = ip_network(text, strict=False)
                inside = any(
                    network.version == ours.version
                    and (network.subnet_of(ours) or ours.subnet_of(network))  # type: ignore[arg-type]
                    for _, ours in self._ranges
                )
                return self._token("net", text) if inside else text
            address = ip_address(text)
        except ValueError:
            return text
        address = getattr(address, "ipv4_mapped", None) or address
        if any(address in network for _, network in self._ranges):
            return self._token("host", str(address))
        return text

    def _token(self, kind: str, original: str) -> str:
        if original not in self._tokens:
            number = self._counts.get(kind, 0)
            self._counts[kind] = number + 1
            self._tokens[original] = f"{kind}-{_letters(number)}"
            self._kinds[original] = kind
        return self._tokens[original]


def _networks(ranges: Iterable[str]) -> list[Network]:
    return [ip_network(each) for each in ranges]


def _letters(number: int) -> str:
    """Letters that count: A to Z, then AA, AB and so on."""
    found = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        found = chr(ord("A") + rest) + found
    return found
