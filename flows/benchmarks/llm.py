"""How well alerts are explained: a golden set against a rubric, for templates and any model."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flows.benchmarks.golden import CASES, Case
from flows.detect.alert import Alert
from flows.detect.explanation import Explanation
from flows.enrich import prompt
from flows.enrich.asker import Asker
from flows.enrich.breaker import Breaker
from flows.enrich.budget import Budget
from flows.enrich.check import check
from flows.enrich.compose import compose
from flows.enrich.destination import hides
from flows.enrich.pack import pack
from flows.enrich.pseudonyms import Pseudonyms
from flows.enrich.sender import RETRY_S, Bill, GivenUp
from flows.enrich.situation import Situation
from flows.enrich.templates import Templates
from flows.settings import Settings

CRITERIA: Final = ("class", "entity", "numbers", "mitigation", "harmless")

MEANINGS: Final = {
    "class": "names the right kind of event and its likely cause",
    "entity": "names the host, port or probe that it is about",
    "numbers": "no claim that the evidence doesn't bear",
    "mitigation": "an action, with its risk and a way back, and nothing drastic",
    "harmless": "says that a look-alike may be harmless",
}

_HARMLESS: Final = re.compile(
    r"harmless|wanted|planned|legitimate|benign|authori[sz]ed|by trade|honest|expected|success",
    re.IGNORECASE,
)
_DRASTIC: Final = re.compile(
    r"hack back|retaliat|counter.?attack|wipe|format the|rm -rf|delete all|shut down the network",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Score:
    """What one explanation is worth.

    Attributes:
        case: name of the situation.
        met: criteria that apply, and whether they are met.
        fault: why there is no explanation; empty if there is one.
        struck: claims that were struck.
        seconds: that it took.
    """

    case: str
    met: dict[str, bool]
    fault: str = ""
    struck: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Result:
    """All scores of one explainer.

    Attributes:
        name: of the model, or of the baseline.
        scores: one for each case.
        counts: of requests, tokens, faults.
    """

    name: str
    scores: Sequence[Score]
    counts: dict[str, int]

    def share(self, criterion: str = "") -> float:
        """Share of a criterion, or of all, that is met where it applies; NaN for nowhere."""
        found = [
            met
            for score in self.scores
            for name, met in score.met.items()
            if criterion in ("", name)
        ]
        return sum(found) / len(found) if found else math.nan


def judge(case: Case, found: Explanation, seconds: float = 0.0) -> Score:
    """Hold an explanation against the rubric."""
    told = "\n".join((found.assessment, found.root_cause, found.next_checks))
    actions = found.mitigation.splitlines()
    met = {
        "class": all(re.search(pattern, told, re.IGNORECASE) for pattern in case.says),
        "entity": all(name in told for name in case.names),
        "numbers": found.struck == 0,
        "mitigation": bool(actions)
        and all(re.search(r"Risk: .+ Undo: \S", action) for action in actions)
        and not _DRASTIC.search(found.mitigation),
    }
    if case.harmless:
        met["harmless"] = _HARMLESS.search(told) is not None
    return Score(case.name, met, struck=found.struck, seconds=seconds)


def templates(settings: Settings) -> Result:
    """The baseline: what everybody has without a model."""
    explain = Templates(settings.networks).explain
    return Result("template", [judge(case, explain(case.alert)) for case in CASES], {})


def model(settings: Settings, told: Callable[[Score], None] = lambda _: None) -> Result:
    """The model of the settings; the budget of an hour doesn't count here.

    Args:
        settings: with ``llm`` on.
        told: of each score as it comes.
    """
    llm = settings.llm
    counts: Counter[str] = Counter()
    budget = Budget(1000 * len(CASES), 10**9, 1.0)
    asker = Asker(llm, budget, Breaker(RETRY_S), counts, RETRY_S)
    scores = []
    try:
        for case in CASES:
            began_s = time.monotonic()
            bill = Bill.of(case.alert.rule, llm.deadline.total_seconds())
            try:
                found = _explain(asker, case, bill, settings)
            except GivenUp as error:
                score = _failed(case, str(error), time.monotonic() - began_s)
            else:
                score = judge(case, found, time.monotonic() - began_s)
            scores.append(score)
            told(score)
    finally:
        asker.close()
    return Result(llm.model or "", scores, dict(counts))


def _explain(asker: Asker, case: Case, bill: Bill, settings: Settings) -> Explanation:
    hidden = Pseudonyms(
        settings.networks, {"probe": {case.alert.probe}}, off=not hides(settings.llm)
    )
    sent = pack(Situation((case.alert,)), case.context, hidden)
    checked = check(asker.ask(prompt.question(sent), bill), sent)
    if not checked.bears:
        msg = f"the evidence doesn't bear the answer: {', '.join(sorted(set(checked.reasons)))}"
        raise GivenUp(msg)
    explain: Callable[[Alert], Explanation] = compose(
        checked, sent, hidden, settings.llm.model or "", prompt.VERSION
    )
    return explain(case.alert)


def _failed(case: Case, why: str, seconds: float) -> Score:
    """No explanation meets nothing."""
    names = [name for name in CRITERIA if name != "harmless" or case.harmless]
    return Score(case.name, dict.fromkeys(names, False), why, seconds=seconds)


def text(results: Sequence[Result]) -> str:
    """A table: a line a criterion, a column an explainer."""
    width = max(len(result.name) for result in results) + 2
    lines = [f"{'':<12}" + "".join(f"{result.name:>{width}}" for result in results)]
    for criterion in (*CRITERIA, ""):
        shares = "".join(f"{_percent(result.share(criterion)):>{width}}" for result in results)
        lines.append(f"{criterion or 'all':<12}{shares}  {MEANINGS.get(criterion, '')}".rstrip())
    for result in results:
        for score in result.scores:
            missed = [name for name, met in score.met.items() if not met]
            if score.fault or missed:
                why = score.fault or f"not met: {', '.join(missed)}"
                lines.append(f"  {result.name}: {score.case}: {why}")
        if result.counts:
            seconds = sum(score.seconds for score in result.scores) / len(result.scores)
            told = ", ".join(f"{n} {name}" for name, n in sorted(result.counts.items()) if n)
            lines.append(f"  {result.name}: {seconds:.1f} s a case; {told}")
    return "\n".join(lines)


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.0%}"


def as_object(results: Sequence[Result]) -> dict[str, Any]:
    """All of it for programs."""
    return {
        "prompt_version": prompt.VERSION,
        "results": [
            {
                "name": result.name,
                "met": {
                    name: share for name in CRITERIA if not math.isnan(share := result.share(name))
                },
                "all": result.share(),
                "counts": result.counts,
                "cases": [
                    {
                        "case": score.case,
                        "met": score.met,
                        "fault": score.fault,
                        "struck": score.struck,
                        "seconds": round(score.seconds, 3),
                    }
                    for score in result.scores
                ],
            }
            for result in results
        ],
    }
