"""The NetSpectra dataflow and everything behind it."""

import schemas as _schemas  # noqa: F401 - chooses the folder of compiled kernels

__version__ = "0.1.0"
