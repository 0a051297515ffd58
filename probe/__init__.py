"""Captures packets and ships them: capture files, synthetic traffic, eBPF."""
