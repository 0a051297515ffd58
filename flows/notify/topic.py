"""Alerts to a Kafka topic, as Avro; compaction leaves the newest revision of each."""

from __future__ import annotations

from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from flows.detect.alert import Alert
from flows.kafka.client import connect, explain, properties
from flows.notify.notifier import NotTold, Refused
from flows.notify.text import line
from flows.settings.model import Kafka
from flows.settings.notifiers import KafkaTopic
from schemas import alert as avro
from schemas.errors import SchemaError
from schemas.remote_registry import RegistryAway, RemoteRegistry

ANSWER_TIMEOUT_S: Final = 10.0

_REFUSALS: Final = frozenset(
    {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD}
)
_NO_TOPIC: Final = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC})


class TopicNotifier:
    """One topic; the key of a message is the alert's id.

    Args:
        settings: of the notifier.
        kafka: where the brokers are.

    Raises:
        UsageError: a property of Kafka's client is unknown or can't be used.
    """

    def __init__(self, settings: KafkaTopic, kafka: Kafka) -> None:
        self._topic = settings.topic or kafka.topics.alerts
        self._brokers = kafka.brokers
        self._properties = properties(
            kafka,
            enable_idempotence=True,
            acks="all",
            linger_ms=0,
            message_timeout_ms=round(ANSWER_TIMEOUT_S * 1000),
            # Else it is waited longer for a topic that isn't there than for a message's answer.
            topic_metadata_propagation_max_ms=round(ANSWER_TIMEOUT_S * 500),
        )
        self._registry = RemoteRegistry(kafka.schema_registry) if kafka.schema_registry else None
        self._id: int | None = None
        self._producer: Any = None
        self._open()

    def send(self, alert: Alert) -> str:
        """See ``Notifier.send``."""
        try:
            value = avro.encode_alert(fields_of(alert), self._schema_id())
        except RegistryAway as error:
            raise NotTold(str(error)) from None
        except SchemaError as error:
            raise Refused(str(error)) from None
        if self._producer is None:
            self._open()
        answers: list[Any] = []
        try:
            self._producer.produce(
                self._topic, value, key=alert.alert_id, on_delivery=lambda *it: answers.append(it)
            )
            self._producer.flush(ANSWER_TIMEOUT_S + 1)
        except (BufferError, KafkaException) as failure:
            self.close()
            raise NotTold(line(str(failure))) from None
        answer: Any = answers[0] if answers else (KafkaError(KafkaError._TIMED_OUT), None)
        fault, message = answer
        if fault is None:
            return f"{message.topic()}/{message.partition()}/{message.offset()}"
        why = self._explain(fault)
        # What a client was told to send and hasn't, it may send later: a new one doesn't.
        self.close()
        if fault.code() in _REFUSALS:
            raise Refused(why)
        raise NotTold(why)

    def close(self) -> None:
        """See ``Notifier.close``."""
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(0)
            self._producer = None

    def _open(self) -> None:
        self._producer, self._faults = connect(Producer, self._properties)

    def _schema_id(self) -> int | None:
        if self._registry is not None and self._id is None:
            self._id = self._registry.register(avro.WRITTEN, self._topic)
        return self._id

    def _explain(self, error: KafkaError) -> str:
        if error.code() in _NO_TOPIC:
            return f"topic {self._topic} isn't there; netspectra topics create makes it"
        if error.code() == KafkaError._MSG_TIMED_OUT:
            error = KafkaError(KafkaError._TIMED_OUT)  # of a message it says no more than that
        return str(explain(error, self._brokers, self._faults))


_EXPLAINED: Final = (
    "assessment", "root_cause", "next_checks", "mitigation", "model", "prompt_version",
)  # fmt: skip


def fields_of(alert: Alert) -> dict[str, Any]:
    """An alert as the fields of its Avro schema."""
    names = [field["name"] for field in avro.WRITTEN.definition["fields"]]
    found = {name: getattr(alert, name) for name in names if name not in _EXPLAINED}
    return found | {
        **{name: getattr(alert.explanation, name, "") for name in _EXPLAINED},
        "status": alert.status.name,
        "severity": alert.severity.name,
        "entity": dict(alert.entity),
        "evidence": [dict(row) for row in alert.evidence],
        "members": list(alert.members),
    }
