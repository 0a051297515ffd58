"""Saved queries: how a file becomes a statement, and what is refused."""

from __future__ import annotations

import pytest

from flows.errors import UsageError
from flows.storage.migrate import migrations
from flows.storage.resolution import Span, pieces, since, step_s, table_for, widened
from flows.storage.saved import parse, saved
from flows.storage.saved_sql import Asked, statement

HOUR_MS = 3_600_000
TEXT = """-- What a port carries.
--
-- Two lines
-- of words.
-- :host: Who
-- :port = 44: Which port
SELECT sum(bytes) FROM {{flows}}
WHERE {{where}} AND ({host:Source} OR {host:Destination}) AND ip_proto = {port:UInt8};
"""
QUERY = parse("what_port", TEXT)
ALL = Asked(Span())


def test_a_file_is_read() -> None:
    """Title, words, parameters and statement are told apart; the name is as people type it."""
    assert (QUERY.name, QUERY.title) == ("what-port", "What a port carries.")
    assert QUERY.description == "Two lines\nof words."
    assert [(p.name, p.default, p.meaning) for p in QUERY.parameters] == [
        ("host", None, "Who"),
        ("port", "44", "Which port"),
    ]
    assert QUERY.template.startswith("SELECT")
    assert QUERY.template.endswith("UInt8}")


@pytest.mark.parametrize(
    ("host", "condition"),
    [
        ("10.0.2.15", "src_addr = toIPv6('10.0.2.15')"),
        ("10.0.2.15/32", "src_addr = toIPv6('10.0.2.15')"),
        ("10.0.2.15/8", "src_addr BETWEEN toIPv6('10.0.0.0') AND toIPv6('10.255.255.255')"),
        ("2001:db8::/127", "src_addr BETWEEN toIPv6('2001:db8::') AND toIPv6('2001:db8::1')"),
        ("office", "src_net = 'office'"),
    ],
)
def test_a_host_is_an_address_a_network_or_a_name(host: str, condition: str) -> None:
    """A side of a flow is compared so that the index serves."""
    sql = statement(QUERY, {"host": host, "port": "6"}, ALL)
    assert f"({condition} OR {condition.replace('src', 'dst')}) AND ip_proto = 6" in sql


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"host": "10.0.0.300"}, "host '10.0.0.300': wanted an address, a network"),
        ({"host": "a' OR 1"}, "wanted an address"),
        ({"host": "::1", "port": "x"}, "port 'x': wanted a whole number"),
        ({"host": "::1", "port": "256"}, "port '256'"),
    ],
)
def test_values_are_checked(values: dict[str, str], problem: str) -> None:
    """What is no address, network, name or number is refused by name."""
    with pytest.raises(UsageError, match=problem):
        statement(QUERY, values, ALL)


@pytest.mark.parametrize(
    "where", ["1) OR (1", "(", "1; DROP TABLE flows", "a = 'b", "1 -- x", "1 /* x", ")("]
)
def test_a_condition_that_is_none_is_refused(where: str) -> None:
    """A condition can't end what it stands in."""
    with pytest.raises(UsageError, match="--where"):
        statement(QUERY, {"host": "::1"}, Asked(Span(), where=where))


def test_conditions_are_joined() -> None:
    """Span, tenant and the user's condition all hold; texts are quoted."""
    asked = Asked(Span(0, 1500), "o'b", "ip_proto = 6 OR ip_proto = 17")
    sql = statement(QUERY, {"host": "::1"}, asked)
    assert (
        "window_start >= toDateTime64('1970-01-01 00:00:00.000', 3, 'UTC') AND "
        "window_start < toDateTime64('1970-01-01 00:00:01.500', 3, 'UTC') AND "
        "toStartOfFiveMinutes(window_start) >= "
        "toStartOfFiveMinutes(toDateTime64('1970-01-01 00:00:00.000', 3, 'UTC')) AND "
        "toStartOfFiveMinutes(window_start) <= "
        "toStartOfFiveMinutes(toDateTime64('1970-01-01 00:00:01.500', 3, 'UTC')) AND "
        r"tenant = 'o\'b' AND (ip_proto = 6 OR ip_proto = 17) AND" in sql
    )


