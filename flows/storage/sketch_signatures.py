"""SQL functions over arrays of stored sketches: names, types, and how an engine is told of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from xml.etree import ElementTree

Columns = Mapping[str, Any]
"""Types by name; of an array of rows again such a mapping."""

READ_TIMEOUT_S: Final = 60
"""An engine waits so long for a program's answer."""

SERVER_PROGRAM: Final = "netspectra_sketches.py"
"""The program among a server's user scripts."""


class Signature(NamedTuple):
    """What a function takes and gives.

    Attributes:
        arguments: types by name.
        columns: of the tuple that it gives.
    """

    arguments: Mapping[str, str]
    columns: Columns


def type_of(columns: Columns) -> str:
    """The ClickHouse type of a tuple with these columns."""
    parts = (
        f"{name} Array({type_of(kind)})" if isinstance(kind, Mapping) else f"{name} {kind}"
        for name, kind in columns.items()
    )
    return f"Tuple({', '.join(parts)})"


_BOUNDS: Final = {"estimate": "Float64", "lower": "Float64", "upper": "Float64"}
_METRICS: Final = tuple(
    f"{metric}{end}" for metric in ("packets", "bytes") for end in ("", "_lower", "_upper")
)
_ERROR: Final = {"error": "String"}
_COUNT: Final = {**_BOUNDS, "confidence": "Float64", **_ERROR}
_TOP: Final = {
    "rows": {"key": "String", **dict.fromkeys(_METRICS, "UInt64")},
    "others_bytes": "UInt64",
    **_ERROR,
}
_SPREAD: Final = {
    "rows": {"key": "String", **_BOUNDS},
    "recall_peers": "Float64",
    "confidence": "Float64",
    **_ERROR,
}
_ONE: Final = {"sketches": "Array(String)"}
_TWO: Final = {"first": "Array(String)", "second": "Array(String)"}
_LISTED: Final = {**_ONE, "fields": "Array(String)", "n": "UInt32"}

SIGNATURES: Final[Mapping[str, Signature]] = MappingProxyType(
    {
        "ns_distinct_merge": Signature(_ONE, _COUNT),
        "ns_distinct_shared": Signature(_TWO, _COUNT),
        "ns_distinct_only": Signature(_TWO, _COUNT),
        "ns_top_merge": Signature(_LISTED, _TOP),
        "ns_spread_merge": Signature(_LISTED, _SPREAD),
    }
)
"""By name."""


def configuration(command: str, *, direct: bool, programs: int) -> str:
    """The functions as ClickHouse's configuration of executable user-defined functions.

    Args:
        command: runs the program; the function's name is added.
        direct: whether the command is a file among the server's user scripts, not a shell's.
        programs: of one function, how many may run at once.
    """
    root = ElementTree.Element("functions")
    for function, signature in SIGNATURES.items():
        entry = ElementTree.SubElement(root, "function")
        values = {
            "type": "executable_pool",
            "name": function,
            "return_type": type_of(signature.columns),
        }
        for name, text in values.items():
            ElementTree.SubElement(entry, name).text = text
        for name, kind in signature.arguments.items():
            argument = ElementTree.SubElement(entry, "argument")
            ElementTree.SubElement(argument, "type").text = kind
            ElementTree.SubElement(argument, "name").text = name
        values = {
            "format": "RowBinary",
            "send_chunk_header": "1",
            "execute_direct": str(int(direct)),
            "command": f"{command} {function}",
            "pool_size": str(programs),
            "command_read_timeout": str(READ_TIMEOUT_S * 1000),
            "max_command_execution_time": str(READ_TIMEOUT_S),
        }
        for name, text in values.items():
            ElementTree.SubElement(entry, name).text = text
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


if __name__ == "__main__":
    print(configuration(SERVER_PROGRAM, direct=True, programs=4), end="")
