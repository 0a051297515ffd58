"""How well detection finds what is planted in clean traffic, and how quiet it is without."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from flows import labels
from flows.backtest import Fired, Score, fired, judge
from flows.benchmarks.detect_cases import CLEAN_PLANS, DAY_S, PLANS, START_NS, Case
from flows.benchmarks.watch import PacketsLog, watch
from flows.detect import registry
from flows.detect.alert import Severity
from flows.errors import UsageError
from flows.settings import Settings
from flows.settings.units import to_ns
from probe.synthetic import Traffic
from probe.synthetic.scenario import NETWORKS, Background, Rhythm, Scenario, Threshold, lines
from schemas.record import Packets

MESSAGE_PACKETS: Final = 8192

CLEAN: Final = ("zipf", "site", "days")
"""Clean runs: an hour of Zipf traffic, an hour of a site, eight days of a quiet one."""

SLOW_RATE: Final = 5.0


@functools.cache
def settings() -> Settings:
    """The defaults, which know the site's networks."""
    return Settings(networks=dict(NETWORKS))


def groups_of(text: str | None) -> list[str]:
    """Names of what is to be run; without any all.

    Raises:
        UsageError: there is no such part.
    """
    known = [*PLANS, *CLEAN_PLANS, *CLEAN]
    wanted = [name.strip() for name in text.split(",")] if text else known
    for name in wanted:
        if name not in known:
            msg = f"there is no {name!r} to detect; give some of {', '.join(known)}"
            raise UsageError(msg)
    return wanted


def thresholds(of: Settings) -> dict[str, Threshold]:
    """From when on each kind of attack must be found: what its detector's settings say."""
    detectors, pane_ns = of.detectors, of.window.pane_ns
    found = {}
    for name in PLANS:
        rule = getattr(detectors, name)
        horizon_ns = pane_ns if rule.horizon is None else to_ns(rule.horizon)
        least = rule.at_least if name == "volume" else rule.threshold
        if name in ("syn_flood", "amplification", "volume"):
            least *= horizon_ns / 10**9
        if name in ("amplification", "volume"):
            least /= 8  # bits to bytes
        found[name] = Threshold(least, horizon_ns)
    return found


def alerts(arrays: Iterable[Packets], start_ns: int) -> list[Fired]:
    """What fires over some traffic, with the default rules."""
    chosen = settings()
    return fired(watch(PacketsLog(arrays, start_ns), chosen, registry.rules(chosen)))


@dataclass
class Outcome:
    """What came of one case.

    Attributes:
        case: it.
        scores: of each detector that has a say in it. An attack is found by an alert of any
            severity (``volume``'s are low while little is known of its entity); wrong are those
            of medium and above.
        faint: alerts of a lower severity.
    """

    case: Case
    scores: Mapping[str, Score]
    faint: Sequence[Fired] = ()

    @property
    def wrong(self) -> list[Fired]:
        """Alerts of all detectors that should not have fired."""
        return [alert for score in self.scores.values() for alert in score.wrong]

    @property
    def missed(self) -> bool:
        """Whether the attack was not found."""
        return any(score.missed for score in self.scores.values())


def run(case: Case) -> Outcome:
    """Plant, detect and judge."""
    scenario = case.plan.scenario(case.seed)
    known = labels.read(lines(scenario, thresholds(settings())), "the scenario")
    found = alerts(scenario.chunks(MESSAGE_PACKETS), scenario.start_ns)
    by_detector: defaultdict[str, list[Fired]] = defaultdict(list)
    for alert in found:
        right = any(alert.names(label) for label in known if label.attack)
        if right or alert.alert.severity >= Severity.medium:
            by_detector[alert.alert.detector].append(alert)
    names = {*by_detector, *(label.detector for label in known if label.attack)}
    scores = {name: judge(by_detector[name], known, (name,)) for name in sorted(names)}
    faint = [alert for alert in found if alert.alert.severity < Severity.medium]
    return Outcome(case, scores, faint)


def run_all(cases: Sequence[Case], jobs: int) -> Iterator[Outcome]:
    """Run cases, several at a time in processes of their own; in order."""
    if jobs == 1:
        yield from map(run, cases)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(run, cases)


def traffic(name: str, hours: float, seed: int) -> tuple[Iterable[Packets], int]:
    """Clean traffic of one kind, and when it starts."""
    if name == "zipf":
        rate = 10_000.0
        source = Traffic(
            profile="zipf",
            seed=seed,
            packets=round(rate * hours * 3600),
            packets_per_second=rate,
            start_ns=START_NS,
        )
        size = MESSAGE_PACKETS
        count = -(-source.packets // size)
        return (source.batch(number, size) for number in range(count)), START_NS
    if name == "site":
        site = Scenario(seed=seed, duration_s=hours * 3600)
    else:
        quiet = Background(SLOW_RATE, Rhythm())
        site = Scenario(seed=seed, duration_s=hours * 8 * DAY_S, background=quiet)
    return site.chunks(MESSAGE_PACKETS), site.start_ns


def clean(name: str, seed: int, quick: bool) -> list[Fired]:
    """What fires over clean traffic, and should not; quick takes a sixtieth of it."""
    return alerts(*traffic(name, 1 / 60 if quick else 1, seed))


def serious(found: Sequence[Fired]) -> list[Fired]:
    """Those of severity medium and above."""
    return [each for each in found if each.alert.severity >= Severity.medium]


@dataclass
class Totals:
    """What many cases came to.

    Attributes:
        scores: of each detector, over all cases.
        outcomes: by group, in order.
    """

    scores: dict[str, Score] = field(default_factory=dict)
    outcomes: defaultdict[str, list[Outcome]] = field(default_factory=lambda: defaultdict(list))

    def add(self, outcome: Outcome) -> None:
        """Count a case."""
        self.outcomes[outcome.case.group].append(outcome)
        for name, score in outcome.scores.items():
            self.scores[name] = self.scores.get(name, Score()) + score
