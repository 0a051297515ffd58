"""Which entities a condition of the settings means: ``where``, ``except`` and mutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

ADDRESSES = ("src_addr", "dst_addr")
NETWORKS = {"src_net": "src_addr", "dst_net": "dst_addr"}
NAMED = {"addr": ADDRESSES, "net": (*ADDRESSES, *NETWORKS)}


class Matcher:
    """Conditions on the fields of an entity, all of which must hold.

    A field's condition is a list, one of which must hold: of an address field, addresses, ranges
    (``10.0.0.0/8``) or names of networks; of another field, values. ``addr`` means either address,
    ``net`` either network. An entity about a network itself matches by its name. An entity that
    lacks the field doesn't match.

    Args:
        conditions: values by field.
        networks: address ranges by name, as in the settings.
    """

    def __init__(
        self,
        conditions: Mapping[str, Sequence[str]],
        networks: Mapping[str, Sequence[str]],
    ) -> None:
        self._conditions = {
            field: (frozenset(values), _ranges(field, values, networks))
            for field, values in conditions.items()
        }

    def __bool__(self) -> bool:
        """Whether there is any condition; without one everything matches."""
        return bool(self._conditions)

    def matches(self, entity: Mapping[str, str]) -> bool:
        """Whether all conditions hold for an entity."""
        return all(
            any(
                _holds(entity.get(name, ""), values, ranges if name in ADDRESSES else ())
                for name in _named(field)
            )
            for field, (values, ranges) in self._conditions.items()
        )


def _named(field: str) -> tuple[str, ...]:
    """Fields of an entity that a condition's field stands for."""
    return NAMED.get(field) or tuple(filter(None, (NETWORKS.get(field), field)))


def _ranges(
    field: str, values: Sequence[str], networks: Mapping[str, Sequence[str]]
) -> tuple[Network, ...]:
    if not set(_named(field)) & set(ADDRESSES):
        return ()
    texts = [text for value in values for text in networks.get(value, (value,))]
    return tuple(ip_network(text) for text in texts if _is_range(text))


def _is_range(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def _holds(value: str, values: frozenset[str], ranges: tuple[Network, ...]) -> bool:
    if not value:
        return False
    if value in values:
        return True
    if not ranges:
        return False
    address = ip_address(value)
    return any(address in each for each in ranges)
