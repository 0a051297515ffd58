"""``python -m flows.cli``, the same as ``netspectra``."""

from flows.cli import script

script()
