"""``netspectra ask``: the real client, a scripted service, the real store."""

from __future__ import annotations

import json
import os
import pty
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.cli import ask_run, main
from flows.enrich import prompt
from flows.enrich.ask.dialog import LAST_CALL, Allowance
from flows.sinks import alert_rows
from flows.storage.store import Store
from tests.integration.test_enrich_hostile import INJECTIONS, PREFIX, real
from tests.support.alerts import alert
from tests.support.asked import (
    ANSWER,
    HOST,
    PEER,
    PROBE,
    QUESTION,
    SCRIPT,
    explains,
    fill,
    host_in,
    looks_up,
    messages,
    said,
)
from tests.support.clickhouse_http import ClickHouse
from tests.support.jobs import ROOT, environment
from tests.support.llm import Act, Asked, Say, Service, calling, completion, service, streamed
from tests.support.store_rows import T0_MS, rows

KEY = "sk-hush-4711"

Shown = tuple[str, str]
Ask = Callable[..., Shown]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def store(directory: Path) -> Iterator[Store]:
    """A store that a job owns: it answers on its socket."""
    with Store.open(f"chdb:{directory}") as opened:
        fill(opened)
        yield opened


@pytest.fixture(autouse=True)
def _settings(
    store: Store, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ask_run, "RETRY_S", 0.01)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for name, value in variables(directory, tmp_path).items():
        monkeypatch.setenv(name, value)


def variables(directory: Path, state: Path) -> dict[str, str]:
    return {
        "NETSPECTRA_STORE": f"chdb:{directory}",
        "NETSPECTRA_LLM__MODEL": "m",
        "NETSPECTRA_LLM__API_KEY": KEY,
        "NETSPECTRA_LLM__TIMEOUT": "2s",
        "XDG_STATE_HOME": str(state / "state"),
        "COLUMNS": "100",
    }


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Asks a service; gives what is on stdout and stderr."""

    def ask(running: Service, *arguments: str, code: int = 0) -> Shown:
        monkeypatch.setenv("NETSPECTRA_LLM__BASE_URL", running.url)
        assert main(["ask", *arguments]) == code
        shown = capsys.readouterr()
        assert KEY not in shown.out + shown.err
        assert shown.err.count("\n") == (code > 0)
        return shown.out, shown.err

    return ask


def test_a_question_is_answered(ask: Ask) -> None:
    """With the claim, the rows that it cites, and each statement that was run."""
    with service(*SCRIPT) as running:
        out, _ = ask(running, *QUESTION.split())
    assert out.startswith(f"{ANSWER}\n")
    assert "R2 kind=host totals host=10.0.0.5" in " ".join(out.split())
    assert "bytes_sent=10000700" in out
    assert "R7 kind=peer of the host" in out
    assert "SQL that was run:\n  -- host_profile: R2 to R2\n  SELECT '10.0.0.5' AS host" in out
    assert out.count(";\n") == 5
    assert "(2 requests, about " in out
    assert "left out" not in out
    first, second = running.asked
    assert messages(first)[0]["content"] == prompt.text("ask-1")
    assert first.body["stream"] is True
    assert {tool["function"]["name"] for tool in first.body["tools"]} >= {
        "top_talkers", "traffic_over_time", "host_profile", "baseline", "distinct_peers",
        "flows_of", "alerts_of", "completeness", "estimates", "sql",
    }  # fmt: skip
    assert [m["role"] for m in messages(second)] == ["system", "user", "assistant", "tool", "tool"]
    assert [m["tool_call_id"] for m in messages(second)[3:]] == [
        "call-host_profile-0",
        "call-baseline-1",
    ]


def test_for_programs(ask: Ask) -> None:
    """--json is one object on one line: claims, rows, statements, what it took."""
    with service(*SCRIPT) as running:
        out, _ = ask(running, "--json", QUESTION)
    assert out.count("\n") == 1
    found = json.loads(out)
    assert found["status"] == "done"
    assert found["fault"] == ""
    assert found["struck"] == []
    (claim,) = found["answer"]
    assert claim["text"] == ANSWER.partition(" [")[0]
    assert [row["row"] for row in found["rows"]] == claim["rows"] == ["R2", "R7"]
    assert found["rows"][0]["bytes_sent"] == "10000700"
    assert [q["query"] for q in found["queries"]] == ["host_profile"] * 3 + ["baseline"] * 2
    assert found["queries"][0]["arguments"] == {"host": HOST}
    assert (found["model"], found["prompt_version"], found["requests"]) == ("m", "ask-1", 2)
    assert found["tokens"] > 1000


def test_claims_that_do_not_hold_are_left_out_and_counted(ask: Ask) -> None:
    """An invented number, host or row isn't shown; how many there were and why is."""
    text = (
        f"{HOST} sent 10000700 bytes. [{{row}}]\n"
        f"It sent 31337 packets. [{{row}}]\nIt talked to 203.0.113.66. [{{row}}]\n"
        "All is well. [R99]\nTrust me.\n? Whether that is wanted can't be told."
    )
    with service(looks_up, said(text)) as running:
        out, _ = ask(running, QUESTION)
    assert out.startswith(
        f"{HOST} sent 10000700 bytes. [R2]\nWhether that is wanted can't be told.\n"
        "(4 claims of the model left out: has a number that the cited rows don't bear, "
        "names a host or network that isn't in the data, cites no row that is there)\n"
    )
    for gone in ("31337", "203.0.113.66", "All is well", "Trust me"):
        assert gone not in out


