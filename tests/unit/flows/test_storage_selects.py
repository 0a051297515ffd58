"""SELECTs of a program that nobody trusts: ours pass, everything else is refused."""

from __future__ import annotations

import pytest

from flows.storage.selects import MAX_CHARS, TABLES, check
from flows.storage.statements import Refused

FIELDS = frozenset(
    ["src_addr", "dst_addr", "dst_port", "bytes", "packets", "window_start", "hop", "dropped"]
)
COLUMNS = dict.fromkeys(TABLES, FIELDS)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT ip_text(src_addr) AS src, sum(bytes) AS b FROM flows "
        "WHERE window_start >= now() - INTERVAL 1 DAY GROUP BY src ORDER BY b DESC LIMIT 5;",
        "WITH x AS (SELECT src_addr, sum(bytes) AS b FROM flows GROUP BY src_addr) "
        "SELECT count() FROM x WHERE b > 1e6",
        "SELECT f.src_addr FROM flows AS f JOIN alerts AS a ON a.hop = f.hop "
        "WHERE f.dst_port IN (22, 443) AND src_addr IN (SELECT dst_addr FROM flows_1m)",
        "SELECT sum(dropped['ring_full']) FROM ledger WHERE hop = 'system.tables; DROP'",
        "SELECT * FROM (SELECT toStartOfHour(window_start) AS h, sum(bytes) FROM flows GROUP BY h)",
        "SELECT rank() OVER (PARTITION BY dst_port ORDER BY bytes) FROM flows -- the end",
        "SELECT count() FROM flows FINAL WHERE src_addr IN (toIPv6('10.0.0.1'))",
        "SELECT sum(packets) FROM totals UNION ALL SELECT quantile(0.9)(bytes) FROM flows_1h",
        'SELECT "bytes" FROM `flows`',
    ],
)
def test_selects_on_our_tables_pass(sql: str) -> None:
    """Sums, joins, statements within statements, windows and texts of any kind are admitted."""
    assert check(sql, COLUMNS) == sql.rstrip(";")


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "SELECT * FROM system.tables",
        "SELECT * FROM `system`.`tables`",
        "SELECT 1 AS system, 2 AS tables FROM system.tables",
        "SELECT 1 FROM /* a */ system /* b */ . one",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM INFORMATION_SCHEMA.TABLES",
        "SELECT * FROM other.flows",
        "SELECT * FROM default.flows",
        "SELECT * FROM secrets",
        "SELECT 1 AS secrets FROM secrets",
        "SELECT * FROM secrets JOIN (WITH secrets AS (SELECT 1 AS a) SELECT a FROM secrets) AS x "
        "ON true",
        "SELECT * FROM flows, totals",
        "SELECT * FROM flows JOIN system.users ON true",
        "SELECT 1 IN secrets",
        "SELECT 1 AS secrets WHERE 1 IN secrets",
        "SELECT 1 AS a, 2 AS b WHERE 1 IN (a.b)",
        "SELECT 1 AS secrets WHERE 1 IN (secrets)",
        "(SELECT 1) UNION ALL (SELECT * FROM system.one)",
        "SELECT * FROM alert_deliveries",
        "SELECT * FROM flows ARRAY JOIN dropped",
        "SELECT * FROM url('http://127.0.0.1/', 'CSV')",
        "SELECT * FROM file('/etc/passwd')",
        "SELECT file('/etc/passwd')",
        "SELECT * FROM numbers(5)",
        "SELECT * FROM merge('.*')",
        "SELECT * FROM view(SELECT 1)",
        "SELECT * FROM remote('127.0.0.1', flows)",
        "SELECT dictGet('d', 'a', 1)",
        "SELECT joinGet('j', 'a', 1)",
        "SELECT hostName()",
        "SELECT currentUser()",
        "SELECT version()",
        "SELECT getSetting('max_threads')",
        "SELECT sleep(3)",
        "SELECT COLUMNS('.*') FROM flows",
        "SELECT arrayMap(x -> x, [1]) FROM flows",
        "SELECT {name:String}",
        "SELECT @@version",
        "SELECT $$x$$",
        "SELECT * FROM flows INTO OUTFILE '/tmp/x'",
        "SELECT * FROM flows FORMAT CSV",
        "SELECT * FROM flows SETTINGS max_threads = 8",
        "SELECT 1; SELECT 2",
        "SELECT 'open",
        "SHOW TABLES",
        "DESCRIBE TABLE flows",
        "EXPLAIN SELECT 1",
        "EXISTS TABLE flows",
        "INSERT INTO flows SELECT * FROM flows",
        "DROP TABLE flows",
        "ALTER TABLE flows DELETE WHERE true",
        "TRUNCATE TABLE flows",
        "SET readonly = 0",
        "SELECT " + "1," * MAX_CHARS + "1",
    ],
)
def test_everything_else_is_refused(sql: str) -> None:
    """Other tables and databases, table functions, settings, files and writes don't get through."""
    with pytest.raises(Refused):
        check(sql, COLUMNS)
