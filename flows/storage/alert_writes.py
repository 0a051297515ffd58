"""What people do with alerts, checked, and as the rows that say so.

Whoever owns the store writes them: the running job, told over its socket, or the command itself.
So what is read here may have been sent by anybody who may use the socket, and is taken strictly.
"""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any, ClassVar, Final, Literal, Protocol, Self

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from flows.errors import UsageError
from flows.settings.detection import FIELD_CONDITIONS
from flows.storage.alerts import FOREVER_MS
from flows.storage.rows import ALERT_ACTIONS, VERDICTS, build

MAX_ACTION_BYTES: Final = 64 << 10
"""Longest action that is read, as JSON."""

AlertId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Text = Annotated[str, Field(max_length=1000)]
Who = Annotated[str, Field(min_length=1, max_length=100)]
TimeMs = Annotated[int, Field(ge=0, le=FOREVER_MS)]
Values = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], Field(min_length=1)
]


class Inserts(Protocol):
    """What of the store is needed to write."""

    def insert(self, table: str, rows: pa.Table, token: str) -> None:
        """Insert rows in one step; a token seen before inserts nothing."""


class Action(BaseModel):
    """What somebody does.

    Attributes:
        by: who.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    name: ClassVar[str] = ""

    by: Who

    def rows(self, now_ms: int) -> tuple[str, pa.Table]:
        """The table to write to, and the row."""
        raise NotImplementedError


class Ack(Action):
    """Somebody has taken note of an alert.

    Attributes:
        alert_id: of the alert.
        comment: for others.
    """

    name: ClassVar[str] = "ack"

    alert_id: AlertId
    comment: Text = ""

    def rows(self, now_ms: int) -> tuple[str, pa.Table]:
        """See ``Action``."""
        return "alert_actions", self._row(now_ms, "none")

    def _row(self, now_ms: int, verdict: str) -> pa.Table:
        columns = {
            "alert_id": [self.alert_id],
            "action": [ALERT_ACTIONS[self.name]],
            "verdict": [VERDICTS[verdict]],
            "done_by": [self.by],
            "comment": [self.comment],
            "done_at": [now_ms],
        }
        return build("alert_actions", columns)


class Close(Ack):
    """Somebody says that an alert is over, and what it was.

    Attributes:
        verdict: what it turned out to be.
    """

    name: ClassVar[str] = "close"

    verdict: Literal["true_positive", "false_positive", "benign"]

    def rows(self, now_ms: int) -> tuple[str, pa.Table]:
        """See ``Action``."""
        return "alert_actions", self._row(now_ms, self.verdict)


class Mute(Action):
    """Somebody doesn't want to hear of some alerts. Times are Unix ms of the clock on the wall.

    Attributes:
        mute_id: of the mute.
        tenant: of the alerts; empty means all.
        rule: of the alerts; empty means all.
        conditions: fields of the entity with the values that are meant.
        since_ms: when it begins.
        until_ms: when it ends; ``FOREVER_MS`` for never.
        reason: for others.
    """

    name: ClassVar[str] = "mute"
    removed: ClassVar[bool] = False

    mute_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] = Field(
        default_factory=lambda: uuid.uuid4().hex[:16]
    )
    tenant: Text = ""
    rule: Text = ""
    conditions: dict[str, Values] = {}
    since_ms: TimeMs
    until_ms: TimeMs
    reason: Text = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        odd = sorted(set(self.conditions) - set(FIELD_CONDITIONS))
        if odd:
            msg = f"conditions: no field {odd[0]}; fields are {', '.join(FIELD_CONDITIONS)}"
            raise ValueError(msg)
        if not self.rule and not self.conditions:
            msg = "neither a rule nor conditions: that would mute every alert"
            raise ValueError(msg)
        if self.until_ms <= self.since_ms:
            msg = "it ends before it begins"
            raise ValueError(msg)
        return self

    def rows(self, now_ms: int) -> tuple[str, pa.Table]:
        """See ``Action``."""
        conditions = [(name, list(values)) for name, values in self.conditions.items()]
        columns: dict[str, Any] = {
            "mute_id": [self.mute_id],
            "tenant": [self.tenant],
            "rule": [self.rule],
            "conditions": [conditions],
            "since": [self.since_ms],
            "until": [self.until_ms],
            "removed": [self.removed],
            "made_by": [self.by],
            "reason": [self.reason],
            "updated_at": [now_ms],
        }
        return "alert_mutes", build("alert_mutes", columns)


class Unmute(Mute):
    """Somebody takes a mute back; the other fields are those of the mute."""

    name: ClassVar[str] = "unmute"
    removed: ClassVar[bool] = True


ACTIONS: Final[dict[str, type[Action]]] = {kind.name: kind for kind in (Ack, Close, Mute, Unmute)}
"""Kinds of actions by name."""


def read(name: str, body: bytes) -> Action:
    """Read an action that was sent.

    Args:
        name: what to do, a name in ``ACTIONS``.
        body: its fields as a JSON object.

    Raises:
        UsageError: it can't be read, or says something that makes no sense.
    """
    try:
        return ACTIONS[name].model_validate_json(body)
    except ValidationError as e:
        raise UsageError(in_words(e)) from e


def in_words(error: ValidationError) -> str:
    """The first thing that is wrong with an action, as one line without the value."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    what = first["msg"].removeprefix("Value error, ")
    return f"{place}: {what}" if place else what


def write(store: Inserts, action: Action) -> None:
    """Store an action; now is when it was done.

    Raises:
        StoreError: the store refused it.
    """
    table, rows = action.rows(time.time_ns() // 10**6)
    store.insert(table, rows, f"{table}/{uuid.uuid4().hex}")
