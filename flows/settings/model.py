"""The tree of settings: names, defaults, meanings. ``flows.settings.load`` fills it."""

from __future__ import annotations

import hashlib
import json
import socket
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, cast

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from flows.settings.detection import Alerts, Detectors, Rule, check_rules
from flows.settings.forms import (
    Brokers,
    Points,
    RingSize,
    Rules,
    Source,
    SourceKind,
    Store,
    Tenant,
    Tenants,
)
from flows.settings.llm import Llm
from flows.settings.notifiers import Notifier, check_notifiers
from flows.settings.section import Section
from flows.settings.tasks import DEFAULT_TASKS, Task, check_tasks
from flows.settings.units import Count, Duration, Durations, Name, Names, Networks, to_ns

INTERNAL: Final = (
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "127.0.0.0/8",
    "fc00::/7",
    "fe80::/10",
    "::1/128",
)
"""The private, link-local and loopback ranges: what the network `internal` is by default."""

HASH_SEED: Final = 0x6E65747370656374
"""``schemas.hashing.DEFAULT_SEED``, written again because that module imports numba."""

DEMO: Final = {"tenant": "demo", "store": "chdb:netspectra-demo"}
"""Defaults of demo traffic, so that it never mixes with real data."""


class Probe(Section):
    """Who captures.

    Attributes:
        name: The probe's name; by default the host's name, for captures the file's.
    """

    name: str | None = None


class Topics(Section):
    """Names of the Kafka topics."""

    packets: str = "netspectra.packets"
    alerts: str = "netspectra.alerts"
    windows: str = "netspectra.windows"
    dlq: str = "netspectra.packets.dlq"


class Kafka(Section):
    """The Kafka cluster.

    Attributes:
        brokers: ``host:port``, several with commas; a host of IPv6 in brackets.
        group: Consumer group, by which lag is watched.
        topics: Names of the topics.
        schema_registry: URL; none means single-object framing.
        out_of_range: When messages that were not read yet are gone from Kafka: stop with an
            ``error``, or go on with the ``earliest`` there is.
        properties: Any property of librdkafka (``fetch.max.bytes``).
    """

    brokers: Brokers = "localhost:9092"
    group: str = "netspectra"
    topics: Topics = Topics()
    schema_registry: str | None = None
    out_of_range: Literal["error", "earliest"] = "error"
    properties: dict[str, str] = {}

    @field_validator("properties", mode="before")
    @classmethod
    def _write_as_librdkafka(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            str(name): str(v).lower() if isinstance(v, bool) else str(v)
            for name, v in value.items()
        }


class Window(Section):
    """Event time: how it is cut, and how long we wait.

    Attributes:
        pane: The unit of time.
        lateness: How far behind the newest packet others may be and still be on time.
        horizons: Runs of panes that sketches cover; the pane itself always is one.
        idle: A probe silent for this long (log time) no longer holds the watermark back.
        max_skew: A batch further ahead of its own emit time is a dead letter.
        max_flows: Flows kept per partition and pane before the smaller half is folded.
        count: Observations that tasks and alerts count: ``auto``, ``all``, ``ingress``,
            ``egress``, or names of capture points.
    """

    pane: Duration = timedelta(seconds=2)
    lateness: Duration = timedelta(seconds=1)
    horizons: Durations = (timedelta(seconds=60), timedelta(seconds=600))
    idle: Duration = timedelta(seconds=30)
    max_skew: Duration = timedelta(seconds=60)
    max_flows: Annotated[Count, Field(ge=1024)] = 500_000
    count: Points = "auto"

    @property
    def pane_ns(self) -> int:
        """Length of a pane, ns."""
        return to_ns(self.pane)

    @property
    def lateness_ns(self) -> int:
        """Allowed lateness, ns."""
        return to_ns(self.lateness)

    @property
    def idle_ns(self) -> int:
        """Silence after which a probe is inactive, ns."""
        return to_ns(self.idle)

    @property
    def max_skew_ns(self) -> int:
        """Greatest lead of a batch over its emit time, ns."""
        return to_ns(self.max_skew)

    @property
    def horizons_ns(self) -> tuple[int, ...]:
        """All horizons, the pane first, ascending, ns."""
        return tuple(sorted({self.pane_ns, *map(to_ns, self.horizons)}))


