"""``netspectra probe`` as a process: real interfaces in, a broker out, signals, privileges.

The probe, the broker and the reader live in the left namespace of a pair; frames come from the
right one.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from schemas.batch import decode_batch
from tests.support.ebpf import UDP_FRAME
from tests.support.mock_kafka import MockKafka, read_topic
from tests.support.namespaces import DEVICE, End, inside, pair, run, send

pytestmark = pytest.mark.requires("netns", "packet_socket")

ROOT = Path(__file__).parents[2]
TOPIC = "netspectra.packets"
PRIME = 1009
SECONDS = 90

# TC by eBPF comes with whatever loader is there; without any it is a test of the packet socket.
EBPF = pytest.mark.requires("bpf", "libbpf")
METHODS = [
    pytest.param(("--method", "tc"), id="tc", marks=EBPF),
    pytest.param(("--method", "xdp", "--direction", "ingress"), id="xdp", marks=EBPF),
    pytest.param(("--mode", "flows"), id="flows", marks=EBPF),
    pytest.param(("--method", "packet"), id="packet"),
]


class Probe:
    """The command at work in a namespace."""

    def __init__(
        self, where: str, errors: Path, *arguments: str, before: tuple[str, ...] = ()
    ) -> None:
        self.errors = errors
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("NETSPECTRA", "SUDO"))}
        with inside(where), errors.open("wb") as stream:
            self.process = subprocess.Popen(
                (*before, sys.executable, "-P", "-m", "flows.cli", "probe", *arguments),
                env={**clean, "PYTHONPATH": str(ROOT)},
                cwd=errors.parent,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
            )

    def says(self, text: str) -> None:
        """Wait until it has said something."""
        end = time.monotonic() + SECONDS
        while text not in self.errors.read_text():
            assert time.monotonic() < end, f"no {text!r} in: {self.errors.read_text()}"
            assert self.process.poll() is None, self.errors.read_text()
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """Stop it well; returns exit code and summary."""
        self.process.send_signal(number)
        summary, _ = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, summary


@contextmanager
def probing(
    where: str, errors: Path, *arguments: str, before: tuple[str, ...] = ()
) -> Iterator[Probe]:
    probe = Probe(where, errors, *arguments, before=before)
    try:
        yield probe
    finally:
        probe.process.kill()
        probe.process.communicate(timeout=SECONDS)


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    with pair() as both:
        yield both


@pytest.fixture
def kafka(ends: tuple[End, End]) -> Iterator[MockKafka]:
    # Its threads stay where the one was that started them.
    with inside(ends[0].name):
        cluster = MockKafka()
    with cluster:
        cluster.create(TOPIC, 3)
        yield cluster


def arrived(where: str, kafka: MockKafka) -> dict[str, int]:
    """Packets in the topic, and what the goodbyes say was seen and dropped."""
    with inside(where):
        messages = [message.value() for message in read_topic(kafka.brokers, TOPIC)]
    batches = [decode_batch(message) for message in messages]
    last = [header for header, _ in batches if header.goodbye]
    (counters,) = (header.counters for header in last if header.counters is not None)
    assert len(last) == 3, "a goodbye in each partition"
    return {
        "packets": sum(int(records["packets"].sum()) for _, records in batches),
        "seen": counters.seen,
        "dropped": sum(counters.dropped.values()),
    }


def counted(summary: str, what: str) -> int:
    """A count of the summary."""
    return sum(int(n.replace(",", "")) for n in re.findall(rf"^  {what} +([\d,]+)", summary, re.M))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_every_packet_arrives_and_nothing_is_left_behind(
    method: tuple[str, ...],
    number: int,
    ends: tuple[End, End],
    kafka: MockKafka,
    tmp_path: Path,
) -> None:
    """What was sent is in the topic to the packet, shipped by a process without privileges."""
    left, right = ends
    arguments = (DEVICE, "--brokers", kafka.brokers, "--name", f"e2e-{os.getpid()}", *method)
    with probing(left.name, tmp_path / "errors", *arguments) as probe:
        probe.says("shipping to topic")
        if os.geteuid() == 0:
            for task in Path(f"/proc/{probe.process.pid}/task").iterdir():
                status = (task / "status").read_text()
                assert re.search(r"^Uid:\t65534\t65534\t65534\t65534$", status, re.M)
                assert re.search(r"^CapPrm:\t0+$", status, re.M)
        assert send(right.name, [UDP_FRAME] * PRIME) == PRIME
        code, summary = probe.stop(number)
    assert code == 0, (tmp_path / "errors").read_text()
    assert counted(summary, "seen") == counted(summary, "delivered") == PRIME
    assert "complete: every packet that was wanted is in Kafka" in summary
    assert arrived(left.name, kafka) == {"packets": PRIME, "seen": PRIME, "dropped": 0}
    assert "bpf" not in run(left.name, "tc", "filter", "show", "dev", DEVICE, "ingress")
    assert "xdp" not in run(left.name, "ip", "link", "show", DEVICE)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_imported_without_privileges(
    method: tuple[str, ...],
    ends: tuple[End, End],
    kafka: MockKafka,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the probe needs is loaded while it may read it, wherever it is installed."""
    left, right = ends
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    arguments = (DEVICE, "--brokers", kafka.brokers, *method)
    with probing(left.name, tmp_path / "errors", *arguments) as probe:
        probe.says("shipping to topic")
        send(right.name, [UDP_FRAME] * PRIME)
        code, _ = probe.stop()
    assert code == 0
    before, after = (tmp_path / "errors").read_text().split("capabilities dropped")
    assert "import time:" in before
    assert "import time:" not in after


