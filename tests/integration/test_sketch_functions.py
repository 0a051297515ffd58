"""SQL functions over stored sketches: by the bytes that an engine sends, and by a real engine."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from flows.errors import StoreError
from flows.sketches.distinct import Distinct
from flows.sketches.frequency import Frequency
from flows.sketches.superspread import SuperSpread
from flows.storage.embedded import Engine, Limits
from flows.storage.reader import EngineReader
from flows.storage.row_binary import read_exactly, read_length, read_text, write_length
from flows.storage.serve_functions import serve
from flows.storage.sketch_functions import Function
from flows.storage.sketch_signatures import SERVER_PROGRAM, SIGNATURES, configuration
from flows.storage.store import Store
from schemas.hashing import DEFAULT_SEED, hash_words
from tests.support.store_rows import T0_MS, rows

ITEMS = np.random.default_rng(3).integers(0, 2**64, 9000, np.uint64)
DEPLOYED = Path(__file__).parents[2] / "deploy" / "clickhouse" / "udf"


def image(first: int, last: int) -> bytes:
    sketch = Distinct()
    sketch.update(ITEMS[first:last])
    return sketch.to_bytes()


def ports(**packets: int) -> bytes:
    sketch = Frequency(1)
    keys = np.array([[int(name[1:])] for name in packets], np.uint64)
    weights = np.array(list(packets.values()), np.uint64)
    sketch.update(keys, hash_words(keys, DEFAULT_SEED), weights, weights * np.uint64(100))
    return sketch.to_bytes()


def fan(n: int) -> bytes:
    sketch = SuperSpread(1)
    keys = np.full((n, 1), 7, np.uint64)
    sketch.update(keys, hash_words(keys, DEFAULT_SEED), ITEMS[:n].copy())
    return sketch.to_bytes()


FORGED = image(0, 9000)[:24] + bytes(range(256)) * 20
FORGED = FORGED[: len(image(0, 9000))]


def texts(values: Sequence[bytes]) -> bytes:
    out = bytearray()
    write_length(out, len(values))
    for value in values:
        write_length(out, len(value))
        out += value
    return bytes(out)


def block(*given: bytes) -> bytes:
    return b"%d\n" % len(given) + b"".join(given)


def counts_of(data: bytes) -> list[tuple[float, float, float, float, str]]:
    """Answers of a function that counts."""
    source = io.BytesIO(data)
    found = []
    while source.tell() < len(data):
        four = np.frombuffer(read_exactly(source, 32), "<f8").tolist()
        found.append((*four, read_text(source).decode()))
    return found


def test_blocks_as_an_engine_sends_them() -> None:
    """Several blocks, empty arrays and foreign bytes: an answer each, in order."""
    asked = block(texts([image(0, 3000), image(2000, 5000)]), texts([])) + block(
        texts([b"garbage"]), texts([image(0, 9000)[:-4]]), texts([image(0, 10)])
    )
    sink = io.BytesIO()
    serve(Function("ns_distinct_merge"), io.BytesIO(asked), sink)
    union, nothing, foreign, cut, few = counts_of(sink.getvalue())
    assert union[1] <= 5000 <= union[2]
    assert nothing == (0, 0, 0, 1, "")
    assert foreign == (0, 0, 0, 0, "not a CPC image: 7 bytes are too few")
    assert "cut off or damaged" in cut[4]
    assert few[1] <= 10 <= few[2]


def test_a_block_that_breaks_off_ends_the_program() -> None:
    """What isn't whole is never answered."""
    sink = io.BytesIO()
    whole = block(texts([image(0, 10)]))
    for asked in (whole[:-1], b"2\n\0", b"1\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"):
        with pytest.raises(EOFError):
            serve(Function("ns_distinct_merge"), io.BytesIO(asked), sink)
    assert sink.getvalue() == b""


def test_two_selections() -> None:
    """What two sets share, and what the first has alone."""
    asked = block(texts([image(0, 3000)]) + texts([image(2000, 5000)]))
    for name, truth in (("ns_distinct_shared", 1000), ("ns_distinct_only", 2000)):
        sink = io.BytesIO()
        serve(Function(name), io.BytesIO(asked), sink)
        ((_, lower, upper, confidence, error),) = counts_of(sink.getvalue())
        assert lower <= truth <= upper
        assert (confidence, error) == (0.95, "")


def test_a_program_that_hangs_ends(tmp_path: Path) -> None:
    """A forged body that keeps the library busy ends the program, not the query's patience."""
    command = [sys.executable, "-m", "flows.storage.serve_functions", "ns_distinct_merge", "2"]
    asked = block(texts([FORGED]))
    done = subprocess.run(command, input=asked, capture_output=True, timeout=60, check=False)
    # Whatever the library makes of it: an answer with an error, or an end by a signal.
    if done.returncode == 0:
        assert "can't be read" in counts_of(done.stdout)[0][4]
    else:
        assert done.returncode < 0
        assert done.stdout == b""


