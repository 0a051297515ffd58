"""Alerts are put to a language model: a scripted service, the real client, the real store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from flows.detect.alert import Alert, Severity, Status
from flows.enrich import enricher as enricher_module
from flows.enrich import rows
from flows.enrich.enricher import Enricher
from flows.settings import Settings
from flows.settings.llm import Llm
from flows.sinks import alert_rows
from flows.storage import alerts
from flows.storage.store import Store
from tests.support.alerts import alert
from tests.support.llm import Asked, Say, claim, completion, good, service, well

KEY = "sk-hush-4711"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enricher_module, "GATHER_S", 0.05)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(f"chdb:{tmp_path_factory.mktemp('store')}", serve=False) as opened:
        yield opened


@pytest.fixture
def store(shared: Store) -> Store:
    for table in ("alerts_log", "alert_enrichments"):
        shared.command(f"TRUNCATE TABLE {table}")
    return shared


def settings(url: str, **llm: Any) -> Settings:
    wanted = {"base_url": url, "model": "m", "api_key": KEY, "timeout": "2s"} | llm
    return Settings(llm=Llm(**wanted))


def raise_alerts(store: Store, *raised: Alert) -> None:
    store.insert("alerts_log", alert_rows.alerts_log(raised), f"alerts/{time.time_ns()}")


def wait_for(holds: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def run(
    store: Store, chosen: Settings, *raised: Alert, told: list[Alert] | None = None
) -> Enricher:
    """Offer alerts and wait until all is done."""
    raise_alerts(store, *raised)
    hear = [told.append] if told is not None else []
    enricher = Enricher(chosen, store, hear, first_pause_s=0.05)
    for each in raised:
        enricher.offer(each)
    wait_for(lambda: enricher.idle)
    enricher.close(10)
    return enricher


def shown(store: Store, raised: Alert) -> dict[str, Any]:
    return alerts.one(store.query, raised.alert_id)


def test_an_alert_is_explained_by_the_model(store: Store) -> None:
    """The answer is shown with its rows, its model and version, and told as a later message."""
    raised, told = alert(), list[Alert]()
    with service() as running:
        enricher = run(store, settings(running.url), raised, told=told)
    row = shown(store, raised)
    assert row["enrichment_status"] == "done"
    assert row["assessment"].startswith("It is host_scan at 214 hosts. [R1]")
    assert "Risk: Its services are away. Undo: Connect it again." in row["mitigation"]
    assert (row["model"], row["prompt_version"]) == ("m", "explain-1")
    assert [each["row"] for each in row["cited"]] == ["R1"]
    assert row["cited"][0]["src_addr"] == "10.0.2.15"
    (message,) = told
    assert message.delivery_id == f"{raised.delivery_id}+explained"
    assert replace(message, explanation=None) == raised
    assert enricher.counts["requests"] == 1


def test_the_form_of_the_answer_is_asked_for(store: Store) -> None:
    """The request has a closed JSON schema, a limit and no chance."""
    with service() as running:
        run(store, settings(running.url, max_answer_tokens=777), alert())
    body = running.asked[0].body
    form = body["response_format"]["json_schema"]
    assert form["strict"] is True
    assert form["schema"]["additionalProperties"] is False
    assert set(form["schema"]["required"]) == set(form["schema"]["properties"])
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("m", 777, 0.0)


def failing(*, status: int = 500, **headers: str) -> Say:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"error": {"message": f"no, not with {KEY}", "code": "x"}}
    return Say(body, status, named)


soon = format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)


@pytest.mark.parametrize(
    ("faults", "counter"),
    [
        ([failing(status=429, retry_after="0")], "rate_limited"),
        ([failing(status=429, retry_after_ms="20")], "rate_limited"),
        ([failing(status=429, retry_after=soon)], "rate_limited"),
        ([failing(status=429, retry_after="nonsense")], "rate_limited"),
        ([failing(), failing(status=503)], "server_error"),
        ([Say(drops=True)], "connection"),
        ([Say(hangs=True)], "timeout"),
        ([Say(completion("x" * 400), drips=True)], "timeout"),
        ([Say("{not json")], "malformed"),
        ([Say("")], "malformed"),
        ([Say([1, 2])], "malformed"),
        ([Say({"choices": None})], "malformed"),
        ([Say({"choices": []})], "malformed"),
        ([Say({"choices": [{"message": None, "finish_reason": "stop"}]})], "malformed"),
        ([Say(completion(None))], "malformed"),
        ([Say(completion("x", finish="odd"))], "cut"),
        ([Say(completion("x"), cut=True)], "connection"),
        ([Say(b"x" * (3 << 20))], "malformed"),
        ([Say(completion("Sorry, I can't do JSON."))], "unreadable"),
        ([Say(completion({"what": "wrong shape"}))], "unreadable"),
        ([Say(completion('{"what": {"text": "cut off'))], "unreadable"),
    ],
)
def test_what_passes_is_tried_again(store: Store, faults: list[Say], counter: str) -> None:
    """A fault that goes away costs a try, moves its counter, and leaves no other trace."""
    raised = alert()
    with service(*faults, well) as running:
        enricher = run(store, settings(running.url, timeout="1s"), raised)
    assert enricher.counts[counter] == len(faults)
    assert len(running.asked) == len(faults) + 1
    assert shown(store, raised)["enrichment_status"] == "done"


@pytest.mark.parametrize(
    ("answer", "counter", "why"),
    [
        (failing(status=401), "refused", "refuses the key (HTTP 401)"),
        (failing(status=403), "refused", "refuses access"),
        (failing(status=404), "refused", "no such model"),
        (failing(status=413), "refused", "refuses the question (HTTP 413)"),
        (Say(completion("x", finish="length")), "truncated", "llm.max_answer_tokens"),
        (Say(completion(None, refusal="No.")), "refusal", "refuses to answer"),
        (Say(completion("x", finish="content_filter")), "refusal", "refuses to answer"),
        (Say(completion("no JSON at all")), "unreadable", "can't be read"),
        (Say("<html>"), "malformed", "no JSON"),
        (Say({"choices": None}), "malformed", "another protocol"),
    ],
)
def test_what_does_not_pass_ends_with_the_template(
    store: Store, answer: Say, counter: str, why: str
) -> None:
    """Then the status is failed, with the reason, and the words are the template's."""
    raised, told = alert(), list[Alert]()
    with service(answer) as running:
        enricher = run(store, settings(running.url), raised, told=told)
    row = shown(store, raised)
    assert row["enrichment_status"] == "failed"
    assert why in row["enrichment_reason"]
    assert row["model"] == "template"
    assert "tries port 23" in row["assessment"]
    assert enricher.counts[counter]
    assert enricher.counts["failed"] == 1
    assert len(running.asked) <= 4
    assert not told


