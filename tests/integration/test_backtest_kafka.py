"""Rules tried on what a topic holds: all of it, once, and nothing is left there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from flows.cli.backtest import command
from probe.synthetic.scenario import Background, HostScan, Scenario
from tests.support.kafka import Broker
from tests.support.kafka_job import KafkaJob, in_time, probe_messages, produce

pytestmark = [pytest.mark.requires("kafka"), pytest.mark.slow]

S = 10**9
PARTITIONS = 6
SITE = Scenario(
    duration_s=60,
    background=Background(packets_per_second=100),
    attacks=(HostScan(start_s=4, hosts_per_second=20, duration_s=20),),
)


@pytest.fixture(scope="module")
def topic(kafka_session: Broker) -> str:
    name = kafka_session.topic(PARTITIONS)
    packets = np.concatenate(list(SITE.chunks()))
    produce(kafka_session, name, in_time(probe_messages(packets, "edge", PARTITIONS)))
    return name


def backtest(
    broker: Broker, topic: str, monkeypatch: pytest.MonkeyPatch, directory: Path, *arguments: str
) -> dict[str, object]:
    monkeypatch.chdir(directory)
    for name, value in {
        "BROKERS": broker.bootstrap, "GROUP": f"g-{topic}", "TOPICS__PACKETS": topic,
        "TOPICS__DLQ": f"dlq-{topic}",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"NETSPECTRA_KAFKA__{name}", value)
    wanted = ["--source", "kafka", "--format", "json", *arguments]
    done = CliRunner().invoke(command, wanted, standalone_mode=False, catch_exceptions=False)
    found = json.loads(done.stdout)["the settings"]
    assert isinstance(found, dict)
    return found


def test_what_the_topic_holds_is_read_once(
    kafka_broker: Broker, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All packets of all partitions, the scan is found, no group and no other topic appears."""
    before = set(kafka_broker.admin().list_topics(timeout=10).topics)
    report = backtest(kafka_broker, topic, monkeypatch, tmp_path)
    assert report["packets"] == SITE.packets
    rules = report["rules"]
    assert isinstance(rules, dict)
    assert rules["host_scan"]["alerts"] == 1
    assert set(kafka_broker.admin().list_topics(timeout=10).topics) - before <= {
        "__consumer_offsets"
    }
    for group in (f"g-{topic}", f"g-{topic}.backtest"):
        job = KafkaJob(kafka_broker, topic, tmp_path)
        job.group = group
        assert all(offset < 0 for offset in job.committed().values())
    assert list(tmp_path.iterdir()) == []


def test_since_leaves_out_what_is_older(
    kafka_broker: Broker, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time after the newest message leaves nothing, one before the oldest all."""
    packets = backtest(kafka_broker, topic, monkeypatch, tmp_path, "--since", "0")["packets"]
    assert packets == 0
    packets = backtest(kafka_broker, topic, monkeypatch, tmp_path, "--since", "1h")["packets"]
    assert packets == SITE.packets


def test_a_topic_that_is_not_there_is_not_made(
    kafka_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the topic, and it still isn't there afterwards."""
    name = kafka_broker.name()
    with pytest.raises(Exception, match=f"there is no topic {name}"):
        backtest(kafka_broker, name, monkeypatch, tmp_path)
    assert name not in kafka_broker.admin().list_topics(timeout=10).topics
