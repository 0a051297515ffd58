"""Files that may hold the packets of an alert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flows.errors import UsageError
from flows.storage.embedded import quote
from probe.capture.inputs import content_id, expand
from probe.errors import CaptureError
from probe.keep.kept import kept

if TYPE_CHECKING:
    from flows.storage.alerts import Query, Row

_NAMES: Final = "name the files, or where the probe keeps packets, with --from"


@dataclass
class Sources:
    """Where to look.

    Attributes:
        paths: capture files, in order of time.
        notes: what is known to be missing, a line each.
    """

    paths: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def named(places: Sequence[Path], first_ns: int, last_ns: int) -> Sources:
    """Files, and directories of kept packets, that the user names.

    Raises:
        CaptureError: a file can't be read.
        KeepError: a directory holds no kept packets.
    """
    sources = Sources()
    for place in places:
        if place.is_dir():
            found = kept(place, first_ns, last_ns)
            sources.paths += found.paths
            sources.notes += found.gaps
        else:
            sources.paths += expand(str(place))
    return sources


def loaded(query: Query, row: Row, first_ns: int, last_ns: int) -> Sources:
    """Captures out of which the traffic of an alert was loaded, as far as they are still there.

    Raises:
        UsageError: none is known, or none is there.
    """
    of_probe = f"AND probe = {quote(row['probe'])} " if row["probe"] else ""
    found = query(
        "SELECT source, content_id FROM loads FINAL "
        f"WHERE tenant = {quote(row['tenant'])} {of_probe}AND (toString(state) = 'running' "
        f"OR (last_seen >= fromUnixTimestamp64Nano({first_ns}, 'UTC') "
        f"AND first_seen <= fromUnixTimestamp64Nano({last_ns}, 'UTC'))) "
        "ORDER BY first_seen, generation DESC LIMIT 1 BY source"
    ).to_pylist()
    if not found:
        msg = f"this traffic was not loaded from a capture file; {_NAMES}"
        raise UsageError(msg)
    sources = Sources()
    for each in found:
        path = Path(each["source"])
        try:
            same = content_id([path]) == each["content_id"]
        except CaptureError as error:
            sources.notes.append(str(error))
            continue
        sources.paths.append(path)
        if not same:
            sources.notes.append(f"{path} has changed since it was loaded")
    if not sources.paths:
        msg = f"{sources.notes[0]}; {_NAMES}"
        raise UsageError(msg)
    return sources
