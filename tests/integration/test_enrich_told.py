"""Who is told of alerts is told what they mean: at once by a template, later by the model."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.detect.alert import Alert, Status
from flows.detect.explanation import Explanation
from flows.enrich.enricher import Enricher
from flows.notify.dispatcher import Dispatcher
from flows.notify.formats import alertmanager, mail, slack
from flows.notify.selection import NOTHING, Selection, Told
from flows.notify.text import presentable
from flows.settings import Settings
from flows.settings.llm import Llm
from flows.settings.notifiers import File
from flows.sinks import alert_rows
from flows.storage.store import Store
from tests.support.alerts import alert
from tests.support.llm import Asked, Say, service, well

WORDS = Explanation("A <b>scan</b>.", "- A & B.", "- Look.", "- Wait. Risk: r. Undo: u.", "m", "1")
FIRED = alert()
EXPLAINED = replace(FIRED, explanation=WORDS)


def wait_for(holds: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def selection(**settings: Any) -> Selection:
    return Selection(File(name="log", type="file", path="x", **settings))


def test_an_explanation_is_told_once_to_those_who_know_of_the_alert() -> None:
    """After it fired, of its newest revision, unless it is over or nobody wants it."""
    told = Told.by(FIRED)
    assert selection().wants(EXPLAINED, told)
    assert not selection().wants(EXPLAINED, Told.by(EXPLAINED))
    assert not selection().wants(EXPLAINED, NOTHING)
    assert not selection().wants(EXPLAINED, replace(told, revision=2))
    assert not selection().wants(EXPLAINED, replace(told, firing=False))
    assert not selection(events=["fired"]).wants(EXPLAINED, told)
    assert not selection(rules=["other"]).wants(EXPLAINED, told)


def test_a_template_is_no_news() -> None:
    """The words of a template come with the message; they make no message of their own."""
    by_template = replace(FIRED, explanation=replace(WORDS, model="template"))
    assert not by_template.is_explained
    assert by_template.delivery_id == FIRED.delivery_id
    assert not selection().wants(by_template, Told.by(FIRED))


def test_what_is_over_is_told_after_its_explanation() -> None:
    """An explanation doesn't keep the end from being told."""
    over = replace(FIRED, revision=2, event="resolved", status=Status.resolved)
    assert selection().wants(over, Told.by(EXPLAINED))


def test_formats_escape_what_the_model_says() -> None:
    """HTML, Slack's markup and annotations have the words, as text; messages have ids apart."""
    shown = presentable(EXPLAINED)
    message = mail.render(shown, "a@example.org", "b@example.org", "")
    html = message.get_body(("html",))
    plain = message.get_body(("plain",))
    assert html is not None
    assert plain is not None
    assert "A &lt;b&gt;scan&lt;/b&gt;." in html.get_content()
    assert "<b>" not in html.get_content()
    assert "explained by the language model m" in plain.get_content()
    other = mail.render(presentable(FIRED), "a@example.org", "b@example.org", "")
    assert message["Message-ID"] != other["Message-ID"]
    assert "A &lt;b&gt;scan&lt;/b&gt;." in json.dumps(slack.render(shown))
    (first, *_) = alertmanager.render(shown)
    assert first["annotations"]["mitigation"] == WORDS.mitigation


def test_a_receiver_hears_twice(tmp_path: Path) -> None:
    """First the raw alert with the template's words, while the model is asked, then the model's."""
    log = tmp_path / "alerts.jsonl"
    asked_now, answer_now = threading.Event(), threading.Event()

    def slowly(asked: Asked) -> Say:
        asked_now.set()
        answer_now.wait(60)
        return well(asked)

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    raised = alert()
    with (
        service(slowly) as running,
        Store.open(f"chdb:{tmp_path}/store", serve=False) as store,
    ):
        settings = Settings(
            notifiers=[{"name": "log", "type": "file", "path": str(log)}],
            llm=Llm(model="m", base_url=running.url),
        )
        dispatcher = Dispatcher(settings, store)
        dispatcher.resume()
        enricher = Enricher(settings, store, [dispatcher.offer])
        wait_for(lambda: not dispatcher._channels[0]._behind.is_set())
        store.insert("alerts_log", alert_rows.alerts_log([raised]), "a")
        for hear in (dispatcher.offer, enricher.offer):
            hear(raised)
        wait_for(lambda: len(lines()) == 1 and asked_now.is_set())
        answer_now.set()
        wait_for(lambda: len(lines()) == 2)
        enricher.close(10)
        dispatcher.close(10)
    first, second = lines()
    assert first["delivery_id"] == raised.delivery_id
    assert first["explanation"]["model"] == "template"
    assert second["delivery_id"] == f"{raised.delivery_id}+explained"
    assert second["explanation"]["model"] == "m"
    assert second["explanation"]["cited"][0]["row"] == "R1"
    same = ("alert_id", "revision", "severity", "status", "value", "title")
    assert all(first[name] == second[name] for name in same)


@pytest.mark.parametrize("over", [False, True])
def test_the_newest_revision_is_told(tmp_path: Path, over: bool) -> None:
    """An alert that went on while the model was asked is told as it is by then."""
    answer_now = threading.Event()

    def slowly(asked: Asked) -> Say:
        answer_now.wait(60)
        return well(asked)

    told: list[Alert] = []
    changes: dict[str, Any] = {"event": "resolved", "status": Status.resolved} if over else {}
    later = replace(FIRED, revision=2, event="updated")
    later = replace(later, **changes)
    with (
        service(slowly) as running,
        Store.open(f"chdb:{tmp_path}/store", serve=False) as store,
    ):
        settings = Settings(llm=Llm(model="m", base_url=running.url))
        enricher = Enricher(settings, store, [told.append])
        enricher.offer(FIRED)
        wait_for(lambda: running.asked)
        enricher.offer(later)
        wait_for(lambda: enricher.counts["templates"] == 2)
        answer_now.set()
        wait_for(lambda: told)
        enricher.close(10)
    assert (told[0].revision, told[0].status) == (2, later.status)
