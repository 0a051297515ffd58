"""Errors of capturing.

ProbeError
+-- CaptureError        a capture that can't be read; the text says what to do
+-- FilterError         a filter rule that can't be read
"""

from __future__ import annotations


class ProbeError(Exception):
    """Base of everything that probe raises."""


class CaptureError(ProbeError):
    """A capture can't be opened or read on; one sentence says what and what to do."""


class FilterError(ProbeError, ValueError):
    """A filter rule can't be read; one line says what of it, and shows the grammar."""
