"""Log lines on stderr, and the one line with which a failing program ends."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import Any, Final, TextIO

from flows.errors import NetSpectraError

FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130

LEVEL_VARIABLE: Final = "NETSPECTRA_LOG__LEVEL"


def configure(level: str = "info", format: str = "text", stream: TextIO | None = None) -> None:
    """Set up structlog for the whole process; call it once, at the start.

    Args:
        level: ``off``, ``debug``, ``info``, ``warning``, ``error``.
        format: ``text`` for people, ``json`` for machines (one object a line).
        stream: Where the lines go, by default stderr.
    """
    import structlog

    stream = stream or sys.stderr
    render: Any
    if format == "json":
        render = structlog.processors.JSONRenderer()
    elif stream.isatty():
        render = structlog.dev.ConsoleRenderer(colors="NO_COLOR" not in os.environ)
    else:
        render = structlog.processors.LogfmtRenderer(key_order=("timestamp", "level", "event"))
    structlog.configure(
        processors=[
            *([_drop] if level == "off" else []),
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.CRITICAL if level == "off" else logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )


def _drop(logger: Any, method: str, event: Any) -> Any:
    """Drop a line, even a critical one."""
    import structlog

    raise structlog.DropEvent


def get(name: str) -> Any:
    """A logger that puts the component's name into every line."""
    import structlog

    return structlog.get_logger(component=name)


def debugging() -> bool:
    """Whether the user asked for tracebacks (``NETSPECTRA_LOG__LEVEL=debug``)."""
    return os.environ.get(LEVEL_VARIABLE, "").lower() == "debug"


def report(error: BaseException, stream: TextIO | None = None) -> int:
    """Tell a user why the program ends, and return its exit code.

    Expected errors are a line each, also when the engine wrapped them in one of its own; anything
    else is a line too, which says how to get the traceback. Tracebacks only while `debugging`.

    Args:
        error: What ended the program.
        stream: Where to write, by default stderr.
    """
    stream = stream or sys.stderr
    if debugging() and not isinstance(error, KeyboardInterrupt):
        traceback.print_exception(error, file=stream)
    error = _expected(error) or error
    for line in _lines(error):
        print(f"netspectra: {line}", file=stream)
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return error.exit_code if isinstance(error, NetSpectraError) else FAILED


def _expected(error: BaseException) -> BaseException | None:
    """The first error of ours along the chain of causes."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, NetSpectraError | KeyboardInterrupt) or _is_ours(seen):
            return seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return None


def _lines(error: BaseException) -> list[str]:
    if isinstance(error, KeyboardInterrupt):
        return ["stopped"]
    text = str(error).strip()
    if isinstance(error, NetSpectraError) or _is_ours(error):
        return text.splitlines() or [type(error).__name__]
    first = text.splitlines()[0] if text else "no message"
    hint = "" if debugging() else f" ({LEVEL_VARIABLE}=debug shows where)"
    return [f"unexpected {type(error).__name__}: {first}{hint}"]


def _is_ours(error: BaseException) -> bool:
    """Whether another of our packages raised it, which we needn't import to know."""
    return any(
        kind.__module__ in ("probe.errors", "schemas.errors") for kind in type(error).__mro__
    )
