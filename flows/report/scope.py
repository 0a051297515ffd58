"""What traffic a report is about: a tenant, a span of time, a condition on flows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flows.storage.embedded import quote
from flows.storage.flow_rows import in_window
from flows.storage.resolution import Span, pieces
from flows.storage.statements import tokens

_MS: Final = 10**6


@dataclass(frozen=True)
class Scope:
    """What traffic is meant.

    Attributes:
        tenant: whose.
        start_ns: from the pane of this time on, Unix ns.
        end_ns: until before this time.
        where: condition on columns of ``flows``, see ``saved_sql.condition_of``; empty for none.
    """

    tenant: str
    start_ns: int
    end_ns: int
    where: str = ""

    @property
    def panes(self) -> str:
        """Condition on the panes of any table, without ``where``."""
        return in_window(self.tenant, self.start_ns, self.end_ns)

    @property
    def windows(self) -> str:
        """Condition on windows with a ``horizon`` of their own: they overlap the span."""
        return (
            f"tenant = {quote(self.tenant)} AND toUnixTimestamp64Milli(window_start)"
            f" + 1000 * horizon > {self.start_ns // 10**6}"
            f" AND toUnixTimestamp64Milli(window_start) < {-(-self.end_ns // 10**6)}"
        )

    @property
    def flows(self) -> str:
        """Condition on rows of ``flows``."""
        return self._condition(Span(self.start_ns // _MS, self.end_ns // _MS))

    def rows(self, *columns: str, grain_s: int | None = None) -> str:
        """Rows with some columns of ``flows``, as a statement in brackets.

        They are of roll-ups where those can answer: sums, least and largest values, and keys are
        those of all rows of ``flows``, but there are fewer rows.

        Args:
            columns: of ``flows`` or a roll-up.
            grain_s: how fine ``window_start`` must be, s; None where it isn't used.
        """
        span = Span(self.start_ns // _MS, self.end_ns // _MS)
        words = {*columns, *tokens(self.where)}
        listed = ", ".join(columns)
        selects = [
            f"SELECT {listed} FROM {table} WHERE {self._condition(part)}"  # noqa: S608
            for table, part in pieces(words, span, grain_s)
        ]
        return f"({' UNION ALL '.join(selects)})"

    def _condition(self, span: Span) -> str:
        start, end = ((ms or 0) * _MS for ms in (span.start_ms, span.end_ms))
        panes = in_window(self.tenant, start, end)
        return f"{panes} AND ({self.where})" if self.where else panes
