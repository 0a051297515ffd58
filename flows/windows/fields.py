"""Flow-key fields that tasks name: where they are in an entry and how they read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final

import numpy as np
import numpy.typing as npt

from flows.kernels.layout import DST, ENTRY_WORDS, KIND, PLACE, PORTS, SRC

_FULL: Final = 2**64 - 1
_ADDRESSES: Final = frozenset({"src_addr", "dst_addr"})
_NETWORKS: Final = frozenset({"src_net", "dst_net"})
_DIRECTIONS: Final = ("unknown", "ingress", "egress")

# Per field: (word, shift, mask) of each of its words.
FIELDS: Final[dict[str, tuple[tuple[int, int, int], ...]]] = {
    "src_addr": ((SRC, 0, _FULL), (SRC + 1, 0, _FULL)),
    "dst_addr": ((DST, 0, _FULL), (DST + 1, 0, _FULL)),
    "src_port": ((PORTS, 0, 0xFFFF),),
    "dst_port": ((PORTS, 16, 0xFFFF),),
    "vlan_id": ((PORTS, 32, 0xFFFF),),
    "eth_type": ((PORTS, 48, 0xFFFF),),
    "ip_proto": ((KIND, 0, 0xFF),),
    "direction": ((KIND, 8, 0xFF),),
    "if_index": ((PLACE, 0, 0xFFFFFFFF),),
    "tunnel_id": ((PLACE, 32, 0xFFFFFFFF),),
    "src_net": ((ENTRY_WORDS, 0, 0xFFFF),),
    "dst_net": ((ENTRY_WORDS + 1, 0, 0xFFFF),),
}


def address_text(words: Sequence[int]) -> str:
    """Text of an address given as two little-endian words; IPv4 written as IPv4."""
    raw = words[0].to_bytes(8, "little") + words[1].to_bytes(8, "little")
    address = IPv6Address(raw)
    return str(address.ipv4_mapped or address)


@dataclass(frozen=True)
class FieldList:
    """Some fields in declared order, as kernels and readers need them."""

    names: tuple[str, ...]

    @property
    def spec(self) -> npt.NDArray[np.uint64]:
        """Word, shift and mask of each word, (k, 3)."""
        words = [word for name in self.names for word in FIELDS[name]]
        return np.array(words, np.uint64).reshape(-1, 3)

    def read(self, words: Sequence[int], network_names: Sequence[str]) -> dict[str, str]:
        """The fields of one key, as text by name, in declared order."""
        out: dict[str, str] = {}
        at = 0
        for name in self.names:
            width = len(FIELDS[name])
            value = [int(word) for word in words[at : at + width]]
            at += width
            if name in _ADDRESSES:
                out[name] = address_text(value)
            elif name in _NETWORKS:
                out[name] = network_names[value[0]]
            elif name == "direction":
                out[name] = _DIRECTIONS[value[0]] if value[0] < len(_DIRECTIONS) else str(value[0])
            else:
                out[name] = str(value[0])
        return out
