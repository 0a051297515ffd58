"""How long an alert takes from the store to a receiver while the language model misbehaves.

``python -m tests.bench.enrich_delay [alerts]`` raises alerts, 50 a second, each of a rule of its
own, with a webhook that notes when each arrives, and prints the delay with no model and with
services that answer, hang, refuse, fail, or are not there.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from flows import logs
from flows.enrich.enricher import Enricher
from flows.notify.dispatcher import Dispatcher
from flows.settings import Settings
from flows.sinks import alert_rows
from flows.storage.store import Store
from tests.support.alerts import alert
from tests.support.http_receiver import Answer, Post, Receiver
from tests.support.llm import Say, Service, service, well

PAUSE_S = 0.02


@contextmanager
def nobody() -> Any:
    """A service that was there once."""
    with service() as gone:
        pass
    yield gone


SERVICES: dict[str, Callable[[], AbstractContextManager[Service]] | None] = {
    "no model": None,
    "answers": lambda: service(well),
    "hangs": lambda: service(Say(hangs=True)),
    "too many requests": lambda: service(Say({}, 429, {"retry-after": "1"})),
    "fails": lambda: service(Say({}, 500)),
    "malformed": lambda: service(Say("{no")),
    "is not there": nobody,
}


def measure(store: Store, url: str, name: str, count: int) -> list[float]:
    """Delay of each alert, s, in order."""
    arrived: dict[str, float] = {}

    def note(post: Post) -> Answer:
        arrived.setdefault(post.delivery, time.perf_counter())
        return Answer()

    with Receiver() as receiver:
        receiver.answer = note
        hook = {"name": name.replace(" ", "_"), "type": "webhook", "url": receiver.url}
        llm = {"model": "m", "base_url": url, "requests_per_hour": 10_000} if url else {}
        settings = Settings(notifiers=[hook], llm=llm)
        dispatcher = Dispatcher(settings, store)
        dispatcher.resume()
        enricher = Enricher(settings, store, [dispatcher.offer])
        time.sleep(1)
        stored: dict[str, float] = {}
        for number in range(count):
            raised = alert(rule=f"{name} {number}", first_seen_ns=time.time_ns())
            store.insert("alerts_log", alert_rows.alerts_log([raised]), raised.alert_id)
            stored[raised.delivery_id] = time.perf_counter()
            for hear in (dispatcher.offer, enricher.offer):
                hear(raised)
            time.sleep(PAUSE_S)
        deadline_s = time.monotonic() + 30
        while not stored.keys() <= arrived.keys() and time.monotonic() < deadline_s:
            time.sleep(0.05)
        enricher.close(0.1)
        dispatcher.close(5)
    return [arrived[each] - at_s for each, at_s in stored.items()]


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    count = int(arguments[0]) if arguments else 200
    logs.configure("off")
    with (
        tempfile.TemporaryDirectory() as directory,
        Store.open(f"chdb:{directory}/store", serve=False) as store,
    ):
        measure(store, "", "warm up", 20)
        for name, begin in SERVICES.items():
            if begin is None:
                found = measure(store, "", name, count)
            else:
                with begin() as running:
                    found = measure(store, running.url, name, count)
            found = sorted(1000 * delay for delay in found)
            half, most = found[len(found) // 2], found[int(0.99 * (len(found) - 1))]
            print(
                f"{name:<18} median {half:6.1f} ms, 99 % {most:6.1f} ms, most {found[-1]:6.1f} ms"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
