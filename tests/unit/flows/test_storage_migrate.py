"""Migration files and how they are read."""

from __future__ import annotations

from flows.storage import migrate


def test_statements_end_at_a_line() -> None:
    """Comments go, and a semicolon inside a line or a text doesn't end a statement."""
    sql = "-- a; comment;\nSELECT ';', 'a; b' -- kept\n;\n\nSELECT\n  2;\n"
    assert migrate.split(sql) == ("SELECT ';', 'a; b' -- kept", "SELECT\n  2")


def test_numbers_have_no_gap() -> None:
    """Migrations are numbered from 1 without a gap, and none is empty."""
    known = migrate.migrations()
    assert [m.version for m in known] == list(range(1, len(known) + 1))
    assert all(m.statements for m in known)


def test_statements_can_be_repeated() -> None:
    """Every statement of every migration says what to do when its work is done already."""
    for migration in migrate.migrations():
        for statement in migration.statements:
            assert "IF NOT EXISTS" in statement or "OR REPLACE" in statement, statement


def test_templates_have_the_same_placeholders() -> None:
    """Embedded stores and servers fill in the same places, and every place is used."""
    assert migrate.EMBEDDED.keys() == migrate.SERVER.keys()
    text = "".join(s for m in migrate.migrations() for s in m.statements)
    assert all(placeholder in text for placeholder in migrate.EMBEDDED)
    for placeholder in migrate.EMBEDDED:
        text = text.replace(placeholder, "")
    assert "{{" not in text


def test_no_engine_that_breaks_the_store() -> None:
    """No migration creates a Kafka table, which an embedded engine doesn't survive."""
    for migration in migrate.migrations():
        assert not any("kafka" in s.lower().split("comment")[0] for s in migration.statements)
