"""Machine instructions that numba has no name for."""

from __future__ import annotations

import os
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic
def _prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    signature = types.void(array, types.uint64)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        view = context.make_array(sig.args[0])(context, builder, args[0])
        address = builder.gep(view.data, [args[1]])
        byte_pointer = builder.bitcast(address, ir.IntType(8).as_pointer())
        kinds = [byte_pointer.type] + [ir.IntType(32)] * 3
        hint = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), kinds), "llvm.prefetch.p0"
        )
        flags = [ir.Constant(ir.IntType(32), value) for value in (0, 3, 1)]
        builder.call(hint, [byte_pointer, *flags])
        return context.get_dummy_value()

    return signature, codegen


def _no_prefetch(array: Any, index: Any) -> None:
    """Stand in where the JIT is off."""


prefetch: Any = _no_prefetch if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0" else _prefetch
"""``prefetch(array, index)``: ask for the cache line of ``array[index]`` (flat, contiguous).

A hint only (LLVM's ``llvm.prefetch``: read, keep in all levels); it never faults, whatever the
index.
"""
