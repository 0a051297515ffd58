"""What the eBPF programs cost for each packet: ``python -m tests.bench.bpf_cost``.

The kernel runs a program many times on one frame and tells the mean time
(``BPF_PROG_TEST_RUN``); caches are warm and nobody reads meanwhile. Lowest of five rounds.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from scapy.layers.inet import TCP, UDP
from scapy.layers.l2 import Dot1Q
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

from tests.support.bpf_load import RULE, Loaded, built, run_program
from tests.support.ebpf import load_returning
from tests.support.traffic import eth, ip4, ip6

NEXT = -1
OUTER = eth() / ip4() / UDP(sport=1, dport=4789) / VXLAN(vni=7)
BODY = Raw(bytes(60))
FRAMES = {
    "ipv4": bytes(eth() / ip4() / TCP(sport=1, dport=80) / BODY),
    "ipv6": bytes(eth() / ip6() / TCP(sport=1, dport=80) / BODY),
    "vlan": bytes(eth() / Dot1Q(vlan=7) / ip4() / TCP(sport=1, dport=80) / BODY),
    "vxlan": bytes(OUTER / eth() / ip4() / TCP(sport=1, dport=80) / BODY),
    "1514 bytes": bytes(eth() / ip4() / TCP(sport=1, dport=80) / Raw(bytes(1460))),
}


def nothing_matches() -> list[np.void]:
    """A rule to keep only an address that no frame has."""
    never = np.zeros(1, RULE)[0]
    never["addr"], never["mask"] = 254, 255
    return [never]


def main() -> None:
    """Measure and print nanoseconds per packet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default="tc_ingress")
    parser.add_argument("--repeat", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    program = arguments.program
    build = {"path": built(), "programs": (program,), "ring_bytes": 1 << 25, "flows": 65536}
    plain, parsing = Loaded(**build), Loaded(**build, keep=nothing_matches())
    inside, counting = Loaded(**build, decapsulate=1), Loaded(**build)
    counting.control(aggregate=1)
    ways = {
        "null": (None, load_returning(NEXT)),
        "parse": (parsing, parsing.program_fd(program)),
        "ring": (plain, plain.program_fd(program)),
        "ring, decapsulated": (inside, inside.program_fd(program)),
        "flows": (counting, counting.program_fd(program)),
    }
    out = sys.stdout
    out.write(f"{program}, ns per packet\n{'':20}{''.join(f'{name:>12}' for name in FRAMES)}\n")
    for name, (loaded, descriptor) in ways.items():
        out.write(f"{name:20}")
        for frame in FRAMES.values():
            times = []
            for _ in range(arguments.rounds):
                times.append(run_program(descriptor, frame, repeat=arguments.repeat).duration_ns)
                if loaded is not None:
                    loaded.read()
            out.write(f"{min(times):12}")
            out.flush()
        out.write("\n")
    for loaded in (plain, inside):
        assert loaded.counters()["ring_full"] == 0, "the ring was too small for a round"


if __name__ == "__main__":
    main()
