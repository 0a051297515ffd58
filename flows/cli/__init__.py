"""The command line, ``netspectra``: one module a command, imported when it is called.

Exit codes: 0; 1 failed; 2 usage or settings; 3 finished with an incomplete ledger; 130 stopped
with Ctrl-C.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from flows import __version__, logs

COMMANDS: Final = {
    "run": "Run the main job.",
    "read": "Analyse capture files once.",
    "probe": "Capture packets to Kafka.",
    "alerts": "List alerts and act on them.",
    "extract": "Cut an alert's packets out of captures.",
    "query": "Ask what people ask most.",
    "sql": "Ask the store with SQL.",
    "ask": "Ask in plain words, by a language model.",
    "report": "Write a page about the traffic.",
    "backtest": "Try rules on traffic that is there already.",
    "check": "Check that the store's tables agree.",
    "config": "Show or check the settings.",
    "migrate": "Bring the store's tables up to date.",
    "names": "Give names to networks, AS numbers, countries.",
    "access": "Make users who only read a server.",
    "notify": "Try the notifiers out.",
    "topics": "List, create or watch the Kafka topics.",
    "doctor": "Check this machine and installation.",
    "bench": "Measure speed.",
    "version": "Print versions.",
}


class Commands(click.Group):
    """The group of all commands; ``flows.cli.<name>`` is imported only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which one meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or nothing."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"flows.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Settings: netspectra.yaml and NETSPECTRA_… variables; see `netspectra config show`.",
)
@click.version_option(__version__, message="%(version)s")
def cli() -> None:
    """What is on the network: who talks, how much, to how many.

    \b
    Examples:
      netspectra run
      netspectra read capture.pcap
      netspectra sql "SELECT sum(packets) FROM totals"
    """  # noqa: D301 - click reads the backslash


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors are a line each on stderr.

    Args:
        arguments: Without the program's name; by default the process's own.
    """
    try:
        # Without standalone mode click returns the code of ctx.exit() and raises the rest.
        result = cli.main(arguments, "netspectra", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return logs.USAGE
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "netspectra"
        message = error.format_message().strip().splitlines()[0].rstrip(".")
        print(f"netspectra: {message}; see {where} --help", file=sys.stderr)
        return logs.USAGE
    except click.ClickException as error:
        print(f"netspectra: {error.format_message()}", file=sys.stderr)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return logs.report(KeyboardInterrupt())
    except BrokenPipeError:
        # The reader has what it wanted (`| head`); keep the interpreter from flushing again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return logs.report(error)


def script() -> None:
    """Entry point of the installed command."""
    sys.exit(main())
