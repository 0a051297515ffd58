"""Loading settings: layers, origins, and one clear line for everything that is wrong."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.errors import UsageError
from flows.settings import DEFAULT_TASKS, Settings, dump, load, load_with_origins


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def complaint(overrides: dict[str, Any] | None = None, **env: str) -> str:
    with pytest.raises(UsageError) as caught:
        load(overrides, {f"NETSPECTRA_{name}": value for name, value in env.items()})
    assert caught.value.exit_code == 2
    return str(caught.value)


def write(text: str, name: str = "netspectra.yaml") -> None:
    Path(name).write_text(text)


def test_defaults_need_nothing() -> None:
    """With no file and no variables all defaults hold, and demo traffic is kept apart."""
    settings = load(env={})
    assert settings == Settings()
    assert (settings.source, settings.tenant) == ("demo", "demo")
    assert settings.store == "chdb:netspectra-demo"
    assert settings.window.horizons_ns == (2 * 10**9, 60 * 10**9, 600 * 10**9)
    assert settings.tasks == DEFAULT_TASKS
    assert "fc00::/7" in settings.networks["internal"]


def test_real_source_has_its_own_defaults() -> None:
    """Any source but the demo uses the ordinary store and tenant."""
    settings = load(env={"NETSPECTRA_SOURCE": "pcap:a.pcap"})
    assert (settings.store, settings.tenant) == ("chdb:netspectra-data", "default")


def test_later_layer_wins() -> None:
    """Options beat the environment, which beats the file, which beats the defaults."""
    write("window: {pane: 3s, lateness: 4s, idle: 7s}\n")
    env = {"NETSPECTRA_WINDOW__LATENESS": "5s", "NETSPECTRA_WINDOW__IDLE": "8s"}
    settings, origins = load_with_origins({"window": {"idle": "9s"}}, env)
    assert settings.window.pane == timedelta(seconds=3)
    assert settings.window.lateness == timedelta(seconds=5)
    assert settings.window.idle == timedelta(seconds=9)
    kinds = {name: origins["window", name].kind for name in ("pane", "lateness", "idle")}
    assert kinds == {"pane": "file", "lateness": "env", "idle": "option"}


def test_config_names_another_file() -> None:
    """NETSPECTRA_CONFIG replaces the usual file."""
    write("tenant: usual\n")
    write("tenant: other\n", "b.yaml")
    assert load(env={"NETSPECTRA_CONFIG": "b.yaml"}).tenant == "other"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1, 2]\n", "netspectra.yaml: wanted settings such as"),
        ("a: [\n", "netspectra.yaml, line 2: not valid YAML"),
        ("tenant: a\ntenant: b\n", "netspectra.yaml, line 2: not valid YAML (tenant is there tw"),
    ],
)
def test_unreadable_file_is_refused(text: str, expected: str) -> None:
    """A file that is no mapping, no YAML, or has a key twice is refused with its line."""
    write(text)
    assert complaint().startswith(expected)


def test_missing_named_file_is_refused() -> None:
    """A file that NETSPECTRA_CONFIG names must be there."""
    assert "no such file" in complaint(CONFIG="nowhere.yaml")


def test_directory_is_no_settings_file() -> None:
    """A directory in the file's place gives one line."""
    Path("netspectra.yaml").mkdir()
    assert complaint() == "can't read netspectra.yaml: Is a directory"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("WINDOW__PAIN", "NETSPECTRA_WINDOW__PANE"),
        ("WINDOW_PANE", "NETSPECTRA_WINDOW__PANE"),
        ("PANE", "NETSPECTRA_WINDOW__PANE"),
        ("KAFKA__BROKER", "NETSPECTRA_KAFKA__BROKERS"),
        ("WINDO", "NETSPECTRA_WINDOW__…"),
    ],
)
def test_unknown_variable_names_the_nearest(name: str, near: str) -> None:
    """A misspelt variable is refused and the nearest setting is named."""
    expected = f"NETSPECTRA_{name} is not a setting; did you mean {near}?"
    assert complaint(**{name: "1"}) == expected


