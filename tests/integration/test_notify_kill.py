"""A process that is killed while it tells of alerts, at the worst places."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.alerts import alert
from tests.support.http_receiver import Answer, Receiver
from tests.support.jobs import ROOT, environment
from tests.support.kafka import wait_until
from tests.support.llm import Say, service, well

COUNT = 20

SCRIPT = """
import os, signal, sys
from dataclasses import replace
from flows.detect.alert import Status
from flows.notify.dispatcher import Dispatcher
from flows.settings import Settings
from flows.sinks import alert_rows
from flows.storage.store import Store
from tests.support.alerts import alert

directory, url, count, what = sys.argv[1:]
hook = {"name": "hook", "type": "webhook", "url": url, "timeout": "30s"}
store = Store.open(f"chdb:{directory}", serve=False)
dispatcher = Dispatcher(Settings(notifiers=[hook]), store, first_pause_s=0.02)
dispatcher.resume()
if what != "resume":
    fired = [alert(entity={"src_addr": f"10.0.0.{n}"}) for n in range(int(count))]
    over = [replace(a, revision=2, event="resolved", status=Status.resolved) for a in fired]
    store.insert("alerts_log", alert_rows.alerts_log([*fired, *over]), "t")
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    for each in [*fired, *over]:
        dispatcher.offer(each)
print("offered", flush=True)
sys.stdin.readline()
dispatcher.close(30)
store.close()
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


def start(directory: Path, receiver: Receiver, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(directory), receiver.url, str(COUNT), what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    )


def finish(process: subprocess.Popen[str]) -> None:
    process.communicate("\n", timeout=60)
    assert process.returncode == 0


def heard(receiver: Receiver) -> dict[str, list[int]]:
    """Revisions by alert in the order in which a receiver that checks ids took them."""
    found: dict[str, list[int]] = {}
    for delivery in dict.fromkeys(receiver.accepted):
        alert_id, _, revision = delivery.partition("/")
        found.setdefault(alert_id, []).append(int(revision))
    return found


def test_killed_between_storing_and_sending(tmp_path: Path, receiver: Receiver) -> None:
    """What was stored and not even offered is told by the next run, in order, once."""
    process = start(tmp_path, receiver, "die")
    process.communicate(timeout=60)
    assert process.returncode == -9
    assert receiver.posts == []
    finish(start(tmp_path, receiver, "resume"))
    assert len(receiver.accepted) == 2 * COUNT
    assert list(heard(receiver).values()) == [[1, 2]] * COUNT
    finish(start(tmp_path, receiver, "resume"))
    assert len(receiver.accepted) == 2 * COUNT


def test_killed_between_sending_and_writing_down(tmp_path: Path, receiver: Receiver) -> None:
    """The one under way comes again under its id; for a receiver that checks ids nothing twice."""
    holding = threading.Event()
    receiver.answer = lambda _: Answer(wait=holding if len(receiver.posts) >= 5 else None)
    process = start(tmp_path, receiver, "send")
    wait_until(lambda: len(receiver.posts) == 6)
    process.kill()
    process.communicate(timeout=60)
    holding.set()
    under_way = receiver.accepted[-1]
    finish(start(tmp_path, receiver, "resume"))
    assert receiver.accepted.count(under_way) == 2
    assert list(heard(receiver).values()) == [[1, 2]] * COUNT


EXPLAIN = """
import os, signal, sys
from flows.enrich import rows
from flows.enrich.enricher import Enricher
from flows.notify.dispatcher import Dispatcher
from flows.settings import Settings
from flows.sinks import alert_rows
from flows.storage.store import Store
from tests.support.alerts import alert

directory, url, model, what = sys.argv[1:]
hook = {"name": "hook", "type": "webhook", "url": url, "timeout": "30s"}
llm = {"base_url": model, "model": "m"}
store = Store.open(f"chdb:{directory}", serve=False)
dispatcher = Dispatcher(Settings(notifiers=[hook], llm=llm), store, first_pause_s=0.02)
dispatcher.resume()

def die(explained):
    # Explained and stored, but nobody is told yet.
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    dispatcher.offer(explained)

enricher = Enricher(Settings(llm=llm), store, [die])
if what == "resume":
    enricher.resume()
else:
    store.insert("alerts_log", alert_rows.alerts_log([alert()]), "t")
    dispatcher.offer(alert())
    print("offered", flush=True)
    sys.stdin.readline()
    enricher.offer(alert())
print("ready", flush=True)
sys.stdin.readline()
enricher.close(30)
dispatcher.close(30)
store.close()
"""


def explain(directory: Path, receiver: Receiver, url: str, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", EXPLAIN, str(directory), receiver.url, url, what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    )


def test_killed_between_an_explanation_and_its_message(tmp_path: Path, receiver: Receiver) -> None:
    """An explanation that was stored and not told is told by the next run, once."""
    raised = alert()
    with service() as running:
        process = explain(tmp_path, receiver, running.url, "die")
        wait_until(lambda: receiver.accepted == [raised.delivery_id])
        process.communicate("\n", timeout=60)
        assert process.returncode == -9
        assert receiver.accepted == [raised.delivery_id]
        for _ in range(2):
            process = explain(tmp_path, receiver, running.url, "resume")
            wait_until(lambda: len(receiver.accepted) == 2)
            finish(process)
        assert len(running.asked) == 1
    assert receiver.accepted == [raised.delivery_id, f"{raised.delivery_id}+explained"]
    assert receiver.posts[-1].json["explanation"]["model"] == "m"


def test_killed_while_the_model_is_asked(tmp_path: Path, receiver: Receiver) -> None:
    """What was put to the model and not answered is asked again by the next run, and told once."""
    raised = alert()
    with service(Say(hangs=True), well) as running:
        process = explain(tmp_path, receiver, running.url, "ask")
        process.stdin.write("\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        wait_until(lambda: len(running.asked) == 1 and receiver.accepted)
        process.kill()
        process.communicate(timeout=60)
        process = explain(tmp_path, receiver, running.url, "resume")
        wait_until(lambda: len(receiver.accepted) == 2)
        finish(process)
        assert len(running.asked) == 2
    assert receiver.accepted == [raised.delivery_id, f"{raised.delivery_id}+explained"]
