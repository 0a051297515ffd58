"""Explanations are scored against a golden set."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flows.benchmarks import ask, llm
from flows.benchmarks.golden import CASES
from flows.benchmarks.golden_ask import QUESTIONS
from flows.cli import doctor
from flows.cli.bench import command
from flows.detect.explanation import Explanation
from flows.settings import Settings
from flows.settings.llm import Llm
from tests.support.llm import Asked, Say, calling, claim, completion, good, service, streamed


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def settings(url: str) -> Settings:
    return Settings(llm=Llm(base_url=url, model="m", deadline="5s"))


def clerk(asked: Asked) -> Say:
    """Answers questions: looks up what they name, and says what is found."""
    question = asked.text.rpartition("Question: ")[2].partition("\n")[0]
    host = next((word for word in question.split() if "." in word), "")
    if not asked.told:
        profile = ("host_profile", {"host": host, "since": "2026-09-20 20:00"})
        return calling(profile if host else ("completeness", {}))
    rows = asked.rows
    if not host:
        name = asked.named("hop of the ledger")
        lost = rows[name]
        return streamed(
            f"{lost['probe']} lost {lost['packets_dropped']} packets, the ring full. [{name}]"
        )
    if any(row["kind"] == "no host totals was found" for row in rows.values()):
        return streamed(f"Nothing of {host} is found. [{asked.named('no host totals was found')}]")
    totals, used = asked.named("host totals"), asked.named("service of the host")
    peer = asked.named("peer of the host")
    return streamed(
        f"{host} sent {rows[totals]['bytes_sent']} bytes to {rows[totals]['hosts_sent_to']} hosts,"
        f" which may be a backup or a scan. [{totals}]\n",
        f"Most to port {rows[used]['port']}. [{used}]\nFirst is {rows[peer]['peer']}. [{peer}]",
    )


def expert(asked: Asked) -> Say:
    """Knows each situation by its entity and says what its rubric wants."""
    if "tools" in asked.body:
        return clerk(asked)
    row = asked.rows["R1"]
    same = [c for c in CASES if c.alert.detector == row["detector"]]
    case = next(c for c in same if all(name in json.dumps(row) for name in c.names))
    words = {
        "host_scan": "A scan for ssh or SMB, by a worm, botnet or compromised host, over port 22.",
        "port_scan": "A port scan, reconnaissance or a vulnerability scanner, maybe harmless.",
        "super_spreader": "Probably harmless peer-to-peer traffic.",
        "fan_in": "A distributed attack or a harmless rush.",
        "syn_flood": "A SYN flood with spoofed sources.",
        "amplification": "DNS amplification.",
        "volume": "A planned backup, maybe exfiltration, or harmless.",
        "data_loss": "Silent or missing data by a full ring or a killed probe.",
    }[row["detector"]].replace(" over port 22", "")
    answer = good(asked)
    answer["what"] = claim(f"{words} It is {' '.join(case.names)}.", "R1")
    return Say(completion(answer))


def test_templates_are_the_baseline() -> None:
    """Without a model all alerts of the set are explained, nearly as the rubric wants it."""
    result = llm.templates(Settings())
    assert len(result.scores) == len(CASES)
    assert result.share() >= 0.95
    assert all(result.share(name) == 1 for name in ("class", "entity", "numbers", "mitigation"))


def test_a_good_model_scores_well() -> None:
    """An expert gets everything, with its requests and tokens counted."""
    with service(expert) as running:
        result = llm.model(settings(running.url), seen := lambda score: None)
    assert seen is not None
    assert [s for s in result.scores if not all(s.met.values())] == []
    assert result.share() == 1
    assert result.counts["requests"] == len(CASES)


def test_a_bad_model_scores_badly() -> None:
    """Invented numbers and answers without evidence cost their criteria."""

    def invents(asked: Asked) -> Say:
        answer = good(asked)
        answer["root_cause"].append(claim("It sent 31,337 packets.", "R1"))
        return Say(completion(answer))

    with service(invents) as running:
        result = llm.model(settings(running.url))
    assert result.share("numbers") == 0
    assert result.share("class") < 1
    with service(Say(completion("I don't know."))) as running:
        nothing = llm.model(settings(running.url))
    assert nothing.share() == 0
    assert all("can't be read" in score.fault for score in nothing.scores)


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"mitigation": ""}, "mitigation"),
        ({"mitigation": "- Block it."}, "mitigation"),
        ({"mitigation": "- Hack back. Risk: none. Undo: none."}, "mitigation"),
        ({"struck": 1}, "numbers"),
        ({"assessment": "Something.", "root_cause": "", "next_checks": ""}, "class"),
        ({"assessment": "A port scan, for reconnaissance, harmless."}, "entity"),
    ],
)
def test_each_criterion_can_be_missed(change: dict[str, Any], missed: str) -> None:
    """The rubric notices what is missing or wrong, each by itself."""
    case = next(c for c in CASES if c.name == "a vulnerability scanner of ours")
    whole = Explanation(
        "A port scan by 10.4.9.9, a vulnerability scanner: harmless.",
        "",
        "",
        "- Mute it. Risk: misuse is unseen. Undo: unmute it.",
    )
    assert all(llm.judge(case, whole).met.values())
    assert not llm.judge(case, replace(whole, **change)).met[missed]


def test_command_without_a_model() -> None:
    """Then the templates are scored, and it says what is missing."""
    done = CliRunner().invoke(command, ["llm"])
    assert done.exit_code == 0
    assert "No model is set" in done.output
    assert "template" in done.output


def test_command_with_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are scored, for programs too."""
    with service(expert) as running:
        monkeypatch.setenv("NETSPECTRA_LLM__BASE_URL", running.url)
        monkeypatch.setenv("NETSPECTRA_LLM__MODEL", "m")
        done = CliRunner().invoke(command, ["llm", "--json"])
        table = CliRunner().invoke(command, ["llm"])
    found = json.loads(done.stdout)
    assert [result["name"] for result in found["results"]] == ["template", "m", "m asked"]
    assert found["results"][1]["all"] == 1
    assert found["results"][2]["all"] == 1
    assert set(found["results"][2]["met"]) == {"class", "entity", "numbers"}
    assert "100%" in table.output
    assert "14 requests" in table.output


def test_questions_can_be_answered_badly() -> None:
    """Invented numbers, other hosts and answers that break off cost their criteria."""

    def invents(asked: Asked) -> Say:
        if not asked.told:
            return calling(("completeness", {}))
        return streamed("10.4.0.5 lost 31337 packets. [R2]\nAll is fine. [R2]")

    with service(invents) as running:
        result = ask.model(settings(running.url))
    assert result.share("numbers") == result.share("class") == result.share("entity") == 0
    assert [score.struck for score in result.scores] == [1] * len(QUESTIONS)
    with service(Say({}, 401)) as running:
        nothing = ask.model(settings(running.url))
    assert nothing.share() == 0
    assert all("refuses the key" in score.fault for score in nothing.scores)


def test_doctor_says_what_would_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line of doctor names the service and whether addresses are replaced."""
    (off,) = doctor.model()
    assert "nothing leaves" in off.found
    monkeypatch.setenv("NETSPECTRA_LLM__MODEL", "m")
    monkeypatch.setenv("NETSPECTRA_LLM__BASE_URL", "https://203.0.113.5/v1")
    monkeypatch.setenv("NETSPECTRA_LLM__API_KEY", "sk-hush")
    (on,) = doctor.model()
    assert "m at 203.0.113.5" in on.found
    assert "are replaced" in on.found
    assert "hush" not in on.found
