"""Log lines and progress: rare and parseable in a file, live on a terminal."""

from __future__ import annotations

import io
import json

import pytest

from flows import logs
from flows.errors import StoreError
from flows.progress import LOG_EVERY_S, Progress, format_time


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_log_lines_are_json_for_machines() -> None:
    """The format json gives one object a line with level, time and component."""
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    logs.get("job").info("started", source="demo")
    line = json.loads(stream.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "started", "level": "info", "component": "job", "source": "demo"}


@pytest.mark.parametrize(
    ("level", "shown"), [("off", 0), ("error", 1), ("warning", 2), ("info", 3), ("debug", 4)]
)
def test_level_holds_lines_back(level: str, shown: int) -> None:
    """Each level shows itself and what is graver; off shows nothing."""
    stream = io.StringIO()
    logs.configure(level, "text", stream)
    log = logs.get("job")
    for say in (log.error, log.warning, log.info, log.debug):
        say("hello")
    assert len(stream.getvalue().splitlines()) == shown


def test_wrapped_error_is_told_as_itself() -> None:
    """An error of ours that an engine wrapped is still told as ours, with its exit code."""
    stream = io.StringIO()
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError("engine") from StoreError("the disk is full")
    assert logs.report(caught.value, stream) == 1
    assert stream.getvalue() == "netspectra: the disk is full\n"


def test_progress_in_a_file_is_rare() -> None:
    """Without a terminal a line comes each half minute, not with each update."""
    stream, clock = io.StringIO(), Clock()
    logs.configure("info", "text", stream)
    with Progress(io.StringIO(), clock) as progress:
        for second in range(int(2.5 * LOG_EVERY_S)):
            clock.now = float(second)
            progress.update(1000 * second, 0, second / 75)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert "packets=30000 packets_per_second=1000" in lines[0]
    assert "percent=40.0" in lines[0]


def test_progress_on_a_terminal_is_live() -> None:
    """On a terminal rate, event time and share are drawn, and taken away at the end."""
    stream, clock = Terminal(), Clock()
    with Progress(stream, clock) as progress:
        clock.now = 2.0
        progress.update(5000, 10**18, 0.5)
    text = stream.getvalue()
    assert "5,000 packets" in text
    assert "2,500/s" in text
    assert "2001-09-09 01:46:40" in text
    assert "50%" in text


def test_a_log_line_gives_the_rate_since_the_one_before() -> None:
    """Each line's rate is that of its own half minute, not the mean since the start."""
    stream, clock = io.StringIO(), Clock()
    logs.configure("info", "json", stream)
    with Progress(io.StringIO(), clock) as progress:
        for lines, packets in enumerate((3000, 3000, 63_000), 1):
            clock.now = lines * LOG_EVERY_S
            progress.update(packets)
    rates = [json.loads(line)["packets_per_second"] for line in stream.getvalue().splitlines()]
    assert rates == [100, 0, 2000]


def test_the_live_rate_is_that_of_the_last_seconds() -> None:
    """The live line forgets how fast it went earlier."""
    stream, clock = Terminal(), Clock()
    with Progress(stream, clock) as progress:
        for second in range(1, 31):
            clock.now = float(second)
            progress.update(1_000_000 + 70 * second if second > 10 else 100_000 * second)
    text = stream.getvalue()
    assert "1,002,100 packets  70/s" in text


def test_progress_works_without_a_known_size() -> None:
    """An input without an end is drawn without a share."""
    stream, clock = Terminal(), Clock()
    with Progress(stream, clock) as progress:
        clock.now = 1.0
        progress.update(5)
    assert "5 packets" in stream.getvalue()


def test_times_of_captures_may_be_absurd() -> None:
    """A time that no calendar holds is shown as seconds."""
    assert format_time(None) == "-"
    assert format_time(0) == "1970-01-01 00:00:00"
    assert format_time(2**63 - 1) == "2262-04-11 23:47:16"
    assert format_time(10**21) == "1000000000000 s"
