"""``netspectra names``: what the store calls prefixes, AS numbers, countries, interfaces."""

from __future__ import annotations

import click

from flows.cli import options


@click.group("names", cls=options.ListByDefault)
def command() -> None:
    """Give names to prefixes, AS numbers, countries, interfaces and services.

    The settings under `names` say in which files they are: CSV with a header, or MMDB. A job loads
    them at its start and when they change; `load` does it without a job, and tells every bad line.

    \b
    Examples:
      NETSPECTRA_NAMES__NETWORKS=sites.csv netspectra names load
      netspectra names
      netspectra names show 192.0.2.7
    """  # noqa: D301 - click reads the backslash


@command.command("list")
@options.form
def list_command(form: str) -> None:
    """List the names that are loaded."""
    from flows.cli import answer

    sql = (
        "SELECT kind, argMax(row_count, load_id) AS row_count, "
        "argMax(arrayStringConcat(files, ', '), load_id) AS files, max(loaded_at) AS loaded_at "
        "FROM names_loads GROUP BY kind ORDER BY kind"
    )
    with options.open_store() as reader:
        found = answer.ask(reader, sql)
    answer.show(found, form, "no names are loaded; `netspectra names --help` tells how")


@command.command("load")
def load_command() -> None:
    """Load the files that the settings name, where they have changed.

    A file with a header and nothing else takes its names away.
    """
    from flows import settings
    from flows.errors import StoreError, StoreOwned, UsageError
    from flows.names.load import chosen, load
    from flows.storage.store import Store

    loaded = settings.load()
    if not any(chosen(loaded.names)):
        msg = "the settings name no files; set names.networks, or NETSPECTRA_NAMES__NETWORKS"
        raise UsageError(msg)
    try:
        with Store.open(loaded.store, serve=False) as store:
            for each in load(store, loaded.names):
                done = "loaded" if each.changed else "unchanged"
                click.echo(f"{each.kind}: {each.row_count:,} rows {done}")
                for note in each.notes:
                    click.echo(f"{each.kind}: {note}", err=True)
    except StoreOwned as error:
        msg = f"{error}; a job loads names by itself, within a minute of a change"
        raise StoreError(msg) from error


@command.command("show")
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True)
@options.form
def show_command(addresses: tuple[str, ...], form: str) -> None:
    """Show what is known of addresses."""
    from ipaddress import ip_address

    from flows.cli import answer

    for each in addresses:
        try:
            ip_address(each)
        except ValueError:
            msg = f"{each}: wanted an address such as 192.0.2.7 or 2001:db8::7"
            raise click.UsageError(msg) from None
    listed = ", ".join(f"'{each}'" for each in addresses)
    sql = (
        "SELECT address, network_name(address) AS network, site_name(address) AS site, "  # noqa: S608
        "as_number(address) AS asn, as_name(address) AS as_name, "
        f"country_code(address) AS country FROM (SELECT arrayJoin([{listed}]) AS address)"
    )
    with options.open_store() as reader:
        found = answer.ask(reader, sql)
    answer.show(found, form, "")
