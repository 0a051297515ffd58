"""Names in the store: looked up rightly, replaced as a whole, there after a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner

from flows import job
from flows.cli.migrate import command as migrate_command
from flows.cli.names import command
from flows.errors import UsageError
from flows.names.load import load
from flows.names.watch import NamesWatch
from flows.settings import Settings
from flows.storage.embedded import Limits
from flows.storage.reader import open_for_reading
from flows.storage.resolution import Span
from flows.storage.saved import saved
from flows.storage.saved_sql import Asked, statement
from flows.storage.store import Store
from tests.support.clickhouse_http import ClickHouse
from tests.support.jobs import ROOT
from tests.support.names import one, put, write
from tests.support.store_rows import address, rows

Row = dict[str, Any]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"chdb:{tmp_path}/store", serve=False) as opened:
        yield opened


def test_nothing_is_known_before(store: Store) -> None:
    """Without names everything is 0 or empty, but for services that everybody knows."""
    assert one(store, "as_number('192.0.2.1'), as_name('::1'), network_name('::')") == "0\t\t"
    assert one(store, "country_code('192.0.2.1'), interface_name('p', 3)") == "\t"
    assert one(store, "service_name(6, 443), service_name(17, 53), service_name(6, 2)") == (
        "https\tdns\t"
    )


def test_the_longest_prefix_counts(store: Store, tmp_path: Path) -> None:
    """Of prefixes inside each other the longest names an address; IPv4 and IPv6 are apart."""
    lines = [
        "10.0.0.0/8,all,",
        "10.1.0.0/16,part,Bonn",
        "10.1.2.3,one,",
        "::/0,six,",
        "fc00::/7,ours,",
    ]
    put(store, tmp_path, networks=lines)
    for text, name in {
        "10.9.9.9": "all",
        "10.1.9.9": "part",
        "10.1.2.3": "one",
        "::ffff:10.1.2.3": "one",
        "11.0.0.1": "",
        "::ffff:11.0.0.1": "",
        "fd00::1": "ours",
        "2001:db8::1": "six",
    }.items():
        assert one(store, f"network_name('{text}')") == name, text
    assert one(store, "network_name(toIPv4('10.1.9.9')), site_name('10.1.9.9')") == "part\tBonn"


def test_a_user_names_services_first(store: Store, tmp_path: Path) -> None:
    """The user's name of a port wins; the others stay, and come back when the user's goes."""
    put(store, tmp_path, services=["tcp,443,shop", "tcp,7001,ours"])
    assert one(store, "service_name(6, 443), service_name(6, 7001), service_name(6, 22)") == (
        "shop\tours\tssh"
    )
    put(store, tmp_path, services=[])
    assert one(store, "service_name(6, 443), service_name(6, 7001)") == "https\t"


def test_replaced_as_a_whole(store: Store, tmp_path: Path) -> None:
    """A changed file replaces all names of its kind, an unchanged one nothing; two loads stay."""
    assert put(store, tmp_path, networks=["10.0.0.0/8,a,", "11.0.0.0/8,b,"])[0].changed
    for turn in range(4):
        (loaded,) = put(store, tmp_path, networks=[f"10.0.0.0/8,turn {turn},"])
        assert (loaded.row_count, loaded.changed) == (1, True)
        assert not put(store, tmp_path, networks=[f"10.0.0.0/8,turn {turn},"])[0].changed
        assert one(store, "network_name('10.1.1.1'), network_name('11.1.1.1')") == f"turn {turn}\t"
    assert one(store, "uniqExact(load_id) FROM names_networks_log") == "2"
    assert store.run("SELECT prefix, name FROM names_networks") == "10.0.0.0/8\tturn 3\n"


def test_what_was_is_loaded_again(store: Store, tmp_path: Path) -> None:
    """A file that becomes what it was before is loaded like any other."""
    for name in ("a", "b", "c", "a"):
        put(store, tmp_path, networks=[f"10.0.0.0/8,{name},"])
        assert one(store, "network_name('10.0.0.1')") == name


def test_a_load_without_all_of_its_rows_does_not_count(store: Store, tmp_path: Path) -> None:
    """While rows of a noted load are missing, as on a replica that lags, the old ones count."""
    put(store, tmp_path, networks=["10.0.0.0/8,old,"])
    put(store, tmp_path, networks=["10.0.0.0/8,new,", "11.0.0.0/8,new,"])
    store.command(
        "ALTER TABLE names_networks_log DELETE WHERE prefix = '11.0.0.0/8' "
        "SETTINGS mutations_sync = 1"
    )
    store.command("SYSTEM RELOAD DICTIONARY names_networks")
    assert one(store, "network_name('10.0.0.1')") == "old"


def test_a_bad_file_leaves_what_was(store: Store, tmp_path: Path) -> None:
    """Kinds whose files are good are loaded, the others stay as they were and are told."""
    put(store, tmp_path, networks=["10.0.0.0/8,old,"], countries=["10.0.0.0/8,DE"])
    files = write(tmp_path, networks=["10.0.0.0/8,new,", "x,y,"], countries=["10.0.0.0/8,FR"])
    with pytest.raises(
        UsageError, match=r"names.networks: networks.csv line 3: prefix = x: wanted"
    ):
        list(load(store, files))
    assert one(store, "network_name('10.0.0.1'), country_code('10.0.0.1')") == "old\tFR"


LOADING = """
import os, signal, sys
from flows.names.load import load
from flows.settings.model import NameFiles
from flows.storage.store import Store

