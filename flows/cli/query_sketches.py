"""``netspectra query distinct``, ``top``, ``spread``: any span, out of stored sketches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from flows.cli import options

_Command = Callable[..., Any]


def _rows(command: _Command) -> _Command:
    """Add -n."""
    return click.option(
        "-n", "--rows", type=click.IntRange(1), default=10, show_default=True, help="At most."
    )(command)


def _selection(command: _Command) -> _Command:
    """Add what all of them take."""
    for add in (
        options.form,
        click.option("--tenant", default="", help="Of this tenant."),
        click.option(
            "--where",
            default="",
            metavar="SQL",
            help='A condition on tenant and window_start: "toDayOfWeek(window_start) = 2".',
        ),
        options.span,
    ):
        command = add(command)
    return command


@click.command("distinct")
@click.option(
    "--task",
    "tasks",
    multiple=True,
    default=("distinct_src_addr",),
    show_default=True,
    help="A task of type distinct; several are counted together.",
)
@click.option("--and", "both", metavar="SQL", help="Only what this other selection has too.")
@click.option("--not", "without", metavar="SQL", help="Only what this other selection lacks.")
@_selection
def distinct(**given: Any) -> None:
    """How many different ones in any span, out of stored sketches, with bounds.

    Sketches are of a minute and more, so conditions speak of tenant and window_start only. --and
    and --not compare with a second selection of the same span and tenant; their bounds are about
    as wide as those of both together, however few are left.

    \b
    Examples:
      netspectra query distinct --from 2026-01-01 --to 2026-02-01
      netspectra query distinct --task distinct_src_addr --task distinct_dst_addr --since 1d
      netspectra query distinct --where "toDayOfWeek(window_start) = 2"
      netspectra query distinct --where "tenant = 'north'" --not "tenant = 'south'"
    """  # noqa: D301 - click reads the backslash
    from flows.cli import sketch_answers

    sketch_answers.distinct(given)


@click.command("top")
@click.option("--task", default="top_src_addr", show_default=True, help="A frequency task.")
@click.option("--by", type=click.Choice(("bytes", "packets")), default="bytes", show_default=True)
@click.option(
    "-n", "--rows", type=click.IntRange(1), default=10, show_default=True, help="At most."
)
@_selection
def top(**given: Any) -> None:
    """The heaviest keys of any span, out of stored sketches, with bounds that always hold.

    \b
    Examples:
      netspectra query top --task top_dst_port --since 7d
      netspectra query top --by packets --where "toHour(window_start) < 6" -n 20
    """  # noqa: D301
    from flows.cli import sketch_answers

    sketch_answers.top(given)


@click.command("spread")
@click.option("--task", default="fan_out", show_default=True, help="A spread task.")
@click.option(
    "-n", "--rows", type=click.IntRange(1), default=10, show_default=True, help="At most."
)
@_selection
def spread(**given: Any) -> None:
    """Who touched the most different others in any span, out of stored sketches, with bounds.

    A slow scan over days shows here, each target once.

    \b
    Examples:
      netspectra query spread --since 7d
      netspectra query spread --task pair_ports --from 2026-01-01 --to 2026-01-02
    """  # noqa: D301
    from flows.cli import sketch_answers

    sketch_answers.spread(given)


COMMANDS: Final = (distinct, top, spread)
