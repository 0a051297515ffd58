"""The dispatcher with a real store and a real receiver: nothing lost, nothing out of order."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.detect.alert import Alert, Severity, Status
from flows.notify import channel, webhook
from flows.notify.dispatcher import Dispatcher
from flows.notify.formats import netspectra
from flows.notify.outbox import Outbox
from flows.settings import Settings
from flows.sinks import alert_rows
from flows.storage.store import Store
from flows.storage.unavailable import StoreUnavailable
from tests.support.alerts import SECOND_NS, T0_NS, alert
from tests.support.http_receiver import Answer, Receiver
from tests.support.kafka import wait_until

Start = Callable[..., Dispatcher]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(f"chdb:{tmp_path_factory.mktemp('store')}", serve=False) as store:
        yield store


@pytest.fixture
def store(opened: Store) -> Store:
    """A store without alerts."""
    for table in ("alerts_log", "alert_deliveries"):
        opened.command(f"TRUNCATE TABLE {table}")
    return opened


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


def settings_of(receiver: Receiver, **more: Any) -> Settings:
    hook = {"name": "hook", "type": "webhook", "url": receiver.url, "timeout": "2s", **more}
    return Settings(notifiers=[hook])


@pytest.fixture
def start(store: Store, receiver: Receiver) -> Iterator[Start]:
    """Starts a dispatcher that tells the receiver, with short pauses."""
    begun = []

    def start(**more: Any) -> Dispatcher:
        begun.append(Dispatcher(settings_of(receiver, **more), store, first_pause_s=0.02))
        begun[-1].resume()
        return begun[-1]

    yield start
    for dispatcher in begun:
        dispatcher.close(2)


def keep(store: Store, *alerts: Alert) -> None:
    """Store revisions, as the job does before it offers them."""
    store.insert("alerts_log", alert_rows.alerts_log(alerts), f"alerts_log/{uuid.uuid4()}")


def hand_over(store: Store, dispatcher: Dispatcher, *alerts: Alert) -> None:
    keep(store, *alerts)
    for each in alerts:
        dispatcher.offer(each)


def numbered(count: int) -> list[Alert]:
    return [alert(entity={"src_addr": f"10.0.{n // 250}.{n % 250}"}) for n in range(count)]


def life(**changes: Any) -> list[Alert]:
    """Fired, twice updated, resolved."""
    fired = alert(**changes)
    once = replace(fired, revision=2, event="updated")
    twice = replace(fired, revision=3, event="updated")
    over = replace(
        fired,
        revision=4,
        event="resolved",
        status=Status.resolved,
        resolved_at_ns=T0_NS + 700 * SECOND_NS,
    )
    return [fired, once, twice, over]


def deliveries(store: Store) -> dict[tuple[str, int], tuple[str, int]]:
    """State and tries by alert and revision."""
    rows = store.query(
        "SELECT alert_id, revision, toString(state) AS state, tries FROM alert_deliveries FINAL "
        "WHERE alert_id != ''"
    ).to_pylist()
    return {(row["alert_id"], row["revision"]): (row["state"], row["tries"]) for row in rows}


def test_an_alert_arrives_and_is_written_down(
    store: Store, receiver: Receiver, start: Start
) -> None:
    """What fired and what is over are told once each; updates aren't unless they are asked for."""
    dispatcher = start()
    fired, *_, over = revisions = life()
    for each in revisions:
        hand_over(store, dispatcher, each)
        if each is fired:
            wait_until(lambda: receiver.accepted == [fired.delivery_id])
    wait_until(lambda: receiver.accepted == [fired.delivery_id, over.delivery_id])
    dispatcher.close(2)
    assert deliveries(store) == {
        (fired.alert_id, 1): ("delivered", 1),
        (fired.alert_id, 4): ("delivered", 1),
    }
    counts = dispatcher.counts["hook"]
    assert (counts.sent, counts.retried, counts.refused, counts.pending) == (2, 0, 0, 0)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(500), id="500"),
        pytest.param(Answer(503, {"Retry-After": "0"}), id="503"),
        pytest.param(Answer(429, {"Retry-After": "0"}), id="429"),
        pytest.param(Answer(408), id="408"),
        pytest.param(Answer(302, {"Location": "http://127.0.0.1:1/"}), id="302"),
        pytest.param(Answer(0, accepted=False), id="dropped"),
    ],
)
def test_a_receiver_that_fails_gets_it_once_it_recovers(
    store: Store, receiver: Receiver, start: Start, answer: Answer
) -> None:
    """Whatever it answers meanwhile, each alert arrives once, its news in order."""
    receiver.answer = lambda _: answer
    dispatcher = start()
    fired = numbered(5)
    hand_over(store, dispatcher, *fired)
    wait_until(lambda: dispatcher.counts["hook"].retried >= 3)
    assert receiver.accepted == []
    receiver.answer = lambda _: Answer()
    wait_until(lambda: len(receiver.accepted) == 5)
    assert sorted(receiver.accepted) == sorted(each.delivery_id for each in fired)
    dispatcher.close(2)
    assert set(deliveries(store)) == {(each.alert_id, 1) for each in fired}
    assert dispatcher.counts["hook"].sent == 5


