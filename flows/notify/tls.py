"""How certificates of receivers are checked."""

from __future__ import annotations

import ssl

from flows.errors import UsageError


def context(name: str, ca_file: str | None = None, *, verify: bool = True) -> ssl.SSLContext:
    """TLS 1.2 and newer, host names checked.

    Args:
        name: of the notifier, for the error.
        ca_file: certificates that are trusted instead of the system's.
        verify: whether the receiver's certificate is checked at all.

    Raises:
        UsageError: the certificates can't be read.
    """
    try:
        found = ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no certificates are in it"
        msg = f"notifier {name}: can't read ca_file {ca_file}: {reason}"
        raise UsageError(msg) from None
    found.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        found.check_hostname = False
        found.verify_mode = ssl.CERT_NONE
    return found
