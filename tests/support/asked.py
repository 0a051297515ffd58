"""A store with a loud host in it, and scripts of a model that is asked about it."""

from __future__ import annotations

import time
from typing import Any

from flows.sinks import alert_rows
from flows.storage.store import Store
from tests.support.alerts import alert
from tests.support.llm import Act, Asked, Say, calling, streamed
from tests.support.store_rows import T0_MS, address, rows

HOST = "10.0.0.5"
PEER = "198.51.100.7"
PROBE = "bonn-7"
QUESTION = f"why is {HOST} so loud today?"
HOUR_MS = 3_600_000

FLOWS = [
    # source, destination, port, bytes, packets, ms after T0
    (HOST, PEER, 443, 9_000_000, 9000, 0),
    (HOST, PEER, 443, 1_000_000, 1000, 2000),
    (PEER, HOST, 50_000, 100_000, 100, 0),
    ("10.0.0.6", HOST, 22, 5000, 5, 0),
    (HOST, "10.0.0.6", 53, 700, 7, -2 * HOUR_MS),
]


def fill(store: Store, tenant: str = "default", probe: str = PROBE) -> None:
    """Two hours with little, then a host that sends much."""
    for number, (src, dst, port, octets, packets, after_ms) in enumerate(FLOWS):
        at_ms = T0_MS + after_ms
        table = rows(
            "flows",
            tenant=tenant,
            probe=probe,
            src_addr=address(src),
            dst_addr=address(dst),
            dst_port=port,
            ip_proto=6,
            bytes=octets,
            packets=packets,
            window_start=at_ms,
            first_seen=at_ms * 10**6,
            last_seen=at_ms * 10**6,
        )
        store.insert("flows", table, f"{tenant}-{number}")
        one = {"tenant": tenant, "probe": probe, "window_start": at_ms}
        store.insert(
            "totals", rows("totals", **one, packets=packets, bytes=octets), f"{tenant}-t{number}"
        )
    lost = rows(
        "ledger",
        tenant=tenant,
        probe=probe,
        window_start=T0_MS,
        hop=1,
        seen=10_205,
        delivered=10_105,
        dropped={"ring_full": 100},
        in_flight=0,
    )
    store.insert("ledger", lost, f"{tenant}-l")
    spread = rows(
        "spreaders_log",
        tenant=tenant,
        window_start=T0_MS,
        horizon=60,
        task="fan_out",
        key={"src_addr": HOST},
        key_text=f"src_addr={HOST}",
        estimate=33.0,
        lower=30.0,
        upper=36.0,
    )
    store.insert("spreaders_log", spread, f"{tenant}-s")
    raised = alert(entity={"src_addr": HOST}, tenant=tenant, title=f"{HOST} sends much")
    store.insert("alerts_log", alert_rows.alerts_log([raised]), f"{tenant}-{time.time_ns()}")


def host_in(asked: Asked) -> str:
    """What the host of the question is called there."""
    (question,) = [m for m in asked.body["messages"] if "Question: " in str(m["content"])]
    return str(question["content"]).partition("why is ")[2].partition(" so ")[0]


def looks_up(asked: Asked) -> Say:
    """Looks the host up."""
    host = host_in(asked)
    return calling(("host_profile", {"host": host}), ("baseline", {"host": host}))


def explains(asked: Asked) -> Say:
    """Says what was found, in small pieces."""
    name = asked.named("host totals")
    sent = asked.rows[name]["bytes_sent"]
    peer = asked.named("peer of the host")
    text = f"{host_in(asked)} sent {sent} bytes, most to {PEER}. [{name}, {peer}]"
    return streamed(*(text[at : at + 9] for at in range(0, len(text), 9)))


SCRIPT: tuple[Act, ...] = (looks_up, explains)
"""A good answer."""

ANSWER = f"{HOST} sent 10000700 bytes, most to {PEER}. [R2, R7]"
"""What is shown of it."""


def said(text: str) -> Act:
    """An answer in one piece, with the rows of the host's totals for ``{row}``."""
    return lambda asked: streamed(text.replace("{row}", asked.named("host totals")))


def messages(asked: Asked) -> list[dict[str, Any]]:
    """All messages of a request."""
    found: list[dict[str, Any]] = asked.body["messages"]
    return found