def test_an_answer_of_which_nothing_holds_is_asked_for_once_more(ask: Ask) -> None:
    """The second request says why; if that is no better, it is a failure."""
    with service(looks_up, said("Trust me."), explains) as running:
        out, _ = ask(running, QUESTION)
    assert ANSWER in out
    assert "cites no row that is there" in messages(running.asked[2])[-1]["content"]
    assert running.asked[2].body["tool_choice"] == "none"
    with service(looks_up, said("Trust me.")) as running:
        out, err = ask(running, "--new", QUESTION, code=1)
    assert err == "netspectra: nothing of the answer is borne by the rows of the store\n"
    assert len(running.asked) == 3
    assert "(2 claims of the model left out" in out


def test_nothing_of_ours_leaves_and_all_comes_back(
    ask: Ask, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With pseudonyms neither the question, nor arguments, rows and names have ours; we do."""
    monkeypatch.setenv("NETSPECTRA_LLM__PSEUDONYMISE", "on")

    def sql(asked: Asked) -> Say:
        where = f"src_addr = toIPv6('{host_in(asked)}') AND probe = 'probe-A'"
        query = f"SELECT sum(bytes) AS b FROM flows WHERE {where}"
        return calling(("sql", {"query": query}))

    def tell(asked: Asked) -> Say:
        name = asked.named("row of a statement")
        lost = asked.named("hop of the ledger")
        return streamed(
            f"{host_in(asked)} sent {asked.rows[name]['b']} bytes, seen by probe-A. [{name}]\n"
            f"probe-A lost {asked.rows[lost]['packets_dropped']} packets. [{lost}]"
        )

    look = calling(("completeness", {}))
    with service(look, sql, tell) as running:
        out, _ = ask(running, QUESTION)
        with service(look, sql, tell) as later:
            ask(later, "why is 10.0.0.6 so loud?")
    sent = "\n".join(json.dumps(asked.body) for asked in running.asked + later.asked)
    assert "10.0.0" not in sent
    assert PROBE not in sent
    assert "host-A" in sent
    assert f"{HOST} sent 10000700 bytes, seen by {PROBE}. [R3]" in out
    assert f"{PROBE} lost 100 packets. [R2]" in out
    assert f"src_addr = toIPv6('{HOST}') AND probe = '{PROBE}'" in out
    # What was said before is hidden anew, behind the host that is asked about now.
    assert "host-B sent 10000700 bytes, seen by probe-A." in messages(later.asked[0])[2]["content"]


def test_a_service_of_ours_sees_what_is(ask: Ask) -> None:
    """On a private address nothing is replaced."""
    with service(*SCRIPT) as running:
        ask(running, QUESTION)
    assert QUESTION in running.asked[0].text


def test_a_session_keeps_what_was_said(ask: Ask) -> None:
    """The next question has the one before it; --new and another session don't."""
    with service(*SCRIPT, *SCRIPT, *SCRIPT, *SCRIPT) as running:
        ask(running, QUESTION)
        ask(running, f"and why is {HOST} so loud before?")
        ask(running, "--session", "other", QUESTION)
        ask(running, "--new", QUESTION)
    second = messages(running.asked[2])
    assert [m["role"] for m in second] == ["system", "user", "assistant", "user"]
    assert second[1]["content"] == QUESTION
    assert second[2]["content"] == ANSWER.partition(" [")[0]
    assert len(messages(running.asked[4])) == len(messages(running.asked[6])) == 2
    state = Path(os.environ["XDG_STATE_HOME"]) / "netspectra" / "ask"
    assert len(list(state.glob("*-default.json"))) == len(list(state.glob("*-other.json"))) == 1
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in state.iterdir())
    assert all(KEY not in file.read_text() for file in state.iterdir())


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("drop_table", {}), "Refused: there is no such tool; tools are top_talkers,"),
        (("host_profile", "{not json"), "Refused: the arguments are no JSON object."),
        (("host_profile", "[1]"), "Refused: the arguments are no JSON object."),
        (("host_profile", {}), "Refused: host: Field required."),
        (("host_profile", {"host": ""}), "Refused: host: String should have at least 1"),
        (("host_profile", {"host": "x' OR 1=1 --"}), "Refused: host: must be an IP address or"),
        (("host_profile", {"host": "host-Q"}), "Refused: host: must be an IP address or"),
        (("flows_of", {"dst_port": 70_000}), "Refused: dst_port: Input should be less than"),
        (("flows_of", {"limit": 10**6}), "Refused: limit: Input should be less than"),
        (("flows_of", {"limit": "5; DROP"}), "Refused: limit: Input should be a valid integer"),
        (("top_talkers", {"of": "(SELECT 1)"}), "Refused: of: Input should be 'source', "),
        (("top_talkers", {"since": "x"}), "Refused: since: must be a time such as"),
        (("top_talkers", {"since": "9999-01-01"}), "Refused: since: must be a time such as"),
        (("top_talkers", {"readonly": 0}), "Refused: there is no such argument."),
        (("sql", {"query": "SELECT * FROM system.tables"}), "system is not answered here"),
        (("sql", {"query": "SELECT * FROM url('http://x')"}), "url is no function"),
        (("sql", {"query": "SELECT file('/etc/passwd')"}), "file"),
        (("sql", {"query": "DROP TABLE flows"}), "statements begin with SELECT"),
        (("sql", {"query": "SELECT sum(bytes) AS b FROM flows WHERE b > 1"}), "reason"),
    ],
)
def test_calls_that_are_not_answered(ask: Ask, call: tuple[str, Any], told: str) -> None:
    """The model is told why in our words, and goes on; nothing was run."""
    with service(lambda _: calling(call), *SCRIPT) as running:
        out, _ = ask(running, QUESTION)
    (answer,) = running.asked[1].told
    assert told in answer
    assert len(answer) < 700
    assert ANSWER.partition(" [")[0] in out


