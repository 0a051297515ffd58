"""Captures packets and ships them: capture files, synthetic traffic, eBPF."""

import schemas as _schemas  # noqa: F401 - chooses the folder of compiled kernels
