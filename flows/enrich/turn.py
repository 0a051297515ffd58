"""What a model says in its turn of a dialog: words, and queries that it wants run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from flows.enrich.faults import CHARS_PER_TOKEN, ModelFault, unfinished

MAX_CALLS: Final = 16
MAX_NAME_CHARS: Final = 64
MAX_ARGUMENT_CHARS: Final = 20_000


@dataclass
class Call:
    """A tool that the model calls.

    Attributes:
        id: by which the answer is told from others.
        name: of the tool.
        arguments: JSON, as the model wrote it.
    """

    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True)
class Turn:
    """All that came of one request.

    Attributes:
        text: what was said.
        calls: what is called.
        tokens: of the dialog so far and of this.
    """

    text: str
    calls: tuple[Call, ...]
    tokens: int

    def as_message(self) -> dict[str, Any]:
        """The turn as the protocol repeats it in the next request."""
        calls = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in self.calls
        ]
        said: dict[str, Any] = {"role": "assistant", "content": self.text}
        return said | ({"tool_calls": calls} if calls else {})


@dataclass
class Gathered:
    """Puts a turn together from the pieces of a stream, which may be of any shape.

    Attributes:
        asked: tokens of the request.
    """

    asked: int
    _words: list[str] = field(default_factory=list)
    _calls: dict[int, Call] = field(default_factory=dict)
    _ended: str = ""
    _told: int | None = None

    @property
    def begun(self) -> bool:
        """Whether anything came."""
        return bool(self._words or self._calls)

    @property
    def tokens(self) -> int:
        """What it took so far, as the service says or estimated."""
        if self._told is not None:
            return self._told
        said = sum(map(len, self._words)) + sum(len(c.arguments) for c in self._calls.values())
        return self.asked + said // CHARS_PER_TOKEN

    def take(self, chunk: Any) -> str:
        """Take a piece; gives the words in it.

        Raises:
            ModelFault: it is of another protocol, or too much.
        """
        told = getattr(getattr(chunk, "usage", None), "total_tokens", None)
        self._told = told if isinstance(told, int) and told >= 0 else self._told
        heard = ""
        try:
            for choice in chunk.choices or []:
                self._ended = choice.finish_reason or self._ended
                heard += choice.delta.content or ""
                for part in choice.delta.tool_calls or []:
                    self._call(part)
        except (AttributeError, TypeError):
            why = "an answer of another protocol"
            raise ModelFault(why, "malformed", passing=True, tokens=self.tokens) from None
        if heard:
            self._words.append(heard)
        return heard

    def _call(self, part: Any) -> None:
        call = self._calls.setdefault(int(part.index or 0), Call())
        call.id = call.id or str(part.id or "")
        if part.function is not None:
            call.name += part.function.name or ""
            call.arguments += part.function.arguments or ""
        too_long = len(call.arguments) > MAX_ARGUMENT_CHARS or len(call.name) > MAX_NAME_CHARS
        if too_long or len(self._calls) > MAX_CALLS:
            why = "the model calls too many or too long queries at once"
            raise ModelFault(why, "malformed", passing=True, tokens=self.tokens)

    def turn(self) -> Turn:
        """All of it, once the stream has ended.

        Raises:
            ModelFault: it isn't whole, or there is nothing.
        """
        text = "".join(self._words)
        if self._ended == "content_filter":
            msg = "the model refuses to answer"
            raise ModelFault(msg, "refusal", tokens=self.tokens)
        if self._ended not in ("stop", "tool_calls"):
            # The client ends silently when a connection does.
            raise unfinished(self._ended, self.tokens)
        if not text.strip() and not self._calls:
            msg = "an empty answer"
            raise ModelFault(msg, "malformed", passing=True, tokens=self.tokens)
        calls = [self._calls[index] for index in sorted(self._calls)]
        for number, call in enumerate(calls):
            # Some services leave ids out.
            call.id = call.id or f"call_{number}"
        return Turn(text, tuple(calls), self.tokens)