def test_what_the_queries_say_is_what_is_there(ask: Ask) -> None:
    """Each query gives the numbers that a sum by hand gives, and says when it finds nothing."""
    calls: list[tuple[str, Any]] = [
        ("top_talkers", {"of": "source"}),
        ("top_talkers", {"of": "service", "by": "packets", "host": "10.0.0.0/24"}),
        ("top_talkers", {"of": "pair", "by": "peers", "dst_port": 22}),
        ("traffic_over_time", {"host": HOST}),
        ("traffic_over_time", {}),
        ("distinct_peers", {"host": HOST, "since": "2023-11-14 22:00"}),
        ("flows_of", {"src": HOST, "dst": PEER, "since": "2023-11-14 22:13:22"}),
        ("flows_of", {"host": "192.0.2.1"}),
        ("alerts_of", {"host": HOST}),
        ("completeness", {}),
        ("estimates", {"host": HOST}),
        ("estimates", {"what": "heavy_hitters", "host": "10.0.0.6"}),
        ("estimates", {"what": "distinct_counts"}),
        ("baseline", {"since": "2023-11-14 22:13", "until": "2023-11-14 22:14"}),
        ("host_profile", {"host": "10.0.0.0/24", "since": "2023-10-01"}),
    ]
    script: list[Act] = [lambda _, c=call: calling(c) for call in calls[:14]]
    with service(*script[:6], looks_up, explains) as running:
        ask(running, QUESTION)
    with service(lambda _: calling(*calls[6:]), looks_up, explains) as running_2:
        ask(running_2, "--new", QUESTION)
    rows_by_kind: dict[str, list[dict[str, str]]] = {}
    for asked in (running.asked[-1], running_2.asked[-1]):
        for row in asked.rows.values():
            rows_by_kind.setdefault(row.pop("kind"), []).append(row)
    top = rows_by_kind["top source by bytes"][0]
    assert (top["source"], top["bytes"], top["packets"]) == (HOST, "10000700", "10007")
    assert (top["bytes_of_all"], top["percent_of_bytes"], top["peers"]) == (
        "10105700",
        "98.96",
        "2",
    )
    service_row = rows_by_kind["top service by packets"][0]
    assert (service_row["port"], service_row["packets"]) == ("443", "10000")
    assert rows_by_kind["top pair by peers"][0]["source"] == "10.0.0.6"
    steps = rows_by_kind["traffic over time"]
    assert sum(int(step.get("bytes_sent", "0")) for step in steps) == 10_000_700
    assert sum(int(step.get("bytes", "0")) for step in steps) == 10_105_700
    (peers,) = rows_by_kind["peers of the host"]
    assert (peers["peers"], peers["new_peers"], peers["peers_before"]) == ("2", "1", "1")
    assert [row["peer"] for row in rows_by_kind["new peer of the host"]] == [PEER]
    (flow,) = rows_by_kind["flow"]
    assert (flow["bytes"], flow["packets"], flow["protocol"]) == ("1000000", "1000", "TCP")
    assert rows_by_kind["no flow was found"] == [{"host": "192.0.2.1"}]
    assert rows_by_kind["alert"][0]["title"] == f"{HOST} sends much"
    (hop,) = rows_by_kind["hop of the ledger"]
    assert (hop["packets_dropped"], hop["dropped_by_reason"]) == ("100", "ring_full 100")
    (spread,) = rows_by_kind["spreaders"]
    assert (spread["estimate"], spread["lower"], spread["upper"]) == ("33", "30", "36")
    assert "no heavy hitters was found" in rows_by_kind
    assert "no distinct counts was found" in rows_by_kind
    now = next(row for row in rows_by_kind["period"] if row["since"] == "2023-11-14 22:13:00")
    assert (now["bytes"], now["seconds"]) == ("10105000", "60")
    totals = [row for row in rows_by_kind["host totals"] if row["host"] == "10.0.0.0/24"]
    assert totals[0]["hosts_sent_to"] == "3"


