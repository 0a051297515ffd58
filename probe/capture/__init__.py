"""Capture files: pcap and pcapng to packet records, at millions of packets a second.

``CaptureFile`` is one file as a stream of record batches; ``probe.capture.inputs`` resolves
file names and globs and tells the identity of what they hold.

Inside, from bytes to records: ``loads`` (integers), ``link``, ``network``, ``tunnel`` (layers),
``frame`` (one record), ``pcap`` and ``pcapng`` (walks over a file), ``reader`` (files).
"""

from __future__ import annotations

from probe.capture.common import Interface
from probe.capture.reader import CaptureFile, CutOff

__all__ = ["CaptureFile", "CutOff", "Interface"]
