"""One request to a language model, whatever goes wrong with it.

Everything is passed explicitly: variables of the environment that the ``openai`` package reads
(keys, addresses, organisations, headers, logging) change nothing here. It sends, waits and reads;
trying again is for the caller, who has a budget. Reasons are in our own words: what a service says
may hold parts of the key or of the question.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from flows.enrich.destination import is_private
from flows.enrich.faults import CHARS_PER_TOKEN, ModelFault, retry_after_s, tokens_of, unfinished
from flows.enrich.turn import Gathered, Turn
from flows.settings.llm import Llm

if TYPE_CHECKING:
    import httpx2
    from openai import OpenAI

MAX_ANSWER_BYTES: Final = 2 << 20
"""Longest body that is read."""

CONNECT_S: Final = 10.0

_FORMS: Final = ("json_schema", "json_object", "text")
"""How the form of an answer is asked for; the next one where a service doesn't know it."""

_REFUSALS: Final[Mapping[int, str]] = {
    401: "it refuses the key (HTTP 401); see llm.api_key",
    403: "it refuses access (HTTP 403); see llm.api_key",
    404: "it has no such model or address (HTTP 404); see llm.model and llm.base_url",
}


@dataclass(frozen=True)
class Reply:
    """What the model said, and the tokens of the question and the answer."""

    text: str
    tokens: int


def connect(llm: Llm) -> OpenAI:
    """The client of the service that the settings name. It never tries again by itself."""
    import httpx2
    from openai import DefaultHttpxClient, OpenAI

    for name in ("openai", "httpx2", "httpcore2"):
        # OPENAI_LOG would have whole questions logged.
        logging.getLogger(name).setLevel(logging.WARNING)
    seconds = llm.timeout.total_seconds()
    key = llm.api_key.get_secret_value() if llm.api_key else ""
    client = OpenAI(
        api_key=key or "none",
        admin_api_key="",
        organization="",
        project="",
        webhook_secret="",
        base_url=llm.url,
        max_retries=0,
        timeout=httpx2.Timeout(seconds, connect=min(CONNECT_S, seconds)),
        http_client=DefaultHttpxClient(
            # A proxy of the environment is for what is outside.
            trust_env=not is_private(llm.url),
            follow_redirects=False,
            event_hooks={"response": [lambda response: _bound(response, seconds)]},
        ),
    )
    client.organization = client.project = client.webhook_secret = client.admin_api_key = None
    # Headers of OPENAI_CUSTOM_HEADERS.
    client._custom_headers = {}
    return client


