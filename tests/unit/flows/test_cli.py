"""The command line: one clear line for every failure, the right exit code, light imports."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows import __version__, logs
from flows.cli import COMMANDS, main
from flows.cli.sql import limit
from flows.errors import NetSpectraError, StoreError, UsageError
from probe.errors import CaptureError

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command's help shows how it is called."""
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Examples:" in text
    assert f"netspectra {command}" in text


def test_help_of_sql_lists_the_tables_of_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    """The tables that the README explains and those that the help names are the same."""
    section = (
        (ROOT / "README.md").read_text().partition("| table or view |")[2].partition("\n\n")[0]
    )
    first_cells = [row.split("|")[1] for row in section.splitlines()[2:]]
    explained = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    assert main(["sql", "--help"]) == 0
    tables = capsys.readouterr().out.partition("Tables:")[2].partition(".")[0]
    assert set(re.findall(r"\w+", tables)) == explained


def test_help_lists_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """The general help lists the commands."""
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {command} " in text for command in COMMANDS)


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command the help goes to stderr, and the exit code is 2."""
    assert main([]) == 2
    assert "Commands:" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    """Every command's help comes without the engine, the compiler, or the store's driver."""
    heavy = "numba numpy chdb bytewax scapy pyarrow pydantic rich clickhouse_connect"
    code = (
        "import sys; from flows.cli import main, COMMANDS\n"
        "codes = [main([c, '--help']) for c in COMMANDS]\n"
        f"print('LOADED', [m for m in '{heavy}'.split() if m in sys.modules], codes)"
    )
    assert f"LOADED [] {[0] * len(COMMANDS)}" in run("-c", code).stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["sqll"], "netspectra: No such command 'sqll'"),
        (["run", "-w", "0"], "netspectra: Invalid value for '-w'"),
        (["run", "a.pcap"], "netspectra: unexpected argument a.pcap; netspectra read FILE looks"),
        (["read"], "netspectra: Missing argument 'FILES...'; see netspectra read --help"),
        (["read", "nowhere.pcap"], "netspectra: nowhere.pcap isn't there; give capture files"),
        (["read", "."], "netspectra: . is no file; give capture files"),
        (["read", "--keep", "a", "--store", "b", "x"], "netspectra: --keep and --store both"),
        (["sql", " ; "], "netspectra: nothing to ask"),
        (["sql", "SELECT 1", "--format", "a b"], "netspectra: --format a b: wanted pretty, table"),
        (["sql", "SHOW TABLES", "-n", "1"], "netspectra: -n goes with a SELECT only"),
    ],
)
def test_usage_error_is_one_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong usage is one line on stderr and exit code 2."""
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(expected)
    assert shown.err.count("\n") == 1


