"""``netspectra query``: what people ask most, without SQL."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import click

from flows.cli import options, query_sketches, query_where

if TYPE_CHECKING:
    from flows.storage.saved import SavedQuery

_DEFAULT_ROWS = 30


class Queries(click.Group):
    """Saved queries, each a command made out of its file, beside the commands that are added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in alphabetical order."""
        from flows.storage.saved import saved

        return sorted({*self.commands, *saved()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or nothing."""
        from flows.storage.saved import saved

        query = saved().get(cmd_name)
        return _command(query) if query else super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name; a misspelt one is answered with the nearest."""
        name = args[0]
        if self.get_command(ctx, name) is None:
            near = difflib.get_close_matches(name, self.list_commands(ctx), 1, 0.6)
            meant = f"did you mean {near[0]}" if near else "the queries are listed"
            ctx.fail(f"there is no query {name!r}; {meant}")
        return super().resolve_command(ctx, args)


@click.group("query", cls=Queries)
def command() -> None:
    """Ask what people ask most: who talks, how much, with whom, since when.

    Each query reads the coarsest table that can answer. --sql prints the statement, to go on from.

    \b
    Examples:
      netspectra query top-talkers
      netspectra query top-talkers --since 2h --where "src_net = 'internal'" -n 10
      netspectra query top-talkers --sql
    """  # noqa: D301 - click reads the backslash


def _command(query: SavedQuery) -> click.Command:
    """A command that runs a saved query."""
    parameters: list[click.Parameter] = [
        click.Argument([each.name], metavar=each.name.upper())
        if each.default is None
        else click.Option(
            [f"--{each.name}"], default=each.default, show_default=True, help=each.meaning
        )
        for each in query.parameters
    ]

    def run(**given: Any) -> None:
        from flows.cli import query_run

        query_run.run(query, given)

    made = click.command(query.name, params=parameters, help=_help(query), short_help=query.title)(
        _options(query, run)
    )
    assert isinstance(made, click.Command)
    return made


def _help(query: SavedQuery) -> str:
    arguments = [each for each in query.parameters if each.default is None]
    lines = [f"  {each.name.upper()}  {each.meaning}" for each in arguments]
    blocks = [query.title, query.description, "\n".join(("\b", *lines)) if lines else ""]
    return "\n\n".join(filter(None, blocks))


def _options(query: SavedQuery, run: Any) -> Any:
    """Add what all queries take."""
    rows = None if query.is_series else _DEFAULT_ROWS
    for add in (
        click.option("--sql", "as_sql", is_flag=True, help="Print the statement, don't run it."),
        options.form,
        click.option(
            "-n", "--rows", type=click.IntRange(1), default=rows, show_default=True, help="At most."
        ),
        click.option("--tenant", default="", help="Of this tenant."),
        click.option("--where", default="", metavar="SQL", help=query_where.help_text(query)),
        options.span,
    ):
        run = add(run)
    if query.is_series:
        run = click.option(
            "--step",
            "step_ns",
            type=options.DURATION,
            metavar="DURATION",
            help="A row each 5m. The first and last may be shorter: their rates are over what lies "
            "between --from and --to, or the first and last traffic.",
        )(run)
    return run


for each in query_sketches.COMMANDS:
    command.add_command(each)
