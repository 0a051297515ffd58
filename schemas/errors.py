"""Errors of the wire format.

SchemaError
+-- EncodeError         values that the format can't carry
+-- DecodeError         bytes that are not a message of ours
|   +-- UnknownSchema   framed, but with a fingerprint we don't know
+-- RegistryAway        a schema registry that doesn't answer (``schemas.remote_registry``)
"""

from __future__ import annotations


class SchemaError(Exception):
    """Base of everything that schemas raises."""


class EncodeError(SchemaError):
    """Values that a message can't carry; the text names the field and its limits."""


class DecodeError(SchemaError):
    """The bytes are not a valid message; the text names the fault and where it is."""


class UnknownSchema(DecodeError):
    """The message is framed, but its schema is not one that we know."""
