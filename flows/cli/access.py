"""``netspectra access``: users who only read a ClickHouse server."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("access")
@click.argument("user")
@click.option(
    "--password-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="Where the password is; only its salted hash is printed.",
)
@click.option("--tenant", "tenants", multiple=True, help="Only this tenant's rows; repeatable.")
@click.option("--database", default="default", show_default=True, help="Where the tables are.")
@click.option("--cluster", default="", help="Name of the cluster; none for one server.")
def command(
    user: str, password_file: Path, tenants: tuple[str, ...], database: str, cluster: str
) -> None:
    """Print SQL that makes USER, who may read a ClickHouse server's tables and nothing else.

    It is for the server's administrator to run; an embedded store has no users. With --tenant row
    policies hide the rows of all others, in views too.

    \b
    Examples:
      netspectra access grafana --password-file grafana.txt | clickhouse-client -n
      netspectra access acme --tenant acme --password-file acme.txt --database netspectra
    """  # noqa: D301 - click reads the backslash
    from flows.storage.access import grants

    password = password_file.read_text(encoding="utf-8").rstrip("\r\n")
    for statement in grants(user, password, tenants, database, cluster):
        click.echo(f"{statement};")
