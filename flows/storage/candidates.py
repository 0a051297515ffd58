"""Which keys can be among the largest: parts of a statement that leave most of the others out.

Where there are millions of keys, the sums of all of them take seconds, and more memory than a query
has. Sums by bucket of a hash are cheap, and no key has more than its bucket. So the keys of the
largest buckets are summed up first: what as many of them as are wanted have at least is enough, and
a bucket with less holds none of the largest. The answer is exact for any traffic; where all keys
are much alike it only takes as long as without.

The statement's WITH says before, by these names:

- ``wanted``: which rows count;
- ``key``: what they are grouped by;
- ``value``: the sum by which keys are ranked, the largest first;
- ``bucket``: UInt16, the engine's fastest kind of key, the same in all rows of a key;
- ``bucket_bound``: a sum over a bucket that is at least the value of each of its keys.
"""

from __future__ import annotations

from typing import Final

CONDITION: Final = "bucket IN (SELECT arrayJoin(arrayFilter(b -> b.2 >= enough, buckets)).1)"
"""Condition on rows: their key can be among the largest."""

_WITH: Final = """-- No key has more than its bucket.
    (
        SELECT groupArray((bucket, bound))
        FROM
        (
            SELECT bucket, bucket_bound AS bound
            FROM {rows_of}
            WHERE {where} AND wanted
            GROUP BY bucket
            ORDER BY bound DESC
        )
    ) AS buckets,
    -- As many keys as are wanted have this or more.
    (
        SELECT if(count() < {most}, 0, min(reached))
        FROM
        (
            SELECT value AS reached
            FROM {rows_of}
            WHERE {where} AND wanted
                AND bucket IN (SELECT arrayJoin(arraySlice(buckets, 1, 10 * {most})).1)
            GROUP BY key
            ORDER BY reached DESC
            LIMIT {most}
        )
    ) AS enough"""


def names(rows_of: str, where: str, most: str) -> str:
    """What ``CONDITION`` needs in WITH.

    Args:
        rows_of: a table, or a statement in brackets.
        where: condition on its rows.
        most: how many keys are wanted.
    """
    return _WITH.format(rows_of=rows_of, where=where, most=most)
