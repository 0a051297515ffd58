"""When flows are counted instead of recording packets."""

from __future__ import annotations

from probe.ebpf.mode import CALM_S, ModeSwitch


class Link:
    """A link with a rate and losses, checked every 100 ms."""

    def __init__(self) -> None:
        self.switch = ModeSwitch()
        self.now_s = 100.0
        self.seen = self.lost = 0

    def run(self, rate: float, seconds: float, *, losing: bool = False, fill: float = 0) -> bool:
        for _ in range(round(seconds * 10)):
            self.now_s += 0.1
            self.seen += int(rate / 10)
            self.lost += losing
            aggregate = self.switch.check(self.now_s, self.seen, self.lost, fill)
        return aggregate


def test_losses_in_two_checks_in_a_row() -> None:
    """One check that finds losses isn't enough, also when another follows later; two are."""
    link = Link()
    assert not link.run(1000, 1)
    assert not link.run(1000, 0.1, losing=True)
    assert not link.run(1000, 0.1)
    assert not link.run(1000, 0.1, losing=True)
    assert link.run(1000, 0.1, losing=True)


def test_losses_from_before_the_first_check_dont_count() -> None:
    """What was lost before anyone looked doesn't switch."""
    assert not ModeSwitch().check(1.0, 1000, 1000, 0.0)


def test_a_ring_that_is_nearly_full() -> None:
    """More than 80 % of the ring switches before anything is lost."""
    link = Link()
    assert not link.run(1000, 1, fill=0.8)
    assert link.run(1000, 0.1, fill=0.81)


def test_back_after_a_calm_time() -> None:
    """Packets again after 30 s under half of the rate that was too much, not before."""
    link = Link()
    link.run(1000, 1)
    assert link.run(1000, 0.2, losing=True)
    assert link.run(490, CALM_S - 1)
    assert link.run(510, 0.1)  # begins anew
    assert link.run(490, CALM_S - 1)
    assert not link.run(490, 2)


def test_a_rate_of_a_half_keeps_it() -> None:
    """At more than half of the rate that was too much, flows are counted for ever."""
    link = Link()
    link.run(1000, 1)
    assert link.run(1000, 0.2, losing=True)
    assert link.run(510, 10 * CALM_S)


def test_switches_again() -> None:
    """After the way back, two losses are needed again."""
    link = Link()
    link.run(1000, 1)
    link.run(1000, 0.2, losing=True)
    assert not link.run(0, CALM_S + 1)
    assert not link.run(1000, 0.1, losing=True)
    assert link.run(1000, 0.1, losing=True)
