"""Errors of capturing.

ProbeError
+-- CaptureError        a capture that can't be read; the text says what to do
"""

from __future__ import annotations


class ProbeError(Exception):
    """Base of everything that probe raises."""


class CaptureError(ProbeError):
    """A capture can't be opened or read on; one sentence says what and what to do."""
