"""How often the model is asked, and what is asked together."""

from __future__ import annotations

import pytest

from flows.detect.alert import Severity
from flows.enrich.breaker import FAILURES, MAX_PAUSE_S, Breaker
from flows.enrich.budget import Budget
from flows.enrich.faults import retry_after_s
from flows.enrich.situation import situations
from tests.support.alerts import alert


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_requests_of_an_hour() -> None:
    """So many requests within any hour, and the next when the first is an hour old."""
    clock = Clock()
    budget = Budget(2, 10**6, 1.0, clock)
    assert budget.begin("a", 1)
    clock.now_s += 1800
    assert budget.begin("a", 1)
    assert budget.begin("a", 1) is None
    clock.now_s += 1799
    assert budget.begin("a", 1) is None
    clock.now_s += 1
    assert budget.begin("a", 1)


def test_tokens_are_reserved_and_given_back() -> None:
    """A request counts with the most it can take until it is over, then with what it took."""
    budget = Budget(100, 1000, 1.0, Clock())
    entry = budget.begin("a", 900)
    assert entry
    assert budget.begin("a", 200) is None
    budget.end(entry, 300)
    assert budget.begin("a", 700)
    assert budget.begin("a", 1) is None


def test_one_kind_leaves_something_to_others() -> None:
    """A kind may take its share; another one still may ask."""
    budget = Budget(10, 10_000, 0.5, Clock())
    assert all(budget.begin("scan", 1) for _ in range(5))
    assert budget.begin("scan", 1) is None
    assert budget.begin("flood", 1)
    assert budget.begin("flood", 6000) is None


def test_a_small_budget_allows_one_request_of_a_kind() -> None:
    """A share of less than one request is one; nothing is nothing."""
    assert Budget(1, 100, 0.5, Clock()).begin("a", 10)
    assert Budget(0, 100, 0.5, Clock()).begin("a", 10) is None


def test_earlier_runs_count() -> None:
    """What was asked before the start counts until it is an hour old."""
    clock = Clock()
    budget = Budget(1, 10**6, 1.0, clock)
    budget.seed("a", 1, 5, 3000)
    assert budget.begin("a", 1) is None
    clock.now_s += 601
    assert budget.begin("a", 1)


def test_breaker_opens_half_opens_and_closes() -> None:
    """Failures open it, one try at a time is allowed later, and a success closes it."""
    clock = Clock()
    breaker = Breaker(10, clock)
    assert [breaker.failed() for _ in range(FAILURES)] == [*[False] * (FAILURES - 1), True]
    assert breaker.wait_s() == 10
    clock.now_s += 10
    assert breaker.wait_s() == 0
    assert breaker.wait_s() > 0  # another thread, while one tries
    assert breaker.failed() is False
    assert breaker.wait_s() == 20
    clock.now_s += 20
    assert breaker.wait_s() == 0
    breaker.succeeded()
    assert [breaker.wait_s() for _ in range(3)] == [0, 0, 0]


def test_breaker_pause_is_limited() -> None:
    """However long a service is away, it is tried every few minutes."""
    clock = Clock()
    breaker = Breaker(10, clock)
    for _ in range(20):
        breaker.failed()
        clock.now_s += breaker.wait_s()
        breaker.wait_s()
    breaker.failed()
    assert breaker.wait_s() == MAX_PAUSE_S


def test_breaker_heeds_the_service() -> None:
    """A service that asks to be left alone is, from the first time on."""
    breaker = Breaker(10, Clock())
    breaker.failed(45)
    assert breaker.wait_s() == 45


def test_a_try_that_was_not_made_is_free_again() -> None:
    """Whoever may try and doesn't leaves the try to the next."""
    clock = Clock()
    breaker = Breaker(10, clock)
    for _ in range(FAILURES):
        breaker.failed()
    clock.now_s += 10
    assert breaker.wait_s() == 0
    breaker.unused()
    assert breaker.wait_s() == 0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "nan"}, 0),
        ({"retry-after": "inf"}, 0),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "999999999"}, 3600),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        ({"retry-after": "Thu, 01 Jan 2200 00:00:00 GMT"}, 3600),
    ],
)
def test_pauses_that_services_ask_for(headers: dict[str, str], seconds: float) -> None:
    """Seconds, milliseconds and dates are read, nonsense isn't, and an hour is the most."""
    assert retry_after_s(headers) == seconds


def test_what_belongs_together() -> None:
    """A rule, a source or a target in common, also by a chain of others, and one tenant."""
    scan = alert(entity={"src_addr": "10.0.0.1", "dst_port": "23"}, rule="host_scan")
    same_rule = alert(entity={"src_addr": "10.0.0.2", "dst_port": "23"}, rule="host_scan")
    same_host = alert(entity={"dst_addr": "10.0.0.2"}, rule="syn_flood", severity=Severity.high)
    apart = alert(entity={"src_addr": "10.0.0.9"}, rule="volume")
    other = alert(entity={"src_addr": "10.0.0.1"}, rule="host_scan", tenant="other")
    found = situations([scan, same_rule, same_host, apart, other])
    assert sorted(len(each.alerts) for each in found) == [1, 1, 3]
    assert found[0].alerts[0] == same_host  # the worst stands for it
    assert found[0].kind == "syn_flood"


def test_name_of_a_situation_is_that_of_its_alerts() -> None:
    """The same alerts in another order are the same situation."""
    raised = [alert(entity={"src_addr": f"10.0.0.{n}"}) for n in range(5)]
    (one,), (two,) = situations(raised), situations(raised[::-1])
    assert one.name == two.name
    assert situations(raised[:4])[0].name != one.name