def die(table):
    if table == sys.argv[3]:
        print("dying", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

with Store.open(sys.argv[1], serve=False) as store:
    list(load(store, NameFiles(networks=(sys.argv[2],)), die))
"""


@pytest.mark.parametrize(
    ("table", "name"), [("names_networks_log", "old"), ("names_loads", "new"), ("never", "new")]
)
def test_killed_while_loading(tmp_path: Path, table: str, name: str) -> None:
    """A kill leaves the old names or the new ones, the store opens again, and loading goes on."""
    setting = f"chdb:{tmp_path}/store"
    with Store.open(setting, serve=False) as store:
        put(store, tmp_path, networks=["10.0.0.0/8,old,", "11.0.0.0/8,old,"])
        assert one(store, "network_name('10.0.0.1')") == "old"
    files = write(tmp_path, networks=["10.0.0.0/8,new,", "12.0.0.0/8,new,"])
    done = subprocess.run(
        [sys.executable, "-c", LOADING, setting, files.networks[0], table],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    killed = table != "never"
    assert done.returncode == (-signal.SIGKILL if killed else 0), done.stderr
    assert done.stdout == "dying\n" * killed
    wanted = {"old": "old\told\t", "new": "new\t\tnew"}
    looked = "network_name('10.0.0.1'), network_name('11.0.0.1'), network_name('12.0.0.1')"
    with Store.open(setting, serve=False) as store:
        assert one(store, looked) == wanted[name]
        assert next(load(store, files)).changed == (name == "old")
        assert one(store, looked) == wanted["new"]
    with open_for_reading(setting) as reader:
        assert reader.query_text(f"SELECT {looked}", "TSV") == b"new\t\tnew\n"


def test_saved_queries(store: Store, tmp_path: Path) -> None:
    """Systems, countries and networks by bytes, with their hosts; what is not known is a row."""
    put(
        store, tmp_path,
        networks=["10.0.0.0/30,office,Bonn"],
        as_numbers=["10.0.0.0/29,64500,Example"],
        countries=["10.0.0.0/28,DE"],
    )  # fmt: skip
    hosts = [f"10.0.0.{n}" for n in range(32)]
    store.insert(
        "flows",
        rows(
            "flows",
            src_addr=[address(h) for h in hosts], dst_addr=address("10.0.0.1"), eth_type=0x0800,
            packets=2, bytes=[1000 + n for n in range(32)],
        ),
        "t",
    )  # fmt: skip
    sent: Counter[int] = Counter({n: 1000 + n for n in range(32)})

    def ask(name: str) -> list[Row]:
        asked: list[Row] = store.query(statement(saved()[name], {}, Asked(Span()))).to_pylist()
        return asked

    for name, below, key in (
        ("as-numbers", 8, {"asn": 64500, "name": "Example"}),
        ("countries", 16, {"country": "DE"}),
        ("named-networks", 4, {"network": "office", "site": "Bonn"}),
    ):
        inside, outside = (
            sum(v for n, v in sent.items() if (n < below) == known) for known in (True, False)
        )
        assert ask(name) == [
            {
                **key,
                "total_bytes": inside + sent.total(),
                "sent_bytes": inside,
                "received_bytes": sent.total(),
                "total_packets": 2 * below + 64,
                "hosts": below,
            },
            {
                **{name: type(value)() for name, value in key.items()},
                "total_bytes": outside,
                "sent_bytes": outside,
                "received_bytes": 0,
                "total_packets": 2 * (32 - below),
                "hosts": 32 - below,
            },
        ]


def test_readers_look_up_within_their_limits(store: Store, tmp_path: Path) -> None:
    """A reader may look up 100,000 prefixes that nobody has read yet, and may not change them."""
    lines = [f"{n >> 8 & 255}.{n & 255}.{n >> 16}.0/24,{n + 1}," for n in range(100_000)]
    put(store, tmp_path, as_numbers=lines)
    setting = store.setting
    with open_for_reading(setting, Limits(rows=10, seconds=60, memory_bytes=50_000_000)) as reader:
        assert reader.query_text("SELECT as_number('0.255.0.9')", "TSV") == b"256\n"
        with pytest.raises(Exception, match=r"READONLY|nothing else is served"):
            reader.query_text("SYSTEM RELOAD DICTIONARY names_as_numbers", "TSV")


def test_by_http(tmp_path: Path) -> None:
    """The same statements make, load and replace names over HTTP, in a database of its own."""
    with ClickHouse(tmp_path / "engine") as front:
        front.use("apart")
        with Store.open(front.setting) as store:
            for name in ("a", "b"):
                put(store, tmp_path, networks=[f"10.0.0.0/8,{name},"], services=["tcp,1,x"])
                assert one(store, "network_name('10.0.0.1'), service_name(6, 1)") == f"{name}\tx"
        with open_for_reading(front.setting) as reader:
            assert reader.query_text("SELECT count() FROM names_services", "TSV") > b"100"


def test_the_password_is_hidden_in_a_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`migrate --dry-run` prints the user of a server's dictionaries, not the password."""
    with ClickHouse(tmp_path / "engine") as front:
        front.use("dry")
        monkeypatch.setenv("NETSPECTRA_STORE", front.setting)
        done = CliRunner().invoke(migrate_command, ["--dry-run"])
        assert done.exit_code == 0, done.output
        assert "USER 'default' PASSWORD '********' TABLE 'names_networks_newest'" in done.output
        assert "secret" not in done.output


def test_a_job_loads_them(tmp_path: Path) -> None:
    """A job loads what its settings name; one that only tries rules out doesn't."""
    files = write(tmp_path, networks=["10.0.0.0/8,ours,"])
    for number, (tell, wanted) in enumerate([(True, "ours"), (False, "")]):
        made = Settings(
            source="demo",
            store=f"chdb:{tmp_path}/{number}",
            demo={"packets": 10_000},
            names=files.model_dump(),
        )
        assert job.run(made, tell=tell) == 0
        with Store.open(made.store, serve=False) as store:
            assert one(store, "network_name('10.0.0.1')") == wanted
            assert one(store, "count() > 0 FROM flows_named WHERE src_network = 'ours'") == (
                str(int(tell))
            )


def test_a_watch_loads_what_changes(store: Store, tmp_path: Path) -> None:
    """A look loads changed files; bad ones are told once, and cost only their names."""
    files = write(tmp_path, networks=["10.0.0.0/8,a,"])
    with structlog.testing.capture_logs() as told:
        watch = NamesWatch(store, files, every_s=3600)
        watch.close()
        assert one(store, "network_name('10.0.0.1')") == "a"
        watch.look()
        write(tmp_path, networks=["bad"])
        watch.look()
        watch.look()
        write(tmp_path, networks=["10.0.0.0/8,longer,"])
        watch.look()
    assert one(store, "network_name('10.0.0.1')") == "longer"
    assert [line["event"] for line in told] == [
        "names loaded", "names stay as they were", "names loaded",
    ]  # fmt: skip
    assert "networks.csv line 2" in told[1]["why"]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`netspectra names` loads, lists and shows; it says what to do when it can't."""
    files = write(tmp_path, networks=["10.0.0.0/8,ours,Bonn"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NETSPECTRA_STORE", f"chdb:{tmp_path}/store")

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(command, arguments)

    assert "the settings name no files" in str(run("load").exception)
    monkeypatch.setenv("NETSPECTRA_NAMES__NETWORKS", files.networks[0])
    assert run("load").output == "networks: 1 rows loaded\n"
    assert run("load").output == "networks: 1 rows unchanged\n"
    assert "networks" in run().output
    assert run("show", "10.0.0.1", "::1", "--format", "csv").output.splitlines() == [
        "address,network,site,asn,as_name,country", "10.0.0.1,ours,Bonn,0,,", "::1,,,0,,",
    ]  # fmt: skip
    assert run("show", "x'; SELECT 1").exit_code == 2
    write(tmp_path, networks=["10.0.0.0/8,,"])
    assert "networks.csv line 2: name is empty" in str(run("load").exception)
    script = (
        "import sys; from flows.storage.store import Store; s = Store.open(sys.argv[1]); "
        "print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, f"chdb:{tmp_path}/store"], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as owner:  # fmt: skip
        assert owner.stdout is not None
        assert owner.stdout.readline() == "open\n"
        assert "a job loads names by itself" in str(run("load").exception)
        assert "ours" in run("show", "10.0.0.1").output
        owner.communicate("")
