"""``netspectra version``: of us, and of what the results depend on."""

from __future__ import annotations

import platform
from importlib import metadata

import click

import flows


@click.command("version")
def command() -> None:
    """Print the versions of NetSpectra and of what its results depend on.

    \b
    Examples:
      netspectra version
    """  # noqa: D301 - click reads the backslash
    rows = [("netspectra", flows.__version__), ("python", platform.python_version())]
    rows += [(name, package(name)) for name in ("bytewax", "datasketches", "numba", "chdb")]
    rows.append(("clickhouse engine", engine()))
    for name, version in rows:
        click.echo(f"{name:<18} {version}")


def package(name: str) -> str:
    """Version of an installed package, or that it is missing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def engine() -> str:
    """Version of the embedded ClickHouse engine."""
    try:
        import chdb
    except ImportError:
        return "not installed"
    return str(getattr(chdb, "engine_version", None) or "unknown")
