"""Does what people want done with alerts, whoever owns the store."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from flows.errors import StoreError
from flows.storage import alert_writes, client
from flows.storage.address import ChdbAddress, parse
from flows.storage.alert_writes import Action
from flows.storage.embedded import faults, one_line
from flows.storage.reader import reach
from flows.storage.remote import Server


def perform(setting: str, action: Action) -> None:
    """Have an action written: by the job that owns the store, by this process, or by a server.

    Args:
        setting: of the store, see ``address.parse``.
        action: what to do.

    Raises:
        UsageError: the setting can't be read.
        StoreOwned: another process that doesn't serve has the store, and doesn't end.
        StoreError: there is no store, or it refused the action.
    """
    address = parse(setting)
    backend = reach(address) if isinstance(address, ChdbAddress) else Server(address)
    if isinstance(backend, Path):
        _tell(backend, action)
        return
    with closing(backend):
        try:
            alert_writes.write(backend, action)
        except faults() as e:
            raise StoreError(one_line(e)) from e


def _tell(socket: Path, action: Action) -> None:
    try:
        client.post(socket, f"/alerts/{action.name}", action.model_dump_json().encode())
    except OSError as e:
        msg = "the job that owned the store has ended; run the command again"
        raise StoreError(msg) from e
