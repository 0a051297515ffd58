"""Capture by eBPF programs: load them, attach them, read what they write."""
