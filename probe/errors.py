"""Errors of capturing.

ProbeError
+-- CaptureError        a capture that can't be read; the text says what to do
+-- FilterError         a filter rule that can't be read
+-- LiveError           a live capture that can't start or go on; the text says what to do
    +-- Unavailable     one way to capture that this machine doesn't offer; another may work
+-- ShipError           packets can't be delivered to Kafka; the text says what to do
    +-- KafkaUnreachable    no broker answers; it may later
+-- KeepError           packets that can't be kept in files; the text says what to do
+-- PrivilegeError      privileges that could not be dropped
"""

from __future__ import annotations


class ProbeError(Exception):
    """Base of everything that probe raises."""


class CaptureError(ProbeError):
    """A capture can't be opened or read on; one sentence says what and what to do."""


class FilterError(ProbeError, ValueError):
    """A filter rule can't be read; one line says what of it, and shows the grammar."""


class LiveError(ProbeError):
    """A live capture can't start or go on; one sentence says what and what to do."""


class Unavailable(LiveError):
    """One way of capturing isn't possible here; the sentence is the reason to try the next."""


class ShipError(ProbeError):
    """Kafka can't take packets, and trying again is no use; one sentence says what to do."""


class KafkaUnreachable(ShipError):
    """No broker answers; the sentence says what to check. Trying again may be of use."""


class KeepError(ProbeError):
    """Nothing can be kept; one sentence says why and what to do."""


class PrivilegeError(ProbeError):
    """Privileges could not be dropped as wanted, so that it is wrong to go on."""
