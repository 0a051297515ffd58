"""Files of names, and loading them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from flows.names.load import Loaded, load
from flows.settings.model import NameFiles
from flows.storage.store import Store

HEADERS: Final = {
    "networks": "prefix,name,site",
    "as_numbers": "prefix,asn,name",
    "countries": "prefix,country",
    "interfaces": "probe,interface,name,description,speed",
    "services": "protocol,port,name",
}


def write(folder: Path, **lines: list[str]) -> NameFiles:
    """Write files with a header and these lines each; give the settings that name them."""
    files = {}
    for kind, each in lines.items():
        path = folder / f"{kind}.csv"
        path.write_text("\n".join([HEADERS[kind], *each, ""]))
        files[kind] = (str(path),)
    return NameFiles(**files)


def put(store: Store, folder: Path, **lines: list[str]) -> list[Loaded]:
    """Write such files and load them."""
    return list(load(store, write(folder, **lines)))


def one(store: Store, expression: str) -> str:
    """The value of an expression; several with tabs between."""
    return store.run(f"SELECT {expression}").strip("\n")
