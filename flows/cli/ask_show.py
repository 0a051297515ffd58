"""An answer to a question: on a terminal as it comes, or as JSON."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

import click

from flows.cli.text import safe
from flows.enrich import prompt
from flows.enrich.ask.claims import Said
from flows.enrich.ask.dialog import Answer, Hearer
from flows.enrich.pack import Row
from flows.enrich.pseudonyms import Pseudonyms
from flows.enrich.turn import Call

_LONG: Final = 4000
_CELL: Final = 60
_MAX_WIDTH: Final = 100


def warn(text: str) -> None:
    """A line that isn't part of the answer."""
    click.echo(f"netspectra: {safe(text)}", err=True)


class Screen(Hearer):
    """Shows claims as they come, and at the end what they rest on.

    Args:
        hidden: pseudonyms of the question.
        quiet: show nothing.
    """

    def __init__(self, hidden: Pseudonyms, *, quiet: bool = False) -> None:
        self._hidden = hidden
        self._quiet = quiet
        self._width = min(shutil.get_terminal_size().columns, _MAX_WIDTH)

    def running(self, call: Call) -> None:
        """See ``Hearer``."""
        if not self._quiet and sys.stderr.isatty():
            arguments = self._hidden.restore(call.arguments)
            click.echo(f"  looking up {safe(call.name)} {safe(arguments, 100)}", err=True)

    def said(self, said: Said) -> None:
        """See ``Hearer``."""
        if self._quiet:
            return
        names = f" [{', '.join(said.claim.rows)}]" if said.claim.rows else ""
        text = f"{safe(said.claim.text, _LONG)}{names}"
        click.echo("\n".join(textwrap.wrap(text, self._width, subsequent_indent="  ")))
        sys.stdout.flush()

    def end(self, answer: Answer) -> None:
        """Show what the answer rests on."""
        for line in _rest(answer):
            click.echo(line)


def _rest(answer: Answer) -> Iterator[str]:
    if answer.struck:
        many = f"{len(answer.struck)} claim{'s' * (len(answer.struck) > 1)}"
        why = ", ".join(dict.fromkeys(answer.struck))
        yield f"({many} of the model left out: {why})"
    if answer.cited:
        yield ""
        yield "rows that it cites:"
        yield from (f"  {each}" for each in _rows(answer.cited))
    if answer.ran:
        yield ""
        yield "SQL that was run:"
    for ran in answer.ran:
        found = ran.fault or (f"{ran.rows[0]} to {ran.rows[-1]}" if ran.rows else "no rows")
        yield f"  -- {safe(ran.query)}: {safe(found)}"
        yield f"  {safe(ran.sql, len(ran.sql), keep=chr(10))};"
    yield ""
    requests = f"{answer.requests} request{'s' * (answer.requests != 1)}"
    yield f"({requests}, about {answer.tokens:,} tokens, {answer.seconds:.1f} s)"


def _rows(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        cells = " ".join(f"{safe(k)}={safe(v, _CELL)}" for k, v in row.fields.items())
        yield from textwrap.wrap(
            f"{row.name} {cells}", _MAX_WIDTH, subsequent_indent="     ", break_on_hyphens=False
        )


def as_json(question: str, answer: Answer, model: str, session: str) -> str:
    """The same for programs, as one object on a line."""
    status = "failed" if not answer.claims else "partial" if answer.struck else "done"
    found = {
        "question": question,
        "status": "partial" if answer.fault and answer.claims else status,
        "fault": answer.fault,
        "answer": [
            {"text": said.claim.text, "rows": said.claim.rows, "remark": said.remark}
            for said in answer.claims
        ],
        "struck": answer.struck,
        "rows": [row.as_fields() for row in answer.cited],
        "queries": [
            {
                "query": ran.query,
                "arguments": dict(ran.arguments),
                "sql": ran.sql,
                "rows": list(ran.rows),
                "fault": ran.fault,
            }
            for ran in answer.ran
        ],
        "session": session,
        "model": model,
        "prompt_version": prompt.ASK_VERSION,
        "requests": answer.requests,
        "tokens": answer.tokens,
        "seconds": round(answer.seconds, 3),
    }
    return json.dumps(found)