def test_unknown_key_in_file_names_the_nearest() -> None:
    """A misspelt key is refused in the words of the file."""
    write("window: {pain: 2s}\nzzzzzzzz: 1\n")
    assert complaint().splitlines() == [
        "window.pain in netspectra.yaml is not a setting; did you mean window.pane?",
        "zzzzzzzz in netspectra.yaml is not a setting",
    ]


def test_foreign_variables_are_left_alone() -> None:
    """Empty variables, those of the tests and those of service links aren't settings."""
    env = {
        "NETSPECTRA_TENANT": "",
        "NETSPECTRA_REQUIRE": "kafka",
        "NETSPECTRA_TEST_KILL": "commit",
        "NETSPECTRA_PORT": "tcp://10.0.0.1:80",
        "NETSPECTRA_PORT_80_TCP_ADDR": "10.0.0.1",
        "NETSPECTRA_WEB_SERVICE_HOST": "10.0.0.1",
        "PATH": "/bin",
    }
    assert load(env=env) == Settings()


def test_misspelt_port_is_no_service_link() -> None:
    """A variable that only looks like a service link is refused."""
    assert "did you mean NETSPECTRA_METRICS__PORT?" in complaint(METRICS_PORT="many")


def test_all_problems_at_once() -> None:
    """Every problem has its line: unknown keys, then values, each named as it was written."""
    write("window:\n  lateness: 5\n")
    lines = complaint(WINDOW__PANE="2 parsecs", WINDOW__MAX_FLOWS="10", X="1").splitlines()
    assert lines == [
        "NETSPECTRA_X is not a setting",
        "NETSPECTRA_WINDOW__PANE = 2 parsecs: wanted a duration such as 500ms, 2s, 10m or PT2S",
        "window.lateness = 5 in netspectra.yaml: wanted a duration such as 500ms, 2s, 10m or PT2S",
        "NETSPECTRA_WINDOW__MAX_FLOWS = 10: wanted at least 1024",
    ]


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        (
            {"WINDOW__PANE": "1500ms"},
            "NETSPECTRA_WINDOW__PANE = 1500ms: wanted whole seconds between 1s and 86400s",
        ),
        (
            {"WINDOW__PANE": "0s"},
            "NETSPECTRA_WINDOW__PANE = 0s: wanted whole seconds between 1s and 86400s",
        ),
        ({"WINDOW__PANE": "7s"}, "window.horizons = 60s (the default): wanted multiples of the "),
        ({"WINDOW__HORIZONS": "61s"}, "NETSPECTRA_WINDOW__HORIZONS = 61s: wanted multiples of"),
        ({"WINDOW__HORIZONS": "1s"}, "NETSPECTRA_WINDOW__HORIZONS = 1s: wanted multiples of the"),
        ({"WINDOW__HORIZONS": "2d"}, "NETSPECTRA_WINDOW__HORIZONS = 172800s: wanted"),
        ({"WINDOW__LATENESS": "-1s"}, "NETSPECTRA_WINDOW__LATENESS = -1s: wanted a duration"),
        ({"WINDOW__IDLE": "0"}, "NETSPECTRA_WINDOW__IDLE = 0s: wanted more than 0s"),
        ({"SOURCE": "pcap:"}, "NETSPECTRA_SOURCE = pcap:: wanted demo, pcap:<file or glob>"),
        ({"SOURCE": "file.pcap"}, "NETSPECTRA_SOURCE = file.pcap: wanted demo"),
        ({"STORE": "chdb:"}, "NETSPECTRA_STORE = chdb:: wanted chdb:<directory> or http"),
        ({"STORE": "http://h:99999/d"}, "NETSPECTRA_STORE = http://h:99999/d: wanted chdb:"),
        ({"WINDOW": "2s"}, "NETSPECTRA_WINDOW is a section; its settings are NETSPECTRA_WINDOW__"),
        ({"NETWORKS": "10.0.0.0/8"}, "NETSPECTRA_NETWORKS: wanted names with values"),
        ({"NETWORKS__DNS": "1.1.1.1/24"}, "NETSPECTRA_NETWORKS__DNS = 1.1.1.1/24: wanted no bits"),
        ({"NETWORKS__DNS": "dns"}, "NETSPECTRA_NETWORKS__DNS = dns: wanted an address range such"),
        ({"METRICS__PORT": "x"}, "NETSPECTRA_METRICS__PORT = x: wanted a whole number"),
        ({"METRICS__PORT": "70000"}, "NETSPECTRA_METRICS__PORT = 70000: wanted at most 65535"),
        ({"LOG__LEVEL": "loud"}, "NETSPECTRA_LOG__LEVEL = loud: wanted off, debug, info, warning"),
        ({"CAPTURE__DECAPSULATE": "x"}, "NETSPECTRA_CAPTURE__DECAPSULATE = x: wanted true or f"),
        ({"TENANT": "_x"}, "NETSPECTRA_TENANT = _x: wanted a name of letters"),
        ({"LLM__ENABLED": "true"}, "llm.model (the default): wanted the name of a model"),
        ({"TASKS": "a: ["}, "NETSPECTRA_TASKS: wanted a list of tasks, as YAML or JSON"),
        ({"TASKS": "[5]"}, "NETSPECTRA_TASKS[0] = 5: wanted a task with name, type, key"),
        ({"TASKS": "[{type: exact}]"}, "NETSPECTRA_TASKS[0].name is missing"),
        ({"TASKS": "[{name: a, x: 1}]"}, "NETSPECTRA_TASKS[0].type is missing"),
    ],
)
def test_value_is_refused(env: dict[str, str], expected: str) -> None:
    """A value that can't be used is refused in one line, without a word of pydantic."""
    text = complaint(**env)
    assert text.startswith(expected)
    assert "pydantic" not in text
    assert "Input should" not in text


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("{name: a, type: distinct, elements: [src_adr]}", "[0].elements: wanted fields out of"),
        ("{name: a, type: distinct, elements: 'src_addr,src_addr'}", "wanted each field once"),
        ("{name: a, type: distinct}", "[0]: wanted elements for a task of type distinct"),
        ("{name: a, type: frequency}", "[0]: wanted key for a task of type frequency"),
        (
            "{name: a, type: frequency, key: src_addr, elements: dst_addr}",
            "[0]: wanted no elements for a task of type frequency",
        ),
        ("{name: A, type: exact}", "[0].name = A: wanted a name of lower-case letters"),
        ("{name: a, type: median}", "[0].type = median: wanted exact, distinct, frequency or spr"),
        ("{name: a, type: exact, key: src_addr, tap: 5}", "[0].tap is not a field of a task; it "),
    ],
)
def test_task_is_refused(task: str, expected: str) -> None:
    """A task with unknown fields, or not the fields of its type, is refused."""
    assert expected in complaint(TASKS=f"[{task}]")


