"""What every group of settings is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A group of settings: frozen, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