def test_an_answer_that_cannot_be_read_is_repaired_once(store: Store) -> None:
    """The second request says what was wrong; the answer of the second is used."""
    broken = Say(completion({"what": claim("x", "R1")}))
    with service(broken, well) as running:
        run(store, settings(running.url), raised := alert())
    again = running.asked[1].body["messages"]
    assert [message["role"] for message in again] == ["system", "user", "user"]
    assert "could not be read: seriousness: Field required" in again[-1]["content"]
    assert shown(store, raised)["enrichment_status"] == "done"


@pytest.mark.parametrize("forms", [1, 2])
def test_a_service_without_structured_outputs_is_asked_plainly(store: Store, forms: int) -> None:
    """A form that a service doesn't know is left out from then on."""
    unknown = failing(status=400)
    raised = [alert(), alert(entity={"src_addr": "10.9.9.9"}, rule="port_scan")]
    with service(*[unknown] * forms, well) as running:
        enricher = run(store, settings(running.url, concurrency=1), *raised)
    forms_asked = [asked.body.get("response_format", {}).get("type") for asked in running.asked]
    order = ["json_schema", "json_object", None]
    assert forms_asked == [*order[: forms + 1], order[forms]]
    assert enricher.counts["form"] == forms
    assert enricher.counts["done"] == 2


def test_the_other_name_of_the_limit_is_tried(store: Store) -> None:
    """A service that wants max_completion_tokens says so, and gets it."""
    wants = Say({"error": {"message": "use max_completion_tokens"}}, 400)
    with service(wants, well) as running:
        run(store, settings(running.url), raised := alert())
    assert "max_tokens" not in running.asked[1].body
    assert running.asked[1].body["max_completion_tokens"] == 2000
    assert running.asked[1].body["response_format"]["type"] == "json_schema"
    assert shown(store, raised)["enrichment_status"] == "done"


