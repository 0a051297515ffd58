#!/usr/bin/env python3
"""A local Apache Kafka for tests and trials: one node or three, KRaft, loopback only.

Needs Python 3.9 (standard library), Java 17 and, once, Maven, which fetches the broker's jars.

    broker.py resolve                                         fetch the jars
    broker.py start --data DIR [--nodes 1|3] [--port 9092]    format, start, wait for an answer
    broker.py stop --data DIR [--node N]                      stop with SIGTERM, wait for the end
    broker.py status --data DIR                               exit code 0 when all nodes answer

Jars are kept in KAFKA_CACHE, by default ~/.cache/netspectra. Everything else is in DIR; each
node's log is DIR/node-N/broker.log.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

HERE = Path(__file__).resolve().parent
POM = HERE / "pom.xml"
LOOPBACK = "127.0.0.1"
HEAP_MB = 768
START_TIMEOUT_S = 90
STOP_TIMEOUT_S = 60
LEAVE_TIMEOUT_S = 5


def fail(text: str) -> NoReturn:
    """End the program with one line for its user."""
    sys.exit(f"broker.py: {text}")


# Jars


def version() -> str:
    """The broker's version, which is the pom's own."""
    found = re.search("<version>(.+)</version>", POM.read_text())
    assert found
    return found[1]


def libraries() -> Path:
    """Where the jars are, or will be."""
    cache = os.environ.get("KAFKA_CACHE")
    if cache:
        base = Path(cache)
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "netspectra"
    return base.absolute() / f"kafka-{version()}"


def resolved() -> bool:
    """Whether the jars that the pom names are all there."""
    copy = libraries() / "pom.xml"
    return copy.is_file() and copy.read_bytes() == POM.read_bytes()


def resolve() -> Path:
    """Fetch the jars unless they are there; an interrupted fetch leaves nothing behind."""
    if resolved():
        return libraries()
    maven = tool("mvn", "Maven (Debian: apt-get install maven)")
    target = libraries()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".kafka-") as made:
        new = Path(made) / "new"
        done = subprocess.run(
            [
                *(maven, "-B", "-q", "-f", str(POM), "dependency:copy-dependencies"),
                *("-DincludeScope=runtime", f"-DoutputDirectory={new}"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            errors = [line for line in done.stdout.splitlines() if "[ERROR]" in line]
            why = errors[0].partition("[ERROR] ")[2] if errors else f"exit code {done.returncode}"
            fail(f"Maven can't fetch Kafka {version()}: {why}")
        shutil.copy(POM, new)
        if target.exists():  # of another pom
            target.rename(Path(made) / "old")
        try:
            new.rename(target)
        except OSError:
            if not resolved():  # else another process was faster
                raise
    return target


def tool(name: str, package: str) -> str:
    """Path of a program."""
    path = shutil.which(name)
    if path is None:
        fail(f"{name} is missing; install {package}")
    return path


def java() -> str:
    """Path of a Java that Kafka runs on."""
    home = os.environ.get("JAVA_HOME")
    path = Path(home) / "bin" / "java" if home else None
    if path is not None and path.is_file():
        return str(path)
    return tool("java", "Java 17 or newer (Debian: apt-get install default-jre-headless)")


def java_command(heap_mb: int, *arguments: str) -> list[str]:
    """How a class of Kafka's is run."""
    return [
        *(java(), f"-Xmx{heap_mb}m", "-Djava.awt.headless=true"),
        f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}",
        *("-cp", str(libraries() / "*"), *arguments),
    ]


# Cluster and nodes


@dataclass
class Cluster:
    """What a data directory holds."""

    nodes: int
    port: int
    cluster_id: str

    @property
    def bootstrap(self) -> str:
        """Addresses for clients."""
        return ",".join(f"{LOOPBACK}:{self.port + n}" for n in range(self.nodes))

    @property
    def voters(self) -> str:
        """Controllers, whose ports follow those for clients."""
        first = self.port + self.nodes
        return ",".join(f"{n + 1}@{LOOPBACK}:{first + n}" for n in range(self.nodes))


