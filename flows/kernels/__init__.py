"""Numba kernels: arrays in, arrays out, no objects; each has a plain-Python twin in tests."""
