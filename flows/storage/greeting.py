"""What ClickHouse's client for Go, which is in Grafana's plug-in, wants to hear first.

Over HTTP it says which protocol it speaks, asks who is there, and reads that one answer in the
protocol's form of ``Native``: with a head before the block and a mark behind each column's type.
From then on it reads what the revision means that it was told. The embedded engine writes plain
``Native`` only, which is that of revision 0; so that is told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

QUESTION: Final = "SELECT displayName(), version(), revision(), timezone()"
"""What is asked."""

PROTOCOL: Final = "client_protocol_version"
"""Parameter in the address by which a client says what it speaks."""

_HEAD: Final = b"\x01\x00\x02" + (-1).to_bytes(4, "little", signed=True) + b"\x00"
"""Of a block: no overflow row, no bucket."""

_PLAIN: Final = b"\x00"
"""Behind a column's type: no serialisation of its own."""


def is_asked(sql: str, fmt: str, given: Mapping[str, str]) -> bool:
    """Whether somebody wants to be greeted.

    Args:
        sql: the statement.
        fmt: format of its result.
        given: parameters in the address.
    """
    plain = re.sub(r"\s+", " ", sql).strip(" ;")
    return fmt == "Native" and PROTOCOL in given and plain == QUESTION


def block(name: str, version: str, timezone: str) -> bytes:
    """The answer.

    Args:
        name: of the server.
        version: of the engine, ``26.1.2.3``.
        timezone: of the server.
    """
    columns = (
        ("displayName()", "String", _text(name)),
        ("version()", "String", _text(version)),
        ("revision()", "UInt32", (0).to_bytes(4, "little")),
        ("timezone()", "String", _text(timezone)),
    )
    return b"".join(
        (
            _HEAD,
            bytes((len(columns), 1)),
            *(_text(column) + _text(kind) + _PLAIN + value for column, kind, value in columns),
        )
    )


def _text(text: str) -> bytes:
    """Text shorter than 128 bytes, its length before it."""
    encoded = text.encode()
    return bytes((len(encoded),)) + encoded
