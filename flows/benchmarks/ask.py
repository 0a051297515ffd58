"""How good the model of the settings is at questions: a rubric over ``golden_ask``."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from flows.benchmarks.golden_ask import NOW_MS, QUESTIONS, TENANT, Question, fill
from flows.benchmarks.llm import Result, Score
from flows.enrich.ask.dialog import Answer, Dialog
from flows.enrich.ask.scope import look
from flows.enrich.breaker import Breaker
from flows.enrich.budget import Budget
from flows.enrich.client import Model
from flows.enrich.destination import hides
from flows.enrich.pseudonyms import Pseudonyms
from flows.enrich.sender import Sender
from flows.settings import Settings
from flows.storage.reader import open_for_reading
from flows.storage.store import Store

MOST_AWAY = 3


def judge(question: Question, found: Answer) -> Score:
    """Hold an answer against the rubric; one that broke off meets nothing."""
    told = found.text
    whole = not found.fault
    met = {
        "class": whole and all(re.search(p, told, re.IGNORECASE) for p in question.says),
        "entity": whole and all(name in told for name in question.names),
        "numbers": whole and not found.struck,
    }
    return Score(question.text, met, found.fault, len(found.struck), found.seconds)


def model(settings: Settings, told: Callable[[Score], None] = lambda _: None) -> Result:
    """Ask the model all questions, over a store of its own that is removed afterwards.

    Args:
        settings: with ``llm`` on.
        told: of each score as it comes.
    """
    llm = settings.llm
    counts: Counter[str] = Counter()
    sender = Sender(Budget(10_000, 10**9, 1.0), Breaker(), counts, most_away=MOST_AWAY)
    scores = []
    with (
        tempfile.TemporaryDirectory(prefix="netspectra-") as directory,
        closing(Model(llm)) as asked,
    ):
        dialog = Dialog(asked, sender, counts, llm.max_answer_tokens)
        where = f"chdb:{Path(directory) / 'store'}"
        with Store.open(where, serve=False) as store, open_for_reading(where) as reader:
            fill(store)
            scope = look(reader.query_text, TENANT, "", NOW_MS)
            for question in QUESTIONS:
                names = {**scope.names, "tenant": {TENANT}}
                hidden = Pseudonyms(settings.networks, names, off=not hides(llm))
                found = dialog.answer(question.text, (), reader.query_text, scope, hidden)
                scores.append(judge(question, found))
                told(scores[-1])
    return Result(f"{llm.model} asked", scores, dict(counts))
