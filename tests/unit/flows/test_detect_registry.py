"""Rules out of the settings: the detectors, rules of one's own, detectors of other packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flows import settings as loading
from flows.detect import registry
from flows.detect.alert import Severity
from flows.detect.detectors.amplification import Amplification
from flows.detect.detectors.host_scan import HostScan
from flows.detect.detectors.task_rule import TaskDetector
from flows.detect.policy import RuleSpec
from flows.detection import merged
from flows.errors import UsageError
from flows.settings import DEFAULT_TASKS, Settings
from flows.settings.detection import REFLECTOR_PORTS
from flows.windows.configured import tasks_of
from flows.windows.fields import FieldList
from tests.support.jobs import ROOT, SECOND

EXAMPLE = ROOT / "tests" / "support" / "example_detector"


def rules(**settings: Any) -> dict[str, RuleSpec]:
    return {spec.name: spec for spec in registry.rules(Settings(**settings))}


def only(rule: dict[str, Any]) -> RuleSpec:
    """The rule of one's own alone."""
    (spec,) = rules(detectors={"enabled": False}, rules=[rule]).values()
    return spec


def test_every_detector_runs_by_default() -> None:
    """Each has its tasks, default ones or named apart from those of users; whole panes."""
    found, defaults = rules(), tasks_of(DEFAULT_TASKS)
    assert {
        "host_scan", "port_scan", "super_spreader", "fan_in", "syn_flood", "amplification",
        "volume", "data_loss",
    } <= found.keys()  # fmt: skip
    for spec in found.values():
        assert all(task.name.startswith("_") or task in defaults for task in spec.tasks)
        detector = spec.detector()
        assert detector.horizon_ns == spec.horizon_ns
        assert detector.about.name == spec.name
        assert spec.detector() is not detector
    assert found["syn_flood"].severity is Severity.high
    assert found["host_scan"].horizon_ns == 600 * SECOND
    assert found["syn_flood"].horizon_ns == 2 * SECOND


def test_a_task_that_lists_more_rows_is_fed_once() -> None:
    """``volume`` looks at the sketch of the user's ``top_src_addr``, however many it lists."""
    wanted = rules()["volume"]
    tasks = [replace(task, top=100) for task in tasks_of(DEFAULT_TASKS)]
    assert len(merged(tasks, [wanted])) == len(tasks) + 2
    (mine,) = [task for task in tasks if task.name == "top_src_addr"]
    other = replace(mine, key=FieldList(("dst_port",)))
    with pytest.raises(UsageError, match="rule volume needs a task top_src_addr"):
        merged([other], [wanted])


def test_what_is_switched_off_does_not_run() -> None:
    """One detector, or all of them."""
    assert "fan_in" not in rules(detectors={"fan_in": {"enabled": False}})
    assert rules(detectors={"enabled": False}) == {}


def test_a_window_is_a_whole_number_of_panes() -> None:
    """With panes of 7 s the 600 s are rounded up."""
    found = rules(window={"pane": timedelta(seconds=7), "horizons": ()})
    assert found["host_scan"].horizon_ns == 602 * SECOND
    assert found["syn_flood"].horizon_ns == 7 * SECOND


def test_a_rule_on_a_detector_has_its_parameters_and_else_its_defaults() -> None:
    """Severity, window and exceptions are the detector's unless the rule says otherwise."""
    spec = only(
        {
            "name": "ntp", "detector": "amplification", "threshold": "1Gbps",
            "with": {"ports": [123], "reflectors": 5}, "notify": [],
        }
    )  # fmt: skip
    detector = spec.detector()
    assert isinstance(detector, Amplification)
    assert detector.threshold == 1e9
    assert "IN (123)" in detector.sql({}, "t", 0, SECOND)
    assert (spec.severity, spec.horizon_ns) == (Severity.high, 2 * SECOND)
    assert spec.unless
    own = only(
        {
            "name": "slow", "detector": "host_scan", "threshold": 5, "severity": "low",
            "horizon": "60s", "for": "4s", "unless": {},
        }
    )  # fmt: skip
    assert isinstance(own.detector(), HostScan)
    assert (own.severity, own.horizon_ns, own.hold_ns) == (Severity.low, 60 * SECOND, 4 * SECOND)
    assert not own.unless


def test_ports_of_all_rules_are_counted_as_reflectors() -> None:
    """The detector's own, and those of rules; none where nothing asks."""
    asked = {"name": "x", "detector": "amplification", "threshold": 1, "with": {"ports": [4444]}}
    assert registry.reflector_ports(Settings(rules=[asked])) == {*REFLECTOR_PORTS, 4444}
    assert registry.reflector_ports(Settings(detectors={"enabled": False})) == frozenset()