def test_unknown_functions_are_refused() -> None:
    """The program says which functions there are."""
    command = [sys.executable, "-m", "flows.storage.serve_functions", "ns_nothing"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "ns_distinct_merge" in done.stderr


def test_the_server_s_configuration_is_up_to_date() -> None:
    """The file for servers is what the program says; its program is there and can be run."""
    text = (DEPLOYED / "netspectra_function.xml").read_text(encoding="utf-8")
    assert text == configuration(SERVER_PROGRAM, direct=True, programs=4)
    names = [name.text for name in ElementTree.fromstring(text).iterfind("function/name")]
    assert names == list(SIGNATURES)
    assert (DEPLOYED / SERVER_PROGRAM).stat().st_mode & 0o111
    asked = block(texts([image(0, 10)]))
    command = [sys.executable, str(DEPLOYED / SERVER_PROGRAM), "ns_distinct_merge"]
    done = subprocess.run(command, input=asked, capture_output=True, timeout=60, check=True)
    assert counts_of(done.stdout)[0][4] == ""


def test_lengths() -> None:
    """Lengths of any size come back."""
    for value in (0, 127, 128, 300, 2**32, 2**63):
        out = bytearray()
        write_length(out, value)
        assert read_length(io.BytesIO(out)) == value


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(f"chdb:{tmp_path_factory.mktemp('functions')}", serve=False) as store:
        base = {"tenant": "t", "horizon": 60, "seed_id": 1, "revision": 1}
        for minute in range(20):
            common = base | {"window_start": T0_MS + 60_000 * minute}
            for kind, fields, sketch in (
                ("cpc", ["src_addr"], image(400 * minute, 400 * minute + 800)),
                ("frequency", ["dst_port"], ports(p443=10, p53=minute + 1)),
                ("superspread", ["dst_port"], fan(10 * (minute + 1))),
            ):
                row = common | {"kind": kind, "task": kind, "fields": [fields], "sketch": sketch}
                store.insert("sketches_log", rows("sketches_log", **row), f"{kind}{minute}")
        yield store


@pytest.fixture
def reader(store: Store) -> Iterator[EngineReader]:
    """The reader of a running job: read-only, with its limits."""
    assert isinstance(store._backend, Engine)
    engine = Engine.share(store._backend.directory, "reading")
    with EngineReader(engine, Limits()) as reader:
        yield reader


def test_functions_in_the_embedded_engine(reader: EngineReader) -> None:
    """A read-only statement merges what a table holds, by group and all together."""
    (row,) = reader.query(
        "SELECT ns_distinct_merge(groupArray(sketch)) AS d, d.lower AS lower, d.upper AS upper "
        "FROM sketches WHERE kind = 'cpc'"
    ).to_pylist()
    assert row["lower"] <= 8400 <= row["upper"]
    found = reader.query(
        "SELECT toStartOfInterval(window_start, INTERVAL 5 MINUTE) AS five, count() AS n, "
        "ns_distinct_merge(groupArray(sketch)).upper AS upper "
        "FROM sketches WHERE kind = 'cpc' GROUP BY five ORDER BY five"
    ).to_pylist()
    for group in found:
        assert group["upper"] >= 400 * group["n"] + 400
    (top,) = reader.query(
        "SELECT ns_top_merge(groupArray(sketch), any(fields), 1).rows AS rows "
        "FROM sketches WHERE kind = 'frequency'"
    ).to_pylist()
    ((listed,),) = [top["rows"]]
    assert (listed["key"], listed["packets"]) == ("dst_port=53", 210)
    (spread,) = reader.query(
        "SELECT ns_spread_merge(groupArray(sketch), any(fields), 5) AS s, s.rows.key AS keys, "
        "s.rows.estimate AS estimates, s.error AS error FROM sketches WHERE kind = 'superspread'"
    ).to_pylist()
    assert (spread["keys"], spread["estimates"], spread["error"]) == (["dst_port=7"], [200.0], "")


def test_garbage_in_the_embedded_engine(reader: EngineReader) -> None:
    """Bytes that aren't sketches give the reason, and the engine goes on."""
    (row,) = reader.query(
        "SELECT ns_distinct_merge(['garbage']).error AS first, "
        "ns_top_merge([unhex('00ff')], ['dst_port'], 3).error AS second, "
        "ns_distinct_merge(emptyArrayString()).estimate AS none"
    ).to_pylist()
    assert row["first"] == "not a CPC image: 7 bytes are too few"
    assert "not a sketch of kind" in row["second"]
    assert row["none"] == 0
    with pytest.raises(StoreError, match="Code: "):
        reader.query("SELECT ns_distinct_merge(1)")
    assert reader.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]
