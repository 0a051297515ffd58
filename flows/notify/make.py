"""Notifiers out of their settings."""

from __future__ import annotations

from flows.detect.alert import Severity
from flows.notify.notifier import Notifier, Recipient
from flows.notify.selection import Selection
from flows.settings import Settings
from flows.settings import notifiers as kinds


def recipients(settings: Settings) -> list[Recipient]:
    """Everybody who is told.

    A job that reads Kafka also writes the alerts topic, unless a notifier of the settings does:
    every revision that fires or is over, whatever rules say of ``notify``.

    Raises:
        UsageError: a notifier can't be made of its settings.
    """
    found = [Recipient(Selection(each), make(each, settings)) for each in settings.notifiers]
    if settings.source_kind == "kafka" and not any(n.type == "kafka" for n in settings.notifiers):
        everything = kinds.KafkaTopic.model_construct(
            name=kinds.ALERTS_TOPIC,
            type="kafka",
            min_severity=Severity.info.name,
            events=("fired", "updated", "explained", "resolved"),
        )
        topic = make(everything, settings)
        found.append(Recipient(Selection(everything, everything=True), topic))
    return found


def make(notifier: kinds.NotifierBase, settings: Settings) -> Notifier:
    """One notifier.

    Raises:
        UsageError: it can't be made of its settings.
    """
    if isinstance(notifier, kinds.Webhook):
        from flows.notify.webhook import WebhookNotifier

        return WebhookNotifier(notifier)
    if isinstance(notifier, kinds.Email):
        from flows.notify.mail import MailNotifier

        return MailNotifier(notifier)
    if isinstance(notifier, kinds.Syslog):
        from flows.notify.syslog import SyslogNotifier

        return SyslogNotifier(notifier)
    if isinstance(notifier, kinds.File):
        from flows.notify.file import FileNotifier

        return FileNotifier(notifier)
    assert isinstance(notifier, kinds.KafkaTopic)
    from flows.notify.topic import TopicNotifier

    return TopicNotifier(notifier, settings.kafka)
