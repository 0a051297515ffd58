"""``netspectra ask``: questions about the traffic in plain words."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from flows.errors import NetSpectraError, UsageError

if TYPE_CHECKING:
    from flows.cli.ask_run import Asking
    from flows.settings import Settings

PROMPT = "ask> "


@click.command("ask")
@click.argument("question", nargs=-1)
@click.option("--session", default="", metavar="NAME", help="Go on with this session, or begin it.")
@click.option("--new", is_flag=True, help="Forget what was asked before.")
@click.option("--tenant", default="", help="Whose traffic, where the store has that of several.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one object a question.")
def command(question: tuple[str, ...], session: str, new: bool, tenant: str, as_json: bool) -> int:
    """Ask about the traffic in plain words: QUESTION, standard input, or one after the other.

    The language model of the settings (llm.model and llm.base_url or llm.api_key) looks things up
    in the store by queries that only read, and answers. Each claim is checked against the rows
    that it cites; one that doesn't hold isn't shown, and is counted. The rows and the SQL that was
    run are shown with it. Works while a job runs. Without --session, what was asked within the
    last hour is remembered.

    \b
    Examples:
      netspectra ask "why is 10.0.0.5 so loud today?"
      netspectra ask "and yesterday?"
      netspectra ask --session incident-7 "who talked to 198.51.100.7?"
      netspectra ask --json "is anything missing?" < /dev/null
      netspectra ask
    """  # noqa: D301 - click reads the backslash
    from flows import settings

    chosen = settings.load()
    _check(chosen)

    from flows.cli.ask_run import Asking

    with Asking(chosen, session, new=new, tenant=tenant, as_json=as_json) as asking:
        text = " ".join(question).strip()
        if not text and not sys.stdin.isatty():
            text = " ".join(sys.stdin.read().split())
            if not text:
                msg = 'nothing to ask; try netspectra ask "who sends most?"'
                raise UsageError(msg)
        if text:
            return asking.one(text)
        return _interactive(asking)


def _check(chosen: Settings) -> None:
    """Tell what has to be set.

    Raises:
        UsageError: no language model is set, or it is switched off.
    """
    llm = chosen.llm
    if llm.enabled is False:
        msg = "the language model is switched off (llm.enabled, NETSPECTRA_LLM__ENABLED)"
        raise UsageError(msg)
    if not llm.on or not llm.model:
        msg = (
            "no language model is set; set llm.model and llm.base_url or llm.api_key "
            "(NETSPECTRA_LLM__MODEL, NETSPECTRA_LLM__BASE_URL, NETSPECTRA_LLM__API_KEY)"
        )
        raise UsageError(msg)


def _interactive(asking: Asking) -> int:
    """Read questions from a terminal until it ends; what goes wrong with one is a line."""
    import readline  # noqa: F401 - lines can be edited, and called up again

    click.echo(f"{asking.greeting} Ctrl-D ends.")
    while True:
        try:
            text = input(PROMPT).strip()
        except EOFError:
            click.echo()
            return 0
        if text in ("exit", "quit"):
            return 0
        if not text:
            continue
        try:
            asking.one(text)
        except KeyboardInterrupt:
            click.echo("\nnetspectra: stopped", err=True)
        except NetSpectraError as error:
            click.echo(f"netspectra: {error}", err=True)
