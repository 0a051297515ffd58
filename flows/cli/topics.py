"""``netspectra topics``: what is in Kafka, and what arrives there."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from flows.cli import topics_dlq

if TYPE_CHECKING:
    from flows.kafka.tail import BadMessage, Batch


@click.group("topics")
def command() -> None:
    """List, create or watch the Kafka topics; NETSPECTRA_KAFKA__BROKERS says where.

    \b
    Examples:
      netspectra topics create
      netspectra topics list
      netspectra topics tail
      netspectra topics dlq
    """  # noqa: D301 - click reads the backslash


command.add_command(topics_dlq.command)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a topic.")
def list_(as_json: bool) -> None:
    """Show our topics: size, retention, and how far the job is behind.

    Messages are offsets, of which compaction has taken some out. Lag counts the messages that the
    group NETSPECTRA_KAFKA__GROUP has still to read; "-" if it never read any.

    \b
    Examples:
      netspectra topics list
      netspectra topics list --json
    """  # noqa: D301 - click reads the backslash
    from flows import settings
    from flows.kafka import lines as write
    from flows.kafka import topics
    from flows.kafka.client import Cluster

    kafka = settings.load().kafka
    names = [plan.name for plan in topics.plans(kafka.topics)]
    found = topics.describe(Cluster(kafka), names, kafka.group)
    for line in write.topic_objects(found) if as_json else write.topic_table(names, found):
        click.echo(line)


@command.command()
@click.option("--replicas", type=click.IntRange(1), help="By default 3, or one on each broker.")
def create(replicas: int | None) -> None:
    """Make the topics that aren't there; those that are stay as they are.

    \b
    Examples:
      netspectra topics create
      NETSPECTRA_KAFKA__BROKERS=kafka:9092 netspectra topics create --replicas 2
    """  # noqa: D301 - click reads the backslash
    from flows import settings
    from flows.kafka import topics
    from flows.kafka.client import Cluster

    kafka = settings.load().kafka
    done = topics.create(Cluster(kafka), topics.plans(kafka.topics), replicas)
    for name, what in done.items():
        click.echo(f"{name}: {what}")


@command.command()
@click.option("-n", "--lines", type=click.IntRange(1), help="Stop after so many lines.")
@click.option("--from-beginning", is_flag=True, help="Begin with the oldest message.")
@click.option("--partition", type=click.IntRange(0), multiple=True, help="Only this one.")
@click.option("--packets", is_flag=True, help="A line a packet instead of a line a batch.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def tail(
    lines: int | None,
    from_beginning: bool,
    partition: tuple[int, ...],
    packets: bool,
    as_json: bool,
) -> None:
    """Watch what probes send, until Ctrl-C; nobody else's reading is disturbed.

    A batch shows when Kafka took it (UTC), what it holds, the packets that were lost before it
    (by the probe, or with batches that are missing), and how far its watermark is behind.

    \b
    Examples:
      netspectra topics tail
      netspectra topics tail --packets --partition 3
      netspectra topics tail --from-beginning -n 1000 --json
    """  # noqa: D301 - click reads the backslash
    from flows import settings
    from flows.kafka import lines as write
    from flows.kafka.tail import Tail

    def say(line: str) -> None:
        print(f"netspectra: {line}", file=sys.stderr, flush=True)

    kafka = settings.load().kafka
    with Tail(kafka, partition, from_beginning=from_beginning, report=say) as messages:
        since = "the beginning" if from_beginning else "now"
        say(f"{messages.topic}, {len(messages.partitions)} partition(s), since {since}")
        if not packets and not as_json:
            print(write.HEADING)
        text = (line for several in messages for line in _write(several, packets, as_json))
        for line in itertools.islice(text, lines):
            print(line)


def _write(several: list[Batch | BadMessage], packets: bool, as_json: bool) -> Iterator[str]:
    from flows.kafka import lines as write
    from flows.kafka.tail import BadMessage

    sys.stdout.flush()
    for message in several:
        if isinstance(message, BadMessage):
            yield write.bad_json(message) if as_json else write.bad_line(message)
        elif packets:
            yield from write.packet_lines(message, as_json)
        else:
            yield write.batch_json(message) if as_json else write.batch_line(message)
    sys.stdout.flush()