def test_claims_without_evidence_are_struck(store: Store) -> None:
    """One invented number is left out and counted, and the status says partial."""

    def invents(asked: Asked) -> Say:
        answer = good(asked)
        answer["root_cause"].append(claim("It sent 31,337 packets to 203.0.113.9.", "R1"))
        return Say(completion(answer))

    with service(invents) as running:
        enricher = run(store, settings(running.url), raised := alert())
    row = shown(store, raised)
    assert row["enrichment_status"] == "partial"
    assert "1 claims struck" in row["enrichment_reason"]
    assert "31,337" not in str(row)
    assert enricher.counts["struck"] == 1


def test_an_answer_without_evidence_is_not_used(store: Store) -> None:
    """When its main claim, or most claims, cite what isn't there, the template stays."""

    def invents(asked: Asked) -> Say:
        answer = good(asked)
        answer["what"]["rows"] = ["R99"]
        return Say(completion(answer))

    with service(invents) as running:
        enricher = run(store, settings(running.url), raised := alert())
    row = shown(store, raised)
    assert (row["enrichment_status"], row["model"]) == ("failed", "template")
    assert "cites no row" in row["enrichment_reason"]
    assert enricher.counts["unsupported"] == 1


def test_a_service_that_is_down_is_left_alone(store: Store) -> None:
    """After three failures few requests are sent; when it is back, all alerts are explained."""
    raised = [
        alert(entity={"src_addr": f"10.0.3.{n}"}, rule=f"rule_{n}", detector="host_scan")
        for n in range(6)
    ]
    with service(*[failing(status=503)] * 5, well) as running:
        enricher = run(store, settings(running.url), *raised)
    assert enricher.counts["opened"] == 1
    assert enricher.counts["done"] == 6
    assert enricher.counts["server_error"] == 5
    assert {shown(store, each)["enrichment_status"] for each in raised} == {"done"}


@pytest.mark.soak
def test_a_service_that_is_down_for_minutes(store: Store) -> None:
    """Two minutes of failures cost few requests; alerts wait, and all are explained after."""
    until_s = time.monotonic() + 130

    def comes_back(asked: Asked) -> Say:
        return well(asked) if time.monotonic() > until_s else failing(status=503)

    raised = [alert(entity={"src_addr": f"10.8.0.{n}"}, rule=f"rule_{n}") for n in range(30)]
    with service(comes_back) as running:
        enricher = Enricher(settings(running.url, requests_per_hour=200, kind_share=1), store)
        for each in raised:
            raise_alerts(store, each)
            enricher.offer(each)
            time.sleep(4)
            assert shown(store, each)["enrichment_status"] == "pending"
            assert shown(store, each)["model"] == "template"
        while_down = len(running.asked)
        deadline_s = time.monotonic() + 300
        while not enricher.idle:
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        enricher.close(10)
    assert while_down <= 10
    assert enricher.counts["done"] == 30
    assert {shown(store, each)["enrichment_status"] for each in raised} == {"done"}


def test_a_service_that_stays_down_ends_with_a_reason(store: Store) -> None:
    """When the time for an alert is over it is failed, and not before."""
    with service(failing(status=503)) as running:
        enricher = run(store, settings(running.url, deadline="1s"), raised := alert())
    row = shown(store, raised)
    assert row["enrichment_status"] == "failed"
    assert row["enrichment_reason"] == "no answer within 1 s: it fails (HTTP 503)"
    assert enricher.counts["overdue"] == 1


def test_no_service_at_all(store: Store) -> None:
    """An address at which nobody listens is counted as no connection."""
    with service() as running:
        url = running.url
    enricher = run(store, settings(url, deadline="1s"), raised := alert())
    assert enricher.counts["connection"] >= 1
    assert "no connection" in shown(store, raised)["enrichment_reason"]


def test_the_budget_is_kept(store: Store) -> None:
    """Beyond the requests of an hour nobody is asked, and the status says budget."""
    raised = [alert(entity={"src_addr": f"10.0.4.{n}"}, rule=f"rule_{n}") for n in range(5)]
    with service() as running:
        enricher = run(store, settings(running.url, requests_per_hour=3, kind_share=1), *raised)
    states = sorted(shown(store, each)["enrichment_status"] for each in raised)
    assert states == ["budget", "budget", "done", "done", "done"]
    assert len(running.asked) == 3
    assert enricher.counts["over_budget"] == 2


