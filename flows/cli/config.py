"""``netspectra config``: what is set, and where it was set."""

from __future__ import annotations

import click


@click.group("config")
def command() -> None:
    """Show or check the settings.

    \b
    Examples:
      netspectra config show
      NETSPECTRA_CONFIG=other.yaml netspectra config check
    """  # noqa: D301 - click reads the backslash


@command.command()
@click.option("--origin/--no-origin", default=True, help="Say where each value came from.")
def show(origin: bool) -> None:
    """Print all settings as YAML with the origin of each; secrets are hidden.

    \b
    Examples:
      netspectra config show
      netspectra config show --no-origin > netspectra.yaml
    """  # noqa: D301 - click reads the backslash
    from flows import settings

    loaded, origins = settings.load_with_origins()
    click.echo(settings.dump(loaded, origin=origin, origins=origins), nl=False)


@command.command()
def check() -> None:
    """Check file and environment; one line for each problem, exit code 2.

    Rules are made as a job would make them, also of detectors of other packages.

    \b
    Examples:
      netspectra config check
      NETSPECTRA_WINDOW__PANE=5s netspectra config check
    """  # noqa: D301 - click reads the backslash
    from flows import settings
    from flows.detect import registry
    from flows.settings.problems import hide_password

    loaded, origins = settings.load_with_origins()
    registry.rules(loaded)
    store = hide_password(loaded.store)
    places = sorted({origin.place or "the environment" for origin in origins.values()
                     if origin.kind in ("file", "env")})  # fmt: skip
    count = sum(origin.kind in ("file", "env") for origin in origins.values())
    found = f"{count} values from {' and '.join(places)}" if places else "all defaults"
    click.echo(f"settings are good: {found}; source {loaded.source}, store {store}")
