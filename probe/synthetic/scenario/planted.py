"""What attacks and look-alikes have in common: a time, a place, streams, entities to label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Final, NamedTuple

from probe.synthetic.scenario.addresses import ATTACKERS, OUTSIDERS, VICTIMS, block, number
from probe.synthetic.scenario.arrivals import Arrivals, steady, within
from probe.synthetic.scenario.exchange import Stream

Entity = dict[str, str]
"""Flow-key fields and their values as text."""

MOST: Final = 200
"""Things planted in one scenario: each has default addresses of its own."""

LIMITS: Final = {
    "start_s": (0, 1e8),
    "duration_s": (1e-3, 1e8),
    "port": (1, 65_535),
    "ports": (2, 65_535),
    "closed": (0, 1),
    "opened": (0, 1),
    "answered": (0, 1),
    "peers": (1, 2**24),
    "sources": (1, 2**24),
    "reflectors": (1, 2**24),
    "longest": (8, 100_000),
    "answer_bytes": (400, 1400),
    "factor": (2, 1000),
    "clients": (1, 200),
    "visitors": (1, 2**24),
    "connections": (1, 28_232),
    "hour": (0, 24),
    "minutes": (1, 600),
}
"""Smallest and largest value of parameters; those named ``*_per_second`` are 1e-3 to 1e7."""

CHOICES: Final = {"protocol": ("tcp", "udp"), "method": ("syn", "fin", "null", "xmas", "udp")}
"""Values of parameters that are words."""

ADDRESSES: Final = ("source", "target", "targets", "client", "server", "resolver")
"""Parameters that are a host, or hosts, by IPv4 address."""


class Slot(NamedTuple):
    """Where in a scenario something is planted. Times are ns since the origin."""

    place: int
    """Its number among what is planted."""
    seed: int
    origin_ns: int
    """Unix time of the origin."""
    begin_ns: int
    """Begin and end of the scenario."""
    end_ns: int

    @property
    def attacker(self) -> int:
        """An inside host of its own."""
        return number(ATTACKERS) + (self.place << 8) + 10 + self.seed % 200

    @property
    def victim(self) -> int:
        """Another inside host of its own."""
        return number(VICTIMS) + (self.place << 8) + 10 + self.seed % 200

    @property
    def outsider(self) -> int:
        """An outside host of its own."""
        return number(OUTSIDERS) + self.place + 1


@dataclass(frozen=True, kw_only=True)
class Planted:
    """Traffic that is added to the background.

    Addresses are IPv4 text; with ``ipv6`` they stand for the hosts' IPv6 addresses (see
    ``addresses``). None gives hosts that nothing else in the scenario uses.
    """

    kinds: ClassVar[tuple[str, ...]]
    """The detector that it is for; for a look-alike, those that must stay quiet about it."""
    related: ClassVar[tuple[str, ...]] = ()
    """Other detectors that may rightly fire because of it."""
    hostile: ClassVar[bool] = True

    start_s: float = 0.0
    """When it begins, seconds after the scenario."""
    duration_s: float = 300.0
    """For how long exchanges begin; it is cut at the scenario's end."""
    ipv6: bool = False

    def __post_init__(self) -> None:
        """Refuse what can't be generated.

        Raises:
            ValueError: a parameter is out of range or isn't an address.
        """
        for parameter in fields(self):
            name, value = parameter.name, getattr(self, parameter.name)
            if name in CHOICES and value not in CHOICES[name]:
                msg = f"{name} is {value!r}: give one of {', '.join(CHOICES[name])}"
                raise ValueError(msg)
            if name in ADDRESSES and value is not None:
                _check_address(name, value)
            if name.endswith("_per_second"):
                within(name, value, 1e-3, 1e7)
            elif name in LIMITS:
                within(name, value, *LIMITS[name])

    def streams(self, slot: Slot) -> Sequence[Stream]:
        """Lay out all packets."""
        raise NotImplementedError

    def entity(self, slot: Slot) -> Entity:
        """Whom the detector should name."""
        raise NotImplementedError

    def window_ns(self, slot: Slot) -> tuple[int, int]:
        """When it begins and ends, ns since the origin."""
        start = slot.begin_ns + round(self.start_s * 1e9)
        return min(start, slot.end_ns), min(start + round(self.duration_s * 1e9), slot.end_ns)

    def arrivals(self, slot: Slot, per_second: float) -> Arrivals:
        """A steady rate while it lasts."""
        return steady(*self.window_ns(slot), per_second)


def _check_address(name: str, value: str) -> None:
    try:
        block(value) if name == "targets" else number(value)
    except ValueError:
        kind = "network, such as 10.128.0.0/9" if name == "targets" else "address"
        msg = f"{name} is {value!r}: give an IPv4 {kind}"
        raise ValueError(msg) from None


def own(address: str | None, default: int) -> int:
    """The host that the user named, or the default one."""
    return default if address is None else number(address)