def test_the_budget_outlives_the_process(store: Store) -> None:
    """What an earlier run asked within the hour counts in the next."""
    first, second = alert(), alert(entity={"src_addr": "10.0.5.1"}, rule="other")
    with service() as running:
        chosen = settings(running.url, requests_per_hour=1, kind_share=1)
        run(store, chosen, first)
        raise_alerts(store, second)
        enricher = Enricher(chosen, store)
        enricher.resume()
        wait_for(lambda: enricher.idle)
        enricher.close(10)
    assert len(running.asked) == 1
    assert shown(store, second)["enrichment_status"] == "budget"


def test_tokens_are_a_budget_too(store: Store) -> None:
    """A question that could take more tokens than are left isn't asked."""
    with service() as running:
        run(store, settings(running.url, tokens_per_hour=2100), raised := alert())
    assert not running.asked
    assert shown(store, raised)["enrichment_status"] == "budget"


def test_what_is_pending_survives_a_restart(store: Store) -> None:
    """A run that ends while the service hangs leaves its alerts pending; the next asks again."""
    raised = [alert(), alert(entity={"src_addr": "10.0.6.1"}, rule="other")]
    with service(Say(hangs=True)) as stuck:
        raise_alerts(store, *raised)
        first = Enricher(settings(stuck.url, timeout="50s"), store)
        for each in raised:
            first.offer(each)
        wait_for(lambda: stuck.asked)
        first.close(0.2)
    assert {shown(store, each)["enrichment_status"] for each in raised} == {"pending"}
    assert {shown(store, each)["model"] for each in raised} == {"template"}
    with service() as running:
        second = Enricher(settings(running.url), store)
        second.resume()
        wait_for(lambda: second.idle)
        second.close(10)
    assert {shown(store, each)["enrichment_status"] for each in raised} == {"done"}


def test_raw_alerts_are_not_held_up(store: Store) -> None:
    """While the service hangs, each of a thousand offers returns within 100 ms."""
    raised = [alert(entity={"src_addr": f"10.2.{n // 250}.{n % 250}"}) for n in range(1000)]
    raise_alerts(store, *raised)
    with service(Say(hangs=True)) as running:
        enricher = Enricher(settings(running.url), store)
        longest_s = 0.0
        for each in raised:
            began_s = time.perf_counter()
            enricher.offer(each)
            longest_s = max(longest_s, time.perf_counter() - began_s)
        wait_for(lambda: running.asked)
        enricher.close(0.1)
    assert longest_s < 0.1


def test_a_thousand_alerts_of_a_pane_are_one_question(store: Store) -> None:
    """They are counted and the worst are listed; the answer is shown at each of them."""
    raised = [
        alert(
            entity={"src_addr": f"10.3.{n // 250}.{n % 250}", "dst_port": "445"},
            value=200.0 + n,
            upper=220.0 + n,
            severity=Severity.critical if n == 7 else Severity.medium,
        )
        for n in range(1000)
    ]

    def counts(asked: Asked) -> Say:
        answer = good(asked)
        name = next(n for n, row in asked.rows.items() if row["kind"] == "all alerts")
        answer["what"] = claim("Of 1,000 alerts all are host scans.", name)
        worst = next(n for n, row in asked.rows.items() if row.get("alert") == "A1")
        answer["details"] = [claim("It is the worst.", worst) | {"alert": "A1"}]
        return Say(completion(answer))

    with service(counts) as running:
        enricher = run(store, settings(running.url), *raised)
    assert len(running.asked) == 1
    assert len(running.asked[0].text) < 30_000
    assert enricher.counts["done"] == 1000
    told = store.run(
        "SELECT count(), uniqExact(situation), sum(requests), sum(tokens) "
        "FROM alert_enrichments FINAL WHERE author = 'model' AND status = 'done'"
    )
    assert told.split() == ["1000", "1", "1", "1000"]
    assert "It is the worst. [R1]" in shown(store, raised[7])["assessment"]
    assert "It is the worst." not in shown(store, raised[8])["assessment"]
    of_rule = next(r for r in running.asked[0].rows.values() if r["kind"] == "alerts of a rule")
    assert (of_rule["alerts"], of_rule["sources"]) == ("1000", "1000")


