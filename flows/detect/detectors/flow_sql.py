"""Measurements of tasks as SQL over ``flows``: exact, and readable by people.

What a class of flows is (``flows.kernels.classes``) is said here a second time, in SQL. Rows of
``flows`` are summed per pane and flow first, because a late packet is one more row. A late row
can therefore show a connection that wasn't one when its pane closed, and until the next pane is
stored the answers in it are not there; and of a pane with more flows
than are kept the smaller ones have no addresses any more. Only there the measurement is the larger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from flows.kernels.classes import LARGE_ANSWER_BYTES, SERVICE_PORTS
from flows.kernels.late_answers import ANSWER_NS
from flows.settings.detection import REFLECTOR_PORTS
from flows.storage.flow_rows import before, in_window, of_entity
from flows.windows.tasks import Task, Where

DIFFERENT: Final = "different"
"""Value of a spread: its different elements."""

MOST_ROWS: Final = 100

_ADDRESSES: Final = ("src_addr", "dst_addr")
_FIVE_TUPLE: Final = "window_start, src_addr, dst_addr, src_port, dst_port, ip_proto"

_IP: Final = "eth_type IN (0x0800, 0x86DD)"
_PORTS: Final = "(f.src_port != 0 OR f.dst_port != 0)"
_TO_ONE: Final = (
    "NOT (in_net(f.dst_addr, '224.0.0.0/4') OR in_net(f.dst_addr, '255.255.255.255')"
    " OR in_net(f.dst_addr, 'ff00::/8'))"
)
_FROM_SERVICE: Final = f"f.src_port < {SERVICE_PORTS} AND f.dst_port >= {SERVICE_PORTS}"
_ECHO: Final = "(f.ip_proto, f.dst_port) IN ((1, 2048), (58, 32768))"
_REFLECTED: Final = (
    f"f.src_port != f.dst_port AND f.bytes > {LARGE_ANSWER_BYTES} * f.packets"
    f" AND f.src_port IN {REFLECTOR_PORTS}"
)
_FIRST: Final = "(b.packets = 0 OR f.first_seen < b.first_seen)"
_ANSWER: Final = (
    "b.window_start = f.window_start AND b.ip_proto = f.ip_proto\n"
    "    AND b.src_addr = f.dst_addr AND b.dst_addr = f.src_addr\n"
    "    AND b.src_port = if(f.ip_proto IN (1, 58), 0, f.dst_port)\n"
    "    AND b.dst_port = multiIf(f.ip_proto = 1, 0, f.ip_proto = 58, 33024, f.src_port)"
)
"""What goes back to where a flow ``f`` came from; of echo requests, the reply."""

_LATER: Final = (
    "n.ip_proto = f.ip_proto\n"
    "    AND n.src_addr = if(f.ip_proto = 6, f.src_addr, f.dst_addr)\n"
    "    AND n.dst_addr = if(f.ip_proto = 6, f.dst_addr, f.src_addr)\n"
    "    AND n.src_port = multiIf(f.ip_proto = 6, f.src_port, f.ip_proto IN (1, 58), 0,"
    " f.dst_port)\n"
    "    AND n.dst_port = multiIf(f.ip_proto = 6, f.dst_port, f.ip_proto = 1, 0,"
    " f.ip_proto = 58, 33024, f.src_port)\n"
    "    AND n.first_seen > f.first_seen"
)
"""What comes next of a connection that ``f`` asked for, or as the answer to ``f``."""

_CAME_ABOUT: Final = (
    "n.window_start > f.window_start"
    f" AND n.first_seen <= f.last_seen + INTERVAL {ANSWER_NS} NANOSECOND"
    " AND if(f.ip_proto = 6, bitAnd(f.tcp_flags, 2) != 0 AND bitAnd(n.tcp_flags, 18) = 16,"
    " n.packets > 0)"
)
"""The next pane shows that a try came about (``flows.kernels.late_answers``)."""

_CLASSES: Final[Mapping[Where, tuple[str, ...]]] = {
    "attempts": (
        # TCP that never acknowledged; without any flag only if it was refused.
        "f.ip_proto = 6 AND f.dst_port != 0 AND bitAnd(f.tcp_flags, 16) = 0 AND f.tcp_flags != 4"
        " AND (f.tcp_flags != 0 OR bitAnd(b.tcp_flags, 4) != 0)",
        f"f.ip_proto = 17 AND {_PORTS} AND NOT ({_FROM_SERVICE}) AND NOT ({_REFLECTED})"
        " AND b.packets = 0",
        f"{_ECHO} AND b.packets = 0",
    ),
    "initiated": (
        "f.ip_proto = 6 AND f.dst_port != 0 AND bitAnd(f.tcp_flags, 2) != 0"
        " AND (bitAnd(f.tcp_flags, 16) = 0 OR if(bitAnd(b.tcp_flags, 2) != 0,"
        f" f.first_seen < b.first_seen, NOT ({_FROM_SERVICE})))",
        f"f.ip_proto = 17 AND {_PORTS} AND NOT ({_FROM_SERVICE}) AND NOT ({_REFLECTED})"
        f" AND {_FIRST}",
        _ECHO,
        f"f.ip_proto NOT IN (1, 6, 17, 58) AND {_FIRST}",
    ),
    "syn": ("f.ip_proto = 6 AND f.dst_port != 0 AND bitAnd(f.tcp_flags, 18) = 2",),
    "reflected": (
        f"f.ip_proto = 17 AND f.src_port != f.dst_port AND f.bytes > {LARGE_ANSWER_BYTES}"
        " * f.packets",
    ),
}
_ASKING: Final = ("attempts", "initiated")
_TRIES: Final = ("attempts", "syn")


def statement(
    task: Task,
    value: str,
    entity: Mapping[str, str],
    tenant: str,
    start_ns: int,
    end_ns: int,
    also: str = "",
) -> str:
    """What a task measures of a window, largest first.

    Args:
        task: whose key is grouped by.
        value: expression over flows ``f``, or ``DIFFERENT``.
        entity: fields of the key that are fixed.
        tenant: whose traffic.
        start_ns: start of the window, Unix ns.
        end_ns: its end.
        also: further condition on flows ``f``.
    """
    if value == DIFFERENT:
        value = f"uniqExact({', '.join(f'f.{name}' for name in task.elements.names)})"
    fields = ", ".join(f"f.{name}" for name in task.key.names)
    shown = ", ".join((*_shown(task.key.names), f"{value} AS value"))
    conditions = [
        f"f.{of_entity({name: entity[name]})}" for name in task.key.names if name in entity
    ]
    conditions += [also] if also else []
    window = in_window(tenant, start_ns, end_ns)
    if task.where:
        head, source, classes = _classed(task.where, tenant, start_ns, end_ns, entity)
        conditions = [*classes, *conditions]
    else:
        head, source = "", "flows AS f"
        conditions = [*_plain(task, window), *conditions]
    lines = [f"{head}SELECT {shown}", f"FROM {source}", "WHERE " + "\n  AND ".join(conditions)]
    if fields:
        lines.append(f"GROUP BY {fields}")
    return "\n".join((*lines, f"ORDER BY value DESC LIMIT {MOST_ROWS}"))


def _shown(names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        yield f"ip_text(f.{name}) AS {name}" if name in _ADDRESSES else f"f.{name} AS {name}"


def _plain(task: Task, window: str) -> Iterator[str]:
    yield window
    if task.ip_only:
        yield f"f.{_IP}"
    if task.kind != "frequency":
        yield "f.folded_flows = 0"


def _classed(
    where: Where, tenant: str, start_ns: int, end_ns: int, entity: Mapping[str, str]
) -> tuple[str, str, tuple[str, ...]]:
    """Flows of panes as ``f`` with what matters to them, and conditions.

    That is their answers, as ``b``, and what comes next, as ``n``, perhaps in the pane that
    begins where the window ends.
    """
    parties = [
        f"(src_addr = {address} OR dst_addr = {address})"
        for name in _ADDRESSES
        if name in entity
        for address in (of_entity({name: entity[name]}).partition(" = ")[2],)
    ]
    read_to_ns = end_ns + ANSWER_NS if where in _TRIES else end_ns
    window = in_window(tenant, start_ns, read_to_ns)
    conditions = "\n    AND ".join((window, _IP, "folded_flows = 0", *parties))
    head = (
        f"WITH flow AS (\n  SELECT {_FIVE_TUPLE},\n"
        "    groupBitOr(f.tcp_flags) AS tcp_flags, min(f.first_seen) AS first_seen,\n"
        "    max(f.last_seen) AS last_seen, sum(f.packets) AS packets, sum(f.bytes) AS bytes\n"
        f"  FROM flows AS f\n  WHERE {conditions}\n  GROUP BY {_FIVE_TUPLE})\n"
    )
    classes = ["(" + "\n    OR ".join(f"({each})" for each in _CLASSES[where]) + ")"]
    source = "flow AS f"
    if where in _ASKING:
        source += f" LEFT JOIN flow AS b\n  ON {_ANSWER}"
    if where in _TRIES:
        source += f"\nASOF LEFT JOIN flow AS n\n  ON {_LATER}"
        classes += [f"NOT ({_CAME_ABOUT})", f"f.{before(end_ns)}"]
    if where != "reflected":
        classes.append(_TO_ONE)
    return head, source, tuple(classes)
