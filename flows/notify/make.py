"""Notifiers out of their settings."""

from __future__ import annotations

from flows.notify.file import FileNotifier
from flows.notify.notifier import Notifier, Recipient
from flows.notify.selection import Selection
from flows.notify.webhook import WebhookNotifier
from flows.settings import Settings
from flows.settings import notifiers as kinds


def recipients(settings: Settings) -> list[Recipient]:
    """Everybody who is told.

    Raises:
        UsageError: a notifier can't be made of its settings.
    """
    return [Recipient(Selection(each), make(each)) for each in settings.notifiers]


def make(notifier: kinds.NotifierBase) -> Notifier:
    """One notifier.

    Raises:
        UsageError: it can't be made of its settings.
    """
    if isinstance(notifier, kinds.Webhook):
        return WebhookNotifier(notifier)
    assert isinstance(notifier, kinds.File)
    return FileNotifier(notifier)