class Model:
    """Asks the model that the settings name. Safe to use from several threads.

    Args:
        llm: the settings.
    """

    def __init__(self, llm: Llm) -> None:
        assert llm.model
        self.name = llm.model
        self._most_tokens = llm.max_answer_tokens
        self._client = connect(llm)
        self._form = 0
        self._limit = "max_completion_tokens" if llm.base_url is None else "max_tokens"

    def ask(self, messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any]) -> Reply:
        """Send one request.

        Args:
            messages: the question.
            schema: JSON schema of the answer.

        Raises:
            ModelFault: there is no answer, or none that is whole.
        """
        form = self._form
        asked = self._asked(messages) | _asked_form(form, schema)
        if self._limit == "max_tokens":
            # Equal questions get equal answers; models with the other limit refuse it.
            asked["temperature"] = 0.0
        try:
            answer = self._client.chat.completions.create(**asked)
        except Exception as error:
            raise self._fault(error, form) from None
        return _whole(answer, messages)

    def turn(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        hear: Callable[[str], None],
        *,
        may_call: bool = True,
    ) -> Turn:
        """Send one request of a dialog; its words are heard as they come.

        Args:
            messages: the dialog so far.
            tools: what the model can call, as the protocol describes it.
            hear: told of words.
            may_call: whether it may call them now.

        Raises:
            ModelFault: there is no answer, or it breaks off.
        """
        asked = self._asked(messages) | {"stream": True}
        if tools:
            asked |= {"tools": list(tools), "tool_choice": "auto" if may_call else "none"}
        if self._limit == "max_tokens":
            asked["temperature"] = 0.0
        gathered = Gathered(tokens_of(messages, tools))
        try:
            with self._client.chat.completions.create(**asked) as chunks:
                for chunk in chunks:
                    if words := gathered.take(chunk):
                        hear(words)
        except ModelFault:
            raise
        except Exception as error:
            fault = self._fault(error, len(_FORMS))
            fault.tokens = fault.tokens or gathered.tokens * bool(gathered.begun)
            raise fault from None
        return gathered.turn()

    def _asked(self, messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {
            "model": self.name,
            "messages": list(messages),
            self._limit: self._most_tokens,
        }

    def close(self) -> None:
        """Give up connections; a request under way fails."""
        self._client.close()

    def _fault(self, error: Exception, form: int) -> ModelFault:
        import openai

        if isinstance(error, openai.APITimeoutError):
            return ModelFault("no answer in time", "timeout", passing=True, away=True)
        if isinstance(error, openai.APIStatusError):
            return self._refusal(error, form)
        if isinstance(error, openai.APIConnectionError):
            if isinstance(error.__cause__, _TooLong):
                return ModelFault("an answer without end", "malformed", passing=True)
            return ModelFault("no connection", "connection", passing=True, away=True)
        if isinstance(error, _TooLong):
            return ModelFault("an answer without end", "malformed", passing=True)
        if isinstance(error, TimeoutError) or type(error).__name__.endswith("Timeout"):
            return ModelFault("no answer in time", "timeout", passing=True, away=True)
        if isinstance(error, json.JSONDecodeError | openai.APIResponseValidationError | ValueError):
            return ModelFault("the answer is no JSON", "malformed", passing=True)
        kind = type(error).__name__
        return ModelFault(f"no answer ({kind})", "connection", passing=True, away=True)

    def _refusal(self, error: Any, form: int) -> ModelFault:
        status = error.status_code
        headers = error.response.headers
        after_s = retry_after_s(headers)
        if status == 429:
            why = "too many requests (HTTP 429)"
            return ModelFault(why, "rate_limited", passing=True, after_s=after_s, away=True)
        if status in (408, 409, 425) or status >= 500:
            why = f"it fails (HTTP {status})"
            return ModelFault(why, "server_error", passing=True, after_s=after_s, away=True)
        if status in (400, 422) and self._swap_limit(error):
            return ModelFault("asked in another form", "form", passing=True)
        if status in (400, 422) and form < len(_FORMS) - 1:
            self._form = max(self._form, form + 1)
            return ModelFault("asked in another form", "form", passing=True)
        if status in (400, 422) and "tool" in str(error):
            why = "the model can't call tools; choose another one (llm.model)"
            return ModelFault(why, "refused")
        why = _REFUSALS.get(status, f"it refuses the question (HTTP {status})")
        return ModelFault(why, "refused", away=status in _REFUSALS)

    def _swap_limit(self, error: Any) -> bool:
        """Use the other name of the limit on answers, if that is what a service complains of."""
        if self._limit == "max_tokens" and "max_completion_tokens" in str(error):
            self._limit = "max_completion_tokens"
            return True
        return False


def _asked_form(form: int, schema: Mapping[str, Any]) -> dict[str, Any]:
    if _FORMS[form] == "json_schema":
        inner = {"name": "explanation", "strict": True, "schema": dict(schema)}
        return {"response_format": {"type": "json_schema", "json_schema": inner}}
    if _FORMS[form] == "json_object":
        return {"response_format": {"type": "json_object"}}
    return {}


def _whole(answer: Any, messages: Sequence[Mapping[str, Any]]) -> Reply:
    """The text of an answer, which may be of any shape.

    Raises:
        ModelFault: there is none, or it isn't whole.
    """
    usage = getattr(answer, "usage", None)
    tokens = getattr(usage, "total_tokens", None)
    asked = tokens_of(messages)
    tokens = tokens if isinstance(tokens, int) and tokens >= 0 else asked
    try:
        choice = answer.choices[0]
        text, ended = choice.message.content, choice.finish_reason
        refusal = getattr(choice.message, "refusal", None)
    except (AttributeError, IndexError, TypeError):
        why = "an answer of another protocol"
        raise ModelFault(why, "malformed", passing=True, tokens=tokens) from None
    if refusal or ended == "content_filter":
        msg = "the model refuses to answer"
        raise ModelFault(msg, "refusal", tokens=tokens)
    if ended not in ("stop", None):
        raise unfinished(str(ended), tokens)
    if not isinstance(text, str) or not text.strip():
        msg = "an empty answer"
        raise ModelFault(msg, "malformed", passing=True, tokens=tokens)
    if usage is None:
        tokens += len(text) // CHARS_PER_TOKEN
    return Reply(text, tokens)


class _TooLong(Exception):
    """A body longer than ``MAX_ANSWER_BYTES``."""


def _bound(response: httpx2.Response, seconds: float) -> None:
    """Limit the body of a response: the client's own timeout begins anew with every byte."""
    import httpx2

    assert isinstance(response.stream, httpx2.SyncByteStream)
    inner: httpx2.SyncByteStream = response.stream

    class Bounded(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            until_s, left = time.monotonic() + seconds, MAX_ANSWER_BYTES
            for chunk in inner:
                left -= len(chunk)
                if left < 0:
                    msg = "too long"
                    raise _TooLong(msg)
                if time.monotonic() > until_s:
                    msg = "no end in time"
                    raise httpx2.ReadTimeout(msg, request=response.request)
                yield chunk

        def close(self) -> None:
            inner.close()

    response.stream = Bounded()