def test_free_statements_see_one_tenant_only(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a second tenant in the store the tool isn't there, and --tenant chooses."""
    with ClickHouse(tmp_path / "engine") as front:
        front.use("two")
        monkeypatch.setenv("NETSPECTRA_STORE", front.setting)
        with Store.open(front.setting) as opened:
            fill(opened)
            fill(opened, tenant="other", probe="far")
        with service(*SCRIPT, *SCRIPT) as running:
            out, _ = ask(running, "--tenant", "other", QUESTION)
            _, err = ask(running, "--tenant", "third", QUESTION, code=2)
    assert ANSWER in out
    assert "tenant = 'other'" in out
    assert "tenant = 'default'" not in out
    assert err == "netspectra: --tenant: the store has default, other; choose one\n"
    assert "sql" not in {tool["function"]["name"] for tool in running.asked[0].body["tools"]}


def failing(status: int, **headers: str) -> Say:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Say({"error": {"message": f"no tool for {KEY}", "code": "x"}}, status, named)


@pytest.mark.parametrize(
    ("fault", "times"),
    [
        (failing(429, retry_after="0"), 2),
        (failing(500), 2),
        (failing(503), 1),
        (Say(drops=True), 2),
        (Say(hangs=True), 1),
        (streamed(finish=None), 2),
        (streamed("half a cl", finish=None), 2),
        (streamed(), 3),
        (Say("{not json"), 2),
        (Say("data: {not json\n\n", headers={"Content-Type": "text/event-stream"}), 2),
        (Say("data: [1]\n\n", headers={"Content-Type": "text/event-stream"}), 2),
        (Say(completion("not streamed")), 2),
        (Say({"error": {"message": "use max_completion_tokens"}}, 400), 1),
    ],
)
def test_what_passes_is_tried_again(ask: Ask, fault: Say, times: int) -> None:
    """A fault that goes away before anything was said costs a try, and no more."""
    with service(*[fault] * times, *SCRIPT) as running:
        out, _ = ask(running, QUESTION)
    assert ANSWER in out
    assert len(running.asked) == times + 2


@pytest.mark.parametrize(
    ("answer", "why", "requests"),
    [
        (failing(401), "it refuses the key (HTTP 401); see llm.api_key", 1),
        (failing(404), "it has no such model or address (HTTP 404); see llm.model", 1),
        (failing(400), "the model can't call tools; choose another one (llm.model)", 1),
        (failing(413), "it refuses the question (HTTP 413)", 1),
        (failing(429), "too many requests (HTTP 429)", 3),
        (
            failing(429, retry_after="900"),
            "too many requests (HTTP 429); it wants to be left alone for 900 s",
            1,
        ),
        (failing(500), "it fails (HTTP 500)", 3),
        (Say(drops=True), "no connection", 3),
        (Say(hangs=True), "no answer in time", 3),
        (Say("{not json"), "the answer breaks off", 4),
        (streamed(finish="length"), "the answer is longer than llm.max_answer_tokens", 1),
        (streamed(finish="content_filter"), "the model refuses to answer", 1),
        (streamed(" "), "an empty answer", 4),
        (Say("", 302, {"Location": "http://127.0.0.1:9/"}), "it refuses the question", 1),
    ],
)
def test_what_does_not_pass_is_one_honest_line(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, answer: Say, why: str, requests: int
) -> None:
    """A line that says why, exit code 1, no traceback, the key nowhere, few requests."""
    monkeypatch.setenv("NETSPECTRA_LLM__TIMEOUT", "0.3s")
    with service(answer) as running:
        out, err = ask(running, QUESTION, code=1)
    assert err.startswith(f"netspectra: {why}")
    assert len(running.asked) == requests
    assert "rows that it cites" not in out


def test_no_service_at_all(ask: Ask) -> None:
    """An address at which nobody listens is a line too."""
    with service() as running:
        pass
    _, err = ask(running, QUESTION, code=1)
    assert err == "netspectra: no connection\n"


@pytest.mark.parametrize("finish", [None, "length"])
def test_an_answer_that_breaks_off_keeps_what_was_said(ask: Ask, finish: str | None) -> None:
    """The whole claims stay, it isn't asked for again, and the exit code says that it broke off."""

    def breaks(asked: Asked) -> Say:
        name = asked.named("host totals")
        return streamed(f"{HOST} sent 10000700 bytes. [{name}]\n", "It also ", finish=finish)

    with service(looks_up, breaks) as running:
        out, err = ask(running, QUESTION, code=1)
        found = json.loads(ask(replaced(running, breaks), "--json", "--new", QUESTION, code=1)[0])
    assert out.startswith(f"{HOST} sent 10000700 bytes. [R2]\n")
    assert "It also" not in out
    assert err.startswith("netspectra: the answer ")
    assert (found["status"], bool(found["fault"])) == ("partial", True)


def replaced(running: Service, last: Act) -> Service:
    """The same service, about to look up once more."""
    running.script = [looks_up, last]
    return running


def test_rounds_are_limited(ask: Ask) -> None:
    """A model that calls and calls is told to answer, and given up if it doesn't."""
    limits = Allowance()
    with service(*[looks_up] * (limits.rounds - 1), explains) as running:
        out, _ = ask(running, QUESTION)
    assert ANSWER.partition(" [")[0] in out
    last = running.asked[-1]
    assert len(running.asked) == limits.rounds
    assert last.body["tool_choice"] == "none"
    assert messages(last)[-1]["content"] == LAST_CALL
    with service(looks_up) as running:
        _, err = ask(running, "--new", QUESTION, code=1)
    assert "asks for more queries than it may" in err
    assert len(running.asked) <= limits.rounds


def test_calls_are_limited(ask: Ask) -> None:
    """Beyond the limit calls are refused; far too many at once are no answer."""
    many = calling(*[("flows_of", {"limit": n % 9 + 1}) for n in range(16)])
    with service(many, many, *SCRIPT) as running:
        _, err = ask(running, QUESTION, code=1)
    told = running.asked[2].told
    assert len(told) == 32
    assert told[19].startswith("<data>")
    assert told[20] == "Refused: 20 calls are the most for one question."
    assert "asks for more queries than it may (20)" in err
    too_many = calling(*[("completeness", {})] * 17)
    with service(too_many) as running:
        _, err = ask(running, "--new", QUESTION, code=1)
    assert "calls too many or too long queries at once" in err


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (Allowance(seconds=0.0), "it takes longer than 0 s"),
        (Allowance(tokens=6000), "the question takes more than 6,000 tokens"),
    ],
)
def test_time_and_tokens_are_limited(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, limits: Allowance, why: str
) -> None:
    """A question that takes too much is given up between two requests."""
    monkeypatch.setattr(ask_run, "QUESTION", limits)
    with service(*SCRIPT) as running:
        _, err = ask(running, QUESTION, code=1)
    assert err == f"netspectra: {why}\n"
    assert len(running.asked) < 2


