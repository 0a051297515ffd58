"""``netspectra bench``: how fast this machine is, against named baselines; how well it detects."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

import click

from flows.errors import UsageError


@click.group("bench")
def command() -> None:
    """Measure speed, as ratios against named baselines in the same run.

    \b
    Examples:
      netspectra bench engine
      netspectra bench engine --quick --only kernel,whole
      netspectra bench superspread
      netspectra bench kafka
      netspectra bench llm
      netspectra bench detect
    """  # noqa: D301 - click reads the backslash


@command.command("engine")
@click.option("--quick", is_flag=True, help="Less of everything: under half a minute, rougher.")
@click.option("--only", metavar="PARTS", help="Some of decode, kernel, pane, store, whole.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for programs.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of traffic.")
def engine(quick: bool, only: str | None, as_json: bool, seed: int) -> None:
    """Measure the engine, from messages and captures to rows in the store.

    Each part is compared with named baselines, measured in the same run, and with the
    project's goals. The first run also compiles the kernels, which isn't counted but takes a
    minute more. Stores and captures are temporary.

    \b
    Examples:
      netspectra bench engine
      netspectra bench engine --quick
      netspectra bench engine --only decode,kernel
      netspectra bench engine --json > figures.json
    """  # noqa: D301 - click reads the backslash
    from dataclasses import replace

    from flows.benchmarks import engine, report
    from flows.benchmarks.sizes import QUICK, Sizes

    parts = engine.parts_of(only) if only is not None else list(engine.PARTS)
    sizes = replace(QUICK if quick else Sizes(), seed=seed)
    figures = []
    for number, part in enumerate(parts, start=1):
        click.echo(f"measuring {part} ({number} of {len(parts)})", err=True)
        found = list(engine.run(part, sizes))
        figures += found
        if not as_json:
            click.echo(f"{part}\n{report.text(found)}\n")
            sys.stdout.flush()
    if as_json:
        click.echo(report.as_json(figures, quick=quick))


@command.command("superspread")
@click.option("--quick", is_flag=True, help="Fewer seeds and smaller streams.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="The first one.")
def superspread(quick: bool, seed: int) -> None:
    """Measure SuperSpread: accuracy and speed of both variants.

    \b
    Examples:
      netspectra bench superspread
      netspectra bench superspread --quick --seed 7
    """  # noqa: D301 - click reads the backslash
    _superspread().run(quick=quick, seed=seed)


@command.command("kafka")
@click.option("--packets", type=click.IntRange(1_000_000), default=20_000_000, show_default=True)
@click.option("--partitions", type=click.IntRange(1), default=8, show_default=True)
@click.option("--flows", type=click.IntRange(1), default=100_000, show_default=True, help="Active.")
@click.option(
    "--minutes",
    type=click.FloatRange(0.1),
    help="Only one run, so long: lag, memory, ledger, CPU of each; 3.3 GB in the broker a minute.",
)
def kafka(packets: int, partitions: int, flows: int, minutes: float | None) -> None:
    """Measure the whole job: from a topic that is full to rows in a store.

    Needs a broker (NETSPECTRA_KAFKA__BROKERS), in which it makes a topic and removes it; 20
    million packets take half a gigabyte there. Compared are one worker, two, and two processes.

    \b
    Examples:
      deploy/kafka/broker.py start --data /tmp/kafka
      netspectra bench kafka
      netspectra bench kafka --packets 100000000
      netspectra bench kafka --minutes 5
    """  # noqa: D301 - click reads the backslash
    from flows import settings
    from flows.benchmarks import sustained, through_kafka

    brokers = settings.load().kafka.brokers
    if minutes is not None:
        found = sustained.measure(
            brokers, minutes, partitions=partitions, active_flows=flows, workers=2
        )
        click.echo("\n".join(sustained.text(found)))
        return
    click.echo(f"sending {packets:,} packets", err=True)
    with through_kafka.filled(
        brokers, packets, partitions=partitions, active_flows=flows, rate=1.5e6
    ) as topic:
        for workers, processes in ((1, 1), (2, 1), (1, 2)):
            run = through_kafka.read(brokers, topic, packets, workers=workers, processes=processes)
            click.echo(through_kafka.text(run))


@command.command("llm")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for programs.")
def llm(as_json: bool) -> None:
    """Score explanations of alerts: those of the templates, and of the model in the settings.

    A golden set of situations is explained and held against a rubric. It takes one or two requests
    of the model a situation; without a model only the templates are scored. The model is also
    asked some questions, as by `netspectra ask`, about traffic that is made for it.

    \b
    Examples:
      netspectra bench llm
      NETSPECTRA_LLM__BASE_URL=http://localhost:11434/v1 NETSPECTRA_LLM__MODEL=NAME netspectra bench llm
    """  # noqa: D301, E501 - click reads the backslash, and doesn't wrap
    import json

    from flows import settings
    from flows.benchmarks import ask, llm

    loaded = settings.load()
    results = [llm.templates(loaded)]
    if loaded.llm.on:
        parts = (llm.model, ask.model)
        results += [part(loaded, lambda score: click.echo(score.case, err=True)) for part in parts]
    if as_json:
        click.echo(json.dumps(llm.as_object(results), indent=2))
        return
    click.echo(llm.text(results))
    if not loaded.llm.on:
        click.echo("No model is set; see llm in `netspectra config show`.")


@command.command("detect")
@click.option("--quick", is_flag=True, help="Few seeds and a minute of clean traffic.")
@click.option("--only", metavar="PARTS", help="Detectors, look-alikes, or zipf, site, days.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="The first one.")
@click.option("--seeds", type=click.IntRange(1), help="How many; 20, or 2 with --quick.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
def detect(quick: bool, only: str | None, seed: int, seeds: int | None, jobs: int) -> None:
    """Measure detection: what it finds of what is planted, and how quiet it is otherwise.

    Attacks and clean traffic that looks like them, of many intensities, are planted in the clean
    traffic of a site, with many seeds; every rule looks at all of it. False are alerts of medium
    and above about something else. Delays are in panes after that in which the threshold was
    reached. What was missed, and each false alert, is told with how to repeat it. Then come an
    hour of clean traffic and eight days of a little of it. The engine and the store are left
    out, which changes no alert.

    \b
    Examples:
      netspectra bench detect --quick
      netspectra bench detect --jobs 2
      netspectra bench detect --only syn_flood,zipf --seeds 3
    """  # noqa: D301 - click reads the backslash
    from flows.benchmarks import detect as measured
    from flows.benchmarks import detect_report as report
    from flows.benchmarks.detect_cases import cases

    groups = measured.groups_of(only)
    planted = [group for group in groups if group not in measured.CLEAN]
    todo = list(cases(planted, seed, seeds or (2 if quick else 20), quick))
    totals, pane_ns = measured.Totals(), measured.settings().window.pane_ns
    with progress_bar(todo, measured.run_all(todo, jobs)) as outcomes:
        for outcome in outcomes:
            totals.add(outcome)
            for line in report.faults(outcome, pane_ns):
                click.echo(line)
    if totals.scores:
        click.echo(f"\n{report.table(totals, pane_ns)}")
    if quiet := report.quiet(totals):
        click.echo(f"\n{quiet}")
    for name in [group for group in groups if group in measured.CLEAN]:
        click.echo(f"clean traffic: {name}", err=True)
        click.echo(report.clean(name, measured.clean(name, seed, quick)))


def progress_bar(todo: Sequence[Any], outcomes: Iterable[Any]) -> Any:
    """Draw on stderr, if it is a terminal, how far this is."""
    return click.progressbar(outcomes, length=len(todo), file=sys.stderr)


def _superspread() -> ModuleType:
    name = "flows.benchmarks.superspread"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        msg = "this version has no SuperSpread benchmark; netspectra bench engine is there"
        raise UsageError(msg) from None
