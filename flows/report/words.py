"""Numbers, times and findings in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from flows.findings import Ranked
from flows.progress import format_time
from flows.report.questions import Answers, Bounded, by_severity
from flows.summary import scaled

Mood = Literal["good", "warn", "bad"]

LARGE_SHARE: Final = 0.25
"""A host that sends or gets more of the bytes is worth a sentence."""

MANY_PEERS: Final = 100
"""A host that certainly touches so many others in one window is worth a sentence."""

BURST: Final = 3.0
"""So many times the usual step is a burst."""

_STANDING_OUT_ALERTS: Final = 5
_STANDING_OUT_SPREADERS: Final = 3
_TASKS: Final = {
    "fan_out": "contacted {} hosts",
    "fan_in": "was contacted by {} hosts",
    "fan_out_service": "contacted {} services (host and port)",
    "pair_ports": "used {} ports",
}
_UNITS_S: Final = ((86_400, "d"), (3600, "h"), (60, "min"))


@dataclass(frozen=True)
class Remark:
    """One thing that stands out; ``alert_id`` and ``severity`` where it is an alert."""

    text: str
    mood: Mood = "warn"
    alert_id: str = ""
    severity: str = ""


def duration(seconds: float) -> str:
    """A length of time with its two largest units: ``3 min 20 s``."""
    for at, (size, unit) in enumerate(_UNITS_S):
        if seconds >= size:
            small_s, small = (*_UNITS_S, (1, "s"))[at + 1]
            large, rest = divmod(round(seconds / small_s), round(size / small_s))
            return f"{large:,} {unit} {rest} {small}" if rest else f"{large:,} {unit}"
    return f"{seconds:.3g} s"


def clock(time_ns: int) -> str:
    """A Unix time in ns as ``2026-01-02 03:04:05``, UTC."""
    return format_time(time_ns)


def plain(value: float) -> str:
    """A number in full, with three digits where it is small."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.3g}"


