"""Runs the queries that the model calls, and keeps the rows by which its answer is judged.

Rows are hostile text, like all that came off the wire: cut, stripped of control characters, quoted,
fenced. Each has a name that the answer has to cite.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from flows.enrich.ask.queries import queries
from flows.enrich.ask.query import MOST_ROWS, Query, Statement, problems, tools
from flows.enrich.ask.scope import Ask, Scope, rows_of
from flows.enrich.pack import Pack, Row, as_lines, clean
from flows.enrich.pseudonyms import Pseudonyms
from flows.enrich.turn import Call
from flows.errors import StoreError
from flows.notify.text import line
from flows.storage.embedded import quote

MOST_ROWS_IN_ALL: Final = 300
"""Rows that one question may gather."""


@dataclass(frozen=True)
class Ran:
    """A statement that was run, or wasn't.

    Attributes:
        query: that it belongs to.
        arguments: of that, as they are here.
        sql: the statement.
        rows: names of the rows that it gave.
        fault: why it gave none; empty if it was run.
    """

    query: str
    arguments: Mapping[str, Any]
    sql: str
    rows: tuple[str, ...] = ()
    fault: str = ""


class Lookup:
    """What one question looks up.

    Args:
        ask: of the store.
        scope: of the question.
        hidden: pseudonyms of the question.
        question: as it is sent; what it names may be named in the answer.

    Attributes:
        ran: all statements, in order.
        rows: all rows, as they are here.
    """

    def __init__(self, ask: Ask, scope: Scope, hidden: Pseudonyms, question: str) -> None:
        self._ask = ask
        self._scope = scope
        self._hidden = hidden
        self._question = question
        self._queries = queries(scope)
        self.ran: list[Ran] = []
        self.rows: list[Row] = []
        self._sent: list[Row] = []

    def tools(self) -> list[dict[str, Any]]:
        """What the model may call."""
        return tools(self._queries)

    def begin(self) -> str:
        """The first row: of which time there is anything."""
        self._keep(self._scope.facts)
        return self._told(self._sent)

    def pack(self) -> Pack:
        """Everything that a claim may cite."""
        legend = (*self._hidden.legend(), {"question": self._question})
        return Pack(tuple(self.rows), {}, tuple(self._sent), legend)

    def answer(self, call: Call) -> str:
        """Run what the model calls; gives what it is told.

        Raises:
            StoreError: the store is away.
        """
        try:
            query = self._read(call)
            statements = query.statements(self._scope)
        except _Refused as error:
            return f"Refused: {error}."
        except StoreError as error:
            given = query.model_dump()
            fault = f"not run: {line(str(error))}"
            self.ran.append(Ran(call.name, given, given.get("query", ""), fault=fault))
            return self._refusal(error)
        told = [self._run(query, statement) for statement in statements]
        return "\n".join(told)

    def _read(self, call: Call) -> Query:
        kind = self._queries.get(call.name)
        if kind is None:
            msg = f"there is no such tool; tools are {', '.join(self._queries)}"
            raise _Refused(msg)
        try:
            given = json.loads(call.arguments or "{}")
        except (ValueError, RecursionError):
            given = None
        if not isinstance(given, dict):
            msg = "the arguments are no JSON object"
            raise _Refused(msg)
        # In SQL names stand in literals.
        written = _in_literal if "query" in kind.model_fields else str
        restored = {
            name: self._hidden.restore(value, written) if isinstance(value, str) else value
            for name, value in given.items()
        }
        try:
            return kind.model_validate(restored)
        except ValidationError as error:
            raise _Refused(problems(error)) from None

    def _run(self, query: Query, statement: Statement) -> str:
        kind, sql = statement
        arguments = query.model_dump(exclude_defaults=True)
        try:
            # On lines of its own, for it may end with a comment.
            limited = f"SELECT * FROM (\n{sql}\n) LIMIT {MOST_ROWS + 1}"
            found = rows_of(self._ask, limited)
        except StoreError as error:
            if not str(error).startswith("Code: "):
                raise
            self.ran.append(Ran(query.name, arguments, sql, fault=line(str(error))))
            return self._refusal(error)
        begun = len(self.rows)
        for fields in found[:MOST_ROWS]:
            self._keep({"kind": kind, **fields})
        if not found:
            self._keep({"kind": f"no {kind} was found", **arguments})
        named = tuple(row.name for row in self.rows[begun:])
        self.ran.append(Ran(query.name, arguments, sql, named))
        more = "\nThere are more rows; these are the first." * (len(found) > MOST_ROWS)
        return self._told(self._sent[begun:]) + more

    def _keep(self, fields: Mapping[str, Any]) -> None:
        if len(self.rows) >= MOST_ROWS_IN_ALL:
            return
        row = Row(f"R{len(self.rows) + 1}", clean(fields))
        self.rows.append(row)
        hidden = {name: self._hidden.hide(text) for name, text in row.fields.items()}
        self._sent.append(Row(row.name, hidden))

    def _told(self, rows: list[Row]) -> str:
        if not rows:
            return "No more rows can be given for this question; answer from those that you have."
        data = as_lines(row.as_fields() for row in rows)
        named = {value for row in rows for value in row.fields.values()}
        legend = [each for each in self._hidden.legend() if each["host"] in named]
        hosts = f"\n<hosts>\n{as_lines(legend)}\n</hosts>" if legend else ""
        return f"<data>\n{data}\n</data>{hosts}"

    def _refusal(self, error: StoreError) -> str:
        """What the model is told of a statement that the store refused, as data too."""
        why = self._hidden.hide(line(str(error).removeprefix("Code: "), 300))
        return f"The store refused it.\n<data>\n{as_lines([{'reason': why}])}\n</data>"


class _Refused(Exception):
    """A call that isn't run; why, in our words."""


def _in_literal(text: str) -> str:
    return quote(text)[1:-1]
