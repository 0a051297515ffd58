"""``netspectra probe``: what it understands, refuses, shows; and files replayed to a broker."""

from __future__ import annotations

import io
import math
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.cli import main, probe_route, probe_run, probe_status
from flows.cli.probe_run import Plan, Stop
from flows.cli.probe_status import Rest, Status
from probe.filters import parse_rule
from probe.keep import KeepCounts
from probe.live import CaptureCounts
from probe.ship.agent import Agent, AgentStatus
from schemas.batch import decode_batch
from schemas.framing import frame_confluent
from schemas.record import Direction
from schemas.remote_registry import RemoteRegistry
from tests.support import traffic
from tests.support.mock_kafka import MockKafka, read_topic
from tests.support.schema_registry import serving
from tests.support.traffic import CASES, ETHERNET

TOPIC = "netspectra.packets"
FRAMES = [frame for link_type, frame in CASES.values() if link_type == ETHERNET]


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans of the commands that are run, none of which is carried out."""
    found: list[Plan] = []
    monkeypatch.setattr(probe_run, "run", lambda plan: found.append(plan) or 0)
    return found


def capture_file(name: str, frames: list[bytes]) -> None:
    Path(name).write_bytes(traffic.pcap(frames))


def status_of(
    seen: int, dropped: dict[str, int] | None = None, delivered: int = 0, **changed: Any
) -> AgentStatus:
    values = {
        "packets_per_second": 1234.5,
        "counts": CaptureCounts(seen, dropped or {}, changed.pop("filtered", 0)),
        "packets_sent": delivered,
        "packets_delivered": delivered,
        "packets_in_flight": 0,
        "queue_bytes": 2_500_000,
        "kafka": "connected",
        "paused": False,
        "aggregated": False,
    }
    return AgentStatus(**{**values, **changed})


# What is understood


def test_defaults_are_those_of_the_settings(plans: list[Plan]) -> None:
    """Without options everything is captured both ways, in the way that works best."""
    assert main(["probe", "lo"]) == 0
    (plan,) = plans
    assert plan.capture.interfaces == ("lo",)
    assert plan.capture.directions == {Direction.INGRESS, Direction.EGRESS}
    assert (plan.capture.method, plan.capture.mode) == ("auto", "packets")
    assert plan.capture.loader == plan.capture.attach == plan.capture.xdp_mode == "auto"
    assert (plan.capture.sampling_rate, plan.capture.ring_bytes) == (1, 64 * 2**20)
    assert plan.capture.keep == plan.capture.drop == plan.files == ()
    assert plan.keep is None
    assert plan.name == plan.capture.name == socket.gethostname()
    assert plan.settings.tenant == "default", "a probe's packets are no demo traffic"


def test_options_win_over_settings(plans: list[Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings are the defaults of options, and options win."""
    monkeypatch.setenv("NETSPECTRA_CAPTURE__FILTER", "icmp, udp port 53")
    monkeypatch.setenv("NETSPECTRA_CAPTURE__RING_MB", "8")
    monkeypatch.setenv("NETSPECTRA_CAPTURE__METHOD", "tc")
    monkeypatch.setenv("NETSPECTRA_CAPTURE__ATTACH", "tcx")
    monkeypatch.setenv("NETSPECTRA_CAPTURE__XDP_MODE", "native")
    monkeypatch.setenv("NETSPECTRA_KAFKA__BROKERS", "a:1")
    assert main(["probe", "lo"]) == 0
    options = "--direction ingress --method packet --mode auto --sampling 10 --ring-mb 64 --name p"
    options += " --loader bcc --attach clsact --xdp-mode generic"
    rules = ["--filter", "tcp port 443", "--filter", "icmp", "--except", "host 10.0.0.1"]
    assert main(["probe", "lo", *options.split(), *rules, "--brokers", "b:2"]) == 0
    before, after = plans
    assert before.capture.keep == (parse_rule("icmp"), parse_rule("udp port 53"))
    assert (before.capture.ring_bytes, before.capture.method) == (8 * 2**20, "tc")
    assert (before.capture.attach, before.capture.xdp_mode) == ("tcx", "native")
    assert before.settings.kafka.brokers == "a:1"
    assert after.capture.keep == (parse_rule("tcp port 443"), parse_rule("icmp"))
    assert after.capture.drop == (parse_rule("host 10.0.0.1"),)
    assert after.capture.directions == {Direction.INGRESS}
    assert (after.capture.method, after.capture.mode) == ("packet", "auto")
    assert (after.capture.loader, after.capture.attach) == ("bcc", "clsact")
    assert after.capture.xdp_mode == "generic"
    assert (after.capture.sampling_rate, after.capture.ring_bytes) == (10, 64 * 2**20)
    assert (after.name, after.settings.kafka.brokers) == ("p", "b:2")


