"""Which statements readers may run."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.storage.embedded import quote
from flows.storage.statements import Refused, check, tokens

FUNCTIONS = frozenset({"file", "url", "s3", "numbers", "values", "executable", "remote"})


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "select 1;",
        " ( SELECT 1 ) ",
        "-- why\nSELECT 1 /* because */;\n",
        "WITH 1 AS x SELECT x",
        "FROM flows SELECT count()",
        "SHOW TABLES",
        "DESCRIBE flows",
        "desc flows",
        "EXPLAIN SELECT 1",
        "EXISTS flows",
        "SELECT * FROM numbers(3)",
        "SELECT 'INTO OUTFILE', 'it''s; \\' file(', `drop table;`",
        "SELECT file FROM flows",
        "SELECT 'ä', `ö` -- ü",
        "SELECT into, outfile FROM t",
    ],
)
def test_reading_passes(sql: str) -> None:
    """Statements that only read the store pass."""
    assert check(sql, FUNCTIONS) is None


@pytest.mark.parametrize(
    "sql",
    [
        "",
        ";",
        "INSERT INTO flows SELECT 1",
        "DROP TABLE flows",
        "CREATE TABLE t (a Int8) ENGINE = Kafka",
        "SYSTEM SHUTDOWN",
        "SET readonly = 0",
        "USE system",
        "KILL QUERY WHERE 1",
        "OPTIMIZE TABLE flows",
        "SELECT 1; DROP TABLE flows",
        "SELECT 1 INTO OUTFILE 'x'",
        "SELECT 1 into /* */ outfile 'x'",
        "SELECT file('/etc/passwd')",
        "SELECT FILE ('/etc/passwd')",
        "SELECT `file`('/etc/passwd')",
        'SELECT "fi\\le"(1)',
        "SELECT * FROM url('http://x')",
        "SELECT * FROM S3('x')",
        "SELECT * FROM executable('ls')",
        "SELECT * FROM Python(x)",
        "DESCRIBE file('/etc/passwd')",
        "EXPLAIN SELECT * FROM remote('h', 'd.t')",
        "-- SELECT\nDROP TABLE flows",
        "/* SELECT */ DROP TABLE flows",
        "'SELECT'; DROP TABLE flows",
        "1 + 1",
    ],
)
def test_all_else_is_refused(sql: str) -> None:
    """Writes, other statements, several statements and ways outside are refused."""
    with pytest.raises(Refused, match=r"^Code: 164\. DB::Exception: .* \(READONLY\)$"):
        check(sql, FUNCTIONS)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a$b$ FROM x INTO OUTFILE 'f' -- $b$",
        "SELECT x'\\' INTO OUTFILE 'f' -- '",
        "SELECT \u201c ' \u201d INTO OUTFILE 'f' -- '",
        "SELECT 1 # ' \n INTO OUTFILE 'f'",
        "SELECT 'open",
        "SELECT `open",
        "SELECT /* open",
        "SELECT 1 \\G",
        "SELECT\u00a01",
        "SELECT 1\0",
    ],
)
def test_doubtful_text_is_refused(sql: str) -> None:
    """Text that the engine may read otherwise than we do is refused, whatever it says."""
    with pytest.raises(Refused):
        check(sql, FUNCTIONS)


@pytest.mark.parametrize(
    ("sql", "fmt"),
    [
        ("SELECT 1 FORMAT JSON", "JSON"),
        ("SELECT 1 format csv ;", "csv"),
        ("SELECT 1 FORMAT JSON -- FORMAT CSV", "JSON"),
        ("SELECT 'FORMAT JSON'", None),
        ("SELECT format('{}', 1)", None),
    ],
)
def test_format_is_found(sql: str, fmt: str | None) -> None:
    """The format that a statement names itself is told, and only that."""
    assert check(sql, FUNCTIONS) == fmt


@settings(max_examples=200)
@given(st.text(max_size=30))
def test_any_text_is_one_token(text: str) -> None:
    """Whatever stands in a text hides nothing and shows nothing."""
    assert tokens(f"SELECT {quote(text)}, 1") == ["SELECT", "'", ",", "1"]


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from(["SELECT", "into", "OUTFILE", "(", ";", "file"]), max_size=8),
    st.sampled_from([" ", "\n", "/*;'*/", "--'\n", "\t/**/"]),
)
def test_comments_change_nothing(words: list[str], blank: str) -> None:
    """Comments and blanks between tokens don't change what is seen."""
    assert tokens(blank.join(words)) == words
