"""The job where batches are framed with ids of a schema registry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.storage.store import Store
from schemas import registry
from schemas.batch import SUBJECT, encode_batch
from schemas.remote_registry import RemoteRegistry
from tests.support.jobs import SECOND, ipv4_packets, sums, truth
from tests.support.kafka import Broker, wait_until
from tests.support.kafka_job import SCRIPT, KafkaJob, Sent, produce
from tests.support.schema_registry import serving
from tests.support.sender import batches

NEWEST = registry.load(SUBJECT, registry.versions(SUBJECT)[-1])


@pytest.mark.requires("kafka")
def test_a_registry_that_is_away_is_waited_for(kafka_broker: Broker, tmp_path: Path) -> None:
    """Nothing becomes a dead letter because the registry doesn't answer for a while."""
    packets = ipv4_packets(np.random.default_rng(4), 500, start_ns=1_700_000_040 * SECOND)
    topic = kafka_broker.topic(1)
    with serving() as remote:
        number = RemoteRegistry(remote.url).register(NEWEST, topic)
        sent = [Sent(0, encode_batch(h, p.copy(), number)) for h, p in batches(packets)]
        produce(kafka_broker, topic, sent)
        settings = {"KAFKA__SCHEMA_REGISTRY": remote.url}
        job = KafkaJob(kafka_broker, topic, tmp_path / "job", settings, 1)
        remote.refuse = 503
        before = len(remote.requests)
        process = job.start(program=SCRIPT, JOB_ENDS="1")
        try:
            wait_until(lambda: len(remote.requests) > before)
            remote.refuse = 0
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 0, err
        assert "answers 503" in err
    with Store.open(f"chdb:{job.store}", serve=False) as store:
        assert set(sums(store, "t").values()) == {truth(packets)}
    assert kafka_broker.messages(job.dlq) == []
