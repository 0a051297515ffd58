"""``netspectra probe``: capture interfaces, or replay files, to Kafka."""

from __future__ import annotations

import difflib
import math
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from flows.errors import UsageError

if TYPE_CHECKING:
    from flows.settings import Settings
    from probe.keep import KeepOptions
    from probe.live import CaptureOptions

LIVE_ONLY: Final = (
    *("direction", "rules", "exclude", "method", "loader", "attach", "xdp_mode"),
    *("mode", "sampling", "ring_mb", "user"),
)
"""Options that say nothing about files."""

WRITE_MORE: Final = ("write_format", "write_limit", "write_rotate")


def size(text: str) -> int:
    """Read a number of bytes such as 500M or 10G (powers of 1000).

    Raises:
        click.BadParameter: it is none.
    """
    from flows.settings.units import parse_count

    try:
        return parse_count(text)
    except ValueError:
        msg = f"{text} is no size such as 500M or 10G"
        raise click.BadParameter(msg) from None


def speed(text: str) -> float:
    """Read a pace: a number above 0, or max.

    Raises:
        click.BadParameter: it is none.
    """
    try:
        pace = math.inf if text == "max" else float(text)
    except ValueError:
        pace = 0.0
    if not pace > 0 or (math.isinf(pace) and text != "max"):
        msg = f"{text} is no pace; give a number above 0, or max"
        raise click.BadParameter(msg)
    return pace


@click.command("probe")
@click.argument("interfaces", nargs=-1, metavar="[INTERFACE]...")
@click.option(
    "--pcap", "pcap", multiple=True, metavar="FILE...", help="Replay capture files instead."
)
@click.option("--speed", type=speed, default="1", metavar="N|max", help="Of replaying.  [1]")
@click.option(
    "--direction",
    type=click.Choice(["both", "ingress", "egress"]),
    help="Ways through the interface.  [both]",
)
@click.option(
    "--filter",
    "rules",
    multiple=True,
    metavar="RULE",
    help="Keep only packets that match; may be repeated.",
)
@click.option(
    "--except",
    "exclude",
    multiple=True,
    metavar="RULE",
    help="Leave out packets that match; may be repeated.",
)
@click.option(
    "--method",
    type=click.Choice(["auto", "tc", "xdp", "packet"]),
    help="eBPF at TC or XDP, or a packet socket.  [auto: the best that works]",
)
@click.option(
    "--loader",
    type=click.Choice(["auto", "libbpf", "bcc"]),
    help="Of eBPF programs.  [auto: libbpf, else BCC]",
)
@click.option(
    "--attach",
    type=click.Choice(["auto", "tcx", "clsact"]),
    help="Of programs at TC.  [auto: tcx, else clsact]",
)
@click.option(
    "--xdp-mode",
    type=click.Choice(["auto", "native", "generic"]),
    help="XDP in the driver, or behind it.  [auto: native, else generic]",
)
@click.option(
    "--mode",
    type=click.Choice(["packets", "flows", "auto"]),
    help="A record for each packet, each flow and second, or the second under overload.  [packets]",
)
@click.option("--sampling", type=click.IntRange(1), metavar="N", help="Keep one packet in N.  [1]")
@click.option("--ring-mb", type=int, metavar="MB", help="Room for packets that wait.  [64]")
@click.option("--name", help="Of the probe.  [the host's name, or the file's]")
@click.option("--brokers", metavar="HOST:PORT,…", help="Of Kafka.  [kafka.brokers]")
@click.option("--write", metavar="DIR", type=click.Path(path_type=Path), help="Keep packets too.")
@click.option(
    "--write-format",
    type=click.Choice(["pcapng", "avro", "text"]),
    help="Frames, or decoded records.  [pcapng; avro with --pcap]",
)
@click.option(
    "--write-limit", type=size, metavar="SIZE", help="For all files; the oldest go first.  [10G]"
)
@click.option("--write-rotate", type=size, metavar="SIZE", help="For one file.  [128M]")
@click.option("--user", help="Whom to become.  [who called sudo, else nobody]")
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> int:
    """Capture INTERFACEs and send what passes to Kafka, until Ctrl-C.

    It says what it uses and why, gives up its privileges when it is attached, and shows how it
    goes. At the end it says what became of every packet; the exit code is 3 if any is missing.
    Where an option isn't given the settings hold (capture.*, kafka.*, probe.name).

    A RULE is [tcp|udp|icmp|icmp6|sctp|proto N] [net CIDR|host ADDRESS] [port N|port N-M]; address
    and port are those of the same end, either one.

    \b
    Examples:
      sudo netspectra probe eth0
      sudo netspectra probe eth0 eth1 --direction ingress --brokers kafka:9092
      sudo netspectra probe eth0 --filter 'tcp port 443' --filter 'udp port 443'
      sudo netspectra probe eth0 --except 'tcp host 10.0.0.5 port 9092'
      sudo netspectra probe eth0 --write frames --write-limit 50G
      netspectra probe --pcap capture.pcap --speed max
    """  # noqa: D301 - click reads the backslash
    # Before numpy comes: its threads would keep capabilities that are dropped later.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    given = {
        name
        for name in options
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    files = _files(options, given)
    names = () if files else _interfaces(options["interfaces"])
    if given & set(WRITE_MORE) and options["write"] is None:
        msg = "--write-format, --write-limit and --write-rotate go with --write DIR"
        raise UsageError(msg)

    from flows import logs

    settings = _settings(options, files, names)
    logs.configure(settings.log.level, settings.log.format)
    capture = _capture_options(settings, names)
    keep = _keep_options(options, replayed=bool(files))

    from flows.cli.probe_run import Plan, run

    return run(
        Plan(
            settings=settings,
            capture=capture,
            files=files,
            speed=options["speed"],
            keep=keep,
            user=options["user"],
        )
    )