def test_a_thousand_alerts_of_many_rules_are_few_questions(store: Store) -> None:
    """As many as there are rules at most, each of them short, and every alert is explained."""
    raised = [
        alert(
            entity={"src_addr": f"10.4.{n // 250}.{n % 250}"},
            rule=f"rule_{n % 5}",
            value=200.0 + n,
            upper=220.0 + n,
        )
        for n in range(1000)
    ]

    def counts(asked: Asked) -> Say:
        answer = good(asked)
        name = next(n for n, row in asked.rows.items() if row["kind"] == "alerts of a rule")
        row = asked.rows[name]
        answer["what"] = claim(f"{row['alerts']} alerts of {row['rule']}.", name)
        return Say(completion(answer))

    with service(counts) as running:
        enricher = run(store, settings(running.url), *raised)
    assert len(running.asked) == 5
    assert all(len(asked.text) < 30_000 for asked in running.asked)
    assert enricher.counts["done"] == 1000
    told = store.run(
        "SELECT assessment, count() FROM alerts GROUP BY assessment ORDER BY assessment"
    ).splitlines()
    assert [line.partition(" [")[0] for line in told] == [
        f"200 alerts of rule_{n}." for n in range(5)
    ]
    assert [line.rpartition("\t")[2] for line in told] == ["200"] * 5


def test_equal_situations_are_asked_once(store: Store) -> None:
    """The same measurements of another host are explained by the kept answer, with its name."""
    first, second = alert(), alert(entity={"src_addr": "10.7.7.7", "dst_port": "23"})
    first = replace(first, title="scan")
    second = replace(second, title="scan")
    with service() as running:
        chosen = settings(running.url, pseudonymise="on")
        raise_alerts(store, first, second)
        enricher = Enricher(chosen, store)
        enricher.offer(first)
        wait_for(lambda: enricher.counts["done"] == 1)
        enricher.offer(second)
        wait_for(lambda: enricher.counts["done"] == 2)
        enricher.close(10)
    assert len(running.asked) == 1
    assert enricher.counts["cached"] == 1
    assert shown(store, second)["cited"][0]["src_addr"] == "10.7.7.7"


def test_an_alert_that_grows_is_explained_anew(store: Store) -> None:
    """Ten times its value is worth another question, as often as the settings allow."""
    grown = [
        replace(alert(value=v, lower=v, upper=v), revision=n, event="updated" if n > 1 else "fired")
        for n, v in enumerate([200.0, 900.0, 3000.0, 40_000.0], start=1)
    ]
    with service() as running:
        enricher = Enricher(settings(running.url, max_per_alert=2), store)
        for each in grown:
            raise_alerts(store, each)
            enricher.offer(each)
            wait_for(lambda: enricher.idle)
        enricher.close(10)
    assert len(running.asked) == 2
    assert "3000 hosts" in shown(store, grown[0])["assessment"]


@pytest.mark.parametrize(
    ("llm", "changes"),
    [
        ({"min_severity": "high"}, {}),
        ({"detectors": ["volume"]}, {}),
        ({}, {"event": "resolved", "status": Status.resolved}),
        ({"enabled": False}, {}),
    ],
)
def test_alerts_that_the_model_is_not_asked_about(
    store: Store, llm: dict[str, Any], changes: dict[str, Any]
) -> None:
    """Severity, detectors, the alert's life and the switch each keep an alert at home."""
    with service() as running:
        run(store, settings(running.url, **llm), raised := alert(**changes))
    assert not running.asked
    assert shown(store, raised)["enrichment_status"] == "none"
    assert shown(store, raised)["model"] == "template"


def test_named_detectors_are_asked_about(store: Store) -> None:
    """A name in llm.detectors may be that of a detector or a rule."""
    with service() as running:
        run(store, settings(running.url, detectors=["host_scan"]), raised := alert())
    assert shown(store, raised)["enrichment_status"] == "done"


def test_a_fault_of_ours_is_a_failure_of_one_alert(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever breaks while an alert is explained, the next one is explained."""
    from flows.enrich import stage

    monkeypatch.setattr(stage, "surroundings", lambda *_: 1 / 0)
    with service() as running:
        enricher = run(store, settings(running.url), raised := alert())
    assert enricher.counts["faults"] == 1
    assert shown(store, raised)["enrichment_reason"] == "ZeroDivisionError while explaining it"


def test_statuses_are_only_pending_while_they_are(store: Store) -> None:
    """Between an alert and its explanation the status is pending, and the template is shown."""
    raised = alert()
    with service(Say(hangs=True), well) as running:
        raise_alerts(store, raised)
        enricher = Enricher(settings(running.url, timeout="60s"), store)
        enricher.offer(raised)
        wait_for(lambda: running.asked)
        row = shown(store, raised)
        assert (row["enrichment_status"], row["model"]) == ("pending", "template")
        enricher.close(0.1)
    assert rows.waiting(store)[0].alert_id == raised.alert_id
