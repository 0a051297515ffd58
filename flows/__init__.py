"""The NetSpectra dataflow and everything behind it."""

__version__ = "0.1.0"
