"""The shapes of Grafana's JSON: panels, variables, annotations, a dashboard of rows of panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

Json = dict[str, Any]

DATASOURCE: Final = {"type": "grafana-clickhouse-datasource", "uid": "${datasource}"}
COLUMNS: Final = 24
SCHEMA_VERSION: Final = 39
TABLE: Final = 1
TIME_SERIES: Final = 0
SEVERITY_COLOURS: Final = {
    "critical": "dark-red",
    "high": "red",
    "medium": "orange",
    "low": "blue",
    "info": "gray",
}


def target(sql: str, form: int = TABLE, ref: str = "A") -> Json:
    """A query of the ClickHouse data source."""
    return {
        "datasource": DATASOURCE,
        "editorType": "sql",
        "format": form,
        "queryType": "table" if form == TABLE else "timeseries",
        "rawSql": " ".join(sql.split()),
        "refId": ref,
    }


def panel(
    kind: str,
    title: str,
    sql: str,
    *,
    form: int = TABLE,
    unit: str = "",
    about: str = "",
    width: int = 12,
    height: int = 8,
    defaults: Mapping[str, Any] | None = None,
    overrides: Sequence[Json] = (),
    options: Mapping[str, Any] | None = None,
) -> Json:
    """A panel with one query; ``dashboard`` gives it a number and a place.

    Args:
        kind: Grafana's type of panel.
        title: heading.
        sql: the query.
        form: of the result, ``TABLE`` or ``TIME_SERIES``.
        unit: of the values, by Grafana's name.
        about: what it shows, and how sure that is.
        width: of 24 columns.
        height: in Grafana's rows.
        defaults: of all fields.
        overrides: of single fields.
        options: of the kind.
    """
    found: Json = dict(defaults or {})
    if unit:
        found["unit"] = unit
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": DATASOURCE,
        "targets": [target(sql, form)],
        "fieldConfig": {"defaults": found, "overrides": list(overrides)},
        "options": dict(options or {}),
        # Steps of whole panes of 2 s; a shorter one would show their edges.
        "interval": "10s",
        "gridPos": {"w": width, "h": height},
    }


def lines(title: str, sql: str, *, stacked: bool = False, **more: Any) -> Json:
    """Lines over time; with a text column one each."""
    custom: Json = {
        "drawStyle": "line",
        "fillOpacity": 60 if stacked else 10,
        "showPoints": "never",
    }
    if stacked:
        custom["stacking"] = {"mode": "normal"}
    return panel(
        "timeseries", title, sql, form=TIME_SERIES, defaults={"custom": custom, "min": 0}, **more
    )


def band(title: str, sql: str, **more: Any) -> Json:
    """An estimate over time between its bounds: columns ``estimate``, ``lower``, ``upper``."""
    hidden = {"id": "custom.lineWidth", "value": 0}
    overrides = [
        _override("upper", hidden, {"id": "custom.fillBelowTo", "value": "lower"}),
        _override("lower", hidden, {"id": "custom.fillOpacity", "value": 0}),
    ]
    custom = {"drawStyle": "line", "lineInterpolation": "stepAfter", "fillOpacity": 25}
    return panel(
        "timeseries", title, sql, form=TIME_SERIES, overrides=overrides,
        defaults={"custom": {**custom, "showPoints": "auto"}, "min": 0}, **more,
    )  # fmt: skip


def stat(title: str, sql: str, **more: Any) -> Json:
    """One number, the newest or the only one."""
    options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value"}
    return panel("stat", title, sql, options=options, **{"width": 4, "height": 4, **more})


def table(
    title: str,
    sql: str,
    *,
    units: Mapping[str, str] | None = None,
    links: Mapping[str, Json] | None = None,
    bars: Sequence[str] = (),
    **more: Any,
) -> Json:
    """Rows; ``units``, ``links`` and ``bars`` (shown as a gauge) name columns."""
    overrides = [
        _override(name, {"id": "unit", "value": unit}) for name, unit in (units or {}).items()
    ]
    overrides += [
        _override(name, {"id": "links", "value": [link]}) for name, link in (links or {}).items()
    ]
    overrides += [
        _override(name, {"id": "custom.cellOptions", "value": {"type": "gauge", "mode": "basic"}})
        for name in bars
    ]
    overrides.append(_override("severity", _severity_colours(), _coloured()))
    return panel(
        "table", title, sql, overrides=overrides,
        defaults={"custom": {"filterable": True, "align": "auto"}}, **more,
    )  # fmt: skip


def _severity_colours() -> Json:
    options = {name: {"color": colour} for name, colour in SEVERITY_COLOURS.items()}
    return {"id": "mappings", "value": [{"type": "value", "options": options}]}


def _coloured() -> Json:
    return {"id": "custom.cellOptions", "value": {"type": "color-text"}}


def _override(field: str, *properties: Json) -> Json:
    return {
        "matcher": {"id": "byName", "options": field},
        "properties": [dict(each) for each in properties],
    }


def link(title: str, dashboard: str, **variables: str) -> Json:
    """A link of a cell to another dashboard, with tenant, probes and time kept."""
    given = "".join(f"&var-{name}={value}" for name, value in variables.items())
    url = (
        f"/d/{dashboard}?${{tenant:queryparam}}&${{probe:queryparam}}{given}&${{__url_time_range}}"
    )
    return {"title": title, "url": url}


def chosen(name: str, label: str, sql: str, *, several: bool = False) -> Json:
    """A variable whose values the store knows."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": sql,
        "definition": sql,
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
        "current": {"text": "All", "value": "$__all"} if several else {},
    }


def typed(name: str, label: str, value: str = "") -> Json:
    """A variable that is typed in."""
    return {
        "type": "textbox",
        "name": name,
        "label": label,
        "query": value,
        "current": {"text": value, "value": value},
    }


def dashboard(
    uid: str,
    title: str,
    about: str,
    rows: Sequence[tuple[str, Sequence[Json]]],
    variables: Sequence[Json],
    annotations: Sequence[Json],
) -> Json:
    """A dashboard: panels fill each row from left to right, and go on below."""
    panels: list[Json] = []
    y = 0
    for heading, members in rows:
        if heading:
            panels.append(
                _placed({"type": "row", "title": heading, "collapsed": False}, 0, y, 24, 1)
            )
            y += 1
        x = tallest = 0
        for member in members:
            size = member["gridPos"]
            if x + size["w"] > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            panels.append(_placed(member, x, y, size["w"], size["h"]))
            x, tallest = x + size["w"], max(tallest, size["h"])
        y += tallest
    for number, each in enumerate(panels, 1):
        each["id"] = number
    source = {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": DATASOURCE["type"],
    }
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["netspectra"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "utc",
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [source, *variables]},
        "annotations": {"list": list(annotations)},
        "links": [
            {
                "type": "dashboards", "tags": ["netspectra"], "title": "NetSpectra",
                "asDropdown": True, "includeVars": True, "keepTime": True,
            }
        ],
        "panels": panels,
    }  # fmt: skip


def _placed(member: Json, x: int, y: int, width: int, height: int) -> Json:
    return {**member, "gridPos": {"x": x, "y": y, "w": width, "h": height}}
