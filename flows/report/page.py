"""The page: answers, pictures and words put into the template.

Whatever came off the wire is hostile: hidden characters go, the template engine escapes the rest,
and the page's policy allows one style sheet, by its hash, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flows import __version__
from flows.notify.text import line
from flows.report import charts, words
from flows.report.questions import Answers, Bounded, by_severity
from flows.summary import scaled

_SECTIONS: Final = (
    ("summary", "Summary"),
    ("traffic", "Over time"),
    ("alerts", "Alerts"),
    ("talkers", "Talkers"),
    ("protocols", "Protocols"),
    ("spreaders", "Spreaders"),
    ("distinct", "Distinct"),
    ("flows", "Flows"),
    ("ledger", "Ledger"),
    ("reading", "How to read"),
)
_SPREAD_CAPTIONS: Final = {
    "fan_out": ("Hosts that contact many hosts", "hosts"),
    "fan_in": ("Hosts that many hosts contact", "hosts"),
    "fan_out_service": ("Hosts that contact many services (host and port)", "services"),
    "pair_ports": ("Pairs that use many ports", "ports"),
}
_DISTINCT: Final = (("distinct_src_addr", "sources"), ("distinct_dst_addr", "destinations"))
_SCALED_UNITS: Final = ("bit/s", "B", "packets/s")
_TEXT_CHARS: Final = 8000
_VISIBLE: Final = 0.05
"""Windows that cover less of the time would be too thin to see."""


def render(found: Answers, title: str, made_ns: int) -> str:
    """A report as HTML.

    Args:
        found: what the store answered.
        title: what the traffic is, for people.
        made_ns: when the report is made, Unix ns.
    """
    sums, series = found.sums, found.series
    template = _environment().get_template("report.html")
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return template.render(
        found=found,
        scope=found.scope,
        sums=sums,
        title=title,
        made_ns=made_ns,
        version=__version__,
        style=Markup(style),  # noqa: S704 - our own file
        style_hash=f"sha256-{digest}",
        sections=_SECTIONS,
        what_it_is=list(words.what_it_is(found)),
        completeness=words.completeness(found),
        remarks=list(words.remarks(found)),
        tiles=list(_tiles(found)),
        pictures=_pictures(found),
        captions=_captions(found),
        step=words.duration(series.step_ms / 1000),
        steps=[
            (int(start) * 10**6, int(packets), int(size), float(complete))
            for start, packets, size, complete in zip(
                series.starts_ms,
                series.packets.sum(axis=0),
                series.bytes.sum(axis=0),
                series.percent_complete,
                strict=True,
            )
        ],
        severities=by_severity([*found.alerts, *found.other_alerts]),
        spread=_spread(found.spread),
        horizon=words.duration(found.spread[0].horizon_s) if found.spread else "",
        distinct_horizon=words.duration(found.distinct[0].horizon_s) if found.distinct else "",
    )


def _tiles(found: Answers) -> list[tuple[str, str, str]]:
    sums = found.sums
    tiles = [
        ("packets", f"{sums.packets:,}", ""),
        ("bytes", *_split(scaled(sums.bytes, "B"))),
        ("time", words.duration(sums.span_s), ""),
        (
            f"busiest {words.duration(found.peak.pane_s)}",
            *_split(scaled(8 * found.peak.bytes / found.peak.pane_s, "bit/s")),
        ),
    ]
    if sums.span_s > 0 and not found.series.gappy:
        tiles.insert(3, ("on average", *_split(scaled(8 * sums.bytes / sums.span_s, "bit/s"))))
    if sums.sources is not None and sums.destinations is not None:
        tiles.append(("sources", f"{sums.sources:,}", ""))
        tiles.append(("destinations", f"{sums.destinations:,}", ""))
    return [*tiles, ("alerts", f"{found.alert_count:,}", "")]


def _split(text: str) -> tuple[str, str]:
    number, _, unit = text.partition(" ")
    return number, unit


def _pictures(found: Answers) -> dict[str, charts.Picture | None]:
    series = found.series
    windows = {row.window_start_ns for row in found.distinct}
    seen_s = len(windows) * found.distinct[0].horizon_s if found.distinct else 0
    visible = len(windows) > 2 and seen_s > _VISIBLE * found.sums.span_s
    tasks = {row.task for row in found.distinct}
    drawn = [each for each in _DISTINCT if each[0] in tasks]
    bits, packets = _captions(found)
    # Bits and packets per second; bytes and packets where averages would say little.
    scale, units = (8000 / series.step_ms, 1000 / series.step_ms), ("bit/s", "/s")
    if series.gappy:
        scale, units = (1.0, 1.0), ("B", "")
    sizes, counts = series.bytes * scale[0], series.packets * scale[1]
    more = "The table below has the numbers."
    return {
        "bits": charts.stacked(series, "bits", sizes, units[0], f"{bits}. {more}"),
        "packets": charts.stacked(series, "packets", counts, units[1], f"{packets}. {more}"),
        "alerts": charts.alert_times(
            found.alerts, series, "When each of the alerts below began and ended."
        ) if found.alerts else None,
        "distinct": charts.counted(
            found.distinct, drawn, "Different sources and destinations per window, with bounds."
        ) if visible and drawn else None,
    }  # fmt: skip


def _captions(found: Answers) -> tuple[str, str]:
    """What the two charts over time show."""
    step = words.duration(found.series.step_ms / 1000)
    if found.series.gappy:
        return f"Bytes by protocol, in steps of {step}, layer 2", "Packets by protocol"
    return (
        f"Bits per second by protocol, averages over {step}, layer 2",
        "Packets per second by protocol",
    )


def _spread(rows: Sequence[Bounded]) -> list[tuple[str, str, charts.Picture, list[Bounded]]]:
    drawn = []
    for task in dict.fromkeys(row.task for row in rows):
        own = [row for row in rows if row.task == task]
        what, unit = _SPREAD_CAPTIONS.get(task, ("Keys with many elements", "elements"))
        caption = f"{what} ({task})"
        most = f"{words.who(own[0].key)} {words.touched(own[0])}"
        picture = charts.intervals(own, f"spread-{task}", unit, f"{caption}. Most: {most}.")
        drawn.append((caption, caption, picture, own))
    return drawn


@cache
def _style() -> str:
    return (resources.files("flows.report") / "templates" / "report.css").read_text("utf-8")


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("flows.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    found.filters |= {
        "bounds": lambda row: words.interval(row.lower, row.upper),
        "clock": words.clock,
        "columns": _columns,
        "count": lambda value: f"{value:,.0f}",
        "endpoint": _endpoint,
        "measured": _measured,
        "lasted": lambda row: words.duration((row["last_ns"] - row["first_ns"]) / 1e9),
        "share": words.share,
        "size": lambda value: scaled(value, "B"),
        "who": words.who,
    }
    return found


def _shown(value: Any) -> Any:
    """What a template writes: text without hidden characters and without end."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(line(each, _TEXT_CHARS) for each in value[:_TEXT_CHARS].splitlines())
    return value


def _columns(rows: Sequence[Mapping[str, str]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _endpoint(address: str, port: int, protocol: str) -> str:
    if protocol not in ("TCP", "UDP", "SCTP"):
        return address
    version = ipaddress.ip_address(address).version
    return f"[{address}]:{port}" if version == 6 else f"{address}:{port}"


def _measured(value: float, unit: str) -> str:
    if unit in _SCALED_UNITS:
        return scaled(value, unit)
    return f"{words.plain(value)} {unit}"
