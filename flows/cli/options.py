"""What several commands share: options for times and formats, groups that list by default."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from flows.storage.embedded import Limits
    from flows.storage.reader import Reader

FORMATS: Final = ("table", "json", "jsonl", "csv")

_Command = Callable[..., Any]


class ListByDefault(click.Group):
    """A group that lists when no command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``list`` in front of options alone."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


class DurationType(click.ParamType):  # type: ignore[type-arg] # older ones have none
    """A duration such as ``2h``, in nanoseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        from flows.settings.units import parse_duration, to_ns

        if isinstance(value, int):
            return value
        try:
            return to_ns(parse_duration(value))
        except ValueError as error:
            self.fail(f"{value!r}: wanted {error}", param, ctx)


class TimeType(click.ParamType):  # type: ignore[type-arg]
    """A time such as ``2026-01-02 03:04`` (UTC unless it names a zone), in Unix nanoseconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        from datetime import UTC, datetime

        if isinstance(value, int):
            return value
        try:
            when = datetime.fromisoformat(value.strip())
        except ValueError:
            self.fail(f"{value!r}: wanted a time such as 2026-01-02T03:04 (UTC)", param, ctx)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return int(when.timestamp() * 10**6) * 1000


DURATION: Final = DurationType()
TIME: Final = TimeType()


def span(command: _Command) -> _Command:
    """Add --since, --from and --to; ``since_ns`` reads them."""
    for option in (
        click.option("--to", "until_ns", type=TIME, metavar="TIME", help="Until this time."),
        click.option("--from", "from_ns", type=TIME, metavar="TIME", help="From this time on."),
        click.option("--since", "ago_ns", type=DURATION, metavar="DURATION", help="The last 2h."),
    ):
        command = option(command)
    return command


def since_ns(from_ns: int | None, ago_ns: int | None) -> int:
    """Beginning of the span that was asked for, Unix ns; 0 for none.

    Raises:
        click.UsageError: both ways to say it were used.
    """
    if from_ns is not None and ago_ns is not None:
        msg = "--since and --from both say when it begins; give one"
        raise click.UsageError(msg)
    if ago_ns is not None:
        return time.time_ns() - ago_ns
    return from_ns or 0


def form(command: _Command) -> _Command:
    """Add --format."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(FORMATS),
        default="table",
        show_default=True,
        help="For people or for programs.",
    )(command)


def open_store(limits: Limits | None = None) -> Reader:
    """The store that the settings name, to read it.

    Args:
        limits: what one query may use when this process runs the engine.

    Raises:
        StoreError: there is none, or it can't be opened.
    """
    from flows import settings
    from flows.storage.reader import open_for_reading

    return open_for_reading(settings.load().store, limits)
