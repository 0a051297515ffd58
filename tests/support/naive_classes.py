"""Plain-Python twin of the classes of flows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv6Address

import numpy as np
import numpy.typing as npt

from flows.kernels.classes import ATTEMPT, INITIATED, REFLECTED, SYN
from flows.windows.fields import FieldList, address_text

FIN_FLAG, SYN_FLAG, RST_FLAG, ACK_FLAG = 1, 2, 4, 16


@dataclass(frozen=True)
class Flow:
    """One flow of a pane, read from an entry."""

    pane: int
    tenant: int
    src: str
    dst: str
    src_port: int
    dst_port: int
    protocol: int
    is_ip: bool
    packets: int
    octets: int
    first_ns: int
    last_ns: int
    flags: int

    @property
    def ends(self) -> tuple[object, ...]:
        where = self.pane, self.tenant, self.protocol
        return (*where, self.src, self.dst, self.src_port, self.dst_port)

    @property
    def answer_ends(self) -> tuple[object, ...]:
        """``ends`` of the flow that would answer this one."""
        where = self.pane, self.tenant, self.protocol
        ports = self.dst_port, self.src_port
        if self.protocol in (1, 58):
            ports = 0, {8 << 8: 0, 128 << 8: 129 << 8}.get(self.dst_port, -1)
        return (*where, self.dst, self.src, *ports)

    @property
    def to_many(self) -> bool:
        """Whether the destination is multicast or broadcast."""
        address = IPv6Address(self.dst if ":" in self.dst else f"::ffff:{self.dst}")
        mapped = address.ipv4_mapped
        if mapped is None:
            return address.is_multicast
        return mapped.is_multicast or str(mapped) == "255.255.255.255"

    @property
    def from_service(self) -> bool:
        return self.src_port < 1024 <= self.dst_port


def read_flows(entries: npt.NDArray[np.uint64], owners: Sequence[int]) -> list[Flow]:
    """Entries (n, 16) as flows."""
    names = ("src_port", "dst_port", "ip_proto", "eth_type")
    flows = []
    for row in entries.tolist():
        values = [(row[w] >> s) & m for w, s, m in FieldList(names).spec.tolist()]
        src_port, dst_port, protocol, eth_type = values
        flows.append(
            Flow(
                pane=row[0],
                tenant=owners[row[6] >> 32],
                src=address_text(row[1:3]),
                dst=address_text(row[3:5]),
                src_port=src_port,
                dst_port=dst_port,
                protocol=protocol,
                is_ip=eth_type in (0x0800, 0x86DD),
                packets=row[8],
                octets=row[9],
                first_ns=row[10],
                last_ns=row[11],
                flags=row[12] >> 48,
            )
        )
    return flows


def naive_classes(
    entries: npt.NDArray[np.uint64], owners: Sequence[int], reflector_ports: Collection[int]
) -> list[int]:
    """Classes of each entry (n, 16), as bits."""
    flows = read_flows(entries, owners)
    by_ends: dict[tuple[object, ...], list[Flow]] = {}
    for flow in flows:
        if flow.is_ip:
            by_ends.setdefault(flow.ends, []).append(flow)
    return [_classes(f, by_ends.get(f.answer_ends, ()), reflector_ports) for f in flows]


def naive_take_back(
    entries: npt.NDArray[np.uint64],
    ahead: npt.NDArray[np.uint64],
    owners: Sequence[int],
    pane_ns: int,
    classes: Sequence[int],
) -> list[int]:
    """Classes of entries without the tries that flows of the next pane answer."""
    later: dict[tuple[object, ...], list[Flow]] = {}
    for flow in read_flows(ahead, owners):
        if flow.is_ip:
            later.setdefault(flow.ends, []).append(flow)
    return [
        given & ~(ATTEMPT | SYN) if _came_about(flow, given, later, pane_ns) else given
        for flow, given in zip(read_flows(entries, owners), classes, strict=True)
    ]


def _came_about(
    flow: Flow, given: int, later: Mapping[tuple[object, ...], Sequence[Flow]], pane_ns: int
) -> bool:
    wait_ns = 500_000_000
    if not given & ATTEMPT or flow.last_ns + wait_ns < (flow.pane + 1) * pane_ns:
        return False
    if flow.protocol == 6 and not flow.flags & SYN_FLAG:
        return False
    if flow.protocol == 6:
        wanted = replace(flow, pane=flow.pane + 1).ends
    else:
        wanted = replace(flow, pane=flow.pane + 1).answer_ends
    return any(
        each.first_ns <= flow.last_ns + wait_ns
        and (each.protocol != 6 or each.flags & (SYN_FLAG | ACK_FLAG) == ACK_FLAG)
        for each in later.get(wanted, ())
    )


def _classes(flow: Flow, answers: Sequence[Flow], reflector_ports: Collection[int]) -> int:
    if not flow.is_ip or (flow.protocol in (6, 17) and flow.dst_port == flow.src_port == 0):
        return 0
    if flow.protocol == 6:
        if flow.to_many or flow.dst_port == 0:
            return 0
        return _tcp(flow, answers)
    if (
        flow.protocol == 17
        and flow.src_port in reflector_ports
        and flow.src_port != flow.dst_port
        and flow.octets / flow.packets > 200
    ):
        return REFLECTED
    if flow.to_many:
        return 0
    if flow.protocol in (1, 58):
        if flow.dst_port != {1: 8 << 8, 58: 128 << 8}[flow.protocol]:
            return 0
        return INITIATED | (0 if answers else ATTEMPT)
    if flow.protocol == 17 and flow.from_service:
        return 0
    if not answers:
        return INITIATED | (ATTEMPT if flow.protocol == 17 else 0)
    return INITIATED if _began(flow, answers) else 0


def _tcp(flow: Flow, answers: Sequence[Flow]) -> int:
    if flow.flags & ACK_FLAG:
        if not flow.flags & SYN_FLAG:
            return 0
        asked = [f for f in answers if f.flags & SYN_FLAG]
        if not asked:
            return 0 if flow.from_service else INITIATED
        return INITIATED if _began(flow, asked) else 0
    if flow.flags & SYN_FLAG:
        return ATTEMPT | SYN | INITIATED
    if flow.flags == 0:
        return ATTEMPT if any(f.flags & RST_FLAG for f in answers) else 0
    return 0 if flow.flags == RST_FLAG else ATTEMPT


def _began(flow: Flow, answers: Sequence[Flow]) -> bool:
    return flow.first_ns < min(f.first_ns for f in answers)
