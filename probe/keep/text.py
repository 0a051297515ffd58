"""Records to text, one line each, the same columns always."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt

from probe.capture.loads import be16, le16, le32, le64, u8
from schemas.record import PACKET, PACKET_BYTES, Direction, PacketFlag, Packets, as_words

COLUMNS: Final = (
    "time interface direction source > destination protocol flags bytes packets vlan tunnel "
    "ttl tos notes"
)
"""The columns, separated by a blank; ``-`` where there is nothing to say."""

LINE_BYTES: Final = 256
"""No line is longer."""

_TCP_LETTERS: Final = {1 << bit: letter for bit, letter in enumerate("FSRPAUEC")}
_PROTOCOLS: Final = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6", 132: "sctp"}
_NOTES: Final[Mapping[int, str]] = {
    PacketFlag.LATER_FRAGMENT: "fragment",
    PacketFlag.L4_UNREADABLE: "unreadable",
    PacketFlag.DECAPSULATED: "decapsulated",
    PacketFlag.COALESCED: "coalesced",
}
_WAYS: Final = {Direction.INGRESS: "in", Direction.EGRESS: "out"}

# Rows of the table of words.
_AT_PROTOCOLS: Final = 0
_AT_TCP_FLAGS: Final = 256
_AT_NOTES: Final = 512
_AT_WAYS: Final = 528
_AT_NAMES: Final = 532
_WORD_BYTES: Final = 48
_NAME_BYTES: Final = 15

_ICMP: Final = 1
_ICMP6: Final = 58
_TCP: Final = 6
_ARP: Final = 0x0806
_DAY_S: Final = 86_400
_NS_PER_S: Final = np.uint64(1_000_000_000)
_MAPPED: Final = np.uint64(0xFFFF_0000)
_ZERO: Final = np.uint64(0)
_HEX: Final = np.frombuffer(b"0123456789abcdef", np.uint8)

_NEWLINE, _SPACE, _DASH, _DOT, _SLASH, _COLON = b"\n -./:"
_OPEN, _CLOSE, _DIGIT, _MORE, _HASH, _X = b"[]0>#x"


class TextLines:
    """The lines of a file.

    Args:
        interfaces: names by number; those without one are shown as ``#number``.

    Attributes:
        head: what each file begins with: the columns' names.
    """

    def __init__(self, interfaces: Mapping[int, str]) -> None:
        self.head = f"# {COLUMNS}\n".encode()
        named = {number: _one_word(name) for number, name in interfaces.items() if name.split()}
        self._numbers = np.array(list(named), np.int64)
        self._words = word_table(named.values())
        self._out = np.empty(0, np.uint8)
        self.encode(np.zeros(1, PACKET))  # compiled while the folder for that may be written

    def encode(self, records: Packets) -> list[memoryview]:
        """The lines of these records; valid until the next call."""
        if len(self._out) < len(records) * LINE_BYTES:
            self._out = np.empty(len(records) * LINE_BYTES, np.uint8)
        data = as_words(records).view(np.uint8).reshape(-1)
        used = render(data, self._words, self._numbers, self._out)
        return [self._out[:used].data]


def word_table(names: Iterable[bytes]) -> npt.NDArray[np.uint8]:
    """Words that lines are made of, (n, 48): the length of each, then its bytes."""
    words = [_PROTOCOLS.get(number, str(number)).encode() for number in range(256)]
    words += [_set("", bits, _TCP_LETTERS) for bits in range(256)]
    words += [_set(",", bits, _NOTES) for bits in range(16)]
    words += [_WAYS.get(Direction(way), "-").encode() if way < 3 else b"-" for way in range(4)]
    words += names
    table = np.zeros((len(words), _WORD_BYTES), np.uint8)
    for row, word in enumerate(words):
        table[row, 0] = len(word)
        table[row, 1 : 1 + len(word)] = np.frombuffer(word, np.uint8)
    return table


def _one_word(name: str) -> bytes:
    """A name as Linux would allow it: capture files may have names of any kind."""
    word = "_".join(name.split()).encode("utf-8", "replace")
    return word[:_NAME_BYTES].decode("utf-8", "ignore").encode()


def _set(separator: str, bits: int, names: Mapping[int, str]) -> bytes:
    return (separator.join(name for bit, name in names.items() if bits & bit) or "-").encode()


@numba.njit(nogil=True, cache=True)
def render(data: Any, words: Any, numbers: Any, out: Any) -> Any:
    """Write one line a record; returns the bytes written.

    Args:
        data: ``(n * 88,)`` uint8, records.
        words: ``word_table``.
        numbers: ``(k,)`` int64, numbers of the interfaces whose names end the table.
        out: ``(n * LINE_BYTES,)`` uint8.
    """
    at = np.int64(0)
    day, year, month, day_of_month = np.int64(-1), 0, 0, 0
    for row in range(data.shape[0] // PACKET_BYTES):
        p = row * PACKET_BYTES
        ts_ns = le64(data, p)
        second = np.int64(ts_ns // _NS_PER_S)
        if second // _DAY_S != day:
            day = second // _DAY_S
            year, month, day_of_month = _date(day)
        at = _padded(out, at, year, 4)
        out[at] = _DASH
        at = _padded(out, at + 1, month, 2)
        out[at] = _DASH
        at = _padded(out, at + 1, day_of_month, 2)
        out[at] = 84  # T
        at = _padded(out, at + 1, second % _DAY_S // 3600, 2)
        out[at] = _COLON
        at = _padded(out, at + 1, second % 3600 // 60, 2)
        out[at] = _COLON
        at = _padded(out, at + 1, second % 60, 2)
        out[at] = _DOT
        at = _padded(out, at + 1, np.int64(ts_ns % _NS_PER_S), 9)
        out[at] = 90  # Z
        out[at + 1] = _SPACE
        at += 2

        number = le32(data, p + 64)
        name = -1
        for k in range(numbers.shape[0]):
            if numbers[k] == number:
                name = k
                break
        if name >= 0:
            at = _word(out, at, words, _AT_NAMES + name)
        else:
            out[at] = _HASH
            at = _decimal(out, at + 1, number)
        out[at] = _SPACE
        at = _word(out, at + 1, words, _AT_WAYS + min(u8(data, p + 80), 3))
        out[at] = _SPACE
        at += 1

        proto = u8(data, p + 76)
        is_icmp = proto in (_ICMP, _ICMP6)
        src_port, dst_port = le16(data, p + 52), le16(data, p + 54)
        has_ports = (src_port | dst_port) != 0 and not is_icmp
        is_ip = (
            le64(data, p + 8) | le64(data, p + 16) | le64(data, p + 24) | le64(data, p + 32)
        ) != _ZERO
        if is_ip:
            at = _end(out, at, data, p + 8, src_port, has_ports)
        else:
            at = _mac(out, at, data, p + 40)
        out[at] = _SPACE
        out[at + 1] = _MORE
        out[at + 2] = _SPACE
        at += 3
        if is_ip:
            at = _end(out, at, data, p + 24, dst_port, has_ports)
        else:
            at = _mac(out, at, data, p + 46)
        out[at] = _SPACE
        at += 1

        eth_type = le16(data, p + 74)
        if is_ip:
            at = _word(out, at, words, _AT_PROTOCOLS + proto)
        elif eth_type == _ARP:
            out[at] = 97
            out[at + 1] = 114
            out[at + 2] = 112
            at += 3
        else:
            out[at] = _DIGIT
            out[at + 1] = _X
            for k in range(4):
                out[at + 2 + k] = _HEX[eth_type >> (12 - 4 * k) & 15]
            at += 6
        out[at] = _SPACE
        at += 1
        flags = u8(data, p + 82)
        if is_ip and is_icmp and not flags & 3:
            at = _decimal(out, at, dst_port >> 8)
            out[at] = _SLASH
            at = _decimal(out, at + 1, dst_port & 255)
        else:
            tcp_flags = u8(data, p + 77) if proto == _TCP else 0
            at = _word(out, at, words, _AT_TCP_FLAGS + tcp_flags)
        out[at] = _SPACE
        at = _decimal(out, at + 1, le32(data, p + 56))
        out[at] = _SPACE
        at = _decimal(out, at + 1, le32(data, p + 60))
        out[at] = _SPACE
        at = _or_dash(out, at + 1, le16(data, p + 72), le16(data, p + 72) != 0)
        out[at] = _SPACE
        at = _or_dash(out, at + 1, le32(data, p + 68), flags & 4 != 0)
        out[at] = _SPACE
        at = _or_dash(out, at + 1, u8(data, p + 78), is_ip)
        out[at] = _SPACE
        at = _or_dash(out, at + 1, u8(data, p + 79), is_ip)
        out[at] = _SPACE
        at = _word(out, at + 1, words, _AT_NOTES + (flags & 15))
        out[at] = _NEWLINE
        at += 1
    return at


@numba.njit
def _end(out: Any, at: Any, data: Any, p: Any, port: Any, has_port: Any) -> Any:
    """One end of a packet: an address, with a port if there is one."""
    mapped = le64(data, p) == _ZERO and le64(data, p + 8) & np.uint64(0xFFFFFFFF) == _MAPPED
    if mapped:
        for k in range(4):
            at = _decimal(out, at, u8(data, p + 12 + k))
            if k < 3:
                out[at] = _DOT
                at += 1
    else:
        if has_port:
            out[at] = _OPEN
            at += 1
        at = _ipv6(out, at, data, p)
        if has_port:
            out[at] = _CLOSE
            at += 1
    if has_port:
        out[at] = _COLON
        at = _decimal(out, at + 1, port)
    return at


@numba.njit
def _ipv6(out: Any, at: Any, data: Any, p: Any) -> Any:
    """An address as RFC 5952 wants it: the first longest run of zero groups left out."""
    best, best_length, run = -1, 1, 0
    for k in range(8):
        run = run + 1 if be16(data, p + 2 * k) == 0 else 0
        if run > best_length:
            best, best_length = k + 1 - run, run
    k = 0
    while k < 8:
        if k == best:
            out[at] = _COLON
            out[at + 1] = _COLON
            at += 2
            k += best_length
            continue
        if (k > 0 and k != best + best_length) or (k > 0 and best < 0):
            out[at] = _COLON
            at += 1
        group = be16(data, p + 2 * k)
        shown = False
        for shift in (12, 8, 4, 0):
            digit = group >> shift & 15
            shown = shown or digit != 0 or shift == 0
            if shown:
                out[at] = _HEX[digit]
                at += 1
        k += 1
    return at


@numba.njit
def _mac(out: Any, at: Any, data: Any, p: Any) -> Any:
    for k in range(6):
        byte = u8(data, p + k)
        out[at] = _HEX[byte >> 4]
        out[at + 1] = _HEX[byte & 15]
        out[at + 2] = _COLON
        at += 3
    return at - 1


@numba.njit
def _word(out: Any, at: Any, words: Any, row: Any) -> Any:
    length = np.int64(words[row, 0])
    for k in range(length):
        out[at + k] = words[row, 1 + k]
    return at + length


@numba.njit
def _or_dash(out: Any, at: Any, value: Any, shown: Any) -> Any:
    if shown:
        return _decimal(out, at, value)
    out[at] = _DASH
    return at + 1


@numba.njit
def _decimal(out: Any, at: Any, value: Any) -> Any:
    width = 1
    rest = value // 10
    while rest > 0:
        width += 1
        rest //= 10
    return _padded(out, at, value, width)


@numba.njit
def _padded(out: Any, at: Any, value: Any, width: Any) -> Any:
    """A number with leading zeros."""
    for k in range(width - 1, -1, -1):
        out[at + k] = _DIGIT + value % 10
        value //= 10
    return at + width


@numba.njit
def _date(day: Any) -> Any:
    """Year, month and day of month of a day since 1970 in the Gregorian calendar.

    Counts from 1 March of the year 0, so that the leap day ends a year; 146,097 days are 400
    years. For days from 1970 on.
    """
    days = day + 719_468
    era = days // 146_097
    of_era = days - era * 146_097
    year_of_era = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    return year, month, of_year - (153 * shifted + 2) // 5 + 1