def _files(options: dict[str, Any], given: set[str]) -> tuple[Path, ...]:
    """Capture files, which may follow the first ``--pcap`` without one of their own."""
    if not options["pcap"]:
        if "speed" in given:
            msg = "--speed goes with --pcap FILE"
            raise UsageError(msg)
        return ()
    if wrong := [name for name in LIVE_ONLY if name in given]:
        flag = {"rules": "filter", "exclude": "except"}.get(wrong[0], wrong[0].replace("_", "-"))
        msg = f"--{flag} is for interfaces; files are replayed as they are"
        raise UsageError(msg)
    files = tuple(Path(name) for name in (*options["pcap"], *options["interfaces"]))
    for file in files:
        if not file.is_file():
            reason = "is no file" if file.exists() else "isn't there"
            msg = f"{file} {reason}; give capture files (pcap or pcapng)"
            raise UsageError(msg)
    return files


def _interfaces(names: Sequence[str]) -> tuple[str, ...]:
    there = [name for _, name in socket.if_nameindex()]
    known = f"there are {', '.join(there)}" if there else "there is none"
    if not names:
        msg = f"name an interface ({known}), or files with --pcap"
        raise UsageError(msg)
    for name in names:
        if name not in there:
            near = difflib.get_close_matches(name, there, 1, 0.5)
            meant = f"; did you mean {near[0]}?" if near else ""
            msg = f"there is no interface {name}{meant} ({known})"
            raise UsageError(msg)
    return tuple(dict.fromkeys(names))


def _settings(options: dict[str, Any], files: tuple[Path, ...], names: tuple[str, ...]) -> Settings:
    from flows.settings import load

    source = "pcap:" + "\n".join(map(str, files)) if files else "interface:" + ",".join(names)
    chosen = {
        "capture.directions": options["direction"],
        "capture.method": options["method"],
        "capture.loader": options["loader"],
        "capture.attach": options["attach"],
        "capture.xdp_mode": options["xdp_mode"],
        "capture.mode": options["mode"],
        "capture.sampling_rate": options["sampling"],
        "capture.filter": options["rules"] or None,
        "capture.exclude": options["exclude"] or None,
        "capture.ring_mb": options["ring_mb"],
        "probe.name": options["name"],
        "kafka.brokers": options["brokers"],
    }
    overrides = {name: value for name, value in chosen.items() if value is not None}
    return load({"source": source, **overrides})


def _capture_options(settings: Settings, names: tuple[str, ...]) -> CaptureOptions:
    from dataclasses import replace

    from flows.sources import live_options
    from probe.errors import FilterError
    from probe.filters import rules_array

    try:
        # Files have no interfaces, whatever their source is called.
        wanted = replace(live_options.options(settings), interfaces=names)
        for rules in (wanted.keep, wanted.drop):
            rules_array(rules)
    except FilterError as error:
        raise UsageError(str(error)) from None
    return wanted


def _keep_options(options: dict[str, Any], *, replayed: bool) -> KeepOptions | None:
    if options["write"] is None:
        return None
    from probe.errors import KeepError
    from probe.keep import KeepOptions

    form = options["write_format"] or ("avro" if replayed else "pcapng")
    if replayed and form == "pcapng":
        msg = "the frames of files are in the files already; --write-format avro or text"
        raise UsageError(msg)
    given = {
        "format": form,
        "limit_bytes": options["write_limit"],
        "rotate_bytes": options["write_rotate"],
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    try:
        return KeepOptions(directory=options["write"], **wanted)
    except KeepError as error:
        raise UsageError(str(error)) from None