class Capture(Section):
    """How frames become records; all but the first setting are for live captures.

    Attributes:
        decapsulate: Describe the inner packet of a tunnel instead of the outer.
        directions: Ways through an interface: ``both``, ``ingress``, ``egress``.
        method: ``tc``, ``xdp`` (eBPF), ``packet`` (a packet socket); ``auto`` takes the first
            that works, XDP only when it is named.
        loader: Of eBPF programs: ``libbpf`` (compiled beforehand), ``bcc`` (compiled at start).
        attach: How programs are attached for ``tc``: ``tcx`` (Linux 6.6), ``clsact``.
        xdp_mode: Where programs run for ``xdp``: in the driver (``native``), or ``generic``.
        mode: A record for each packet (``packets``), for each flow and second (``flows``), or
            the second under overload (``auto``).
        sampling_rate: One packet in so many is kept, at random.
        filter: Rules (``tcp port 443``); a packet that none of them matches is left out.
        exclude: Rules; a packet that one of them matches is left out.
        ring_mb: Memory for packets that wait to be read, MiB; a power of two.
    """

    decapsulate: bool = False
    directions: Literal["both", "ingress", "egress"] = "both"
    method: Literal["auto", "tc", "xdp", "packet"] = "auto"
    loader: Literal["auto", "libbpf", "bcc"] = "auto"
    attach: Literal["auto", "tcx", "clsact"] = "auto"
    xdp_mode: Literal["auto", "native", "generic"] = "auto"
    mode: Literal["packets", "flows", "auto"] = "packets"
    sampling_rate: Annotated[Count, Field(ge=1, lt=2**32)] = 1
    filter: Rules = ()
    exclude: Rules = ()
    ring_mb: RingSize = 64


class Demo(Section):
    """The built-in traffic.

    Attributes:
        packets: How many.
        seed: The same seed gives the same packets.
        packets_per_second: Rate in event time.
        allow_server: Let demo traffic into a ClickHouse server.
    """

    packets: Annotated[Count, Field(ge=1)] = 4_000_000
    seed: Annotated[int, Field(ge=0)] = 1
    packets_per_second: Annotated[Count, Field(ge=1)] = 20_000
    allow_server: bool = False


class Storage(Section):
    """What the store may hold, and who else may ask it.

    Whole days are dropped, the oldest first, and told in ``dropped``.

    Attributes:
        max_bytes: On disk, all tables together.
        max_age: How long flows are kept after they came in; rollups by the minute four times as
            long, by the hour and results sixteen times.
        serve_port: TCP port on 127.0.0.1 at which a job with an embedded store answers those who
            know the password, in ClickHouse's HTTP form; they may only read.
        serve_password: That password.
    """

    max_bytes: Annotated[Count | None, Field(ge=10_000_000)] = None
    max_age: Annotated[Duration | None, Field(ge=timedelta(hours=1))] = None
    serve_port: Annotated[int | None, Field(ge=1, le=65_535)] = None
    serve_password: Annotated[SecretStr | None, Field(min_length=12)] = None


class NameFiles(Section):
    """Files that name what is in the traffic, each a file or several with commas.

    Attributes:
        networks: CSV: prefix, name, site, description.
        as_numbers: CSV (prefix, asn, name) or MMDB.
        countries: CSV (prefix, country) or MMDB.
        interfaces: CSV: probe, interface, name, description, speed.
        services: CSV: protocol, port, name; before those that are known anyway.
    """

    networks: Names = ()
    as_numbers: Names = ()
    countries: Names = ()
    interfaces: Names = ()
    services: Names = ()


class Metrics(Section):
    """Prometheus metrics of a job; off without a port.

    Attributes:
        port: TCP port; each process of a cluster needs its own.
        address: What to listen on; whoever reaches it may read, so this machine only by default.
    """

    port: Annotated[int | None, Field(ge=1, le=65_535)] = None
    address: str = "127.0.0.1"


