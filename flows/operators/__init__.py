"""Bytewax operators: thin steps that drive the plain classes of flows.windows."""
