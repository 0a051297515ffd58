"""What is computed: definitions of tasks, and those that run unless told otherwise.

A task reads the pane's flow table, so its keys and elements are fields of the flow key.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from flows.settings.units import Count, Name, Names

FIELDS: Final = (
    "src_addr",
    "dst_addr",
    "src_port",
    "dst_port",
    "ip_proto",
    "eth_type",
    "vlan_id",
    "tunnel_id",
    "if_index",
    "direction",
    "src_net",
    "dst_net",
)
"""Fields of a flow key that tasks may name."""

FIVE_TUPLE: Final = ("src_addr", "dst_addr", "src_port", "dst_port", "ip_proto")

TaskType = Literal["exact", "distinct", "frequency", "spread"]

_TAKES: Final = {
    "exact": (True, False),
    "distinct": (False, True),
    "frequency": (True, False),
    "spread": (True, True),
}


_WORDS: Final = {"src_addr": 2, "dst_addr": 2}
MAX_WORDS: Final = 4
"""Longest key of a spread task, in 64-bit words; an address takes two."""


def _check_fields(fields: tuple[str, ...]) -> tuple[str, ...]:
    for field in fields:
        if field not in FIELDS:
            msg = f"fields out of {', '.join(FIELDS)}, not {field}"
            raise ValueError(msg)
    if len(set(fields)) < len(fields):
        msg = "each field once"
        raise ValueError(msg)
    return fields


Fields = Annotated[Names, AfterValidator(_check_fields)]


class Task(BaseModel):
    """One task.

    Attributes:
        name: Its name in tables and rules; unique.
        type: ``exact`` (sums per flow), ``distinct`` (how many different elements),
            ``frequency`` (top keys by packets and by bytes), ``spread`` (keys that touch the
            most different elements).
        key: Fields that make the key; exact, frequency, spread.
        elements: Fields that make the element that is counted; distinct, spread.
        top: Keys that are listed; frequency, spread.
        lg_k: Size of the distinct sketch, log2 of its rows. The standard error is about
            0.7 / sqrt(2^lg_k): 1.1 % at 12.
        memory_kb: Memory of a spread sketch, kB.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    type: TaskType
    key: Fields = ()
    elements: Fields = ()
    top: Annotated[Count, Field(ge=1, le=1000)] = 10
    lg_k: Annotated[int, Field(ge=4, le=16)] = 12
    memory_kb: Annotated[Count, Field(ge=16, le=65_536)] = 1024

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        for part, wanted in zip(("key", "elements"), _TAKES[self.type], strict=True):
            if bool(getattr(self, part)) != wanted:
                msg = f"{part if wanted else f'no {part}'} for a task of type {self.type}"
                raise ValueError(msg)
        if self.type == "spread" and sum(_WORDS.get(field, 1) for field in self.key) > MAX_WORDS:
            msg = "a key of at most two addresses, or four other fields, for a task of type spread"
            raise ValueError(msg)
        return self


def _task(name: str, kind: TaskType, key: Any = (), elements: Any = ()) -> Task:
    return Task(name=name, type=kind, key=key, elements=elements)


DEFAULT_TASKS: Final = (
    _task("five_tuple", "exact", key=FIVE_TUPLE),
    _task("distinct_src_addr", "distinct", elements=("src_addr",)),
    _task("distinct_dst_addr", "distinct", elements=("dst_addr",)),
    _task("distinct_addr_pair", "distinct", elements=("src_addr", "dst_addr")),
    _task("distinct_five_tuple", "distinct", elements=FIVE_TUPLE),
    _task("top_src_addr", "frequency", key=("src_addr",)),
    _task("top_dst_addr", "frequency", key=("dst_addr",)),
    _task("top_dst_port", "frequency", key=("dst_port",)),
    _task("top_ip_proto", "frequency", key=("ip_proto",)),
    _task("fan_out", "spread", key=("src_addr",), elements=("dst_addr",)),
    _task("fan_in", "spread", key=("dst_addr",), elements=("src_addr",)),
    _task("fan_out_service", "spread", key=("src_addr",), elements=("dst_addr", "dst_port")),
    _task("pair_ports", "spread", key=("src_addr", "dst_addr"), elements=("dst_port",)),
)
"""The tasks that run when the settings name none."""


def check_tasks(value: Any) -> Any:
    """Refuse two tasks of one name.

    Raises:
        ValueError: A name appears twice.
    """
    seen = set()
    for task in value:
        if task.name in seen:
            msg = f"each name once, and {task.name} is there twice"
            raise ValueError(msg)
        seen.add(task.name)
    return value
