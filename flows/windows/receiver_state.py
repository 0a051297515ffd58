"""What is known of time and probes, to and from values that JSON can hold."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from flows.windows.capture_totals import CaptureTotals
from flows.windows.partition import Moment
from flows.windows.receiver import Sender, Senders
from flows.windows.sequence import Place
from flows.windows.unit import Drop, Goodbye, Seen


def dump_moment(moment: Moment) -> list[Any]:
    """A moment whose sources are starts of probes."""
    return [
        [[_dump_boot(source), ns] for source, ns in moment.watermarks.items()],
        moment.released_ns,
        moment.watermark_ns,
        moment.boundary,
        [[each.stream, each.pane, each.packets] for each in moment.seen],
        [[d.stream, d.pane, d.reason, d.packets, d.hop] for d in moment.drops],
        [[_dump_boot(source), *known] for source, known in moment.probes.items()],
        [[each.stream, each.pane] for each in moment.goodbyes],
    ]


def load_moment(state: list[Any]) -> Moment:
    """Read what ``dump_moment`` wrote."""
    watermarks, released_ns, watermark_ns, boundary, seen, drops, probes, goodbyes = state
    return Moment(
        {_load_boot(source): ns for source, ns in watermarks},
        released_ns,
        watermark_ns,
        boundary,
        tuple(Seen(*each) for each in seen),
        tuple(Drop(*each) for each in drops),
        {_load_boot(source): (stream, ns) for source, stream, ns in probes},
        tuple(Goodbye(*each) for each in goodbyes),
    )


def dump_senders(senders: Senders) -> list[Any]:
    """Senders, without their order."""
    return [
        [
            _dump_boot(boot),
            *sender.place,
            sender.log_ns,
            sender.totals.given,
            dict(sender.totals.dropped),
        ]
        for boot, sender in senders.items()
    ]


def load_senders(state: list[Any]) -> Senders:
    """Read what ``dump_senders`` wrote."""
    return {
        _load_boot(boot): Sender(Place(sequence, packets), log_ns, CaptureTotals(given, dropped))
        for boot, sequence, packets, log_ns, given, dropped in state
    }


def _dump_boot(boot: Hashable) -> list[str]:
    assert isinstance(boot, tuple)
    tenant, probe, boot_id = boot
    return [tenant, probe, boot_id.hex()]


def _load_boot(state: list[str]) -> tuple[str, str, bytes]:
    tenant, probe, boot_id = state
    return tenant, probe, bytes.fromhex(boot_id)
