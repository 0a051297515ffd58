"""Reads files of names: CSV with a header, MMDB (MaxMind DB 2.0). Every bad line is told."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Final, TextIO

from flows.errors import UsageError
from flows.names.kinds import IPV4_ALL, Kind, Prefix, Row, holds_ipv4, prefix_of

MMDB_SUFFIX: Final = ".mmdb"
_MOST_PROBLEMS: Final = 10
_DELIMITERS: Final = ",;\t"

Network = IPv4Network | IPv6Network


class Rows:
    """Rows of one kind out of its files, each key once.

    Attributes:
        found: rows by their keys.
        problems: a line for each that can't be used.
        notes: what of the files isn't used.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.found: dict[Row, Row] = {}
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._places: dict[Row, tuple[str, int]] = {}

    def add(self, row: Row, place: tuple[str, int]) -> None:
        """Add a row; another one with its key must say the same."""
        key = row[: self.kind.key]
        if self.found.setdefault(key, row) != row:
            file, line = self._places[key]
            what = " ".join(str(getattr(part, "text", part)) for part in key)
            there = f"{file} line {line}" if line else file
            self.problem(place, f"{what} is said otherwise in {there}")
        self._places.setdefault(key, place)

    def problem(self, place: tuple[str, int], what: str) -> None:
        """Note what can't be used."""
        file, line = place
        self.problems.append(f"{file} line {line}: {what}" if line else f"{file}: {what}")


def read(kind: Kind, paths: Iterable[Path]) -> Rows:
    """Read all files of a kind.

    An IPv4 address is never found in a prefix of IPv6, however short.

    Raises:
        UsageError: a file can't be read, or lines of it can't be used: one line for each.
    """
    rows = Rows(kind)
    for path in paths:
        try:
            if path.suffix.lower() == MMDB_SUFFIX:
                _read_mmdb(rows, path)
            else:
                _read_csv(rows, path)
        except OSError as error:
            rows.problem((path.name, 0), f"can't be read: {error.strerror or error}")
    if rows.problems:
        more = len(rows.problems) - _MOST_PROBLEMS
        told = rows.problems[:_MOST_PROBLEMS]
        raise UsageError("\n".join([*told, f"… and {more} more"] if more > 0 else told))
    prefixes = [key[0] for key in rows.found if isinstance(key[0], Prefix)]
    if any(map(holds_ipv4, prefixes)) and IPV4_ALL not in prefixes:
        nothing = (0 if name == "asn" else "" for name in list(kind.columns)[1:])
        rows.found[(IPV4_ALL,)] = (IPV4_ALL, *nothing)
    return rows


def _read_csv(rows: Rows, path: Path) -> None:
    line = 0
    names: list[str] = []
    order: list[int | None] | None = None
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line, fields in _lines(file):
                place = (path.name, line)
                if order is None:
                    names = [name.strip().lower() for name in fields]
                    order = _order(rows, names, path.name)
                    if order is None:
                        return
                elif len(fields) != len(names):
                    rows.problem(place, f"{len(fields)} fields, but the header has {len(names)}")
                elif row := _row(rows, fields, order, place):
                    rows.add(row, place)
    except csv.Error as error:
        rows.problem((path.name, line + 1), f"no CSV: {error}")
    except UnicodeDecodeError:
        rows.problem((path.name, 0), "not in UTF-8; save it as UTF-8")
    else:
        if order is None:
            rows.problem((path.name, 0), "is empty; a header alone takes all names away")


def _lines(file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Lines with their numbers, without blank ones and comments."""

    def says_something(text: str) -> bool:
        return bool(text.strip()) and not text.startswith("#")

    header = next(filter(says_something, file), "")
    file.seek(0)
    lines = csv.reader(file, delimiter=max(_DELIMITERS, key=header.count))
    for fields in lines:
        if says_something("".join(fields)):
            yield lines.line_num, fields


def _order(rows: Rows, names: list[str], file: str) -> list[int | None] | None:
    """Where in a line each column of the kind is."""
    order: list[int | None] = []
    for name, column in rows.kind.columns.items():
        at = [names.index(each) for each in (name, *column.also) if each in names]
        if not at and column.default is None:
            wanted = ", ".join(
                column.also[0] if name == "speed_bps" else name
                for name, column in rows.kind.columns.items()
            )
            rows.problem((file, 0), f"the header has no column {name}; columns are {wanted}")
            return None
        order.append(at[0] if at else None)
    unused = [name for at, name in enumerate(names) if at not in order]
    if unused:
        rows.notes.append(f"{file}: not used: {', '.join(unused)}")
    return order


def _row(
    rows: Rows, fields: list[str], order: list[int | None], place: tuple[str, int]
) -> Row | None:
    values: list[Any] = []
    for at, (name, column) in zip(order, rows.kind.columns.items(), strict=True):
        text = fields[at].strip() if at is not None else ""
        if not text and column.default is not None:
            values.append(column.default)
            continue
        if not text:
            rows.problem(place, f"{name} is empty")
            return None
        try:
            values.append(column.read(text))
        except ValueError as error:
            rows.problem(place, f"{name} = {text[:60]}: wanted {error}")
            return None
    return tuple(values)


def _read_mmdb(rows: Rows, path: Path) -> None:
    import maxminddb

    place = (path.name, 0)
    values = rows.kind.values
    if values is None:
        rows.problem(place, "an MMDB file holds AS numbers or countries; wanted a CSV file here")
        return
    try:
        with maxminddb.open_database(path) as database:
            about = database.metadata().database_type
            named = ((network, values(record)) for network, record in database)
            whole = joined((network, found) for network, found in named if found is not None)
    except (maxminddb.InvalidDatabaseError, ValueError, AttributeError) as error:
        rows.problem(place, f"not a MaxMind DB that can be used: {error}")
        return
    if not whole:
        wanted = "AS numbers" if "asn" in rows.kind.columns else "countries"
        rows.problem(place, f"no {wanted} in it ({about})")
    for network, found in whole:
        rows.add((prefix_of(network), *found), place)


def joined(found: Iterable[tuple[Network, Row]]) -> list[tuple[Network, Row]]:
    """Neighbours that say the same as one network; they come in the order of their addresses."""
    stack: list[tuple[Network, Row]] = []
    for network, values in found:
        while stack and network.prefixlen and stack[-1][1] == values:
            both = network.supernet()
            left = stack[-1][0]
            if left.prefixlen != network.prefixlen or left.version != network.version:
                break
            if left.network_address != both.network_address:
                break
            stack.pop()
            network = both
        stack.append((network, values))
    return stack