def test_the_budget_of_an_hour_counts_over_commands(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests of earlier commands count; beyond the limit nothing is sent."""
    monkeypatch.setenv("NETSPECTRA_LLM__REQUESTS_PER_HOUR", "3")
    with service(*SCRIPT, *SCRIPT) as running:
        ask(running, QUESTION)
        _, err = ask(running, QUESTION, code=1)
    assert "the budget of this hour is spent (llm.requests_per_hour" in err
    assert len(running.asked) == 3


@pytest.mark.parametrize(
    ("unset", "name", "value", "line"),
    [
        ("NETSPECTRA_LLM__MODEL", "", "", "no language model is set; set llm.model and llm."),
        ("", "NETSPECTRA_LLM__ENABLED", "false", "the language model is switched off (llm.enabled"),
    ],
)
def test_without_a_model_it_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    unset: str,
    name: str,
    value: str,
    line: str,
) -> None:
    """One line, exit code 2; a stray key in the environment changes nothing."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-stray")
    if unset:
        monkeypatch.delenv(unset)
    if name:
        monkeypatch.setenv(name, value)
    assert main(["ask", QUESTION]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert shown.err.startswith(f"netspectra: {line}")


@pytest.mark.parametrize("evil", INJECTIONS)
def test_hostile_names_stay_data(
    store: Store, evil: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Planted in titles, probes and rows they are quoted, cut and fenced, and change nothing."""
    evil = evil.encode("utf-8", "replace").decode()
    raised = alert(entity={"src_addr": "10.9.9.9", "probe": evil}, title=evil, rule="evil")
    store.insert("alerts_log", alert_rows.alerts_log([raised]), f"evil-{time.time_ns()}")
    lost = rows("ledger", tenant="default", probe=evil, window_start=T0_MS, dropped={evil: 1})
    store.insert("ledger", lost, f"evil-{time.time_ns()}")

    def obeys(asked: Asked) -> Say:
        host = asked.named("alert")
        return streamed(f"{asked.rows[host]['title']} \x1b]8;;x\x07\u202e done [{host}]")

    look = calling(("alerts_of", {"host": "10.9.9.9"}), ("completeness", {}))
    with service(look, obeys, *SCRIPT) as running:
        monkeypatch.setenv("NETSPECTRA_LLM__BASE_URL", running.url)
        main(["ask", QUESTION])
    shown = capsys.readouterr()
    asked = running.asked[1]
    for told in asked.told:
        assert told.count("<data>") == told.count("</data>") == 1
        lines = told.partition("<data>\n")[2].partition("\n</data>")[0].splitlines()
        cells = [json.loads(line) for line in lines]
        assert [cell["row"][0] for cell in cells] == ["R"] * len(cells)
        assert all(len(value) <= 160 for cell in cells for value in cell.values())
        assert all(value.isprintable() for cell in cells for value in cell.values())
    assert messages(asked)[0]["content"] == prompt.text("ask-1")
    assert "\x1b" not in json.dumps(shown)
    assert all(c.isprintable() or c == "\n" for c in shown.out + shown.err)
    store.command("ALTER TABLE alerts_log DELETE WHERE rule = 'evil' SETTINGS mutations_sync = 1")
    store.command(f"ALTER TABLE ledger DELETE WHERE probe != '{PROBE}' SETTINGS mutations_sync = 1")
    assert store.run("SELECT count() FROM alert_actions").strip() == "0"


def command(directory: Path, state: Path, url: str, *arguments: str) -> dict[str, Any]:
    """How to start the command as a process of its own."""
    own = variables(directory, state) | {"NETSPECTRA_LLM__BASE_URL": url}
    return {
        "args": [sys.executable, "-m", "flows.cli", "ask", *arguments],
        "cwd": state,
        "env": {**environment(), **own, "PYTHONPATH": str(ROOT)},
    }


def test_it_reads_while_a_job_owns_the_store(directory: Path, tmp_path: Path) -> None:
    """Another process asks by the job's socket; the question may come on standard input."""
    with service(*SCRIPT) as running:
        done = subprocess.run(
            **command(directory, tmp_path, running.url),
            input=f"{QUESTION}\n",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(ANSWER)


def test_nothing_on_standard_input_is_said(directory: Path, tmp_path: Path) -> None:
    """Without a question there is nothing to ask: exit code 2."""
    with service(*SCRIPT) as running:
        done = subprocess.run(
            **command(directory, tmp_path, running.url),
            input="\n",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == 'netspectra: nothing to ask; try netspectra ask "who sends most?"\n'
    assert not running.asked


def test_it_reads_from_a_server(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store on a server is asked in the same way."""
    with ClickHouse(tmp_path / "engine") as front:
        front.use("asked")
        monkeypatch.setenv("NETSPECTRA_STORE", front.setting)
        with Store.open(front.setting) as opened:
            fill(opened)
        with service(*SCRIPT) as running:
            out, _ = ask(running, QUESTION)
    assert out.startswith(ANSWER)


FILL = """
import sys
from flows.storage.store import Store
from tests.support.asked import fill
with Store.open(f"chdb:{sys.argv[1]}", serve=False) as store:
    fill(store)
"""


@pytest.fixture
def unowned(tmp_path: Path) -> Path:
    """A store that no process has open."""
    where = tmp_path / "unowned"
    fill_it = [sys.executable, "-c", FILL, str(where)]
    subprocess.run(fill_it, check=True, cwd=ROOT, env=environment(), timeout=120)
    return where


def test_it_opens_a_store_that_nobody_owns(unowned: Path, tmp_path: Path) -> None:
    """Without a job the command reads the directory itself, and leaves it free."""
    with service(*SCRIPT * 2) as running:
        for _ in range(2):
            done = subprocess.run(
                **command(unowned, tmp_path, running.url, QUESTION),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout.startswith(ANSWER)


@pytest.mark.parametrize("owned", [True, False])
def test_interrupted_it_ends_cleanly(
    directory: Path, tmp_path: Path, owned: bool, request: pytest.FixtureRequest
) -> None:
    """Ctrl-C while the service hangs: one line, exit code 130, and what was asked is noted."""
    where = directory if owned else request.getfixturevalue("unowned")
    with service(Say(hangs=True)) as running:
        process = subprocess.Popen(
            **command(where, tmp_path, running.url, QUESTION),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(lambda: running.asked)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.strip()) == (130, "", "netspectra: stopped")
    spent = tmp_path / "state" / "netspectra" / "ask" / "spent.json"
    assert json.loads(spent.read_text())["spent"][0]["requests"] == 1


def test_one_question_after_the_other(directory: Path, tmp_path: Path) -> None:
    """On a terminal without a question it asks for them; a fault ends one, not all."""
    with service(failing(401), *SCRIPT) as running:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            **command(directory, tmp_path, running.url),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            close_fds=True,
        )
        os.close(theirs)
        seen = Terminal(ours)
        seen.until("ask> ")
        assert "questions go to m at 127.0.0.1" in seen.text
        os.write(ours, f"{QUESTION}\n".encode())
        seen.until("refuses the key")
        seen.until("ask> ")
        os.write(ours, f"{QUESTION}\n".encode())
        seen.until(ANSWER)
        seen.until("ask> ")
        os.write(ours, b"exit\n")
        assert process.wait(60) == 0
        os.close(ours)


class Terminal:
    """What a terminal shows."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.text = ""
        self._from = 0

    def until(self, wanted: str) -> None:
        """Read until it is there, after what was waited for before."""
        while (at := self.text.find(wanted, self._from)) < 0:
            self.text += os.read(self._descriptor, 4096).decode(errors="replace")
        self._from = at + len(wanted)


def wait_for(holds: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.mark.skipif(not real, reason="NETSPECTRA_TEST_LLM__MODEL (and …) name no real service")
def test_a_real_service_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real model looks the host up, and says what it sent, so that it holds."""
    monkeypatch.delenv("NETSPECTRA_LLM__API_KEY")
    monkeypatch.delenv("NETSPECTRA_LLM__TIMEOUT")
    for name, value in real.items():
        monkeypatch.setenv(f"NETSPECTRA_LLM__{name.removeprefix(PREFIX)}", value)
    question = f"How many bytes did {HOST} send on 2023-11-14 after 22:13, and to whom most?"
    assert main(["ask", "--json", question]) == 0
    found = json.loads(capsys.readouterr().out)
    told = "\n".join(claim["text"] for claim in found["answer"])
    assert PEER in told
    assert found["queries"]


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """--help shows how it is used."""
    assert main(["ask", "--help"]) == 0
    out = capsys.readouterr().out
    assert 'netspectra ask "why is 10.0.0.5 so loud today?"' in out
    assert "--session" in out
