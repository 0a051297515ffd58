"""What a run says when it begins to read Kafka."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from schemas.batch import encode_batch
from tests.support.jobs import SECOND, ipv4_packets
from tests.support.kafka import Broker
from tests.support.kafka_job import KafkaJob, Sent, produce
from tests.support.sender import batches

pytestmark = [pytest.mark.requires("kafka"), pytest.mark.slow]


def test_a_run_says_what_it_reads_and_from_where(kafka_broker: Broker, tmp_path: Path) -> None:
    """One line for all workers: the topic, where it is, and whether a run was before."""
    topic = kafka_broker.topic(partitions=2)
    job = KafkaJob(kafka_broker, topic, tmp_path / "job", partitions=2)
    start_ns = 1_700_000_040 * SECOND
    packets = ipv4_packets(np.random.default_rng(1), 60, start_ns=start_ns, span_ns=9 * SECOND)
    for number in range(2):
        sent = [encode_batch(header, part.copy()) for header, part in batches(packets, 60)]
        produce(kafka_broker, topic, [Sent(number, value) for value in sent])
    for where in ("the beginning", "where the last run stopped"):
        _, err = job.finish(workers=2)
        lines = [line for line in err.splitlines() if "reading topic" in line]
        assert lines == [
            f"netspectra: reading topic {topic} at {kafka_broker.bootstrap}, 2 partitions, "
            f"from {where}"
        ]
