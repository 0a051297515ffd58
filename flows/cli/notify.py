"""``netspectra notify``: try out who is told of alerts."""

from __future__ import annotations

import click

from flows.errors import UsageError


@click.group("notify")
def command() -> None:
    """Try the notifiers out.

    \b
    Examples:
      netspectra notify test
      netspectra notify test ops
    """  # noqa: D301 - click reads the backslash


@command.command()
@click.argument("name", required=False)
@click.pass_context
def test(context: click.Context, name: str | None) -> None:
    """Send a test alert and its end to all notifiers, or to NAME, and tell what came of it.

    Each is tried once. Exit code 1 if it didn't arrive everywhere.

    \b
    Examples:
      netspectra notify test
      netspectra notify test ops
    """  # noqa: D301 - click reads the backslash
    from flows import settings
    from flows.notify import sample
    from flows.notify.make import recipients
    from flows.notify.notifier import NotTold, Refused

    loaded = settings.load()
    found = {each.selection.name: each.notifier for each in recipients(loaded)}
    if not found:
        msg = "no notifiers are set; name them in `notifiers:`, see the README's `Be told`"
        raise UsageError(msg)
    if name is not None and name not in found:
        msg = f"there is no notifier {name}; there are {', '.join(found)}"
        raise UsageError(msg)
    failed = False
    for each, notifier in found.items():
        if name not in (None, each):
            continue
        try:
            details = [notifier.send(alert) for alert in sample.revisions(loaded.tenant)]
            click.echo(f"{each}: arrived ({details[0]})")
        except Refused as error:
            click.echo(f"{each}: refused: {error}")
            failed = True
        except NotTold as error:
            click.echo(f"{each}: not told: {error}")
            failed = True
        finally:
            notifier.close()
    context.exit(int(failed))
