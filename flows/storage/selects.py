"""Which SELECT may be run for a program that nobody trusts: on our tables, by plain functions.

A reader of flesh and blood may ask for more (``statements``). Here everything that isn't known is
refused: a word has to be a column, an alias, a keyword or a function of the lists below, so that
no other table, database, file, address or setting can be named at all.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Final

from flows.storage import statements
from flows.storage.statements import Refused

TABLES: Final = frozenset(
    {
        "flows", "flows_1m", "flows_1h", "totals", "rates", "ledger", "completeness",
        "distinct_counts", "heavy_hitters", "spreaders", "alerts",
    }
)  # fmt: skip
"""What may be read."""

_KEYWORDS: Final = frozenset(
    {
        "all", "and", "any", "array", "as", "asc", "between", "by", "case", "cross", "day",
        "desc", "distinct", "else", "end", "except", "exists", "final", "first", "from", "full",
        "group", "having", "hour", "in", "inner", "interval", "is", "join", "last", "left",
        "like", "ilike", "limit", "minute", "month", "not", "null", "nulls", "offset", "on", "or",
        "order", "outer", "over", "partition", "prewhere", "qualify", "right", "rollup", "rows",
        "second", "select", "semi", "then", "totals", "union", "using", "week", "when", "where",
        "with", "within", "year", "true", "false", "intersect", "following", "preceding",
        "current", "row", "unbounded", "ties", "anti", "date", "timestamp",
    }
)  # fmt: skip

_FUNCTIONS: Final = re.compile(
    r"""
      (count|sum|min|max|avg|any|anylast|argmin|argmax|uniq|uniqexact|uniqcombined|median|topk
        |quantile|quantiles|stddevpop|stddevsamp|varpop|corr|grouparray|groupuniqarray|groupbitor
        |summap|quantileexact|quantiletdigest)(if|orzero|ornull|orzeroif|ornullif)?
    | if|multiif|ifnull|nullif|coalesce|greatest|least|round|floor|ceil|abs|sqrt|log|log2|log10|exp
    | pow|intdiv|modulo|plus|minus|multiply|divide|sign|isnan|isfinite|bitand|bitor
    | ip_text|in_net|mac_text|proto_name|tcp_flags_text
    | toipv4|toipv6|ipv4numtostring|ipv6numtostring|isipaddressinrange
    | to(u?int(8|16|32|64)|float(32|64)|string|date|datetime|datetime64|bool)(orzero|ornull)?
    | tostartof(second|minute|fiveminutes|tenminutes|fifteenminutes|hour|day|week|month|interval)
    | to(second|minute|hour|dayofweek|dayofmonth|month|year|yyyymm|yyyymmdd|unixtimestamp)
    | (add|subtract)(seconds|minutes|hours|days|weeks)|date_?diff|date_?trunc|now|now64|today
    | yesterday|fromunixtimestamp|fromunixtimestamp64milli|fromunixtimestamp64nano
    | parsedatetimebesteffort|formatdatetime|formatreadable(size|quantity|timedelta|decimalsize)
    | length|empty|notempty|concat|lower|upper|substring|position|startswith|endswith|match|extract
    | replaceone|replaceall|splitbychar|arrayjoin|array|arrayelement|arraysum|arraymax|arraymin
    | arrayslice|arraystringconcat|arraysort|arrayreversesort|has|mapkeys|mapvalues|mapcontains
    | map|tuple|tupleelement|row_number|rank|dense_rank|lag|lead|laginframe|leadinframe|first_value
    | last_value|cast|bittest|like|ilike|not|and|or
    """,
    re.VERBOSE,
)
"""Functions that calculate, in lower case."""

_AFTER_TABLE: Final = frozenset({"from", "join"})
_NUMBER: Final = re.compile(r"\d+([eE]\d+)?|0x[0-9a-fA-F]+")
_STATEMENT: Final = ("select", "with")
_BEFORE_ROWS: Final = frozenset({"'", "-", *_STATEMENT})
MAX_CHARS: Final = 4000


def check(sql: str, columns: Mapping[str, Collection[str]]) -> str:
    """Let a statement pass that only selects from our tables.

    Args:
        sql: the statement, perhaps with ``;`` at its end.
        columns: names of the columns of each of ``TABLES``.

    Returns:
        The statement without ``;``.

    Raises:
        Refused: it is something else, or has a word that isn't known here.
    """
    if len(sql) > MAX_CHARS:
        reason = f"the statement is longer than {MAX_CHARS} characters"
        raise Refused(reason)
    statements.check(sql, ())
    found = statements.tokens(sql)
    while found and found[-1] == ";":
        found.pop()
    words = [each.lstrip('"') or each for each in found]
    lowered = [word.lower() for word in words]
    if next((word for word in lowered if word != "("), "") not in ("select", "with"):
        reason = "only SELECT is answered here"
        raise Refused(reason)
    named = _named(words, lowered)
    known = {name for table in columns.values() for name in table} | TABLES | named
    _check_words(words, lowered, known)
    _check_sources(lowered, TABLES | _with_names(lowered))
    return sql.strip().rstrip(";").rstrip()


def _named(words: Sequence[str], lowered: Sequence[str]) -> set[str]:
    """Names that the statement gives: ``… AS name``, ``WITH name AS (``, ``FROM flows name``."""
    found = set()
    for at, word in enumerate(lowered):
        before = lowered[at - 1] if at else ""
        after = lowered[at + 1] if at + 1 < len(words) else ""
        gives = before == "as" or (after == "as" and before in ("with", ","))
        if (gives or before in TABLES) and words[at].isidentifier() and word not in _KEYWORDS:
            found.add(words[at])
    return found


def _check_words(words: Sequence[str], lowered: Sequence[str], known: Collection[str]) -> None:
    for word, low, after in zip(words, lowered, [*words[1:], ""], strict=True):
        if low in ("{", "}", "?", "@", "system", "information_schema"):
            reason = f"{word} is not answered here"
            raise Refused(reason)
        if word == "'" or not (word[0].isalnum() or word[0] == "_") or _NUMBER.fullmatch(word):
            continue
        if low in _KEYWORDS or (after != "(" and word in known):
            continue
        if after == "(" and _FUNCTIONS.fullmatch(low):
            continue
        what = "function" if after == "(" else "column, table or word"
        reason = f"{word[:40]} is no {what} that is known here"
        raise Refused(reason)


def _with_names(lowered: Sequence[str]) -> set[str]:
    """Statements that the leading WITH names; those of inner ones aren't known everywhere."""
    found, depth = set(), 0
    for at, word in enumerate(lowered):
        depth += (word == "(") - (word == ")")
        if depth == 0 and word == "select":
            break
        statement = [*lowered[at + 1 : at + 3]] == ["as", "("] and lowered[at + 3 : at + 4] != []
        statement = statement and lowered[at + 3] in _STATEMENT
        if depth == 0 and statement and at and lowered[at - 1] in ("with", ","):
            found.add(word)
    return found


def _check_sources(lowered: Sequence[str], sources: Collection[str]) -> None:
    """Only known sources and statements in brackets are read from."""
    reading = [False]  # whether a table may follow a comma, by depth of brackets
    for at, word in enumerate(lowered):
        rest = [*lowered[at + 1 : at + 4], "", "", ""]
        if word == "(":
            reading.append(False)
        elif word == ")" and len(reading) > 1:
            reading.pop()
        elif word in _AFTER_TABLE:
            reading[-1] = True
            ours = rest[0] in sources and rest[1] not in ("(", ".")
            if rest[0] != "(" and not ours:
                reason = f"reading from {rest[0][:40]} is not answered here"
                raise Refused(reason)
        elif word in ("where", "prewhere", "group", "order", "having", "limit", "union", "select"):
            reading[-1] = False
        elif word == "," and reading[-1]:
            reason = "write JOIN between tables, not a comma"
            raise Refused(reason)
        elif word == "in":
            calls = rest[2] == "(" and rest[1].isidentifier()
            values = rest[1] in _BEFORE_ROWS or _NUMBER.fullmatch(rest[1])
            if rest[0] != "(" or not (values or calls):
                reason = "IN is answered for values and statements in brackets"
                raise Refused(reason)
    for word, after in pairwise([*lowered, ""]):
        if word == "array" and after == "join":
            reason = "ARRAY JOIN is not answered here; use arrayJoin()"
            raise Refused(reason)