class Log(Section):
    """Log lines on stderr."""

    level: Literal["off", "debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"

    @field_validator("level", mode="before")
    @classmethod
    def _read_off(cls, value: Any) -> Any:
        # YAML reads a bare `off` as false.
        return "off" if value is False else value


class Settings(BaseSettings):
    """All settings.

    Values come only from the constructor: ``flows.settings.load`` reads the file and the
    environment itself, because it tells where each value came from and names what it doesn't
    know in the words of its user.

    Attributes:
        source: ``demo``, ``pcap:<file or glob>`` (several: one on a line),
            ``interface:<name>`` (several: ``interface:eth0,eth1``), ``kafka``.
        store: ``chdb:<directory>``, ``http(s)://user@host:port/database``.
        tenant: Whose traffic it is, where the wire doesn't say.
        tenants: Tenants accepted from the wire; empty accepts any, up to `max_tenants`.
        max_tenants: More of them count under ``_other``.
        tasks: What is computed; a list replaces the default one.
        networks: Names of address ranges; added to the defaults, same names replaced.
        names: Files with names for prefixes, AS numbers, countries, interfaces, services.
        detectors: The detectors that run by default, and how.
        rules: Rules of the user's own, on tasks or detectors.
        alerts: What happens to what the rules find.
        notifiers: Who is told of alerts, and how.
        seed: Seed of all hashes.
        again: What to do with a capture that is stored already.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="NETSPECTRA_", env_nested_delimiter="__"
    )

    source: Source = "demo"
    store: Store = "chdb:netspectra-data"
    tenant: Tenant = "default"
    tenants: Tenants = ()
    max_tenants: Annotated[Count, Field(ge=1, le=1000)] = 16
    probe: Probe = Probe()
    kafka: Kafka = Kafka()
    window: Window = Window()
    tasks: Annotated[tuple[Task, ...], AfterValidator(check_tasks)] = DEFAULT_TASKS
    networks: dict[Name, Networks] = {"internal": INTERNAL}
    names: NameFiles = NameFiles()
    detectors: Detectors = Detectors()
    rules: Annotated[tuple[Rule, ...], AfterValidator(check_rules)] = ()
    alerts: Alerts = Alerts()
    notifiers: Annotated[tuple[Notifier, ...], AfterValidator(check_notifiers)] = ()
    capture: Capture = Capture()
    demo: Demo = Demo()
    seed: Annotated[int, Field(ge=0, lt=2**64)] = HASH_SEED
    again: Literal["skip", "replace", "add"] = "skip"
    llm: Llm = Llm()
    storage: Storage = Storage()
    metrics: Metrics = Metrics()
    log: Log = Log()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from the constructor alone."""
        return (init_settings,)

    @model_validator(mode="before")
    @classmethod
    def _keep_demo_apart(cls, data: Any) -> Any:
        source = data.get("source", "demo")
        if isinstance(source, str) and source.strip() == "demo":
            return {**DEMO, **data}
        return data

    @field_validator("networks")
    @classmethod
    def _keep_internal(cls, value: dict[str, Any]) -> dict[str, Any]:
        return {"internal": INTERNAL, **value}

    @model_validator(mode="after")
    def _check(self) -> Self:
        from flows.settings.checks import check

        check(self)
        return self

    @property
    def source_kind(self) -> SourceKind:
        """The kind of the source, without its target."""
        return cast(SourceKind, self.source.partition(":")[0])

    @property
    def source_target(self) -> str:
        """What follows the colon of the source: files, globs, names of interfaces."""
        return self.source.partition(":")[2]

    @property
    def source_paths(self) -> tuple[str, ...]:
        """Files and globs of a ``pcap:`` source, in the order in which they are written."""
        lines = self.source_target.splitlines() if self.source_kind == "pcap" else []
        return tuple(line.strip() for line in lines if line.strip())

    @property
    def source_interfaces(self) -> tuple[str, ...]:
        """Names of an ``interface:`` source, in the order in which they are written."""
        return tuple(self.source_target.split(",")) if self.source_kind == "interface" else ()

    @property
    def store_directory(self) -> Path | None:
        """Absolute directory of an embedded store; nothing for a server."""
        kind, _, target = self.store.partition(":")
        return Path(target.removeprefix("//")).absolute() if kind == "chdb" else None

    def probe_name(self, path: str | Path | None = None) -> str:
        """Name of the probe; for the capture at `path` the file's, unless set."""
        if self.probe.name:
            return self.probe.name
        return Path(path).name if path else socket.gethostname()

    def digest(self) -> str:
        """16 hexadecimal digits over everything that changes what a unit contains.

        Two runs with the same digest cut the same input into the same rows: windows, what is
        counted, decapsulation, networks, tasks, tenants, the hash seed, and the demo's own
        settings when that is the source; for a live capture also which packets it keeps. Where
        it is stored, logged or explained is not in it, nor how packets are got.
        """
        names = {"window", "networks", "tasks", "tenants", "max_tenants", "seed"}
        names |= {"demo"} if self.source_kind == "demo" else set()
        captured = {"decapsulate"}
        if self.source_kind == "interface":
            captured |= {"directions", "mode", "sampling_rate", "filter", "exclude"}
        parts: dict[str, Any] = {**dict.fromkeys(names, True), "capture": captured}
        text = json.dumps(self.model_dump(mode="json", include=parts), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