@pytest.mark.parametrize(
    ("words", "span", "grain_s", "table"),
    [
        ({"src_addr"}, Span(), None, "flows_1h"),
        ({"src_addr", "dst_port"}, Span(), None, "flows_1m"),
        ({'"src_port'}, Span(), None, "flows"),
        (set(), Span(HOUR_MS, 3 * HOUR_MS), None, "flows_1h"),
        (set(), Span(HOUR_MS, HOUR_MS + 60_000), None, "flows_1m"),
        (set(), Span(HOUR_MS + 2000), None, "flows"),
        (set(), Span(), 60, "flows_1m"),
        (set(), Span(), 10, "flows"),
        (set(), Span(), 7200, "flows_1h"),
    ],
)
def test_the_coarsest_table_that_can_answer(
    words: set[str], span: Span, grain_s: int | None, table: str
) -> None:
    """Columns, ends of the span and length of buckets decide."""
    assert table_for(words, span, grain_s) == table


@pytest.mark.parametrize(
    ("hours", "grain_ms", "table"),
    [(6, 1, "flows"), (7, 60_000, "flows_1m"), (96, 60_000, "flows_1m"), (97, HOUR_MS, "flows_1h")],
)
def test_long_spans_are_widened_to_a_rollup(hours: int, grain_ms: int, table: str) -> None:
    """From some hours on both ends move apart to windows of a rollup, which then answers."""
    start = 471_000 * HOUR_MS + 61_001
    end = start + hours * HOUR_MS
    first, last = widened(start, end)
    assert (first, last) == (start - start % grain_ms, end + -end % grain_ms)
    assert table_for(set(), Span(first, last), None) == table


@pytest.mark.parametrize(
    ("words", "span", "wanted"),
    [
        (
            {"bytes"},
            (10_000, 2 * HOUR_MS + 70_000),
            [
                ("flows", 10_000, 60_000),
                ("flows_1m", 60_000, HOUR_MS),
                ("flows_1h", HOUR_MS, 2 * HOUR_MS),
                ("flows_1m", 2 * HOUR_MS, 2 * HOUR_MS + 60_000),
                ("flows", 2 * HOUR_MS + 60_000, 2 * HOUR_MS + 70_000),
            ],
        ),
        (
            {"dst_port"},
            (0, HOUR_MS + 1),
            [("flows_1m", 0, HOUR_MS), ("flows", HOUR_MS, HOUR_MS + 1)],
        ),
        ({"src_port"}, (0, HOUR_MS), [("flows", 0, HOUR_MS)]),
        ({"bytes"}, (10_000, 20_000), [("flows", 10_000, 20_000)]),
        ({"bytes"}, (None, HOUR_MS), [("flows_1h", None, HOUR_MS)]),
        (
            {"bytes"},
            (None, 60_000),
            [("flows_1h", None, 0), ("flows_1m", 0, 60_000)],
        ),
    ],
)
def test_a_span_is_cut_into_the_coarsest_pieces(
    words: set[str], span: tuple[int | None, int], wanted: list[tuple[str, int | None, int]]
) -> None:
    """Each time of the span is in one piece: whole hours and minutes, panes at the ends."""
    found = [(table, part.start_ms, part.end_ms) for table, part in pieces(words, Span(*span))]
    assert found == wanted


def test_steps_follow_the_span() -> None:
    """A series has at most a hundred buckets."""
    spans = {100: 2, 3600: 60, 86_400: 900, 7 * 86_400: 14_400, 10_000 * 86_400: 86_400}
    assert {s: step_s(Span(HOUR_MS, HOUR_MS + s * 1000)) for s in spans} == spans


def test_long_spans_reach_back_to_a_whole_window() -> None:
    """`--since` of hours or days begins where a rollup's window does; shorter ones are exact."""
    now = 1_700_000_000_123
    assert since(now - 60_000, now) == now - 60_000
    assert since(now - 2 * HOUR_MS, now) % 60_000 == 0
    assert since(now - 48 * HOUR_MS, now) % HOUR_MS == 0


def test_a_list_ends_where_it_is_asked_to() -> None:
    """The statement has the limit in it, and none where all rows are wanted."""
    assert statement(QUERY, {"host": "::1"}, Asked(Span(), rows=5)).endswith("\nLIMIT 5")
    assert "LIMIT" not in statement(QUERY, {"host": "::1"}, ALL)


def test_every_file_has_a_title_and_words() -> None:
    """Each saved query says in a sentence what it answers, and explains its columns."""
    for query in saved().values():
        assert query.title.endswith("."), query.name
        assert len(query.title) <= 80, query.name
        assert query.description, query.name
        assert "ORDER BY" in query.template, query.name


def test_every_migration_has_a_number_of_its_own() -> None:
    """Two migrations of one number would hide each other in a store that has one of them."""
    versions = [migration.version for migration in migrations()]
    assert versions == sorted(set(versions))