def test_a_rule_on_a_task_reads_that_task() -> None:
    """Its sketch is the user's own, so nothing more is fed."""
    spec = only(
        {"name": "loud", "task": "top_src_addr", "metric": "bits_per_second", "threshold": "1G"}
    )
    detector = spec.detector()
    assert isinstance(detector, TaskDetector)
    assert [task.name for task in spec.tasks] == ["top_src_addr"]
    assert detector.about.unit == "bit/s"


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"task": "nothing", "metric": "distinct"}, "a task of type distinct, frequency, spread"),
        ({"task": "five_tuple", "metric": "packets"}, "a task of type distinct, frequency"),
        ({"task": "fan_out", "metric": "packets"}, "wanted distinct for fan_out"),
        ({"task": "top_src_addr", "metric": "distinct"}, "packets_per_second or bits_per_second"),
        ({"task": "fan_out", "metric": "distinct", "op": "<"}, "but for tasks of type distinct"),
        ({"detector": "host_scan", "op": "<="}, "> or >= for a rule on a detector"),
    ],
)
def test_rules_that_can_not_be_measured_are_refused(
    rule: dict[str, Any], words: str, tmp_path: Path
) -> None:
    """One line names the rule, its value and what is wanted."""
    file = tmp_path / "netspectra.yaml"
    lines = "".join(f"    {name}: '{value}'\n" for name, value in rule.items())
    file.write_text(f"rules:\n  - name: x\n    threshold: 1\n{lines}")
    with pytest.raises(UsageError) as refused:
        loading.load(env={"NETSPECTRA_CONFIG": str(file)})
    assert words in str(refused.value)
    assert str(refused.value).startswith("rules[0].")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("with_", "words"),
    [
        ({"port": 9}, "rules: x: port is not known there; there are enabled"),
        ({"reflectors": 0}, "rules: x: reflectors = 0: wanted"),
    ],
)
def test_parameters_that_a_detector_lacks_are_refused(with_: Any, words: str) -> None:
    """The line names the rule and what there is."""
    asked = {"name": "x", "detector": "amplification", "threshold": 1, "with": with_}
    with pytest.raises(UsageError, match=words):
        only(asked)


def install(folder: Path, name: str, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with one detector on the path, as an installer would leave it."""
    info = folder / f"{name}-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text(f"[netspectra.detectors]\n{name} = {name}:Mine\n")
    (folder / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(folder)


@pytest.mark.parametrize(
    ("name", "source", "words"),
    [
        ("bad_import", "import no_such_module", "can't be loaded: ModuleNotFoundError: No module"),
        ("bad_name", "", "can't be loaded: AttributeError"),
        ("bad_shape", "class Mine: about = 1", "is no detector: it lacks tasks, horizon_ns, read"),
        ("bad_value", "Mine = 3", "is no detector: bad_value:Mine can't be called"),
        ("bad_start", "def Mine(): raise OSError('no disk')", "can't be made: OSError: no disk"),
        (
            "bad_word",
            "class Mine:\n    def __init__(self, horizon_ns, ports): pass",
            "got an unexpected keyword argument 'threshold'; its parameters: ports",
        ),
    ],
)
def test_a_bad_plug_in_is_one_line_that_names_its_package(
    name: str, source: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Import errors, wrong shapes and unknown parameters are no tracebacks."""
    install(tmp_path, name, source, monkeypatch)
    parameters = {"threshold": 1, "ports": 2} if name == "bad_word" else {}
    with pytest.raises(UsageError) as refused:
        rules(detectors={"plugins": {name: parameters}})
    assert f"detector {name} of package {name} 2.1" in str(refused.value)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_plug_in_that_is_not_installed_is_named() -> None:
    """With those that are."""
    words = "rules: x: there is no detector nothing; of other packages: "
    with pytest.raises(UsageError, match=words):
        only({"name": "x", "detector": "nothing", "threshold": 1})


def test_a_plug_in_is_loaded_only_if_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed package that nobody named isn't even imported."""
    install(tmp_path, "bad_unasked", "raise SystemExit", monkeypatch)
    assert "bad_unasked" not in rules()


RUN_IT = """
import numpy as np
from flows.detect import registry
from flows.settings import Settings
from tests.support.detection import views
from tests.support.naive_flows import random_packets

wanted = {"threshold": 20, "severity": "high", "where": {"dst_port": "53"}}
(spec,) = (
    spec for spec in registry.rules(Settings(detectors={"plugins": {"many_resolvers": wanted}}))
    if spec.name == "many_resolvers"
)
packets = random_packets(np.random.default_rng(1), 400)
packets["src_addr"] = packets["src_addr"][0]
packets["eth_type"], packets["ip_proto"], packets["dst_port"] = 0x0800, 17, 53
detector = spec.detector()
found = [reading for view in views(packets, detector) for reading in detector.read(view, ()).rows]
print(spec.severity.name, all(spec.concerns(each.entity) for each in found), found[-1].title)
"""


@pytest.mark.requires("hatchling")
def test_the_example_of_a_plug_in_is_installed_and_runs(tmp_path: Path) -> None:
    """Ten lines in a package of its own, installed by pip, become a rule that reads traffic."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    flags = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(tmp_path)]
    subprocess.run([*pip, *flags, str(EXAMPLE)], check=True, capture_output=True)
    paths = os.pathsep.join((str(tmp_path), str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-c", RUN_IT],
        env={**os.environ, "PYTHONPATH": paths},
        check=True,
        capture_output=True,
        text=True,
    )
    assert re.fullmatch(r"high True 10[.]0[.]0[.]\d+ asked [2-9]\d at port 53\n", done.stdout)
