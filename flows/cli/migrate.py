"""``netspectra migrate``: the store's tables, up to date."""

from __future__ import annotations

import re

import click


@click.command("migrate")
@click.option("--dry-run", is_flag=True, help="Print the statements and change nothing.")
@click.option(
    "--cluster",
    metavar="NAME",
    default="",
    help="Print what makes the tables on a cluster of servers, replicated and distributed.",
)
def command(dry_run: bool, cluster: str) -> None:
    """Bring the store's tables up to date; the job does so at its start too.

    With --cluster nothing is opened or changed: the statements are for the administrator to run,
    before the first job.

    \b
    Examples:
      netspectra migrate --dry-run
      netspectra migrate --cluster main | clickhouse-client -n
      NETSPECTRA_STORE=chdb:data netspectra migrate
    """  # noqa: D301 - click reads the backslash
    from flows import settings
    from flows.storage.migrate import migrate

    if cluster:
        from flows.storage.cluster import schema

        for statement in schema(cluster):
            click.echo(f"{statement};\n")
        return
    loaded = settings.load()
    directory = loaded.store_directory
    if dry_run and directory is not None and not directory.exists():
        # Opening the store would make it.
        statements = migrate(_Empty(), dry_run=True)
    else:
        from flows.storage.store import Store

        with Store.open(loaded.store, migrated=False, serve=False) as store:
            statements = migrate(store, dry_run)
    for statement in statements if dry_run else ():
        shown = re.sub(r"PASSWORD '(?:[^'\\]|\\.)*'", "PASSWORD '********'", statement)
        click.echo(f"{shown};\n")
    if not statements:
        click.echo("the store is up to date", err=dry_run)
    elif not dry_run:
        click.echo(f"the store is up to date; {len(statements)} statements were run")


class _Empty:
    """A store that isn't there yet, as far as a dry run asks it."""

    def __init__(self) -> None:
        from flows.storage.migrate import EMBEDDED

        self.template = EMBEDDED

    def run(self, sql: str) -> str:
        """Answer that there is no table."""
        return "0"
