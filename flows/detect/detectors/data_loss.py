"""Packets that are missing, and probes that fell silent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flows.detect.alert import Severity
from flows.detect.detector import MAX_READINGS, About, Reading, Readings
from flows.detect.window import ProbeFacts, View
from flows.storage.embedded import quote
from flows.storage.flow_rows import in_window
from flows.windows.unit import GIVE_UP_NS

STATE_VERSION: Final = 1

LOSS: Final = "loss"
SILENCE: Final = "silence"

_SECOND_NS: Final = 10**9
_MS: Final = 10**6
_NEVER_NS: Final = -1


@dataclass
class _Sums:
    """Of one probe in the open window."""

    arrived: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


class DataLoss:
    """What is known to be missing of each probe, and who no longer says anything.

    Two readings of a probe, each an entity of its own:

    - ``fault=loss``: the share of its packets in the open window that is missing, out of those
      that arrived and those missing, as the ledger has them: lost at capture, in transport, as
      unusable messages, or in our own windows; those sampled out are not missing. Exact, so its
      bounds are the value. Below ``at_least`` missing packets nothing is read.
    - ``fault=silence``: seconds of event time for which nothing came of a live probe, not even
      a heartbeat, since the last pane of which something came. It counts while somebody else
      moves time on, until the probe comes back, says goodbye (or a later start says it), or for
      a day. A capture file, or demo traffic, is never expected to go on.

    Args:
        threshold: share that is wrong.
        at_least: missing packets below which nothing is a matter.
        silent_ns: silence that is wrong.
        horizon_ns: length of the window.
    """

    about: Final = About(
        name="data_loss",
        title="Data of probe {probe} is incomplete: {fault}",
        metric="missing packets",
        unit="share",
        severity=Severity.medium,
    )
    tasks: Final = ()

    def __init__(self, threshold: float, at_least: int, silent_ns: int, horizon_ns: int) -> None:
        self._threshold = threshold
        self._at_least = at_least
        self._silent_ns = silent_ns
        self.horizon_ns = horizon_ns
        self._start_ns = _NEVER_NS
        self._sums: dict[str, _Sums] = {}
        self._heard_ns: dict[str, int] = {}
        """End of the last pane of which something came, of each live probe."""

    def read(self, view: View, watched: Collection[Hashable]) -> Readings:
        """Measure."""
        if view.start_ns != self._start_ns:
            self._start_ns, self._sums = view.start_ns, {}
        # A goodbye comes after all else that is said of its pane.
        for fact in sorted(view.probes, key=lambda fact: (fact.pane, fact.ended)):
            self._take(fact, view)
        self._heard_ns = {
            probe: heard_ns
            for probe, heard_ns in self._heard_ns.items()
            if view.pane_end_ns - heard_ns <= GIVE_UP_NS
        }
        found = [*self._losses(), *self._silences(view.pane_end_ns)]
        over = sorted((r for r in found if r.over()), key=lambda r: -r.value)
        known = set(watched)
        return Readings(
            (*over[:MAX_READINGS], *(r for r in found if not r.over() and r.key in known)),
            len(over),
        )

    def _take(self, fact: ProbeFacts, view: View) -> None:
        if fact.pane * view.pane_ns >= view.start_ns and (fact.arrived or fact.dropped):
            sums = self._sums.setdefault(fact.probe, _Sums())
            sums.arrived += fact.arrived
            sums.dropped.update(fact.dropped)
        end_ns = (fact.pane + 1) * view.pane_ns
        heard_ns = self._heard_ns.get(fact.probe, _NEVER_NS)
        if fact.ended:
            if end_ns >= heard_ns:
                self._heard_ns.pop(fact.probe, None)
        elif fact.alive or (fact.arrived and heard_ns != _NEVER_NS):
            self._heard_ns[fact.probe] = max(heard_ns, end_ns)

    def _losses(self) -> Iterator[Reading]:
        for probe, sums in self._sums.items():
            missing = sums.dropped.total()
            if missing < self._at_least:
                continue
            total = sums.arrived + missing
            share = missing / total
            reasons = {reason: f"{n}" for reason, n in sums.dropped.most_common()}
            told = ", ".join(f"{reason} {n:,}" for reason, n in sums.dropped.most_common())
            yield Reading(
                key=(LOSS, probe),
                entity={"probe": probe, "fault": LOSS},
                value=share,
                lower=share,
                upper=share,
                confidence=1.0,
                threshold=self._threshold,
                facts={"missing": f"{missing}", "arrived": f"{sums.arrived}", **reasons},
                title=f"Packets of probe {probe} are missing",
                summary=f"{missing:,} of {total:,} packets of probe {probe} are missing: {told}.",
                probe=probe,
            )

    def _silences(self, now_ns: int) -> Iterator[Reading]:
        for probe, heard_ns in self._heard_ns.items():
            silent_s = max(now_ns - heard_ns, 0) / _SECOND_NS
            yield Reading(
                key=(SILENCE, probe),
                entity={"probe": probe, "fault": SILENCE},
                value=silent_s,
                lower=silent_s,
                upper=silent_s,
                confidence=1.0,
                threshold=self._silent_ns / _SECOND_NS,
                title=f"Probe {probe} has fallen silent",
                summary=f"Nothing came of probe {probe} for {silent_s:,.0f} s, and it didn't say "
                "that it would stop.",
                probe=probe,
                metric="silence",
                unit="s",
            )

    def sql(self, entity: Mapping[str, str], tenant: str, start_ns: int, end_ns: int) -> str:
        """Loss out of ``ledger``; silence as the time since the last packets in ``totals``.

        The latter is longer than what is measured where a probe had only heartbeats to send,
        and has no row where it never sent a packet.
        """
        of_one = f" AND probe = {quote(entity['probe'])}" if "probe" in entity else ""
        if entity.get("fault") == SILENCE:
            silent_ms = f"{end_ns // _MS} - max(toUnixTimestamp64Milli(window_start) + pane_ms)"
            return (
                f"SELECT probe, '{SILENCE}' AS fault, ({silent_ms}) / 1000 AS value "
                f"FROM totals WHERE {in_window(tenant, 0, end_ns)}{of_one} GROUP BY probe "
                "ORDER BY value DESC"
            )
        lost = "mapFilter((reason, n) -> reason != 'sampled_out', dropped)"
        return (
            f"SELECT probe, '{LOSS}' AS fault, missing / (missing + arrived) AS value, missing, "
            "arrived FROM (SELECT probe, sumIf(delivered, hop = 'store') AS arrived, "
            f"sum(arraySum(mapValues({lost}))) AS missing FROM ledger "
            f"WHERE {in_window(tenant, start_ns, end_ns)}{of_one} GROUP BY probe) "
            "WHERE missing > 0 ORDER BY value DESC"
        )

    def snapshot(self) -> Any:
        """Picklable state."""
        sums = tuple((p, s.arrived, tuple(s.dropped.items())) for p, s in self._sums.items())
        return (STATE_VERSION, self._start_ns, sums, tuple(self._heard_ns.items()))

    def restore(self, state: Any) -> None:
        """Go on from a snapshot."""
        version, self._start_ns, sums, heard = state
        if version != STATE_VERSION:
            msg = f"recovery state has version {version}, this program reads {STATE_VERSION}"
            raise ValueError(msg)
        self._sums = {probe: _Sums(n, Counter(dict(dropped))) for probe, n, dropped in sums}
        self._heard_ns = dict(heard)