def test_bad_settings_are_a_line_each(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each problem with the settings is a line, with exit code 2 and no traceback."""
    monkeypatch.setenv("NETSPECTRA_WINDOW__PAIN", "5s")
    monkeypatch.setenv("NETSPECTRA_LOG__FORMAT", "xml")
    for command in (["config", "check"], ["run"], ["migrate"], ["sql", "SELECT 1"]):
        assert main(command) == 2
        assert capsys.readouterr().err.splitlines() == [
            "netspectra: NETSPECTRA_WINDOW__PAIN is not a setting; "
            "did you mean NETSPECTRA_WINDOW__PANE?",
            "netspectra: NETSPECTRA_LOG__FORMAT = xml: wanted text or json",
        ]


def test_config_show_is_a_settings_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `config show` prints is a settings file; `check` counts what is set."""
    monkeypatch.setenv("NETSPECTRA_WINDOW__PANE", "5s")
    assert main(["config", "show"]) == 0
    text = capsys.readouterr().out
    assert "  pane: 5s  # env NETSPECTRA_WINDOW__PANE\n" in text
    monkeypatch.delenv("NETSPECTRA_WINDOW__PANE")
    Path("netspectra.yaml").write_text(text)
    assert main(["config", "show", "--no-origin"]) == 0
    assert "  pane: 5s\n" in capsys.readouterr().out
    assert main(["config", "check"]) == 0
    assert "values from netspectra.yaml; source demo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            "detectors: {plugins: {nobodys: {threshold: 1}}}",
            "netspectra: detectors.plugins.nobodys: there is no detector nobodys; ",
        ),
        (
            "rules: [{name: x, detector: host_scan, threshold: 9, with: {colour: red}}]",
            "netspectra: rules: x: colour is not known there; ",
        ),
    ],
)
def test_config_check_makes_the_rules(
    settings: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a job would refuse at its start when it makes the rules is known before, in a line."""
    Path("netspectra.yaml").write_text(settings)
    assert main(["config", "check"]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert shown.err.startswith(line)


def test_version_option_is_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`netspectra --version` prints our version alone."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_version_names_what_results_depend_on(capsys: pytest.CaptureFixture[str]) -> None:
    """Versions of ours, Python's, the engine's and the sketches' are printed."""
    assert main(["version"]) == 0
    names = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert names[:2] == ["netspectra", "python"]
    assert {"bytewax", "datasketches", "clickhouse engine"} <= set(names)


def test_limit_wraps_a_select() -> None:
    """Rows are limited outside the query, whatever it ends with."""
    query = "-- all\nWITH 1 AS a SELECT a -- one\n;"
    assert limit(query, 5) == "SELECT * FROM (\n-- all\nWITH 1 AS a SELECT a -- one\n) LIMIT 5"
    assert limit("SELECT 1;", None) == "SELECT 1"


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (StoreError("no\nway"), 1, "netspectra: no\nnetspectra: way\n"),
        (UsageError("what"), 2, "netspectra: what\n"),
        (CaptureError("cut"), 1, "netspectra: cut\n"),
        (NetSpectraError(), 1, "netspectra: NetSpectraError\n"),
        (KeyboardInterrupt(), 130, "netspectra: stopped\n"),
        (
            KeyError("x"),
            1,
            "netspectra: unexpected KeyError: 'x' (NETSPECTRA_LOG__LEVEL=debug shows where)\n",
        ),
    ],
)
def test_report_is_short(error: BaseException, code: int, text: str) -> None:
    """Every error is told without a traceback and has its exit code."""
    stream = io.StringIO()
    assert logs.report(error, stream) == code
    assert stream.getvalue() == text


def test_report_has_a_traceback_when_debugging(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log level debug shows where an error came from."""
    monkeypatch.setenv("NETSPECTRA_LOG__LEVEL", "debug")
    stream = io.StringIO()
    with pytest.raises(StoreError) as caught:
        raise StoreError("gone")
    assert logs.report(caught.value, stream) == 1
    assert "Traceback" in stream.getvalue()
    assert stream.getvalue().endswith("netspectra: gone\n")


def test_interrupt_is_one_line() -> None:
    """Ctrl-C while a command waits ends it with one line and exit code 130."""
    code = """
import sys, time
from flows.cli import script

class Waiting:
    def isatty(self): return False
    def read(self): print("ready", flush=True); time.sleep(60)

sys.stdin, sys.argv = Waiting(), ["netspectra", "sql", "-"]
script()
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
        assert child.stderr.read().strip() == "netspectra: stopped"


STARTING = """
import sys
from pathlib import Path
from flows.cli import script

class Slow:
    def find_spec(self, name, path, target=None):
        if name == "flows.job":  # an import that makes another error of an interrupt
            try:
                print("ready", flush=True)
                sys.stdin.read()
            except KeyboardInterrupt:
                raise RecursionError

sys.meta_path.insert(0, Slow())
sys.argv = ["netspectra", *sys.argv[1:]]
script()
"""


@pytest.mark.parametrize("arguments", [["run"], ["read", "a.pcap"]], ids=["run", "read"])
def test_interrupt_while_it_starts_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    """Ctrl-C while modules are imported ends it with one line, 130, and nothing left behind."""
    (tmp_path / "a.pcap").touch()
    (tmp_path / "temporary").mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", STARTING, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "temporary")},
    )
    with child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
        assert child.stderr.read() == "netspectra: stopped\n"
    assert list((tmp_path / "temporary").iterdir()) == []


def test_module_runs_like_the_command() -> None:
    """``python -m flows.cli`` is the command."""
    assert "Commands:" in run("-m", "flows.cli", "--help").stdout


def test_closed_pipe_is_no_error() -> None:
    """A reader that has enough (`| head -1`) ends the command quietly."""
    script = f"{sys.executable} -m flows.cli config show | head -n 1"
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.stdout.startswith("source: demo")
    assert done.stderr == ""
