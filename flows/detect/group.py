"""Many entities of one rule as one alert."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from flows.detect.alert import text_of
from flows.detect.detector import Reading

GROUP: Final = "group"
"""Stands for the entity of a rule's group, where an entity's text would."""

MAX_KEYS: Final = 10_000
"""Members that are told apart; beyond that they are only counted."""

TOP: Final = 20
"""Members that are listed."""

_PLURALS: Final = {
    "src_addr": "sources",
    "dst_addr": "targets",
    "src_net": "networks",
    "dst_net": "networks",
    "dst_port": "ports",
    "src_port": "ports",
    "probe": "probes",
}


@dataclass(frozen=True)
class Members:
    """The entities of a group; replaced, never changed.

    Attributes:
        keys: of those that are told apart.
        unlisted: most that were over the threshold at a time without being listed.
        shared: fields that all of them have in common.
        varying: name of the first field in which they differ.
        values: the largest members, by text.
    """

    keys: frozenset[Hashable] = frozenset()
    unlisted: int = 0
    shared: Mapping[str, str] = field(default_factory=dict)
    varying: str = ""
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many there are, at least."""
        return len(self.keys) + self.unlisted

    @property
    def top(self) -> tuple[str, ...]:
        """Texts of the largest ones."""
        return tuple(self.values)

    @property
    def text(self) -> str:
        """``214 sources, dst_port=445``; "at least" where some were only counted."""
        several = f"{self.count:,} {_PLURALS.get(self.varying, 'others')}"
        several = f"at least {several}" if self.unlisted else several
        return ", ".join(filter(None, (several, text_of(self.shared))))

    def has(self, key: Hashable) -> bool:
        """Whether an entity is a member, or may be one of those that were only counted."""
        return bool(self.unlisted) or key in self.keys

    def joined(self, readings: Sequence[Reading], unlisted: int) -> Members:
        """With more members, and so many that aren't listed."""
        keys = self.keys | {reading.key for reading in readings}
        if len(keys) > MAX_KEYS:
            unlisted += len(keys) - MAX_KEYS
            keys = self.keys
        shared, varying = dict(self.shared), self.varying
        if not self.keys and readings:
            shared = dict(readings[0].entity)
        for reading in readings:
            for name in list(shared):
                if reading.entity.get(name) != shared[name]:
                    del shared[name]
                    varying = varying or name
        values = dict(self.values)
        for reading in readings:
            text = text_of(reading.entity)
            values[text] = max(values.get(text, 0.0), reading.value)
        largest = sorted(values.items(), key=lambda item: (-item[1], item[0]))[:TOP]
        return Members(keys, max(self.unlisted, unlisted), shared, varying, dict(largest))