def test_a_receiver_that_is_gone_gets_it_when_it_is_back(
    store: Store, receiver: Receiver, start: Start
) -> None:
    """Connections that are refused are tried again."""
    receiver.stop()
    dispatcher = start()
    hand_over(store, dispatcher, alert())
    wait_until(lambda: dispatcher.counts["hook"].retried >= 3)
    receiver.start()
    wait_until(lambda: receiver.accepted == [alert().delivery_id])


def test_an_answer_that_comes_too_late_is_asked_for_again(
    store: Store, receiver: Receiver, start: Start
) -> None:
    """After a timeout the same message comes under the same delivery id."""
    late = threading.Event()
    receiver.answer = lambda _: Answer(wait=late)
    dispatcher = start(timeout="100ms")
    hand_over(store, dispatcher, alert())
    wait_until(lambda: len(receiver.posts) >= 2)
    receiver.answer = lambda _: Answer()
    late.set()
    wait_until(lambda: dispatcher.counts["hook"].sent == 1)
    assert {post.delivery for post in receiver.posts} == {alert().delivery_id}


def test_a_slow_receiver_hears_the_newest(store: Store, receiver: Receiver, start: Start) -> None:
    """Of what piled up while it answered, only what it needs is sent."""
    slow = threading.Event()
    receiver.answer = lambda post: Answer(wait=slow)
    dispatcher = start(events="fired,updated,resolved", timeout="30s")
    fired, once, twice, over = life()
    hand_over(store, dispatcher, fired)
    wait_until(lambda: receiver.accepted == [fired.delivery_id])
    hand_over(store, dispatcher, once, twice, over)
    slow.set()
    wait_until(lambda: dispatcher.counts["hook"].sent == 2)
    assert receiver.accepted == [fired.delivery_id, over.delivery_id]
    dispatcher.close(2)
    states = {revision: state for (_, revision), (state, _) in deliveries(store).items()}
    assert states == {1: "delivered", 2: "superseded", 3: "superseded", 4: "delivered"}
    assert dispatcher.counts["hook"].superseded == 2


def test_what_came_and_went_unheard_is_told_as_both(
    store: Store, receiver: Receiver, start: Start
) -> None:
    """A receiver that was away hears that an alert fired, then that it is over."""
    receiver.stop()
    dispatcher = start()
    revisions = life()
    hand_over(store, dispatcher, *revisions)
    wait_until(lambda: dispatcher.counts["hook"].retried >= 2)
    receiver.start()
    wait_until(lambda: len(receiver.accepted) == 2)
    assert [post.json["status"] for post in receiver.posts] == ["firing", "resolved"]


