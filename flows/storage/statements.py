"""Which statements a reader may run: one statement, and one that only reads the store.

The engine's own ``readonly`` stops every write, but not everything that reaches outside:
``INTO OUTFILE`` and the function ``file()`` act before it looks. This check runs first and
errs on the side of refusing.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import pairwise
from typing import Final

from flows.errors import StoreError

HARMLESS_TABLE_FUNCTIONS: Final = frozenset(
    {
        "dictionary",
        "format",
        "generate_series",
        "generaterandom",
        "generateseries",
        "merge",
        "null",
        "numbers",
        "numbers_mt",
        "values",
        "view",
        "zeros",
        "zeros_mt",
    }
)
"""Table functions that read nothing but the store; every other one is refused."""

_READING: Final = frozenset(
    {"select", "with", "from", "show", "describe", "desc", "explain", "exists"}
)

# Where our reading of the text could differ from the engine's, a statement might hide in
# what we take for a text. So rare forms are refused: heredocs, x'00' and b'01', comments with
# '#', and characters beyond ASCII outside texts, names in quotes and comments.
_TOKEN: Final = re.compile(
    r"""
      (?P<blank>\s+ | --[^\n]* | /\*.*?\*/)
    | (?P<odd>[xXbB]' | /\*)
    | (?P<text>'(?:[^'\\]|\\.|'')*')
    | (?P<quoted>`(?:[^`\\]|\\.|``)*` | "(?:[^"\\]|\\.|"")*")
    | (?P<word>\w+)
    | (?P<sign>[]()[{},.;:=<>!+*/%?|^@&~-])
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)


class Refused(StoreError):
    """A statement that readers may not run; the text is in the engine's own form."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Code: 164. DB::Exception: {reason}. (READONLY)")


def tokens(sql: str) -> list[str]:
    """Cut SQL into words, names in quotes (as ``"name``), texts (as ``'``) and signs.

    Blanks and comments are left out.

    Raises:
        Refused: a text, a name or a comment is not closed, or written in a rare form.
    """
    found = []
    end = 0
    while end < len(sql):
        match = _TOKEN.match(sql, end)
        if match is None or match.lastgroup == "odd":
            reason = f"the statement can't be read from {sql[end : end + 20]!r} on"
            raise Refused(reason)
        if match.lastgroup == "text":
            found.append("'")
        elif match.lastgroup == "quoted":
            found.append('"' + re.sub(r"\\(.)", r"\1", match[0][1:-1]))
        elif match.lastgroup != "blank":
            found.append(match[0])
        end = match.end()
    return found


def check(sql: str, table_functions: Collection[str]) -> str | None:
    """Let a statement pass that only reads the store.

    Args:
        sql: the statement, perhaps with ``;`` at its end.
        table_functions: all table functions of the engine, in lower case.

    Returns:
        The output format that the statement names itself, if any.

    Raises:
        Refused: the statement is not one statement, doesn't only read, or reaches outside.
    """
    found = tokens(sql)
    while found and found[-1] == ";":
        found.pop()
    if ";" in found:
        reason = "one statement at a time, please"
        raise Refused(reason)
    first = next((word.lower() for word in found if word != "("), "nothing")
    if first not in _READING:
        reason = (
            "statements begin with SELECT, WITH, SHOW, DESCRIBE, EXPLAIN or EXISTS, not with "
            f"{first[:20]}; nothing else is served"
        )
        raise Refused(reason)
    for word, following in pairwise([*found, ""]):
        if word.lower() == "into" and following.lower() == "outfile":
            reason = "INTO OUTFILE is not served; redirect the output instead"
            raise Refused(reason)
        if following == "(" and _reaches_outside(word.lstrip('"').lower(), table_functions):
            reason = f"function {word[:40]}() reaches outside the store"
            raise Refused(reason)
    if len(found) > 2 and found[-2].lower() == "format" and found[-1].isidentifier():
        return found[-1]
    return None


def _reaches_outside(name: str, table_functions: Collection[str]) -> bool:
    if name in ("file", "python"):
        return True
    return name in table_functions and name not in HARMLESS_TABLE_FUNCTIONS
