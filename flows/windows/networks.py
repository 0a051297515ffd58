"""Named address ranges of the settings, looked up per flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

import numpy as np
import numpy.typing as npt

from flows.kernels.layout import DST, SRC
from flows.kernels.networks import find_networks

_MAPPED: Final = 0xFFFF << 32
_LAST: Final = 2**128 - 1


def _span(network: IPv4Network | IPv6Network) -> tuple[int, int]:
    first, last = int(network.network_address), int(network.broadcast_address)
    return (first + _MAPPED, last + _MAPPED) if network.version == 4 else (first, last)


class Networks:
    """Which named network an address lies in; the most specific one where they nest.

    Number 0 has the name '' and stands for addresses outside all of them.

    Args:
        ranges: CIDR ranges by name.
    """

    def __init__(self, ranges: Mapping[str, Sequence[str]]) -> None:
        self.names: list[str] = ["", *ranges]
        spans = sorted(
            [
                (first, -last, number)
                for number, cidrs in enumerate(ranges.values(), start=1)
                for first, last in (_span(ip_network(cidr)) for cidr in cidrs)
            ]
            # An IPv6 range such as ::/0 doesn't mean the mapped IPv4 addresses inside it.
            + [(_MAPPED, -(_MAPPED + 2**32 - 1), 0)]
        )
        # CIDR ranges nest or are disjoint, so a stack of the open ones is enough.
        cuts: dict[int, int] = {0: 0}
        open_spans: list[tuple[int, int]] = [(_LAST, 0)]
        for first, negative_last, number in spans:
            while open_spans[-1][0] < first:
                end, _ = open_spans.pop()
                cuts[end + 1] = open_spans[-1][1]
            cuts[first] = number
            open_spans.append((-negative_last, number))
        while len(open_spans) > 1:
            end, _ = open_spans.pop()
            if end < _LAST:
                cuts[end + 1] = open_spans[-1][1]
        starts = sorted(cuts)
        self._starts = np.array([[s >> 64, s & (2**64 - 1)] for s in starts], np.uint64)
        self._numbers = np.array([cuts[s] for s in starts], np.uint16)

    def lookup(self, entries: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint16]:
        """Network numbers (n, 2) of source and destination of flow-table entries (n, 16)."""
        out = np.empty((2, len(entries)), np.uint16)
        find_networks(entries, SRC, self._starts, self._numbers, out[0])
        find_networks(entries, DST, self._starts, self._numbers, out[1])
        return np.ascontiguousarray(out.T)