def test_refusals_are_final(store: Store, receiver: Receiver, start: Start) -> None:
    """A 400 is not tried again, holds nothing up, and is written down with what was said."""
    bad, good = numbered(2)
    receiver.answer = lambda post: (
        Answer(400, body=b"no \x1b[31mthanks") if post.delivery == bad.delivery_id else Answer()
    )
    dispatcher = start()
    hand_over(store, dispatcher, bad, good)
    wait_until(lambda: receiver.accepted == [good.delivery_id])
    dispatcher.close(2)
    assert dispatcher.counts["hook"].refused == 1
    assert deliveries(store)[bad.alert_id, 1] == ("refused", 1)
    details = store.query("SELECT detail FROM alert_deliveries WHERE state = 'refused'").to_pylist()
    assert details == [{"detail": "HTTP 400 no [31mthanks"}]
    assert len(receiver.posts) == 2


def test_one_that_a_receiver_cannot_digest_holds_nothing_up(
    store: Store, receiver: Receiver, start: Start
) -> None:
    """An alert that is answered with 500 again and again goes behind the others."""
    poison, *others = numbered(6)
    receiver.answer = lambda post: Answer(500 if post.delivery == poison.delivery_id else 200)
    dispatcher = start()
    hand_over(store, dispatcher, poison, *others)
    wait_until(lambda: len(receiver.accepted) == 5)
    assert set(receiver.accepted) == {each.delivery_id for each in others}
    receiver.answer = lambda _: Answer()
    wait_until(lambda: receiver.accepted[-1] == poison.delivery_id)


def test_muted_and_pending_alerts_are_not_told(
    store: Store, receiver: Receiver, start: Start
) -> None:
    """Nor that they are over; once the mute ends, the alert fires for the receiver."""
    muted = alert(event="muted", status=Status.muted, muted_by="holiday")
    pending = alert(rule="b", event="pending", status=Status.pending)
    dropped = replace(pending, revision=2, event="dropped", status=Status.resolved)
    never = alert(rule="c", event="muted", status=Status.muted)
    over = replace(never, revision=2, event="resolved", status=Status.resolved)
    unmuted = replace(muted, revision=2, event="fired", status=Status.firing, muted_by="")
    dispatcher = start()
    hand_over(store, dispatcher, muted, pending, dropped, never, over, unmuted)
    wait_until(lambda: receiver.accepted == [unmuted.delivery_id])
    dispatcher.close(2)
    assert [post.delivery for post in receiver.posts] == [unmuted.delivery_id]


def test_what_was_left_by_an_earlier_run_is_sent(
    store: Store, receiver: Receiver, start: Start
) -> None:
    """Stored but not offered, as after a kill in between: the next start sends it, once."""
    start().close(2)
    *_, newest, over = life()
    keep(store, *life(), *numbered(3))
    start().close(5)
    assert len(receiver.accepted) == 5
    first = receiver.accepted.index(newest.delivery_id)
    assert first < receiver.accepted.index(over.delivery_id)
    start().close(2)
    assert len(receiver.accepted) == 5


def test_a_new_notifier_is_not_told_of_the_past(
    store: Store, receiver: Receiver, start: Start
) -> None:
    """What was stored before it was set up for the first time stays untold."""
    keep(store, alert())
    later = alert(rule="later")
    wait_until(lambda: store.query("SELECT now64(3) > max(updated_at) AS p FROM alerts_log")[
        "p"][0].as_py())  # fmt: skip
    dispatcher = start()
    hand_over(store, dispatcher, later)
    wait_until(lambda: receiver.accepted == [later.delivery_id])
    dispatcher.close(2)
    start().close(2)
    assert receiver.accepted == [later.delivery_id]


def test_a_replay_is_not_told_again(store: Store, receiver: Receiver, start: Start) -> None:
    """Alerts that an earlier run delivered are offered again after a restart, and known."""
    revisions = life()
    dispatcher = start()
    for each in revisions:
        hand_over(store, dispatcher, each)
    wait_until(lambda: len(receiver.accepted) == 2)
    dispatcher.close(2)
    again = start()
    for each in revisions:
        again.offer(each)
    again.close(2)
    assert len(receiver.posts) == 2


