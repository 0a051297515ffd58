"""What traffic a report is about: a tenant, a span of time, a condition on flows."""

from __future__ import annotations

from dataclasses import dataclass

from flows.storage.embedded import quote
from flows.storage.flow_rows import in_window


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
        return f"{self.panes} AND ({self.where})" if self.where else self.panes
