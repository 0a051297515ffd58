"""Errors of the dataflow, each with the exit code it ends the program with.

NetSpectraError (1)
+-- UsageError (2)          settings or arguments that can't be used
+-- StoreError (1)          the store can't be opened, or refused a statement
|   +-- StoreOwned (1)      another process owns the embedded store
|   +-- StoreUnavailable (1)  it may answer later (``flows.storage.unavailable``)
+-- SketchError (1)         sketch bytes that are foreign or damaged
+-- BrokerError (1)         Kafka can't be reached, or refused (``flows.kafka.client``)
+-- KafkaFault (1)          Kafka can't give what is read (``flows.sources.kafka``)
+-- WrongTopic (1)          nearly nothing in the topic is ours (``flows.sources.dead_letters``)
"""

from __future__ import annotations


class NetSpectraError(Exception):
    """Base of everything that flows raises; the text is one line for the user."""

    exit_code = 1


class UsageError(NetSpectraError):
    """Settings or arguments that can't be used; says which and what would do."""

    exit_code = 2


class StoreError(NetSpectraError):
    """The store can't be opened, or refused a statement."""


class StoreOwned(StoreError):
    """Another process owns the embedded store."""


class SketchError(NetSpectraError):
    """Sketch bytes that are foreign or damaged, or a merge of unlike sketches."""