def test_task_names_are_unique() -> None:
    """Two tasks of one name are refused."""
    task = "{name: a, type: exact, key: [src_addr]}"
    assert complaint(TASKS=f"[{task}, {task}]").endswith("each name once, and a is there twice")


def test_a_server_can_be_asked_without_a_source() -> None:
    """Commands that only read need no more than the store's name."""
    assert load(env={"NETSPECTRA_STORE": "http://me@host/db"}).store == "http://me@host/db"


def test_variables_are_expanded() -> None:
    """${VAR}, ${VAR:-default} and $$ are replaced in every text, inside lists too."""
    write("tenant: ${WHO}\nkafka: {group: '${NONE:-x}-$${y}'}\ntenants: ['${WHO}', b]\n")
    settings = load(env={"WHO": "me"})
    assert settings.tenant == "me"
    assert settings.kafka.group == "x-${y}"
    assert settings.tenants == ("me", "b")


def test_missing_variable_is_refused() -> None:
    """A variable that isn't there and has no default is named."""
    write("tenant: ${WHO}\n")
    expected = "tenant in netspectra.yaml: the environment has no WHO; set it, or write ${WHO:-"
    assert complaint().startswith(expected)


def test_kafka_properties_have_two_spellings() -> None:
    """Properties are written as librdkafka has them, or in capitals with underscores."""
    write("kafka: {properties: {socket.keepalive.enable: true}}\n")
    env = {
        "NETSPECTRA_KAFKA__PROPERTIES__fetch.max.bytes": "1",
        "NETSPECTRA_KAFKA__PROPERTIES__SASL_USERNAME": "me",
    }
    assert load(env=env).kafka.properties == {
        "socket.keepalive.enable": "true",
        "fetch.max.bytes": "1",
        "sasl.username": "me",
    }