def test_files_may_follow_each_other(plans: list[Plan]) -> None:
    """Several files go with one --pcap or with one each, and name the probe."""
    for name in ("a.pcap", "b.pcap"):
        capture_file(name, FRAMES[:1])
    assert main(["probe", "--pcap", "a.pcap", "b.pcap", "--speed", "max"]) == 0
    assert main(["probe", "--pcap", "a.pcap", "--pcap", "b.pcap", "--speed", "2.5"]) == 0
    assert [plan.files for plan in plans] == [(Path("a.pcap"), Path("b.pcap"))] * 2
    assert [plan.speed for plan in plans] == [math.inf, 2.5]
    assert plans[0].name == "a.pcap"


def test_what_to_keep(plans: list[Plan]) -> None:
    """Frames of interfaces are kept as they are, files as records, within the sizes given."""
    capture_file("a.pcap", FRAMES[:1])
    sizes = ["--write-limit", "5G", "--write-rotate", "50M"]
    assert main(["probe", "lo", "--write", "kept", *sizes]) == 0
    assert main(["probe", "--pcap", "a.pcap", "--write", "kept"]) == 0
    frames, records = (plan.keep for plan in plans)
    assert frames is not None
    assert records is not None
    assert (frames.directory, frames.format) == (Path("kept"), "pcapng")
    assert (frames.limit_bytes, frames.rotate_bytes) == (5 * 10**9, 50 * 10**6)
    assert records.format == "avro"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name an interface (there are lo"),
        (["lo0"], "there is no interface lo0; did you mean lo? (there are lo"),
        (["no-such-interface"], "there is no interface no-such-interface"),
        (["lo", "--filter", "tcp prt 1"], "can't read the filter rule 'tcp prt 1': what is 'prt'?"),
        (["lo", "--except", "host x"], "can't read the filter rule 'host x'"),
        (["lo", *["--filter", "tcp"] * 9], "9 filter rules of a kind, and there is room for 8"),
        (["lo", "--ring-mb", "3"], "capture.ring_mb = 3: wanted a power of two"),
        (["lo", "--sampling", "0"], "--sampling"),
        (["lo", "--method", "magic"], "--method"),
        (["lo", "--speed", "2"], "--speed goes with --pcap FILE"),
        (["lo", "--write-limit", "5G"], "go with --write DIR"),
        (["lo", "--write", "d", "--write-limit", "big"], "big is no size such as 500M or 10G"),
        (["lo", "--brokers", "foo:bar"], "foo:bar: wanted host:port, several with commas"),
        (["lo", "--write", "d", "--write-limit", "1M"], "--write-limit: 1 MB is less than two"),
        (["--pcap", "nothing.pcap"], "nothing.pcap isn't there"),
        (["--pcap", "."], ". is no file"),
        (["--pcap", "a.pcap", "--speed", "0"], "0 is no pace"),
        (["--pcap", "a.pcap", "--speed", "inf"], "inf is no pace"),
        (["--pcap", "a.pcap", "--speed", "nan"], "nan is no pace"),
        (["--pcap", "a.pcap", "--filter", "tcp"], "--filter is for interfaces"),
        (["--pcap", "a.pcap", "--except", "tcp"], "--except is for interfaces"),
        (["--pcap", "a.pcap", "--user", "nobody"], "--user is for interfaces"),
        (["--pcap", "a.pcap", "--xdp-mode", "native"], "--xdp-mode is for interfaces"),
        (["--pcap", "a.pcap", "--write", "d", "--write-format", "pcapng"], "in the files already"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: list[str], message: str, plans: list[Plan], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is refused in one line that says what to do, and nothing is begun."""
    capture_file("a.pcap", FRAMES[:1])
    assert main(["probe", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert plans == []


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """The help shows the grammar of rules and commands to copy."""
    assert main(["probe", "--help"]) == 0
    text = capsys.readouterr().out
    assert "sudo netspectra probe eth0\n" in text
    assert "[tcp|udp|icmp|icmp6|sctp|proto N]" in text


# Own traffic


def test_own_traffic_is_told_with_the_rule_that_leaves_it_out() -> None:
    """A broker that is reached by a captured interface is named, with the rule to type."""
    (line,) = probe_route.own_traffic("127.0.0.1:9092", ["lo"], (), ())
    assert "Kafka at 127.0.0.1 port 9092 is reached by lo" in line
    rule = line.partition("--except '")[2].removesuffix("'")
    assert list(probe_route.own_traffic("127.0.0.1:9092", ["lo"], (), (parse_rule(rule),))) == []


def test_traffic_that_is_not_captured_is_not_told() -> None:
    """Neither other interfaces nor what the filter leaves out make a warning."""
    broker = "127.0.0.1:9092"
    assert list(probe_route.own_traffic(broker, ["eth77"], (), ())) == []
    assert list(probe_route.own_traffic(broker, ["lo"], (parse_rule("icmp"),), ())) == []
    assert list(probe_route.own_traffic("no-such-host.invalid:1", ["lo"], (), ())) == []
    assert list(probe_route.own_traffic(broker, ["lo"], (parse_rule("port 9092"),), ())) != []
    assert list(probe_route.own_traffic(broker, ["lo"], (), (parse_rule("udp"),))) != []


@pytest.mark.parametrize(
    ("brokers", "found"),
    [
        ("10.0.0.1:9093,10.0.0.2", [("10.0.0.1", 9093), ("10.0.0.2", 9092)]),
        ("[::1]:19092", [("::1", 19092)]),
        ("SASL_SSL://10.0.0.1:1, 10.0.0.1:1", [("10.0.0.1", 1)]),
        ("", []),
        ("10.0.0.1:99999999", []),
    ],
)
def test_brokers_are_read_as_librdkafka_does(brokers: str, found: list[tuple[str, int]]) -> None:
    """Ports, protocols and brackets of a list of brokers are understood."""
    assert probe_route.addresses(brokers) == found


def test_routes_are_the_kernels() -> None:
    """The loopback addresses leave by loopback, and nonsense by nothing."""
    assert probe_route.outgoing("127.0.0.1") == "lo"
    assert probe_route.outgoing("240.0.0.1") in (None, *(name for _, name in socket.if_nameindex()))


# What is shown


@settings(max_examples=100)
@given(
    st.integers(0, 10**9),
    st.dictionaries(
        st.sampled_from(["ring_full", "sampled_out", "queue_full"]), st.integers(0, 99)
    ),
    st.integers(0, 99),
)
def test_summary_balances(delivered: int, dropped: dict[str, int], lost_in_kafka: int) -> None:
    """Seen is what was delivered, dropped and left; missing is what nobody asked to drop."""
    seen = delivered + sum(dropped.values()) + lost_in_kafka
    status = status_of(seen, dropped, delivered)
    lines = probe_status.summary(status, "p", 1.0, None).splitlines()
    counts = [int(line.split()[1].replace(",", "")) for line in lines[1:-1]]
    assert counts[0] == seen == sum(counts[1:])
    missing = seen - delivered - dropped.get("sampled_out", 0)
    assert probe_status.complete(status) == (missing == 0)
    assert lines[-1].strip().startswith("complete" if missing == 0 else f"incomplete: {missing:,}")


def test_summary_tells_what_was_not_read() -> None:
    """Packets of files that a stopped replay did not come to are missing, however many they are."""
    for rest, says in ((Rest(7), "7"), (Rest(7, counted=False), "at least 7")):
        text = probe_status.summary(status_of(5, {}, 5), "p", 1.0, None, rest)
        assert f"\n  and {says} of the files that were not read\n" in text
        assert text.endswith(f"\n  incomplete: {says} packets missing")
        assert not probe_status.complete(status_of(5, {}, 5), rest)
    nothing = probe_status.summary(
        status_of(0, kafka=probe_status.UNREACHABLE), "p", 1.0, None, Rest(7)
    )
    assert nothing.endswith("incomplete: 7 packets missing; no broker answered")
    assert not probe_status.complete(status_of(0), Rest(0, counted=False))


def test_summary_tells_what_was_filtered_and_kept() -> None:
    """What the filter left out isn't part of the balance; what was kept is a line of its own."""
    kept = KeepCounts(offered=7, kept=5, skipped={"disk_full": 2}, kept_bytes=10**6, files=1)
    text = probe_status.summary(status_of(7, {}, 7, filtered=1000), "p", 2.0, kept)
    assert "and 1,000 that the filter left out" in text
    assert "kept 5 of 7 in 1 file, 1.0 MB, 2 disk_full\n" in text
    for deleted, says in ((1, "1 older file was"), (3, "3 older files were")):
        kept = KeepCounts(offered=7, kept=7, kept_bytes=10**6, files=5, deleted_files=deleted)
        text = probe_status.summary(status_of(7, {}, 7), "p", 2.0, kept)
        assert f"kept 7 of 7 in 5 files, 1.0 MB; {says} deleted for the limit\n" in text


def test_live_line_is_for_people_and_fields_for_machines() -> None:
    """Both tell rate, losses, ring, queue and Kafka; a sampled packet isn't lost."""
    status = status_of(5000, {"ring_full": 7, "sampled_out": 90}, 100, packets_in_flight=4803)
    line = probe_status.live_line(status, 0.25)
    assert line == (
        "1,234 packets/s  seen 5,000  lost 7  ring 25%  queue 2.5 MB  "
        "Kafka connected, 4,803 packets behind"
    )
    fields = probe_status.log_fields(status, None)
    assert (fields["lost"], fields["behind"]) == (7, 4803)
    assert "ring_percent" not in fields


class Terminal(io.StringIO):
    """A terminal that lets a test wait for what is drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn = threading.Event()

    def isatty(self) -> bool:
        return True

    def flush(self) -> None:
        if "packets/s" in self.getvalue():
            self.drawn.set()


def test_terminal_has_one_live_line() -> None:
    """Lines go above the live one, which is drawn again and gone at the end."""
    terminal = Terminal()
    with Status(terminal, every_s=0.001) as status:
        status.say("attached")
        status.follow(lambda: status_of(5), lambda: 0.5)
        assert terminal.drawn.wait(30)
        status.warn("the queue is full")
    text = terminal.getvalue()
    assert text.startswith("\r\x1b[Kattached\n")
    assert "seen 5  lost 0  ring 50%" in text
    assert "\r\x1b[Knetspectra: the queue is full\n" in text
    assert text.endswith("\r\x1b[K")


def test_elsewhere_there_are_log_lines() -> None:
    """Without a terminal nothing is drawn: it is logged, with fields."""
    from flows import logs

    stream = io.StringIO()
    logs.configure("info", "json", stream)
    seen = threading.Event()

    def sample() -> AgentStatus:
        seen.set()
        return status_of(5)

    with Status(io.StringIO(), every_s=0.001) as status:
        status.say("attached")
        status.follow(sample)
        assert seen.wait(30)
    lines = stream.getvalue().splitlines()
    assert '"event": "attached"' in lines[0]
    assert '"event": "capturing"' in lines[1]
    assert '"seen": 5' in lines[1]
    assert all("\x1b" not in line for line in lines)


def test_second_signal_has_its_usual_effect(capfd: pytest.CaptureFixture[str]) -> None:
    """The first signal asks to stop; the next one of its kind isn't ours any more."""
    before = signal.getsignal(signal.SIGTERM)
    stop, asked = Stop(), []
    stop.then = lambda: asked.append(True)
    try:
        signal.signal(signal.SIGTERM, stop)
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked
        assert asked == [True]
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


# Files to a broker


@pytest.fixture
def kafka() -> Iterator[MockKafka]:
    with MockKafka() as cluster:
        cluster.create(TOPIC, 3)
        yield cluster


def test_files_arrive_whole(
    kafka: MockKafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every packet of a replayed file is in the topic, and the summary says so."""
    capture_file("a.pcap", FRAMES)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    write = ["--write", "kept", "--write-format", "text"]
    assert (
        main(["probe", "--pcap", "a.pcap", "--speed", "max", "--brokers", kafka.brokers, *write])
        == 0
    )
    batches = [decode_batch(message.value()) for message in read_topic(kafka.brokers, TOPIC)]
    assert sum(int(records["packets"].sum()) for _, records in batches) == len(FRAMES)
    assert {header.probe for header, _ in batches} == {"a.pcap"}
    assert sum(header.goodbye for header, _ in batches) == 3
    text = capsys.readouterr().out
    assert text.startswith("probe a.pcap, ")
    assert f"delivered  {len(FRAMES)}" in text
    assert f"kept {len(FRAMES)} of {len(FRAMES)} in 1 file" in text
    assert "complete: every packet that was wanted is in Kafka" in text
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_stopped_while_no_broker_answers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay that sent nothing ends with exit code 3, and all its packets are missing."""
    capture_file("a.pcap", FRAMES)
    ask = lambda _: signal.raise_signal(signal.SIGINT)  # noqa: E731 - Ctrl-C while it waits
    monkeypatch.setattr(probe_run.time, "sleep", ask)
    assert main(["probe", "--pcap", "a.pcap", "--speed", "max", "--brokers", "127.0.0.1:9"]) == 3
    text = capsys.readouterr().out
    assert f"and {len(FRAMES)} of the files that were not read" in text
    assert f"incomplete: {len(FRAMES)} packets missing; no broker answered" in text
    assert "complete: every packet" not in text


def test_stopped_in_the_middle_of_a_file(
    kafka: MockKafka, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay that is stopped says how many packets of its files it did not come to."""
    capture_file("a.pcap", FRAMES)
    capture_file("b.pcap", FRAMES)
    monkeypatch.setattr(Agent, "_loop", lambda agent, finished: agent.stop())
    arguments = ["--speed", "max", "--brokers", kafka.brokers]
    assert main(["probe", "--pcap", "a.pcap", "b.pcap", *arguments]) == 3
    text = capsys.readouterr().out
    assert text.endswith(f"incomplete: {2 * len(FRAMES)} packets missing\n")


def test_batches_are_registered_where_there_is_a_registry(
    kafka: MockKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a schema registry in the settings, messages carry the id of their schema there."""
    capture_file("a.pcap", FRAMES)
    with serving() as remote:
        monkeypatch.setenv("NETSPECTRA_KAFKA__SCHEMA_REGISTRY", remote.url)
        assert main(["probe", "--pcap", "a.pcap", "--brokers", kafka.brokers]) == 0
        assert remote.requests == [f"POST /subjects/{TOPIC}-value/versions"]
        messages = [message.value() for message in read_topic(kafka.brokers, TOPIC)]
        assert all(message.startswith(frame_confluent(1)) for message in messages)
        batches = [
            decode_batch(message, RemoteRegistry(remote.url).resolve) for message in messages
        ]
    assert sum(int(records["packets"].sum()) for _, records in batches) == len(FRAMES)


def test_file_that_is_no_capture_fails(
    kafka: MockKafka, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that can't be read ends it with a line and exit code 1."""
    Path("a.pcap").write_text("no capture")
    assert main(["probe", "--pcap", "a.pcap", "--brokers", kafka.brokers]) == 1
    assert "a.pcap" in capsys.readouterr().err


def test_wrong_property_of_kafka_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """What librdkafka refuses is told, and isn't tried again."""
    capture_file("a.pcap", FRAMES[:1])
    Path("netspectra.yaml").write_text("kafka: {properties: {acks: many}}")
    assert main(["probe", "--pcap", "a.pcap"]) == 1
    assert "librdkafka refuses its settings" in capsys.readouterr().err