def test_packets_wait_for_a_broker(ends: tuple[End, End], kafka: MockKafka, tmp_path: Path) -> None:
    """Without a broker it says so and goes on; what came meanwhile arrives when there is one."""
    left, right = ends
    kafka.down()
    arguments = (DEVICE, "--brokers", kafka.brokers, "--method", "packet")
    with probing(left.name, tmp_path / "errors", *arguments) as probe:
        probe.says("capturing meanwhile, and trying again")
        send(right.name, [UDP_FRAME] * PRIME)
        kafka.up()
        probe.says("shipping to topic")
        code, summary = probe.stop()
    assert code == 0, summary
    assert arrived(left.name, kafka)["packets"] == counted(summary, "delivered") == PRIME


def test_what_no_broker_took_is_told(ends: tuple[End, End], tmp_path: Path) -> None:
    """Stopped without ever having reached Kafka, it tells what was lost and exits with 3."""
    left, right = ends
    arguments = (DEVICE, "--brokers", "127.0.0.1:1", "--method", "packet")
    with probing(left.name, tmp_path / "errors", *arguments) as probe:
        probe.says("capturing meanwhile, and trying again")
        send(right.name, [UDP_FRAME] * PRIME)
        code, summary = probe.stop()
    assert code == 3
    assert (counted(summary, "seen"), counted(summary, "delivered")) == (PRIME, 0)
    assert f"incomplete: {PRIME:,} packets missing" in summary


def test_ring_that_is_too_small_loses_and_counts(
    ends: tuple[End, End], kafka: MockKafka, tmp_path: Path
) -> None:
    """Packets that found the ring full are counted to the last, and the exit code is 3."""
    left, right = ends
    many = 8 * PRIME
    small = ("--method", "packet", "--ring-mb", "1")
    arguments = (DEVICE, "--brokers", kafka.brokers, *small)
    with probing(left.name, tmp_path / "errors", *arguments) as probe:
        probe.says("shipping to topic")
        probe.process.send_signal(signal.SIGSTOP)
        send(right.name, [UDP_FRAME] * many)
        probe.process.send_signal(signal.SIGCONT)
        code, summary = probe.stop()
    delivered, dropped = counted(summary, "delivered"), counted(summary, "dropped")
    assert counted(summary, "seen") == many == delivered + dropped
    assert 0 < delivered < many
    assert re.search(r"dropped +[\d,]+  ring_full", summary)
    assert code == 3
    assert arrived(left.name, kafka) == {"packets": delivered, "seen": many, "dropped": dropped}


def test_second_signal_ends_it_at_once(
    ends: tuple[End, End], kafka: MockKafka, tmp_path: Path
) -> None:
    """While it waits for Kafka to take the rest, another Ctrl-C ends it without a summary."""
    left, right = ends
    arguments = (DEVICE, "--brokers", kafka.brokers, "--method", "packet")
    with probing(left.name, tmp_path / "errors", *arguments) as probe:
        probe.says("shipping to topic")
        kafka.down()
        send(right.name, [UDP_FRAME] * PRIME)
        probe.process.send_signal(signal.SIGINT)
        probe.says("stopping; again to end at once")
        code, summary = probe.stop()
    assert (code, summary) == (-signal.SIGINT, "")


