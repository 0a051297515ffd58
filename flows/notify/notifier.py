"""What a notifier is, and how a try to tell somebody ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from flows.detect.alert import Alert
from flows.notify.selection import Selection


class NotTold(Exception):
    """It may arrive at a later try: the receiver is away, slow, or busy.

    Args:
        why: one line, without secrets.
        after_s: how long the receiver wants to be left alone.
    """

    def __init__(self, why: str, after_s: float = 0.0) -> None:
        super().__init__(why)
        self.after_s = after_s


class Refused(Exception):
    """The receiver won't take this alert, however often it is sent; why, without secrets."""


class Notifier(Protocol):
    """Somebody who is told. One thread uses it."""

    def send(self, alert: Alert) -> str:
        """Tell of an alert; returns when it has arrived, with what the receiver said.

        The alert's texts are fit to be shown (``text.presentable``), not escaped.

        Raises:
            NotTold: it didn't arrive, or nobody knows.
            Refused: it never will.
        """

    def close(self) -> None:
        """Give up what is open; it may be opened again by the next ``send``."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """A notifier, and what it wants to be told."""

    selection: Selection
    notifier: Notifier
