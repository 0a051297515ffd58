"""Where questions to the model go, and what of ours would leave the machine."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from flows.settings.llm import Llm

LOCAL_NAMES: Final = ("localhost", "localhost.localdomain", "host.docker.internal")


def is_private(url: str) -> bool:
    """Whether a service is on a loopback, link-local or private address.

    A name counts as such only if every address that it has now does; one that has none doesn't.
    """
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host in LOCAL_NAMES or host.endswith(".localhost"):
        return True
    try:
        found = {host}
        ip_address(host)
    except ValueError:
        try:
            found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
        except OSError:
            return False
    return bool(found) and all(_private(each) for each in found)


def _private(text: str) -> bool:
    address = ip_address(text.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    # `is_private` of 0.0.0.0 and of the documentation ranges is true too.
    return address.is_loopback or address.is_link_local or (address.is_private and _ours(address))


def _ours(address: object) -> bool:
    from ipaddress import ip_network

    ranges = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
    return any(address in ip_network(each) for each in ranges)


def hides(llm: Llm) -> bool:
    """Whether addresses of our networks and names are replaced before they leave."""
    if llm.pseudonymise == "auto":
        return not is_private(llm.url)
    return llm.pseudonymise == "on"


def in_words(llm: Llm, who: str = "") -> str:
    """What would leave this machine, for people.

    Args:
        llm: the settings.
        who: what goes there; by default alerts.
    """
    if not llm.on:
        return "off; nothing leaves this machine, alerts are explained by templates"
    where = f"{llm.model} at {urlsplit(llm.url).netloc}"
    what = "measurements, external addresses, ports"
    if hides(llm):
        ours = "addresses of your networks and names are replaced"
    else:
        ours = "with your addresses and names as they are"
    far = "" if not is_private(llm.url) else " (a private address)"
    who = who or f"alerts of severity {llm.min_severity} and above"
    return f"{who} go to {where}{far}: {what}; {ours}"