@pytest.fixture
def bpffs() -> Iterator[tuple[str, ...]]:
    """What to put before a command so that it sees a BPF file system of its own."""
    script = "mount -t tmpfs t /sys/fs && mkdir /sys/fs/bpf && mount -t bpf bpf /sys/fs/bpf"
    holder = subprocess.Popen(
        ("unshare", "-m", "--propagation", "private", "sh", "-c", f"{script} && echo y && cat"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"y\n"
        yield ("nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", "--wd=.")
    finally:
        holder.communicate(timeout=SECONDS)


@EBPF
def test_next_start_tells_what_a_kill_lost(
    ends: tuple[End, End], kafka: MockKafka, bpffs: tuple[str, ...], tmp_path: Path
) -> None:
    """Killed with packets in its ring, the probe leaves a count; the start that can reports it."""
    left, right = ends
    arguments = (DEVICE, "--brokers", kafka.brokers, "--method", "tc", "--name", "killed")
    with probing(left.name, tmp_path / "first", *arguments, before=bpffs) as probe:
        probe.says("shipping to topic")
        probe.process.send_signal(signal.SIGSTOP)
        send(right.name, [UDP_FRAME] * PRIME)
        probe.process.kill()
        probe.process.wait(SECONDS)
    kafka.down()
    with probing(left.name, tmp_path / "second", *arguments, before=bpffs) as probe:
        probe.says("capturing meanwhile, and trying again")
        send(right.name, [UDP_FRAME] * 31)
        probe.process.kill()
        probe.process.wait(SECONDS)
    kafka.up()
    with probing(left.name, tmp_path / "third", *arguments, before=bpffs) as probe:
        probe.says(f"{PRIME:,} packets that it had seen never went to Kafka")
        probe.says("31 packets that it had seen never went to Kafka")
        code, _ = probe.stop()
    assert code == 0
    with probing(left.name, tmp_path / "fourth", *arguments, before=bpffs) as probe:
        probe.says("shipping to topic")
        probe.stop()
    assert "never went to Kafka" not in (tmp_path / "fourth").read_text()


def test_own_traffic_is_told(ends: tuple[End, End], kafka: MockKafka, tmp_path: Path) -> None:
    """On the interface by which Kafka is reached it warns, and the rule it names silences it."""
    arguments = ("lo", "--brokers", kafka.brokers, "--method", "packet")
    with probing(ends[0].name, tmp_path / "first", *arguments) as probe:
        probe.says("shipping to topic")
        probe.stop()
    (rule,) = re.findall(r"captures its own traffic; leave it out with --except '(.+)'",
                         (tmp_path / "first").read_text())  # fmt: skip
    with probing(ends[0].name, tmp_path / "second", *arguments, "--except", rule) as probe:
        probe.says("shipping to topic")
        probe.stop()
    assert "its own traffic" not in (tmp_path / "second").read_text()


@pytest.mark.parametrize("form", ["pcapng", "avro", "text"])
def test_packets_are_kept_too(
    form: str, ends: tuple[End, End], kafka: MockKafka, tmp_path: Path
) -> None:
    """With --write each packet is also in a file."""
    left, right = ends
    write = ("--write", str(tmp_path / "kept"), "--write-format", form)
    arguments = (DEVICE, "--brokers", kafka.brokers, "--method", "packet", *write)
    with probing(left.name, tmp_path / "errors", *arguments) as probe:
        probe.says("shipping to topic")
        send(right.name, [UDP_FRAME] * PRIME)
        code, summary = probe.stop()
    assert code == 0, (tmp_path / "errors").read_text()
    assert f"kept {PRIME:,} of {PRIME:,} in 1 file" in summary
    (file,) = (tmp_path / "kept").iterdir()
    assert file.stat().st_size > PRIME * 50


def test_filter_and_sampling_are_the_users_own_wish(
    ends: tuple[End, End], kafka: MockKafka, tmp_path: Path
) -> None:
    """What a filter leaves out or sampling thins out isn't lost: the exit code is 0."""
    left, right = ends
    wanted = ("--except", "udp port 9", "--sampling", "4", "--method", "packet")
    other = bytearray(UDP_FRAME)
    other[36:38] = np.array(9, ">u2").tobytes()  # the destination port
    arguments = (DEVICE, "--brokers", kafka.brokers, *wanted)
    with probing(left.name, tmp_path / "errors", *arguments) as probe:
        probe.says("shipping to topic")
        send(right.name, [UDP_FRAME] * PRIME + [bytes(other)] * 13)
        code, summary = probe.stop()
    assert code == 0, (tmp_path / "errors").read_text()
    assert counted(summary, "seen") == PRIME
    assert counted(summary, "dropped") + counted(summary, "delivered") == PRIME
    assert counted(summary, "dropped") > 0
    assert "and 13 that the filter left out" in summary


def test_without_any_privilege_it_says_what_to_do(ends: tuple[End, End], tmp_path: Path) -> None:
    """A process that may neither load programs nor open a packet socket ends with one line."""
    drop = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all")
    command = (sys.executable, "-P", "-m", "flows.cli", "probe", DEVICE)
    with inside(ends[0].name):
        done = subprocess.run(
            (*drop, *command),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "run it with sudo" in line
    assert "CAP_NET_RAW" in line
