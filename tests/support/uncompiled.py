"""The capture kernels as plain Python, and buffers that watch what is read."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import numba
import numpy as np

PACKAGE = "probe.capture"


def uncompiled(*names: str) -> list[ModuleType]:
    """Import modules of probe.capture a second time, with numba's JIT off."""
    compiled = {name: sys.modules.pop(name) for name in list(sys.modules) if PACKAGE in name}
    jit_off = numba.config.DISABLE_JIT
    numba.config.DISABLE_JIT = True
    try:
        return [importlib.import_module(f"{PACKAGE}.{name}") for name in names]
    finally:
        numba.config.DISABLE_JIT = jit_off
        for name in list(sys.modules):
            if PACKAGE in name:
                del sys.modules[name]
        sys.modules.update(compiled)


class Watched:
    """A byte buffer that fails when anything outside ``data[start:end]`` is read."""

    def __init__(self, data: bytes, start: int = 0, end: int | None = None) -> None:
        self.data = data
        self.start = start
        self.end = len(data) if end is None else end
        self.shape = (len(data),)

    def __getitem__(self, index: np.uint64) -> np.uint8:
        if not self.start <= index < self.end:
            raise AssertionError(f"read of byte {index} outside [{self.start}, {self.end})")
        return np.uint8(self.data[index])
