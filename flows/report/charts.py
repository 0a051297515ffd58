"""The pictures of a report, each in a wide form and in one for phones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import matplotlib.dates as dates
import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from flows.notify.text import line
from flows.report.questions import CLASSES, Bounded, Row, Series
from flows.report.svg import COLOURS, FONT_PX, draw
from flows.report.words import values

WIDE_PX: Final = 960
HALF_PX: Final = 470
NARROW_PX: Final = 344

_POINT: Final = 72
_ROW_PX: Final = 38
_TIME_FORMATS: Final = (
    ["%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M", ":%S.%f"],
    ["", "", "", "", "%Y-%m-%d", "%Y-%m-%d %H:%M"],
    ["", "%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M"],
)
"""Of ticks, of the whole axis, and of ticks at zero: for years, months, days, hours, minutes, s."""

_CLASS_COLOURS: Final = tuple(COLOURS[f"c{at + 1}"] for at in range(len(CLASSES)))
_LOOK: Final[dict[Any, Any]] = {
    "font.size": FONT_PX,
    "text.color": COLOURS["ink"],
    "axes.labelcolor": COLOURS["soft"],
    "axes.edgecolor": COLOURS["grid"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.8,
    "xtick.color": COLOURS["grid"],
    "ytick.color": COLOURS["grid"],
    "xtick.labelcolor": COLOURS["soft"],
    "ytick.labelcolor": COLOURS["soft"],
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.labelcolor": COLOURS["ink"],
    "hatch.linewidth": 1.0,
}


@dataclass(frozen=True)
class Picture:
    """The same picture twice; the page shows the one that fits."""

    wide: Markup
    narrow: Markup


def stacked(series: Series, name: str, counts: npt.NDArray[Any], unit: str, label: str) -> Picture:
    """What there was of each class, on top of each other.

    Args:
        series: the steps.
        name: of the picture, unique in the page.
        counts: of each class, (classes, steps), per second or not.
        unit: of the counts.
        label: what it shows, in words.
    """
    there = [at for at in range(len(CLASSES)) if counts[at].any()]
    edges = series.edges_ms / 86_400_000

    def paint(axes: Axes, wide: bool) -> None:
        below = np.zeros(counts.shape[1])
        for at in there:
            above = below + counts[at]
            axes.stairs(
                above, edges, baseline=below, fill=True, color=_CLASS_COLOURS[at], label=CLASSES[at]
            )
            below = above
        _incomplete(axes, series, edges)
        axes.set_ylim(0, max(float(below.max()) * 1.08, 1e-9))
        axes.yaxis.set_major_formatter(EngFormatter(unit))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        _time_axis(axes, wide, edges[0], edges[-1])
        _legend(axes, wide)

    return _both(name, label, paint, height_px=(250, 230))


def alert_times(rows: Sequence[Row], series: Series, label: str) -> Picture:
    """When alerts lasted, a bar each over its title."""
    first, last = (int(edge) * 10**6 for edge in series.edges_ms[[0, -1]])

    def paint(axes: Axes, wide: bool) -> None:
        least = (last - first) * (0.004 if wide else 0.012)
        for at, row in enumerate(rows):
            start = min(max(row["first_seen_ns"], first), last - least)
            long = max(min(row["last_seen_ns"], last) - start, least)
            axes.barh(at, _days(long), 0.26, _days(start), color=COLOURS[row["severity"]])
            text = line(f"{row['severity']}: {row['title']}", 130 if wide else 48)
            axes.text(_days(first), at - 0.36, text, va="center", size=FONT_PX - 1)
        axes.set_ylim(len(rows) - 0.4, -0.7)
        axes.set_yticks([])
        _time_axis(axes, wide, _days(first), _days(last))

    height = _ROW_PX * len(rows) + 40
    return _both("alert-times", label, paint, height_px=(height, height))


def intervals(rows: Sequence[Bounded], name: str, unit: str, label: str) -> Picture:
    """Estimates with their bounds on a logarithmic scale, keys as text over them."""

    def paint(axes: Axes, wide: bool) -> None:
        least = max(min(row.lower for row in rows), 1)
        most = max(least, *(row.upper for row in rows))
        axes.set_xscale("log")
        low, high = least / 1.6, most * 1.6
        axes.set_xlim(low, high)
        for at, row in enumerate(rows):
            axes.plot([low, max(row.estimate, 1)], [at, at], color=COLOURS["grid"], linewidth=1)
            axes.plot(
                [max(row.lower, 1), max(row.upper, 1)], [at, at], color=COLOURS["c1"],
                linewidth=7, alpha=0.45, solid_capstyle="butt",
            )  # fmt: skip
            axes.plot([max(row.estimate, 1)], [at], "o", markersize=6, color=COLOURS["c1"])
            key = " → ".join(values(row.key)) or row.task
            axes.text(low, at - 0.4, line(key, 66 if wide else 48), size=FONT_PX - 1, va="center")
        axes.set_ylim(len(rows) - 0.5, -0.8)
        axes.set_yticks([])
        axes.set_xlabel(unit)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(
            LogLocator(10, subs=(1.0,) if high / low > 100 else (1.0, 2.0, 5.0))
        )
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_formatter(NullFormatter())

    height = _ROW_PX * len(rows) + 56
    return _both(name, label, paint, height_px=(height, height), wide_px=HALF_PX)


def counted(rows: Sequence[Bounded], tasks: Sequence[tuple[str, str]], label: str) -> Picture:
    """Distinct counts of one window after the other, with their bounds.

    Args:
        rows: of any task, windows in order.
        tasks: name and caption of those to draw.
        label: what it shows, in words.
    """
    starts = sorted({row.window_start_ns for row in rows})
    horizon_ns = rows[0].horizon_s * 10**9

    def paint(axes: Axes, wide: bool) -> None:
        for at, (task, caption) in enumerate(tasks):
            colour = COLOURS[f"c{at + 1}"]
            own = [row for row in rows if row.task == task]
            begin = [_days(row.window_start_ns) for row in own]
            end = [each + _days(horizon_ns) for each in begin]
            lower = np.array([row.lower for row in own])
            height = np.array([row.upper for row in own]) - lower
            axes.bar(
                begin, height, _days(horizon_ns), lower, align="edge", color=colour, alpha=0.35,
            )  # fmt: skip
            estimates = [row.estimate for row in own]
            axes.hlines(estimates, begin, end, colors=colour, linewidth=2, label=caption)
        axes.set_ylim(0, None)
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        _time_axis(axes, wide, _days(starts[0]), _days(starts[-1] + horizon_ns))
        _legend(axes, wide)

    return _both("distinct", label, paint, height_px=(220, 220))


def _both(
    name: str,
    label: str,
    paint: Callable[[Axes, bool], None],
    height_px: tuple[int, int],
    wide_px: int = WIDE_PX,
) -> Picture:
    made = []
    for wide, width in ((True, wide_px), (False, NARROW_PX)):
        height = height_px[0 if wide else 1]
        with rc_context(_LOOK):
            figure = Figure(figsize=(width / _POINT, height / _POINT), layout="constrained")
            figure.get_layout_engine().set(w_pad=0.04, h_pad=0.04)  # type: ignore[union-attr,call-arg]
            paint(figure.add_subplot(), wide)
            made.append(draw(figure, f"{name}-{'wide' if wide else 'narrow'}", label))
    return Picture(*made)


def _incomplete(axes: Axes, series: Series, edges: npt.NDArray[np.float64]) -> None:
    lacking = np.flatnonzero(series.percent_complete < 100)
    for at in lacking:
        axes.axvspan(
            edges[at], edges[at + 1], color=COLOURS["gap"], alpha=0.35, linewidth=0,
            label="incomplete" if at == lacking[0] else None,
        )  # fmt: skip


def _legend(axes: Axes, wide: bool) -> None:
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=6 if wide else 3, borderaxespad=0,
            handlelength=1, columnspacing=1.4, handletextpad=0.5, borderpad=0.2,
        )  # fmt: skip


def _time_axis(axes: Axes, wide: bool, first: float, last: float) -> None:
    axes.set_xlim(first, last)
    axes.xaxis_date()
    locator = dates.AutoDateLocator(minticks=4 if wide else 2, maxticks=9 if wide else 5)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, "UTC", *_TIME_FORMATS))
    axes.grid(axis="x", visible=False)


def _days(unix_ns: float) -> float:
    """A time as the drawing library counts it: days since 1970."""
    return float(unix_ns) / 86_400e9
