"""``netspectra alerts``: what the rules found, and what people do with it."""

from __future__ import annotations

from typing import Final

import click

from flows.cli import alerts_act, options
from flows.cli.options import TIME, open_store
from flows.cli.text import number, safe, time_text

SEVERITIES: Final = ("info", "low", "medium", "high", "critical")
_ALL: Final = ("pending", "firing", "resolved", "muted")


@click.group("alerts", cls=options.ListByDefault)
def command() -> None:
    """List alerts, look into them, and say what to do with them.

    An alert is named by its id, or by as much of its beginning as tells it from others. While a job
    runs, the job is told; so it works at any time.

    \b
    Examples:
      netspectra alerts
      netspectra alerts show 1f2e3d4c
      netspectra alerts mute 1f2e3d4c --for 2h --reason "our own scanner"
      netspectra alerts why-not 10.0.2.15
    """  # noqa: D301 - click reads the backslash


@command.command("list")
@click.option("--all", "everything", is_flag=True, help="Also those that are over.")
@options.span
@click.option("--severity", type=click.Choice(SEVERITIES), help="This one and worse.")
@click.option("--rule", default="", help="Of this rule.")
@click.option("--tenant", default="", help="Of this tenant.")
@click.option(
    "-n", "--rows", type=click.IntRange(1), default=30, show_default=True, help="At most."
)
@options.form
def list_(
    everything: bool,
    from_ns: int | None,
    until_ns: int | None,
    ago_ns: int | None,
    severity: str | None,
    rule: str,
    tenant: str,
    rows: int,
    form: str,
) -> None:
    """List the open alerts, the worst and newest first; with --all all, the newest first.

    Times are those of the traffic, UTC. A measurement is shown with its bounds.

    \b
    Examples:
      netspectra alerts list
      netspectra alerts list --all --since 1d --severity medium
      netspectra alerts list --rule host_scan --format jsonl
    """  # noqa: D301 - click reads the backslash
    from flows.cli import alerts_list
    from flows.storage import alerts

    wanted = alerts.Wanted(
        statuses=_ALL if everything else alerts.OPEN,
        severity=severity or "",
        rule=rule,
        tenant=tenant,
        since_ns=options.since_ns(from_ns, ago_ns),
        until_ns=until_ns or 0,
    )
    with open_store() as reader:
        found, total = alerts.listed(reader.query, wanted, rows)
    nothing = "no alerts" if everything else "no open alerts; --all lists those that are over"
    alerts_list.show(found, total, form, nothing)


@command.command()
@click.argument("alert_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def show(alert_id: str, as_json: bool) -> None:
    """Show all that is known of an alert: how it went, what is behind it, the SQL.

    \b
    Examples:
      netspectra alerts show 1f2e3d4c
      netspectra alerts show 1f2e3d4c --json
    """  # noqa: D301 - click reads the backslash
    import json

    from flows.cli import alerts_show
    from flows.storage import alerts

    with open_store() as reader:
        row = alerts.one(reader.query, alert_id)
        life = alerts.life(reader.query, row["alert_id"])
        actions = alerts.actions(reader.query, row["alert_id"])
        deliveries = alerts.deliveries(reader.query, row["alert_id"])
    if as_json:
        found = alerts_show.as_object(row, life, actions, deliveries)
        click.echo(json.dumps(found, indent=2))
        return
    for line in alerts_show.lines(row, life, actions, deliveries):
        click.echo(line)


@command.command()
@click.argument("alert_id", metavar="ID")
@click.option("--run", "run_it", is_flag=True, help="Run it, and compare with the alert's claim.")
def sql(alert_id: str, run_it: bool) -> int:
    """Print the statement that says an alert's measurement exactly.

    With --run the exit code is 1 when the store says something else than the alert claims, as it
    does when the flows have gone since.

    \b
    Examples:
      netspectra alerts sql 1f2e3d4c
      netspectra alerts sql 1f2e3d4c --run
    """  # noqa: D301 - click reads the backslash
    from flows.errors import StoreError
    from flows.storage import alerts

    with open_store() as reader:
        row = alerts.one(reader.query, alert_id)
        statement = row["evidence_sql"]
        if not statement:
            msg = f"rule {safe(row['rule'])} has no statement for its alerts"
            raise StoreError(msg)
        click.echo(safe(statement, len(statement), keep="\n"))
        if not run_it:
            return 0
        answer = reader.query(statement).to_pylist()
    value = float(answer[0]["value"] or 0) if answer else 0.0
    claim = f"{number(row['value'])} ({number(row['lower'])} to {number(row['upper'])})"
    within = row["lower"] <= value <= row["upper"]
    verdict = "within the bounds" if within else "outside the bounds"
    unit = safe(row["unit"])
    click.echo(f"\nthe store says {number(value)} {unit}; the alert claims {claim}: {verdict}")
    return 0 if within else 1


@command.command("why-not")
@click.argument("address")
@click.option("--rule", default="", help="Only this rule.")
@click.option("--at", "at_ns", type=TIME, metavar="TIME", help="In the windows of this time (UTC).")
@click.option("--tenant", help="Of this tenant; by default the only one, or the settings' own.")
@options.form
def why_not(address: str, rule: str, at_ns: int | None, tenant: str | None, form: str) -> None:
    """Tell how far an address is from every rule, and why none fires.

    Each rule's statement is run over the window of its length that holds the newest traffic, or
    the time given. A window that has only begun holds little yet. The largest entity that the
    address is part of is shown.

    \b
    Examples:
      netspectra alerts why-not 10.0.2.15
      netspectra alerts why-not 10.0.2.15 --rule host_scan --at "2026-01-02 03:04"
    """  # noqa: D301 - click reads the backslash
    from flows import settings
    from flows.cli import alerts_list, alerts_mute, why_not
    from flows.cli.alerts_mute import plain_address

    loaded = settings.load()
    text = plain_address(address)
    with open_store() as reader:
        if rule:
            alerts_mute.check_rule(rule, loaded, reader.query)
        stored = why_not.traffic(reader.query, tenant, loaded.tenant)
        if at_ns is not None and not stored.start_ns <= at_ns < stored.end_ns:
            span = f"{time_text(stored.start_ns)} to {time_text(stored.end_ns)} UTC"
            msg = f"--at: the store's traffic of tenant {stored.tenant} is of {span}"
            raise click.UsageError(msg)
        asked = why_not.WhyNot(reader.query, loaded, stored, text, at_ns)
        found = list(asked.distances(rule))
        if not any(each.value for each in found):
            asked.check_address()
    alerts_list.show_distances(found, form)


for _each in alerts_act.COMMANDS:
    command.add_command(_each)
