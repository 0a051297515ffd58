"""The dashboards: what is checked in is what is generated, and every query gives rows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
import yaml

from flows.storage.reader import Reader, open_for_reading
from tests.support import demo, grafana
from tests.support.jobs import ROOT

FOLDER = ROOT / "deploy" / "grafana"
DASHBOARDS = {
    path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("dashboards/*.json"))
}
QUERIES = [
    pytest.param(name, panel["title"], panel["targets"][0], id=f"{name}: {panel['title']}")
    for name, dashboard in DASHBOARDS.items()
    for panel in grafana.panels(dashboard)
]
NOTHING_LOST = {"Dropped, by hop and reason"}
"""Panels that have no rows while all is well."""


@pytest.fixture(scope="module")
def reader(demo_store: str) -> Iterator[Reader]:
    with open_for_reading(demo_store) as opened:
        yield opened


@pytest.fixture(scope="module")
def moment(reader: Reader) -> grafana.Moment:
    (row,) = reader.query(
        "SELECT toUnixTimestamp(min(window_start)) AS first,"
        " toUnixTimestamp(max(window_start)) AS last FROM totals"
    ).to_pylist()
    return grafana.Moment(row["first"], row["last"] + 2, 10)


@pytest.fixture(scope="module")
def variables(reader: Reader) -> dict[str, str | list[str]]:
    (row,) = reader.query(
        "SELECT alert_id FROM alerts WHERE rule = 'host_scan' ORDER BY alert_id LIMIT 1"
    ).to_pylist()
    host = reader.query("SELECT src_addr AS a FROM alerts WHERE rule = 'host_scan'").to_pylist()
    return {
        "tenant": demo.TENANT,
        "probe": ["it's", "demo"],
        "host": host[0]["a"],
        "alert": row["alert_id"],
        "address": "10.0.0.0/8",
        "port": "443",
        "protocol": "tcp",
    }


def test_what_is_checked_in_is_generated() -> None:
    """The generator would write the files as they are, and no others."""
    done = subprocess.run(
        [sys.executable, FOLDER / "generate.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(DASHBOARDS) == 7


@pytest.mark.parametrize(("dashboard", "title", "query"), QUERIES)
def test_every_panel_has_rows(
    dashboard: str,
    title: str,
    query: dict[str, Any],
    reader: Reader,
    moment: grafana.Moment,
    variables: dict[str, str | list[str]],
) -> None:
    """With its macros and variables expanded a panel's query gives rows that it can show."""
    named = {each["name"] for each in DASHBOARDS[dashboard]["templating"]["list"]}
    given = {name: value for name, value in variables.items() if name in named}
    found = reader.query(grafana.expand(query["rawSql"], moment, given))
    assert found.num_rows > 0 or title in NOTHING_LOST
    if query["queryType"] == "timeseries":
        # What the plug-in makes a line of: a time first, in order, and numbers after it.
        assert found.column_names[0] == "time"
        times = found["time"].cast(pa.int64()).to_pylist()
        assert times == sorted(times)
        assert any(pa.types.is_floating(t) or pa.types.is_integer(t) for t in found.schema.types)
    if {"lower", "estimate", "upper"} <= set(found.column_names):
        for row in found.to_pylist():
            assert row["lower"] <= row["estimate"] <= row["upper"]


def test_sums_of_panels_are_those_of_the_store(
    reader: Reader, moment: grafana.Moment, variables: dict[str, str | list[str]]
) -> None:
    """Packets, rates and the ledger as charts show them add up to the packets of the demo."""

    def ask(dashboard: str, title: str) -> list[dict[str, Any]]:
        (query,) = [
            panel["targets"][0]
            for panel in grafana.panels(DASHBOARDS[dashboard])
            if panel["title"] == title
        ]
        return list(reader.query(grafana.expand(query["rawSql"], moment, variables)).to_pylist())

    assert ask("netspectra-overview", "Packets") == [{"n": demo.PACKETS}]
    rates = ask("netspectra-overview", "Packets per second by protocol")
    per_step = [sum(v for k, v in row.items() if k != "time") for row in rates]
    assert round(10 * sum(per_step)) == demo.PACKETS
    ledger = ask("netspectra-pipeline", "Ledger")
    assert {row["delivered_sum"] for row in ledger} == {demo.PACKETS}
    assert {row["unaccounted"] for row in ledger} == {0}
    assert ask("netspectra-overview", "Complete, worst pane") == [{"n": 100.0}]


@pytest.mark.parametrize("dashboard", DASHBOARDS)
def test_variables_and_annotations_have_values(
    dashboard: str, reader: Reader, moment: grafana.Moment, variables: dict[str, str | list[str]]
) -> None:
    """Variables that the store knows have values, alerts are annotations with a time and a text."""
    for each in DASHBOARDS[dashboard]["templating"]["list"]:
        if each["type"] == "query":
            found = reader.query(grafana.expand(each["query"], moment, variables))
            assert found.column(0).to_pylist() == ["demo"]
    (alerts,) = DASHBOARDS[dashboard]["annotations"]["list"]
    found = reader.query(grafana.expand(alerts["target"]["rawSql"], moment, variables))
    assert found.num_rows >= 3
    assert {"time", "timeEnd", "text", "tags"} == set(found.column_names)


@pytest.mark.parametrize("dashboard", DASHBOARDS)
def test_panels_don_t_overlap_and_links_lead_somewhere(dashboard: str) -> None:
    """Every panel has a number and a place of its own; links name dashboards and variables."""
    made = DASHBOARDS[dashboard]
    taken: set[tuple[int, int]] = set()
    for panel in made["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells
    numbers = [panel["id"] for panel in made["panels"]]
    assert len(numbers) == len(set(numbers))
    for uid, name in re.findall(r'"/d/([\w-]+)\?[^"]*?&var-(\w+)=', json.dumps(made)):
        assert name in {each["name"] for each in DASHBOARDS[uid]["templating"]["list"]}


@pytest.mark.parametrize(
    "sql", ["SELECT $__timeFiltre(a)", "SELECT ${nobody:singlequote}", "SELECT ${tenant:raw}"]
)
def test_what_the_plug_in_doesn_t_know_fails(sql: str) -> None:
    """Unknown macros, variables and formats are errors, not text that is sent on."""
    with pytest.raises(ValueError, match="no such"):
        grafana.expand(sql, grafana.Moment(0, 1, 1), {"tenant": "t"})


def test_hostile_variables_stay_values(reader: Reader, moment: grafana.Moment) -> None:
    """A quote in a variable doesn't end the text that it is in."""
    sql = grafana.expand("SELECT ${tenant:singlequote} AS t", moment, {"tenant": "x' OR '1'='1"})
    assert reader.query(sql).to_pylist() == [{"t": "x' OR '1'='1"}]


def test_provisioning_fits_the_dashboards() -> None:
    """The data source is of the plug-in's type, and its password comes from the environment."""
    (source,) = yaml.safe_load(
        (FOLDER / "provisioning" / "datasources" / "netspectra.yaml").read_text()
    )["datasources"]
    assert source["type"] == "grafana-clickhouse-datasource"
    assert re.fullmatch(r"\$\{\w+\}", source["secureJsonData"]["password"])
    used = set(re.findall(r'"type": "(grafana-[\w-]+)"', json.dumps(DASHBOARDS)))
    assert used == {source["type"]}
