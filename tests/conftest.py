"""What all tests share: needs that a machine may lack, and an environment without settings.

A test that needs something says so, and skips with the reason where it is missing::

    @pytest.mark.requires("captures")
    def test_real_traffic(captures: Path) -> None: ...

``NETSPECTRA_REQUIRE=captures,hatchling`` (set by ``.ci/run``) names needs that must be there:
such a test then fails instead of skipping, so that nothing stays untested unnoticed. A fixture
that finds out by itself, for instance by starting a broker, calls ``missing(name, reason)``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import structlog
from hypothesis import settings

from flows.storage.embedded import ENGINE_OPTIONS
from tests.support import browser, demo, kafka, machine

# A build judges the change, not the dice: a developer's run draws new examples, CI's the same.
# Nor does anybody judge how long an example takes: the first one may compile a kernel.
settings.register_profile("untimed", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "untimed")

ROOT = Path(__file__).parent.parent
REQUIRED = frozenset(filter(None, os.environ.get("NETSPECTRA_REQUIRE", "").split(",")))
RESERVED = ("NETSPECTRA_REQUIRE", "NETSPECTRA_CAPTURES", "NETSPECTRA_TEST_")


def captures_directory() -> Path:
    return Path(os.environ.get("NETSPECTRA_CAPTURES") or ROOT.parent / "shared" / "captures")


def no_captures() -> str | None:
    if (captures_directory() / "expected.jsonl").is_file():
        return None
    return "no captures; NETSPECTRA_CAPTURES names their directory"


def no_hatchling() -> str | None:
    if all(importlib.util.find_spec(name) for name in ("hatchling", "editables")):
        return None
    return "hatchling isn't installed; pip install -r requirements.lock"


NEEDS: dict[str, Callable[[], str | None]] = {
    "captures": no_captures,
    "hatchling": no_hatchling,
    "bpf": machine.no_bpf,
    "netns": machine.no_netns,
    "packet_socket": machine.no_packet_socket,
    "bcc": machine.no_bcc,
    "libbpf": machine.no_libbpf,
    "clang": machine.no_program("clang", "clang"),
    "cc": machine.no_program("cc", "gcc"),
    "iperf3": machine.no_program("iperf3", "iperf3"),
    "ethtool": machine.no_program("ethtool", "ethtool"),
    "kafka": kafka.no_kafka,
    "chromium": browser.no_chromium,
}
"""Needs by name; each tells why it isn't met and what to do, or nothing."""

SHORT = frozenset({"unit", "property"})
"""Folders whose files take seconds each."""

FOUND_BY_FIXTURES = frozenset({"clickhouse"})


def miss(name: str, reason: str) -> NoReturn:
    if name in REQUIRED:
        pytest.fail(f"NETSPECTRA_REQUIRE names {name}: {reason}", pytrace=False)
    pytest.skip(reason)


def pytest_configure(config: pytest.Config) -> None:
    # A shell has what it starts in the background ignore Ctrl-C, and our children inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    unknown = REQUIRED - NEEDS.keys() - FOUND_BY_FIXTURES
    if unknown:
        raise pytest.UsageError(f"NETSPECTRA_REQUIRE: unknown {', '.join(sorted(unknown))}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let parallel workers end with short files, and so at about the same time."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path.relative_to(ROOT / "tests").parts[0] in SHORT)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("requires"):
        for name in mark.args:
            if reason := NEEDS[name]():
                miss(name, reason)


@pytest.fixture(scope="session")
def missing() -> Callable[[str, str], NoReturn]:
    """Skip the test, or fail it where NETSPECTRA_REQUIRE names what is missing."""
    return miss


@pytest.fixture(scope="session")
def captures() -> Path:
    """The directory of real captures; goes with ``requires("captures")``."""
    return captures_directory()


@pytest.fixture(scope="session")
def demo_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The setting of a store with demo traffic in it; nobody writes to it."""
    return demo.fill(tmp_path_factory.mktemp("demo") / "store")


@pytest.fixture(scope="session")
def kafka_session(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[kafka.Broker]:
    if reason := kafka.no_kafka():
        miss("kafka", reason)
    with kafka.Broker(tmp_path_factory.mktemp("kafka")) as broker:
        if reporter := pytestconfig.pluginmanager.get_plugin("terminalreporter"):
            reporter.write_line(broker.started)
        yield broker


@pytest.fixture
def kafka_broker(kafka_session: kafka.Broker) -> Iterator[kafka.Broker]:
    """One node of Apache Kafka, the same for all tests, running before and after each."""
    yield kafka_session
    if not kafka_session.answers():
        kafka_session.start()


@pytest.fixture
def kafka_cluster(tmp_path: Path) -> Iterator[Callable[[], kafka.Broker]]:
    """Starts three nodes for one test."""
    if reason := kafka.no_kafka():
        miss("kafka", reason)
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(kafka.Broker(tmp_path / "kafka", 3))


@pytest.fixture(autouse=True, scope="session")
def no_settings_from_outside() -> Iterator[None]:
    """Take the developer's own settings out of the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("NETSPECTRA_") and not name.startswith(RESERVED):
                patch.delenv(name)
        yield


@pytest.fixture(autouse=True, scope="session")
def room_for_many_engines() -> Iterator[None]:
    """Allow this process what no job needs: chDB keeps 2.4 MB and files of each engine."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 1 << 16), most))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINE_OPTIONS, "max_server_memory_usage", 4_000_000_000)
        yield


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Take back what a command set up: its stream is closed when the test is over."""
    yield
    structlog.reset_defaults()
