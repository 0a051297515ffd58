"""Which faults of a server go away by waiting."""

from __future__ import annotations

import re
from typing import Any, Final

from flows.errors import StoreError
from flows.storage.embedded import one_line

PASSING: Final = {
    32: "ATTEMPT_TO_READ_AFTER_EOF",
    159: "TIMEOUT_EXCEEDED",
    160: "TOO_SLOW",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    203: "NO_FREE_CONNECTION",
    209: "SOCKET_TIMEOUT",
    210: "NETWORK_ERROR",
    225: "NO_ZOOKEEPER",
    236: "ABORTED",
    241: "MEMORY_LIMIT_EXCEEDED",
    242: "TABLE_IS_READ_ONLY",
    243: "NOT_ENOUGH_SPACE",
    252: "TOO_MANY_PARTS",
    279: "ALL_CONNECTION_TRIES_FAILED",
    285: "TOO_FEW_LIVE_REPLICAS",
    286: "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE",
    319: "UNKNOWN_STATUS_OF_INSERT",
    394: "QUERY_WAS_CANCELLED",
    425: "SYSTEM_ERROR",
    439: "CANNOT_SCHEDULE_TASK",
    745: "SERVER_OVERLOADED",
    999: "KEEPER_EXCEPTION",
}
"""ClickHouse's errors of a server that is overloaded, starting, stopping or being repaired."""

_FIRST_SERVER_STATUS: Final = 500


class StoreUnavailable(StoreError):
    """The store can't take rows now; later it may."""


def is_passing(error: BaseException) -> bool:
    """Whether a fault of clickhouse-connect goes away by waiting.

    ClickHouse's own number decides where there is one. Without it the answer came from a proxy,
    or there was none: a refused or broken connection, a timeout.
    """
    from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

    if isinstance(error, OSError):
        return True
    if not isinstance(error, DatabaseError):
        return False
    code = error.code or _code_in(str(error))
    if code is not None:
        return code in PASSING
    status = re.search(r"HTTP status (\d{3})", str(error))
    if status is None:
        return isinstance(error, OperationalError)
    return int(status[1]) >= _FIRST_SERVER_STATUS or int(status[1]) == 429


def in_short(error: BaseException) -> str:
    """The fault in one line, without what only the client's authors need."""
    cause: Any = error.__cause__
    if cause is None or _code_in(str(error)):
        return re.sub(r" \(for url [^)]*\)$", "", one_line(error))
    reason = getattr(cause, "reason", cause)
    while isinstance(reason, BaseException) and reason.args:
        inner = reason.args[-1]
        if not isinstance(inner, str | BaseException):
            break
        reason = inner
    return " ".join(str(reason).rpartition("): ")[2].split()) or type(cause).__name__


def _code_in(text: str) -> int | None:
    match = re.search(r"Code: (\d+)\. DB::", text)
    return int(match[1]) if match else None
