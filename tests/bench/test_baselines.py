"""The baselines compute what the engine computes, so comparing their speed is fair."""

from __future__ import annotations

from pathlib import Path

import datasketches
import numpy as np
import pytest

from flows.benchmarks import baselines, decode, inputs, kernel, panes
from flows.benchmarks.sizes import Sizes
from flows.kernels.layout import BYTES, FIRST, LAST, PACKETS
from flows.sketches.distinct import Distinct
from flows.sketches.frequency import Frequency
from flows.windows.flow_table import Words
from probe.capture import CaptureFile
from schemas.record import Packets, as_words

PANE_NS = 2 * 10**9


@pytest.fixture(scope="module")
def zipf(tiny: Sizes) -> Packets:
    return inputs.records(
        inputs.traffic("zipf", tiny.capture_packets, 1e6, active_flows=tiny.active_flows)
    )


@pytest.fixture(scope="module")
def flood(tiny: Sizes) -> Packets:
    return inputs.records(inputs.traffic("flood", tiny.kernel_packets, 1e6))


def test_avro_baseline(zipf: Packets) -> None:
    """Fastavro finds the same wire bytes in the messages as the decoder, and as were sent."""
    messages = inputs.messages(zipf)
    sent = int(zipf["wire_bytes"].sum())
    assert decode.batch_wire_bytes(messages) == baselines.avro_wire_bytes(messages) == sent


@pytest.mark.parametrize("kind", ["pcap", "pcapng"])
def test_capture_baselines(kind: str, zipf: Packets, tmp_path: Path) -> None:
    """Decoder, hopping loop and scapy find the same wire bytes in a capture, all that was sent."""
    path = tmp_path / f"traffic.{kind}"
    getattr(inputs, f"write_{kind}")(path, zipf)
    sent = int(zipf["wire_bytes"].sum())
    assert decode.capture_wire_bytes(path) == sent
    assert decode.hop_wire_bytes(path, getattr(baselines, f"hop_{kind}")) == sent
    few = zipf[:100]
    assert baselines.scapy_wire_bytes(path, len(few)) == int(few["wire_bytes"].sum())


def test_hopping_meets_every_frame(zipf: Packets, tmp_path: Path) -> None:
    """The hopping loops count as many frames as were written."""
    inputs.write_pcap(tmp_path / "pcap", zipf, 96)
    inputs.write_pcapng(tmp_path / "pcapng", zipf)
    for kind, hop in (("pcap", baselines.hop_pcap), ("pcapng", baselines.hop_pcapng)):
        frames, _ = hop(np.fromfile(tmp_path / kind, np.uint8))
        assert frames == len(zipf)


@pytest.mark.parametrize("kind", ["pcap", "cut", "pcapng"])
def test_captures_hold_the_records(kind: str, zipf: Packets, tmp_path: Path) -> None:
    """A capture made of records gives the same fields back when it is decoded."""
    path = tmp_path / "traffic"
    {
        "pcap": inputs.write_pcap,
        "cut": lambda path, packets: inputs.write_pcap(path, packets, 96),
        "pcapng": inputs.write_pcapng,
    }[kind](path, zipf)
    with CaptureFile(path) as capture:
        read = capture.read(2 * len(zipf))
        assert capture.truncated is None
    assert len(read) == len(zipf)
    for name in zipf.dtype.names or ():
        if name not in ("if_index", "capture_point"):
            assert np.array_equal(read[name], zipf[name]), name


def taken(words: Words, max_flows: int) -> tuple[Words, Words]:
    closed = kernel.absorb(kernel.flow_table(max_flows), words).take(2**62)
    return closed.flows, closed.folded


@pytest.mark.parametrize("profile", ["zipf", "flood"])
def test_dict_baseline(profile: str, request: pytest.FixtureRequest) -> None:
    """A dict filled packet by packet holds the flow table's keys, sums and times."""
    words = as_words(request.getfixturevalue(profile))
    flows, folded = taken(words, len(words))
    assert not len(folded)
    table = {
        tuple(row[:PACKETS]): [row[PACKETS], row[BYTES], row[FIRST], row[LAST]]
        for row in flows.tolist()
    }
    assert baselines.dict_flows(words, PANE_NS) == table


def test_touching_baseline(zipf: Packets) -> None:
    """The touching loop adds up all packets and bytes, into as many slots as a table has flows."""
    words = as_words(zipf)
    flows, _ = taken(words, len(words))
    table = baselines.touch_table(16 * len(flows))
    baselines.touch(words, table)
    assert table[:, 0].sum() == flows[:, PACKETS].sum() == len(zipf)
    assert table[:, 1].sum() == flows[:, BYTES].sum()
    used = np.count_nonzero(table[:, 0])
    assert 0.9 * len(flows) < used <= len(flows)


def test_folding_keeps_the_sums(flood: Packets) -> None:
    """The flood that is folded has the same packets and bytes as the one that is not."""
    words = as_words(flood)
    flows, folded = taken(words, len(words) // 2)
    assert len(flows) <= len(words) // 2
    assert len(folded)
    for column, total in ((PACKETS, len(words)), (BYTES, flood["wire_bytes"].sum())):
        assert flows[:, column].sum() + folded[:, column].sum() == total


def test_item_by_item_baselines() -> None:
    """Fed flow by flow, the library and sets tell what the tasks tell.

    CPC images and totals are equal, top keys lie within the bounds, a large spread too.
    """
    source = inputs.traffic("zipf", 30_000, 1e7, active_flows=5_000, sources=50)
    ((unit, _),) = panes.close(source, panes.default_tasks())
    kinds = set()
    for task in panes.default_tasks():
        kinds.add(task.kind)
        (pane,) = unit.sketches[panes.STREAM.tenant, task.name]
        theirs = panes.item_by_item(unit.entries, task)
        if isinstance(pane.sketch, Distinct):
            union = datasketches.cpc_union(task.lg_k)
            union.update(theirs)
            assert bytes(union.get_result().serialize()) == pane.sketch.to_bytes(), task.name
        elif isinstance(pane.sketch, Frequency):
            (items, counts), _ = theirs
            assert counts.total_weight == pane.sketch.total_packets == source.packets
            (top, *_), _ = pane.sketch.top(1).by_packets
            key = np.array(top.key, "<u8").tobytes().hex()
            assert items.get_lower_bound(key) <= top.packets <= items.get_upper_bound(key)
        else:
            most = max(len(elements) for elements in theirs.values())
            spreader = pane.sketch.top(1).rows[0]
            # Where every spread is 1, the largest of thousands of estimates is an outlier.
            if most > 100:
                assert spreader.lower <= most <= spreader.upper, task.name
                kinds.add("large spread")
    assert kinds == {"distinct", "frequency", "spread", "large spread"}


def test_dict_of_sets() -> None:
    """The dict of sets counts each pair of key and element once."""
    keys, elements = np.array([[1, 1, 2, 1], [5, 6, 5, 5]], np.uint64)
    assert baselines.dict_spread(keys, elements) == {1: {5, 6}, 2: {5}}