def test_a_kill_before_it_is_written_down_repeats_the_same_id(
    store: Store, receiver: Receiver, start: Start
) -> None:
    """The worst place: sent, and not recorded. A receiver that checks ids has it once."""
    dispatcher = start()
    hand_over(store, dispatcher, alert())
    dispatcher.close(2)
    store.command("ALTER TABLE alert_deliveries DELETE WHERE alert_id != '' "
                  "SETTINGS mutations_sync = 1")  # fmt: skip
    assert deliveries(store) == {}
    start().close(5)
    assert receiver.accepted == [alert().delivery_id] * 2
    assert len(set(receiver.accepted)) == 1


def test_a_full_memory_loses_nothing(
    store: Store, receiver: Receiver, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alerts beyond what is kept in memory are read back from the store."""
    monkeypatch.setattr(channel, "MAX_OFFERED", 5)
    monkeypatch.setattr(channel, "MAX_WAITING", 10)
    monkeypatch.setattr("flows.notify.outbox.PAGE", 7)
    slow = threading.Event()
    receiver.answer = lambda _: Answer(wait=slow)
    dispatcher = start(timeout="30s")
    alerts = numbered(60)
    keep(store, *alerts)
    for each in alerts:
        dispatcher.offer(each)
    assert dispatcher.counts["hook"].spilled > 0
    slow.set()
    wait_until(lambda: len(receiver.accepted) == 60)
    assert set(receiver.accepted) == {each.delivery_id for each in alerts}


def test_a_rise_is_told_and_a_repetition_is_not(
    store: Store, receiver: Receiver, start: Start
) -> None:
    """A higher severity and a group ten times as large are news; another minute of it isn't."""
    dispatcher = start(min_severity="medium")
    first = alert(severity=Severity.low, member_count=30)
    steps = [
        first,
        replace(first, revision=2, event="updated", severity=Severity.medium),
        replace(first, revision=3, event="updated", severity=Severity.medium, member_count=290),
        replace(first, revision=4, event="updated", severity=Severity.medium, member_count=300),
        replace(first, revision=5, event="updated", severity=Severity.high, member_count=300),
    ]
    for each in steps:
        sent = dispatcher.counts["hook"].sent
        hand_over(store, dispatcher, each)
        if each.revision in (2, 4, 5):
            wait_until(lambda sent=sent: dispatcher.counts["hook"].sent > sent)  # type: ignore[misc]
    assert [post.json["revision"] for post in receiver.posts] == [2, 4, 5]


def test_rules_choose_who_is_told(store: Store, receiver: Receiver, start: Start) -> None:
    """An alert whose rule names other notifiers isn't for this one; tenants and rules filter."""
    dispatcher = start(tenants="a", rules="host_scan")
    wanted = alert(tenant="a", notify=("hook", "x"))
    others = alert(tenant="a", notify=("x",), first_seen_ns=T0_NS + 1)
    hand_over(store, dispatcher, others, alert(tenant="b"), alert(tenant="a", rule="other"), wanted)
    dispatcher.close(2)
    assert receiver.accepted == [wanted.delivery_id]


class Broken:
    """A store that is away when it is told to be, and counts how often it was asked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away = False
        self.asked = 0

    def query(self, sql: str, parameters: Any = None) -> Any:
        self._check()
        return self._store.query(sql, parameters)

    def insert(self, table: str, rows: Any, token: str) -> None:
        self._check()
        self._store.insert(table, rows, token)

    def _check(self) -> None:
        self.asked += 1
        if self.away:
            raise StoreUnavailable("it is away")


def test_a_store_that_is_away_holds_no_alert_up(
    store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alerts in memory are sent meanwhile; that they were is written down once it is back."""
    monkeypatch.setattr("flows.notify.recorder._PAUSE_S", 0.02)
    broken = Broken(store)
    dispatcher = Dispatcher(settings_of(receiver), broken, first_pause_s=0.02)
    dispatcher.resume()
    wait_until(lambda: broken.asked >= 3)
    alerts = numbered(3)
    keep(store, *alerts)
    broken.away = True
    for each in alerts:
        dispatcher.offer(each)
    wait_until(lambda: len(receiver.accepted) == 3)
    asked = broken.asked
    wait_until(lambda: broken.asked >= asked + 2)
    assert deliveries(store) == {}
    broken.away = False
    wait_until(lambda: len(deliveries(store)) == 3)
    dispatcher.close(2)
    assert len(receiver.posts) == 3


def test_reading_back_goes_on_when_the_store_is_back(
    store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an earlier run left isn't given up because the store failed for a while."""
    monkeypatch.setattr(channel, "STORE_PAUSE_S", 0.02)
    broken = Broken(store)
    begun = Dispatcher(settings_of(receiver), broken)
    begun.resume()
    begun.close(2)
    keep(store, alert())
    dispatcher = Dispatcher(settings_of(receiver), broken)
    monkeypatch.setattr(Outbox, "begin", lambda self: setattr(broken, "away", True))
    dispatcher.resume()
    asked = broken.asked
    wait_until(lambda: broken.asked >= asked + 3)
    assert receiver.posts == []
    broken.away = False
    wait_until(lambda: receiver.accepted == [alert().delivery_id])
    dispatcher.close(2)


def test_closing_waits_for_what_is_under_way_and_keeps_the_rest(
    store: Store, receiver: Receiver, start: Start
) -> None:
    """A receiver that hangs doesn't keep the program from ending; the next run tells it."""
    hang = threading.Event()
    receiver.answer = lambda _: Answer(wait=hang, accepted=False)
    dispatcher = start(timeout="30s")
    hand_over(store, dispatcher, *numbered(3))
    wait_until(lambda: len(receiver.posts) == 1)
    dispatcher.close(0.1)
    assert deliveries(store) == {}
    receiver.answer = lambda _: Answer()
    start().close(10)
    assert {each.delivery_id for each in numbered(3)} <= set(receiver.accepted)
    hang.set()


def test_what_a_receiver_asks_for_is_kept_to(
    store: Store, receiver: Receiver, start: Start
) -> None:
    """After a 429 with Retry-After it is left alone; closing tries once more and no longer."""
    receiver.answer = lambda _: Answer(429, {"Retry-After": "3600"})
    dispatcher = start()
    hand_over(store, dispatcher, *numbered(2))
    wait_until(lambda: dispatcher.counts["hook"].retried == 1)
    for each in numbered(10):
        dispatcher.offer(each)
    assert len(receiver.posts) == 1
    dispatcher.close(5)
    assert len(receiver.posts) == 2
    assert dispatcher.counts["hook"].retried == 1


def test_one_notifier_does_not_wait_for_another(
    store: Store, receiver: Receiver, tmp_path: Path
) -> None:
    """A receiver that hangs keeps nothing from a file."""
    hang = threading.Event()
    receiver.answer = lambda _: Answer(wait=hang)
    log = {"name": "log", "type": "file", "path": str(tmp_path / "alerts")}
    settings = Settings(notifiers=[*settings_of(receiver).notifiers, log])
    dispatcher = Dispatcher(settings, store)
    dispatcher.resume()
    hand_over(store, dispatcher, *numbered(10))
    wait_until(lambda: dispatcher.counts["log"].sent == 10)
    assert dispatcher.counts["hook"].sent == 0
    hang.set()
    dispatcher.close(5)


def test_a_fault_of_ours_is_written_down(
    store: Store, receiver: Receiver, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alert that a notifier stumbles over is refused, with the fault; the next one is told."""
    bad, good = numbered(2)
    render = netspectra.render

    def stumble(each: Alert) -> dict[str, Any]:
        return {"a": 1 / 0} if each.alert_id == bad.alert_id else render(each)

    monkeypatch.setitem(webhook.FORMATS, "netspectra", stumble)  # type: ignore[arg-type]
    dispatcher = start()
    hand_over(store, dispatcher, bad, good)
    wait_until(lambda: receiver.accepted == [good.delivery_id])
    dispatcher.close(2)
    assert dispatcher.counts["hook"].refused == 1
    (row,) = store.query("SELECT detail FROM alert_deliveries WHERE state = 'refused'").to_pylist()
    assert row["detail"] == "ZeroDivisionError in the notifier: division by zero"
