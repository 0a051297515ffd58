"""A memory fence, which numba lacks."""

from __future__ import annotations

from typing import Any

import numba
from numba.core import types
from numba.extending import intrinsic


@intrinsic
def _fence(context: Any) -> Any:
    def build(_context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        builder.fence("seq_cst")
        return _context.get_dummy_value()

    return types.void(), build


@numba.njit(cache=True)
def fence() -> None:
    """Let no load or store move from one side of this call to the other.

    For memory shared with the kernel: after a flag that says a record is complete and before
    its content, after the content and before the flag that gives it back.
    """
    _fence()  # type: ignore[call-arg]
