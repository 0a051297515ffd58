"""Runs questions for ``netspectra ask``."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType
from typing import Final, Self

import click

from flows.cli import ask_show
from flows.enrich.ask.dialog import Allowance, Answer, Dialog
from flows.enrich.ask.scope import Scope, look
from flows.enrich.ask.session import Session, Spent, directory
from flows.enrich.breaker import Breaker
from flows.enrich.budget import Budget
from flows.enrich.client import Model
from flows.enrich.destination import hides, in_words
from flows.enrich.pseudonyms import Pseudonyms
from flows.enrich.sender import RETRY_S, Sender
from flows.errors import NetSpectraError
from flows.settings import Settings
from flows.storage.address import parse
from flows.storage.embedded import Limits
from flows.storage.reader import open_for_reading

LIMITS: Final = Limits(rows=1000, seconds=10, memory_bytes=120_000_000)
"""What one query of the model may use."""

QUESTION: Final = Allowance()
"""What one question may take."""

MOST_AWAY: Final = 3
"""Tries in a row that a service may miss before somebody who waits is told."""


class NoAnswer(NetSpectraError):
    """The model gave no answer, or not all of it; why, in one line."""


class Asking:
    """Answers questions of one user, with what was said before.

    Args:
        settings: with ``llm`` on.
        session: name of the session; empty for the one that nobody named.
        new: forget what was asked before.
        tenant: whose traffic; empty where it is plain.
        as_json: write for programs.

    Raises:
        UsageError: the session can't be named so.
    """

    def __init__(
        self, settings: Settings, session: str, *, new: bool, tenant: str, as_json: bool
    ) -> None:
        llm = settings.llm
        self._settings = settings
        self._tenant = tenant
        self._as_json = as_json
        where = directory()
        self._session = Session(where, str(parse(settings.store)), session, new=new)
        self._spent = Spent(where)
        budget = Budget(llm.requests_per_hour, llm.tokens_per_hour, 1.0)
        for requests, tokens, ago_s in self._spent.read():
            budget.seed("ask", requests, tokens, ago_s)
        self._counts: Counter[str] = Counter()
        self._model = Model(llm)
        sender = Sender(budget, Breaker(), self._counts, RETRY_S, most_away=MOST_AWAY)
        self._dialog = Dialog(self._model, sender, self._counts, llm.max_answer_tokens, QUESTION)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._model.close()

    @property
    def greeting(self) -> str:
        """Where questions go, for people."""
        before = len(self._session.exchanges)
        known = f"; {before} questions before" if before else ""
        return f"Session {self._session.name}{known}. {in_words(self._settings.llm, 'questions')}."

    def one(self, question: str) -> int:
        """Answer one question on the terminal; gives the exit code.

        Raises:
            NoAnswer: there is none, or it broke off.
            StoreError: the store can't be read.
            UsageError: the store has nothing that can be asked about.
        """
        with open_for_reading(self._settings.store, LIMITS) as reader:
            now_ms = time.time_ns() // 10**6
            scope = look(reader.query_text, self._settings.tenant, self._tenant, now_ms)
            hidden = self._pseudonyms(scope)
            screen = ask_show.Screen(hidden, quiet=self._as_json)
            try:
                answer = self._dialog.answer(
                    question, self._session.exchanges, reader.query_text, scope, hidden, screen
                )
            finally:
                self._note_spent()
        if self._as_json:
            model = self._settings.llm.model or ""
            click.echo(ask_show.as_json(question, answer, model, self._session.name))
        else:
            screen.end(answer)
        if answer.claims:
            self._remember(question, answer)
        if answer.fault:
            raise NoAnswer(answer.fault)
        return 0

    def _pseudonyms(self, scope: Scope) -> Pseudonyms:
        """Those of one question."""
        names = {
            **scope.names,
            "tenant": {scope.tenant} - {"default", "demo"},
            "rule": {rule.name for rule in self._settings.rules},
        }
        # A name of a letter or two tells nobody anything, and stands for words of the question.
        telling = {kind: {name for name in each if len(name) > 2} for kind, each in names.items()}
        return Pseudonyms(self._settings.networks, telling, off=not hides(self._settings.llm))

    def _note_spent(self) -> None:
        """What was asked counts for an hour, however it ended."""
        requests, tokens = self._counts["requests"], self._counts["tokens"]
        self._counts["requests"] = self._counts["tokens"] = 0
        try:
            self._spent.add(requests, tokens)
        except OSError as error:
            ask_show.warn(f"can't write down what was asked: {error.strerror}")

    def _remember(self, question: str, answer: Answer) -> None:
        try:
            self._session.add(question, answer.text)
        except OSError as error:
            ask_show.warn(f"can't keep the session: {error.strerror}")