def test_secrets_come_from_files() -> None:
    """…_FILE reads a secret from a file, without its last line's end."""
    Path("key").write_text("hush\n")
    env = {
        "NETSPECTRA_LLM__API_KEY_FILE": "key",
        "NETSPECTRA_KAFKA__PROPERTIES__SASL_PASSWORD_FILE": "key",
    }
    settings = load(env=env)
    assert settings.llm.api_key is not None
    assert settings.llm.api_key.get_secret_value() == "hush"
    assert settings.kafka.properties["sasl.password"] == "hush"


def test_missing_secret_file_is_refused() -> None:
    """A secret's file must be readable."""
    expected = "NETSPECTRA_LLM__API_KEY_FILE: can't read nowhere: No such file or directory"
    assert complaint(LLM__API_KEY_FILE="nowhere") == expected


def test_only_secrets_come_from_files() -> None:
    """…_FILE of a setting that is no secret isn't a setting."""
    assert "is not a setting" in complaint(TENANT_FILE="key")


def test_dump_hides_secrets_and_names_origins() -> None:
    """A dump shows no secret and says where each value came from."""
    write("tenant: me\n")
    env = {
        "NETSPECTRA_LLM__API_KEY": "hush",
        "NETSPECTRA_KAFKA__PROPERTIES__SASL_PASSWORD": "hush",
        "NETSPECTRA_STORE": "https://u:hush@host/db",
        "NETSPECTRA_SOURCE": "kafka",
    }
    settings, origins = load_with_origins(env=env)
    text = dump(settings, origin=True, origins=origins)
    assert "hush" not in text
    assert "tenant: me  # file netspectra.yaml\n" in text
    assert "source: kafka  # env NETSPECTRA_SOURCE\n" in text
    assert "  pane: 2s  # default\n" in text
    assert "hush" not in repr(settings.llm)


def test_dump_is_a_settings_file() -> None:
    """What dump writes, load reads back to the same settings."""
    tasks = "[{name: a, type: spread, key: [src_addr], elements: [dst_addr], top: 3}]"
    env = {
        "NETSPECTRA_TASKS": tasks,
        "NETSPECTRA_SOURCE": "pcap:a b#${c}.pcap",
        "NETSPECTRA_WINDOW__PANE": "3s",
        "NETSPECTRA_WINDOW__COUNT": "eth0,eth1",
        "NETSPECTRA_NETWORKS__DNS": "1.1.1.1/32",
        "NETSPECTRA_LOG__LEVEL": "off",
        "NETSPECTRA_PROBE__NAME": "no",
    }
    settings, origins = load_with_origins(env=env)
    write(dump(settings, origin=True, origins=origins))
    assert load(env={}) == settings
    write(dump(settings))
    assert load(env={}) == settings


def test_bare_off_turns_the_log_off() -> None:
    """YAML's false for a bare `off` is understood."""
    write("log: {level: off}\n")
    assert load(env={}).log.level == "off"
