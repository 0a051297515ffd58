"""Where to go on in a partition's log after a stop: small, exact, as text.

The packets of open panes are not kept: they are read again. So a position names the first
message that an open pane has packets of, and what was known of the probes and of time *before*
that message. Reading on from there gives the same units as without the stop; those up to the
last one given out are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from flows.windows.partition import Moment
from flows.windows.receiver import Senders, StreamKey
from flows.windows.receiver_state import dump_moment, dump_senders, load_moment, load_senders

VERSION: Final = 2


class PositionError(ValueError):
    """A position that this version can't read."""


@dataclass(frozen=True)
class Position:
    """A place in a partition's log.

    Attributes:
        offset: of the first message to read.
        last_unit: offset of the last unit that was given out; -1 for none.
        moment: what the accumulator knew of time before that message.
        senders: what the receiver knew of the probes then.
        streams: all streams known, by number: tenant, probe, sampling rate, whether only
            ingress counts, and interface names.
        tenants: those that have their own name.
    """

    offset: int
    last_unit: int
    moment: Moment
    senders: Senders
    streams: tuple[tuple[StreamKey, dict[int, str]], ...]
    tenants: tuple[str, ...]

    def to_text(self) -> str:
        """As JSON, with its version."""
        return json.dumps(
            {
                "version": VERSION,
                "offset": self.offset,
                "last_unit": self.last_unit,
                "moment": dump_moment(self.moment),
                "senders": dump_senders(self.senders),
                "streams": [[*key, list(names.items())] for key, names in self.streams],
                "tenants": list(self.tenants),
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_text(cls, text: str) -> Position:
        """Read what ``to_text`` wrote.

        Raises:
            PositionError: it is of another version, or damaged.
        """
        try:
            state = json.loads(text)
            version = state["version"]
            if version == VERSION:
                return cls(
                    state["offset"],
                    state["last_unit"],
                    load_moment(state["moment"]),
                    load_senders(state["senders"]),
                    tuple((_key(row), dict(row[4])) for row in state["streams"]),
                    tuple(state["tenants"]),
                )
        except (ValueError, LookupError, TypeError) as error:
            msg = f"the position can't be read ({type(error).__name__}: {error})"
            raise PositionError(msg) from error
        msg = f"the position has version {version}, this program reads {VERSION}"
        raise PositionError(msg)


def _key(row: list[Any]) -> StreamKey:
    return (row[0], row[1], row[2], row[3])


class OpenPanes:
    """Remembers for each open pane before which message it was opened, and what was known then.

    Args:
        offset: of the message that is read next.
    """

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self._opened: dict[int, tuple[int, Moment, Senders]] = {}

    def after(self, offset: int, panes: Iterable[int], before: tuple[Moment, Senders]) -> None:
        """The message at ``offset`` was read; these panes are open now."""
        known = self._opened
        self._opened = {pane: known.get(pane) or (offset, *before) for pane in panes}
        self.offset = offset + 1

    def keep(self, panes: Iterable[int]) -> None:
        """Only these panes are open still."""
        self._opened = {pane: self._opened[pane] for pane in panes}

    def first(self, now: tuple[Moment, Senders]) -> tuple[int, Moment, Senders]:
        """The message to go on with: the first of an open pane, else the next one."""
        return min(self._opened.values(), key=lambda at: at[0], default=(self.offset, *now))
