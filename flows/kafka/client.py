"""Clients of Kafka: their properties out of the settings, and their errors in one line."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from flows.errors import NetSpectraError, UsageError
from flows.settings.known import is_secret
from flows.settings.model import Kafka
from flows.settings.problems import HIDDEN

ANSWER_TIMEOUT_S: Final = 8.0
"""How long an answer of a broker is waited for."""

_SILENT: Final = logging.getLogger("netspectra.kafka")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False

_UNREACHABLE: Final = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._TRANSPORT,
    }
)
_BAD_PROPERTY: Final = frozenset({KafkaError._INVALID_ARG, KafkaError._CONFLICT})
_LEAST_TELLING: Final = frozenset({KafkaError._ALL_BROKERS_DOWN})


class BrokerError(NetSpectraError):
    """Kafka can't be reached, or refused what was asked."""


def properties(kafka: Kafka, **ours: str | int | bool) -> dict[str, Any]:
    """Properties of librdkafka for a client.

    Args:
        kafka: The settings; their ``properties`` win over what is named after the settings.
        ours: What the client can't do without, dots written as ``_``; wins over the settings.
    """
    return {
        "bootstrap.servers": kafka.brokers,
        "client.id": "netspectra",
        **kafka.properties,
        **{name.replace("_", "."): value for name, value in ours.items()},
    }


def masked(found: Mapping[str, Any]) -> dict[str, Any]:
    """Properties that may be shown: secrets hidden."""
    return {name: HIDDEN if _is_secret(name) else value for name, value in found.items()}


def connect(make: Callable[..., Any], found: Mapping[str, Any]) -> tuple[Any, Faults]:
    """Make a client that writes no lines of its own.

    Args:
        make: ``Consumer``, ``Producer``, ``AdminClient``.
        found: Its properties.

    Returns:
        The client, and what it last had to say about its connections.

    Raises:
        UsageError: A property is unknown or can't be used.
    """
    faults = Faults()
    try:
        client = make({**found, "error_cb": faults.note}, logger=_SILENT)
    except KafkaException as failure:
        # Some texts quote the value.
        text = failure.args[0].str()
        for name, value in found.items():
            if _is_secret(name) and str(value):
                text = text.replace(str(value), HIDDEN)
        msg = f"Kafka client: {text}; see NETSPECTRA_KAFKA__PROPERTIES__…"
        raise UsageError(msg) from None
    return client, faults


class Faults:
    """What a client says about its connections; it tries again by itself.

    Attributes:
        text: The last fault that names a cause.
        down: No broker could be reached, when it last said something.
    """

    def __init__(self) -> None:
        self.text = ""
        self.down = False

    def note(self, error: KafkaError) -> None:
        """Take in what librdkafka reports."""
        if error.code() in _UNREACHABLE:
            self.down = True
        if error.code() not in _LEAST_TELLING:
            self.text = _shorten(error.str())


class Cluster:
    """Questions to a cluster, without joining a group.

    Attributes:
        kafka: The settings.
        admin: librdkafka's client for them.

    Raises:
        UsageError: A property is unknown or can't be used.
    """

    def __init__(self, kafka: Kafka) -> None:
        self.kafka = kafka
        found = properties(kafka)
        self.admin, self._faults = connect(AdminClient, found)
        self._brokers = found["bootstrap.servers"]

    def metadata(self) -> Any:
        """All brokers and topics; creates none.

        Raises:
            BrokerError: There is no answer.
        """
        with self.explained():
            return self.admin.list_topics(timeout=ANSWER_TIMEOUT_S)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of librdkafka into one line that says what to do.

        Raises:
            BrokerError: The block raised one.
        """
        try:
            yield
        except KafkaException as failure:
            self.admin.poll(0)  # which calls back with the cause
            raise explain(failure.args[0], self._brokers, self._faults) from None


def explain(error: KafkaError, brokers: str, faults: Faults | None = None) -> BrokerError:
    """The error of a client in one line that says what to do."""
    if error.code() in _UNREACHABLE:
        why = (faults and faults.text) or _shorten(error.str())
        return BrokerError(
            f"no Kafka broker answers at {brokers} ({why}): start it, or name another with "
            "NETSPECTRA_KAFKA__BROKERS"
        )
    return BrokerError(f"Kafka at {brokers} refused: {_shorten(error.str())}")


def _is_secret(name: str) -> bool:
    return is_secret(("kafka", "properties", name))


def _shorten(text: str) -> str:
    """Without what only librdkafka's authors need: state counters, line breaks."""
    return " ".join(text.split(" (after ")[0].split())