class Node:
    """One broker, which is a controller too."""

    def __init__(self, data: Path, cluster: Cluster, number: int) -> None:
        self.cluster = cluster
        self.number = number
        self.port = cluster.port + number - 1
        self.directory = data / f"node-{number}"
        self.properties = self.directory / "server.properties"
        self.log = self.directory / "broker.log"
        self.pid_file = self.directory / "pid"
        self.log_before = 0
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self) -> None:
        """Write the node's settings."""
        replicas = self.cluster.nodes
        in_sync = min(replicas, 2)
        controller = self.port + self.cluster.nodes
        settings = {
            "process.roles": "broker,controller",
            "node.id": self.number,
            "controller.quorum.voters": self.cluster.voters,
            "listeners": f"PLAINTEXT://{LOOPBACK}:{self.port},CONTROLLER://{LOOPBACK}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{self.port}",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": self.directory / "data",
            "auto.create.topics.enable": "false",
            "default.replication.factor": replicas,
            "min.insync.replicas": in_sync,
            "offsets.topic.replication.factor": replicas,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
            # Trials are short: groups form at once, retention and compaction are seen to work.
            "group.initial.rebalance.delay.ms": 0,
            "log.initial.task.delay.ms": 1000,
            "log.retention.check.interval.ms": 1000,
            "log.segment.delete.delay.ms": 1000,
            "log.cleaner.backoff.ms": 1000,
            "log.cleaner.dedupe.buffer.size": 16 * 2**20,
            # A node that crashed may come back after this long, and its leaders have moved.
            "broker.session.timeout.ms": 5000,
            "broker.heartbeat.interval.ms": 1000,
        }
        self.directory.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{name}={value}\n" for name, value in settings.items())
        self.properties.write_text(text)

    def format(self) -> None:
        """Prepare an empty data directory; a prepared one stays as it is."""
        if (self.directory / "data" / "meta.properties").is_file():
            return
        done = subprocess.run(
            java_command(
                *(128, "kafka.tools.StorageTool", "format", "--ignore-formatted"),
                *("--cluster-id", self.cluster.cluster_id, "--config", str(self.properties)),
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            fail(f"can't format {self.directory}: {last_error(done.stdout)}")

    def launch(self, heap_mb: int) -> None:
        """Start the process, in a session of its own so that it outlives this one."""
        for port in (self.port, self.port + self.cluster.nodes):
            if not is_free(port):
                fail(f"port {port} is taken; give another with --port")
        with self.log.open("ab") as log:
            self.log_before = log.tell()
            self.process = subprocess.Popen(
                java_command(heap_mb, "kafka.Kafka", str(self.properties)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid_file.write_text(f"{self.process.pid}\n")

    def written(self) -> str:
        """What the process that was launched has written to its log."""
        with self.log.open("rb") as log:
            log.seek(self.log_before)
            return log.read().decode(errors="replace")

    def has_ended(self) -> bool:
        """Whether the process is no more; surer than `pid` just after a start."""
        return self.pid() is None if self.process is None else self.process.poll() is not None

    def pid(self) -> int | None:
        """Number of the node's process, if it runs; another's that took the number isn't it."""
        try:
            pid = int(self.pid_file.read_text())
        except (OSError, ValueError):
            return None
        _, kafka, properties = command_line(pid).rstrip().partition("kafka.Kafka ")
        is_ours = kafka and Path(properties).resolve() == self.properties.resolve()
        return pid if is_ours else None

    def brokers_known(self) -> int:
        """How many brokers the node tells its clients of; 0 if it doesn't answer."""
        try:
            return brokers_known(self.port)
        except (OSError, struct.error):
            return 0

    def stop(self, has_quorum: bool) -> bool:
        """End the process with SIGTERM, also one that was paused, and wait for it, if it runs.

        A node asks the controllers for leave before it goes. Without a majority of them there
        is no answer (Kafka gives up after 5 minutes), so it is killed after a while; what
        clients got an acknowledgement for is in its files.
        """
        pid = self.pid()
        if pid is None:
            return False
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)
        if not self.ends_within(STOP_TIMEOUT_S if has_quorum else LEAVE_TIMEOUT_S):
            if has_quorum:
                fail(
                    f"node {self.number} still runs after {STOP_TIMEOUT_S} s; "
                    f"see {self.log}, or kill -9 {pid}"
                )
            os.kill(pid, signal.SIGKILL)
            self.ends_within(STOP_TIMEOUT_S)
        self.pid_file.unlink(missing_ok=True)
        return True

    def ends_within(self, seconds: float) -> bool:
        """Wait for the end of the process."""
        deadline = time.monotonic() + seconds
        while self.pid() is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True


def command_line(pid: int) -> str:
    """What a process was started as; empty for one that has ended."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")
        except OSError:
            return ""
    ps = tool("ps", "procps")
    shown = subprocess.run([ps, "-ww", "-o", "args=", "-p", str(pid)], stdout=subprocess.PIPE)
    return shown.stdout.decode(errors="replace")


def is_free(port: int) -> bool:
    """Whether a server can listen on a port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def brokers_known(port: int) -> int:
    """Ask a node how many brokers there are (Kafka protocol, Metadata request version 4)."""
    name = b"netspectra"
    request = struct.pack(">hhih", 3, 4, 1, len(name)) + name  # API, version, id, client
    request += struct.pack(">i?", 0, False)  # about no topics, and don't create any
    with socket.create_connection((LOOPBACK, port), timeout=2) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = b""
        while len(answer) < 16:
            part = connection.recv(4096)
            if not part:
                raise ConnectionError
            answer += part
    _size, _request, _throttle_ms, brokers = struct.unpack_from(">iiii", answer)
    return int(brokers)


# Commands


def load(data: Path) -> Cluster | None:
    """The cluster in a data directory, if there is one."""
    file = data / "cluster.json"
    return Cluster(**json.loads(file.read_text())) if file.is_file() else None


def select(data: Path, only: int | None) -> tuple[Cluster, list[Node]]:
    """The nodes of a data directory that a command is about."""
    cluster = load(data)
    if cluster is None:
        fail(f"{data} holds no cluster; broker.py start --data {data} makes one")
    if only is not None and not 1 <= only <= cluster.nodes:
        fail(f"--node {only}: nodes are 1 to {cluster.nodes}")
    numbers = [only] if only else range(1, cluster.nodes + 1)
    return cluster, [Node(data, cluster, number) for number in numbers]


def start(options: argparse.Namespace) -> None:
    """Make the cluster if need be, start what doesn't run, wait until it answers."""
    java()
    resolve()
    data: Path = options.data
    cluster = load(data)
    if cluster is None:
        identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        cluster = Cluster(options.nodes or 1, options.port or 9092, identity.replace("-", "_"))
    elif options.nodes not in (None, cluster.nodes):
        fail(f"{data} holds {cluster.nodes} node(s); give another --data")
    elif options.port not in (None, cluster.port):
        if any(Node(data, cluster, n + 1).pid() for n in range(cluster.nodes)):
            fail(f"runs on port {cluster.port}; stop it before it gets another")
        cluster.port = options.port
    data.mkdir(parents=True, exist_ok=True)
    (data / "cluster.json").write_text(json.dumps(asdict(cluster)) + "\n")

    _, nodes = select(data, options.node)
    begun = time.monotonic()
    for node in nodes:
        if node.pid() is None:
            node.configure()
            node.format()
            node.launch(options.heap_mb)
    waiting = list(nodes)
    while waiting := [node for node in waiting if node.brokers_known() < cluster.nodes]:
        for node in waiting:
            if node.has_ended():
                fail(f"node {node.number} ended: {last_error(node.written())}; see {node.log}")
        if time.monotonic() - begun > START_TIMEOUT_S:
            fail(f"no answer after {START_TIMEOUT_S} s; see {waiting[0].log}")
        time.sleep(0.1)
    print(
        f"Kafka {version()} answers at {cluster.bootstrap} (after {time.monotonic() - begun:.1f} s)"
    )


def last_error(log: str) -> str:
    """What a log says last about a failure."""
    lines = log.strip().splitlines()
    thrown = [
        line for line in lines if re.match(r"\s*(Caused by: )?[\w.$]+(Exception|Error): ", line)
    ]
    return (thrown or lines or ["it wrote nothing"])[-1].strip()


def stop(options: argparse.Namespace) -> None:
    """Stop what runs."""
    cluster, nodes = select(options.data, options.node)
    stopped = 0
    for node in nodes:
        running = sum(n.pid() is not None for n in select(options.data, None)[1])
        if node.stop(has_quorum=running > cluster.nodes // 2):
            stopped += 1
            print(f"node {node.number} stopped", flush=True)
    if not stopped:
        print(f"nothing runs in {nodes[0].directory if options.node else options.data}")


def status(options: argparse.Namespace) -> None:
    """Say of each node whether it runs and answers."""
    _, nodes = select(options.data, None)
    answers = []
    for node in nodes:
        pid = node.pid()
        known = node.brokers_known() if pid else 0
        answers.append(known > 0)
        state = "answers" if known else "doesn't answer" if pid else "is stopped"
        about = f" (pid {pid}, knows {known} of {len(nodes)} brokers)" if pid else ""
        print(f"node {node.number} {LOOPBACK}:{node.port} {state}{about}")
    if not all(answers):
        sys.exit(1)


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("resolve").set_defaults(run=lambda _: print(resolve()))
    for run in (start, stop, status):
        command = commands.add_parser(run.__name__, help=run.__doc__)
        command.set_defaults(run=run)
        command.add_argument("--data", type=lambda text: Path(text).resolve(), required=True)
        if run is not status:
            command.add_argument("--node", type=int, help="only this one")
        if run is start:
            command.add_argument("--nodes", type=int, choices=(1, 3))
            command.add_argument("--port", type=int, help="first of 2 a node in a row")
            command.add_argument("--heap-mb", type=int, default=HEAP_MB)
    options = parser.parse_args()
    try:
        options.run(options)
    except OSError as error:
        fail(str(error))


if __name__ == "__main__":
    main()
