"""The structs in C, the numpy dtypes and the Avro record are the same bytes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probe.ebpf.capture import CONTROL
from probe.ebpf.counters import COUNTERS
from schemas.record import PACKET, CapturePoint, Direction, PacketFlag
from tests.support import bpf_load
from tests.support.bpf_load import FLOW_KEY, FLOW_VALUE, KNOBS, RULE

STRUCTS = {
    "packet": (PACKET, 88),
    "counters": (COUNTERS, 64),
    "control": (CONTROL, 64),
    "rule": (RULE, 40),
    "knobs": (KNOBS, 16 + 16 * 40),
    "flow_key": (FLOW_KEY, 64),
    "flow_value": (FLOW_VALUE, 48),
}
CONSTANTS = {
    "POINT_XDP": CapturePoint.XDP,
    "POINT_TC": CapturePoint.TC,
    "INGRESS": Direction.INGRESS,
    "EGRESS": Direction.EGRESS,
    "LATER_FRAGMENT": PacketFlag.LATER_FRAGMENT,
    "L4_UNREADABLE": PacketFlag.L4_UNREADABLE,
    "DECAPSULATED": PacketFlag.DECAPSULATED,
    "COALESCED": PacketFlag.COALESCED,
}


def fields(dtype: np.dtype[Any]) -> dict[str, list[int]]:
    """Offset and size by field."""
    return {name: [offset, kind.itemsize] for name, (kind, offset) in dtype.fields.items()}  # type: ignore[union-attr,misc]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the C compiler says: ``struct.field`` to offset and size, names to numbers."""
    lines = [
        f'printf("\\"{struct}.{name}\\": [%zu, %zu],", offsetof(struct {struct}, {name}), '
        f"sizeof(((struct {struct} *)0)->{name}));"
        for struct, (dtype, _) in STRUCTS.items()
        for name in dtype.names or ()
    ]
    lines += [f'printf("\\"{name}\\": %zu,", sizeof(struct {name}));' for name in STRUCTS]
    lines += [f'printf("\\"{name}\\": %d,", {name});' for name in CONSTANTS]
    folder = tmp_path_factory.mktemp("layout")
    includes = '#include <stddef.h>\n#include <stdio.h>\n#include "abi.h"\n'
    (folder / "table.c").write_text(f"{includes}int main(void)\n{{\n{chr(10).join(lines)}\n}}\n")
    compiler = ["cc", f"-I{bpf_load.SOURCE}", "-o", folder / "table", folder / "table.c"]
    subprocess.run(compiler, check=True)
    printed = subprocess.run([folder / "table"], check=True, capture_output=True, text=True).stdout
    result: dict[str, Any] = json.loads("{" + printed.rstrip(",") + "}")
    return result


@pytest.mark.requires("cc")
@pytest.mark.parametrize("struct", STRUCTS)
def test_structs_are_what_numpy_reads(measured: dict[str, Any], struct: str) -> None:
    """Each field is where numpy looks for it, and no byte belongs to none."""
    dtype, size = STRUCTS[struct]
    assert {name: measured[f"{struct}.{name}"] for name in dtype.names or ()} == fields(dtype)
    assert measured[struct] == dtype.itemsize == size
    assert sum(size for _, size in fields(dtype).values()) == dtype.itemsize


@pytest.mark.requires("cc")
def test_numbers_mean_the_same(measured: dict[str, Any]) -> None:
    """Capture points, directions and flags have the same numbers in C and Python."""
    assert {name: measured[name] for name in CONSTANTS} == CONSTANTS


@pytest.mark.requires("cc")
@pytest.mark.parametrize(
    "path", sorted((bpf_load.ROOT / "schemas" / "avro" / "packet_batch").glob("v*.avsc")), ids=str
)
def test_struct_packet_is_the_avro_record(measured: dict[str, Any], path: Path) -> None:
    """The struct's fields are the Avro record's, of the same sizes in the same order."""
    sizes: dict[str, int] = {}
    found: dict[str, list[int]] = {}

    def size_of(kind: Any) -> int:
        if isinstance(kind, dict):
            sizes[kind["name"]] = kind["size"]
            return int(kind["size"])
        return sizes[kind]

    def collect(kind: Any) -> None:
        """Named types in the order in which they are defined; the fields of Packet."""
        if isinstance(kind, list):
            for branch in kind:
                collect(branch)
        if not isinstance(kind, dict):
            return
        if kind["type"] == "fixed":
            size_of(kind)
        elif kind["type"] == "record" and kind["name"] == "Packet":
            offset = 0
            for field in kind["fields"]:
                found[field["name"]] = [offset, size_of(field["type"])]
                offset += found[field["name"]][1]
        elif kind["type"] == "record":
            for field in kind["fields"]:
                collect(field["type"])
        elif kind["type"] == "array":
            collect(kind["items"])

    collect(json.loads(path.read_text()))
    in_c = {
        name.removeprefix("packet."): place
        for name, place in measured.items()
        if name.startswith("packet.")
    }
    assert list(found.items()) == sorted(in_c.items(), key=lambda item: item[1][0])


@pytest.mark.requires("clang", "libbpf")
def test_maps_of_the_object() -> None:
    """The compiled object has the maps that user space expects, with the structs' sizes."""
    ringbuf, percpu_array, array, percpu_hash, array_of_maps = 27, 6, 2, 5, 12
    mmapable = 1 << 10
    found = bpf_load.maps(bpf_load.built())
    assert found.pop("scratch")[0] == percpu_array
    assert found.pop(".kconfig")[0] == array
    assert found.pop(".rodata")[:4] == (array, 4, KNOBS.itemsize, 1)
    assert found == {
        "packets": (ringbuf, 0, 0, 16 << 20, 0),
        "counters": (percpu_array, 4, 64, 1, 0),
        "control": (array, 4, 64, 1, mmapable),
        "flows_a": (percpu_hash, 64, 48, 65536, 0),
        "flow_tables": (array_of_maps, 4, 4, 1, 0),
    }


@pytest.mark.requires("clang", "libbpf")
def test_sources_compile_without_warnings(tmp_path: Path) -> None:
    """The programs compile cleanly with all warnings."""
    bpf_load.compile_object(tmp_path / "strict.o", "-Wall", "-Wextra", "-Werror")
