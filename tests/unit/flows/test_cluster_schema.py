"""SQL for servers that we don't have: it is right by the engine's own parser, and quoted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import chdb
import pytest
from click.testing import CliRunner

from flows.cli.access import command as access_command
from flows.cli.migrate import command as migrate_command
from flows.storage import migrate
from flows.storage.access import grants
from flows.storage.cluster import schema
from flows.storage.embedded import quote

HOSTILE = ("o'b", "a`b", "x\\", "c' OR 1 = 1 --", "$(id)\n")


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    """An engine in memory, for its parser."""
    connection: Any = chdb.connect(":memory:")
    yield connection
    connection.close()


def parsed(engine: Any, statement: str) -> str:
    """The statement as the engine's parser has understood it; an error if it doesn't."""
    answer = engine.query(
        f"SELECT formatQueryOrNull({quote(statement)}) AS q", "JSONCompactColumns"
    )
    text = answer.bytes().decode()
    assert "null" not in text[:8], statement
    return text


def created(kind: str, statements: list[str]) -> set[str]:
    pattern = rf"CREATE (?:OR REPLACE )?{kind}(?: IF NOT EXISTS)? (\w+)"
    return {match[1] for s in statements if (match := re.match(pattern, s))}


PLAIN = [s for m in migrate.migrations() for s in m.statements] + [migrate.BOOK]


@pytest.mark.parametrize("name", ["main", *HOSTILE])
def test_every_statement_is_parsed(engine: Any, name: str) -> None:
    """The engine's parser takes all of it, whatever the cluster is called."""
    for statement in schema(name):
        parsed(engine, statement)


def test_the_cluster_has_the_same_tables() -> None:
    """Every table, view, feed and function is there under its own name, and a local table each."""
    statements = list(schema("main"))
    for kind in ("VIEW", "MATERIALIZED VIEW", "FUNCTION", "DICTIONARY"):
        assert created(kind, statements) == created(kind, PLAIN)
    tables = created("TABLE", PLAIN)
    assert len(tables) > 15
    assert created("TABLE", statements) == tables | {f"{name}_local" for name in tables}


def test_everything_is_made_on_the_cluster() -> None:
    """No statement but the notes in schema_migrations acts on one server alone."""
    for statement in schema("main"):
        assert " ON CLUSTER 'main'" in statement or statement.startswith("INSERT INTO schema_")
        assert "non_replicated" not in statement
        assert "{{" not in statement


def test_local_tables_are_replicated_and_others_distributed() -> None:
    """Engines keep their kind and arguments; feeds go from local to local tables."""
    statements = list(schema("main"))
    path = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"
    text = "\n".join(statements)
    assert f"ENGINE = ReplicatedReplacingMergeTree({path}, updated_at)" in text
    assert f"ENGINE = ReplicatedAggregatingMergeTree({path})" in text
    assert (
        "CREATE TABLE IF NOT EXISTS flows ON CLUSTER 'main' AS flows_local\nENGINE = "
        "Distributed('main', currentDatabase(), flows_local, "
        "cityHash64(tenant, probe, toStartOfHour(window_start)))" in statements
    )
    assert "flows_1m_feed ON CLUSTER 'main' TO flows_1m_local AS" in text
    assert "FROM flows_local AS s" in text
    assert "cityHash64(alert_id, revision)" in text


def test_what_is_printed_is_the_schema() -> None:
    """`netspectra migrate --cluster` prints the statements and opens no store."""
    done = CliRunner().invoke(migrate_command, ["--cluster", "main"])
    assert done.exit_code == 0
    assert done.output == "".join(f"{statement};\n\n" for statement in schema("main"))


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("cluster", [False, True])
def test_names_are_only_names(engine: Any, text: str, cluster: bool) -> None:
    """Users, tenants, databases and clusters are quoted, so none of them is a statement."""
    on = text if cluster else ""
    odd = list(grants(text, text, [text, "b"], text, on, "salt"))
    plain = list(grants("u", "p", ["t", "b"], "d", "c" if cluster else "", "salt"))
    assert len(odd) == len(plain)
    for one, other in zip(odd, plain, strict=True):
        assert shape(parsed(engine, one)) == shape(parsed(engine, other))


def shape(statement: str) -> str:
    """A statement without its texts and names in quotes."""
    statement = statement.encode().decode("unicode_escape")
    return re.sub(r"`(?:[^`\\]|\\.)*`|'(?:[^'\\]|\\.)*'|\b[utdc]\b", "_", statement)


def test_the_password_is_not_told() -> None:
    """Only the salted hash of the password is in the statements, as the server computes it."""
    text = "\n".join(grants("u", "correct horse", salt="s4lt"))
    assert "correct horse" not in text
    assert hashlib.sha256(b"correct horses4lt").hexdigest() in text
    assert list(grants("u", "p")) != list(grants("u", "p"))


def test_a_user_of_all_tenants() -> None:
    """Without tenants a user reads everything, and nothing is written."""
    text = "\n".join(grants("u", "p"))
    assert "GRANT SELECT, dictGet ON `default`.* TO `u`" in text
    assert "ROW POLICY" not in text
    assert "readonly = 2" in text


def test_every_row_of_a_tenant_is_guarded() -> None:
    """No table is granted before its policy restricts it; tables without tenants aren't at all."""
    statements = list(grants("u", "p", ["acme"]))
    tables = created("TABLE", PLAIN)
    restricted: set[str] = set()
    granted: set[str] = set()
    for statement in statements:
        if match := re.search(
            r"ROW POLICY OR REPLACE .* ON `default`\.(\w+) AS RESTRICTIVE", statement
        ):
            assert "tenant IN ('acme')" in statement
            restricted.add(match[1])
        if match := re.search(r"GRANT SELECT ON `default`\.(\w+) TO `u`", statement):
            granted.add(match[1])
            assert match[1] in restricted or match[1] not in tables
    assert restricted == granted & tables
    assert {"flows", "totals", "alerts_log", "alert_evidence", "dropped"} <= restricted
    assert granted - tables >= {"alerts", "rates", "completeness", "spreaders", "flows_named"}
    assert not granted & {"commits", "positions", "schema_migrations", "names_networks"}
    looked_up = {
        match[1] for s in statements if (match := re.search(r"GRANT dictGet ON .*\.(\w+)", s))
    }
    assert looked_up == created("DICTIONARY", PLAIN)
    on_cluster = "\n".join(grants("u", "p", ["acme"], cluster="main"))
    assert "ON `default`.flows_local AS RESTRICTIVE" in on_cluster


def test_the_command_reads_the_password_from_a_file(tmp_path: Any) -> None:
    """`netspectra access` prints the statements; a file that isn't there is one line."""
    (tmp_path / "password").write_text("secret\n")
    arguments = ["grafana", "--password-file", str(tmp_path / "password"), "--tenant", "acme"]
    done = CliRunner().invoke(access_command, arguments)
    assert done.exit_code == 0
    assert "CREATE USER OR REPLACE `grafana`" in done.output
    assert "secret" not in done.output
    arguments[2] = str(tmp_path / "nothing")
    assert CliRunner().invoke(access_command, arguments).exit_code == 2