def share(part: float, whole: float) -> str:
    """A part in percent of the whole."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def interval(lower: float, upper: float) -> str:
    """Bounds, or the one value that they leave."""
    return f"{lower:,.0f}" if lower == upper else f"{lower:,.0f} to {upper:,.0f}"


def what_it_is(found: Answers) -> Iterator[str]:
    """Sentences that say what traffic this is."""
    sums, peak = found.sums, found.peak
    size = scaled(sums.bytes, "B")
    flows = f"in {sums.flow_rows:,} rows of flows"
    most = scaled(8 * peak.bytes / peak.pane_s, "bit/s")
    busiest = f"the busiest {duration(peak.pane_s)}, from {clock(peak.start_ns)}, had {most}."
    rate = f" {busiest[0].upper()}{busiest[1:]}"
    if found.series.gappy:
        packets = found.series.packets.sum(axis=0)
        rate += (
            f" Most of that time is empty: {np.count_nonzero(packets)} of {len(packets)} steps of "
            f"{duration(found.series.step_ms / 1000)} have traffic."
        )
    elif sums.span_s > 0:
        bits = scaled(8 * sums.bytes / sums.span_s, "bit/s")
        pace = plain(sums.packets / sums.span_s)
        rate = f" That is {pace} packets/s and {bits} on average; {busiest}"
    yield (
        f"{sums.packets:,} packets of {size} {flows}, over {duration(sums.span_s)} "
        f"from {clock(sums.first_seen_ns)} to {clock(sums.last_seen_ns)} UTC.{rate}"
    )
    yield " ".join(_mix(found))


def _mix(found: Answers) -> Iterator[str]:
    sums = found.sums
    ranks = found.rankings
    parts = [
        f"{share(count, sums.packets)} are {name}"
        for name, count in (("IPv4", sums.ipv4_packets), ("IPv6", sums.ipv6_packets))
        if count
    ]
    if parts:
        yield f"Of the packets {' and '.join(parts)}."
    if protocols := ranks["Protocols"]:
        named = [f"{row.key} {share(row.bytes, sums.bytes)}" for row in protocols[:3]]
        yield f"By bytes: {', '.join(named)}."
    if sums.sources is not None and sums.destinations is not None:
        yield f"{sums.sources:,} addresses sent and {sums.destinations:,} were sent to (IP)."
    if ranks["Sources"] and ranks["Destinations"]:
        source, destination = ranks["Sources"][0], ranks["Destinations"][0]
        yield (
            f"{source.key} sent most ({share(source.bytes, sums.bytes)} of the bytes), "
            f"{destination.key} was sent most ({share(destination.bytes, sums.bytes)})."
        )


def completeness(found: Answers) -> tuple[Mood, str, str]:
    """How complete the numbers are: how good that is, in a word, and in sentences."""
    mood, word, text = _by_ledger(found)
    if not found.dropped:
        return mood, word, text
    text = f"{text} Retention has {found.dropped}."
    return ("warn", "partly dropped", text) if mood == "good" else (mood, word, text)


def _by_ledger(found: Answers) -> tuple[Mood, str, str]:
    ledger = found.ledger
    dropped: dict[str, int] = {}
    for hop in found.hops:
        for reason, count in hop.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    lost = sum(dropped.values())
    if not found.hops:
        return "warn", "unknown", "The ledger holds nothing about this span."
    if ledger.complete:
        return "good", "complete", "Every packet that was seen is stored."
    if not ledger.balanced:
        text = (
            "The ledger doesn't balance: packets are unaccounted for. Read the numbers with care."
        )
        return "bad", "not balanced", text
    if lost:
        least = found.series.percent_complete.min()
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
        share_lost = share(lost, max(hop.seen for hop in found.hops))
        text = (
            f"{lost:,} packets ({share_lost}) were lost on the way and are missing: {reasons}. "
            f"The worst moment is {least:.1f} % complete."
        )
        return "bad", "incomplete", text
    text = f"{ledger.under_way:,} packets are under way between probes and the store."
    return "warn", "under way", text


def remarks(found: Answers) -> Iterator[Remark]:
    """What stands out, the worst first."""
    told = [*found.alerts, *found.other_alerts]
    loud = [row for row in told if row["status"] in ("firing", "resolved")]
    for row in loud[:_STANDING_OUT_ALERTS]:
        mood: Mood = "bad" if row["severity"] in ("critical", "high") else "warn"
        yield Remark(row["title"], mood, row["alert_id"], row["severity"])
    if len(loud) > _STANDING_OUT_ALERTS:
        counts = by_severity(loud[_STANDING_OUT_ALERTS:])
        yield Remark(f"More alerts: {', '.join(f'{n:,} {name}' for name, n in counts.items())}.")
    yield from _talkers(found)
    yield from _burst(found)
    yield from _spreaders(found, {value for row in loud for value in row["entity"].values()})
    yield from _limits(found)


def _spreaders(found: Answers, alerted: set[str]) -> Iterator[Remark]:
    """Hosts that no alert is about, each in the task where it is largest."""
    told = 0
    for row in sorted(found.spread, key=lambda row: -row.lower):
        hosts = set(values(row.key))
        if row.lower < MANY_PEERS or told == _STANDING_OUT_SPREADERS or alerted & hosts:
            continue
        told += 1
        alerted = alerted | hosts
        yield Remark(f"{who(row.key)} {touched(row)}; no rule fired for it.")


def _talkers(found: Answers) -> Iterator[Remark]:
    for name, verb in (("Sources", "sent"), ("Destinations", "was sent")):
        first: Ranked | None = next(iter(found.rankings[name]), None)
        if first and found.sums.bytes and first.bytes > LARGE_SHARE * found.sums.bytes:
            part = share(first.bytes, found.sums.bytes)
            yield Remark(f"{first.key} {verb} {part} of all bytes.")


def _burst(found: Answers) -> Iterator[Remark]:
    per_step = found.series.bytes.sum(axis=0)
    busy = per_step[per_step > 0]
    if len(busy) < 10:
        return
    most, usual = int(per_step.argmax()), float(np.median(busy))
    times = per_step[most] / usual
    if times >= BURST:
        when = clock(int(found.series.starts_ms[most]) * 10**6)
        step = duration(found.series.step_ms / 1000)
        yield Remark(f"The {step} from {when} had {times:.1f} times the usual bytes.")


def _limits(found: Answers) -> Iterator[Remark]:
    sums = found.sums
    if sums.sampling_rate > 1:
        yield Remark(
            f"Packets were sampled, up to 1 in {sums.sampling_rate:,}: sums are scaled up."
        )
    if sums.folded_flows:
        yield Remark(
            f"{sums.folded_flows:,} flows are in coarser rows, because a pane had too many. Sums "
            "are exact; rankings by address or port are given as intervals."
        )
    if found.late_packets:
        yield Remark(f"{found.late_packets:,} packets came late; sums contain them.", "good")


def values(key_text: str) -> list[str]:
    """The values of a key: ``src_addr=10.0.2.15 dst_port=443``."""
    return [part.partition("=")[2] for part in key_text.split(" ")]


def who(key_text: str) -> str:
    """A key as it is said in a sentence: addresses with an arrow between them."""
    return " → ".join(values(key_text))


def touched(row: Bounded) -> str:
    """What the key of a spread task did, with bounds and window."""
    counted = f"{row.estimate:,.0f}"
    if row.lower != row.upper:
        counted += f" ({interval(row.lower, row.upper)})"
    did = _TASKS.get(row.task, f"has {{}} by task {row.task}").format(counted)
    return f"{did} in {duration(row.horizon_s)} from {clock(row.window_start_ns)}"
