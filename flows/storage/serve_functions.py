"""The program behind a SQL function: ``python -m flows.storage.serve_functions NAME [SECONDS]``.

Speaks as ClickHouse does with ``executable_pool`` and ``send_chunk_header``: a line with the number
of rows of a block, the rows as RowBinary, the answers back, until the input ends.
"""

from __future__ import annotations

import signal
import sys
from typing import BinaryIO, Final

from flows.storage.sketch_functions import Function
from flows.storage.sketch_signatures import READ_TIMEOUT_S, SIGNATURES

_BLOCK_S: Final = READ_TIMEOUT_S - 10
_USAGE: Final = 2


def serve(function: Function, source: BinaryIO, sink: BinaryIO, block_s: int = _BLOCK_S) -> None:
    """Answer blocks until the source ends.

    A forged sketch can keep the library busy for ever; no exception reaches it then, but an
    alarm ends the program, and the engine says so to the query.

    Raises:
        EOFError: the source ended within a block.
        ValueError: it doesn't begin with a number of rows.
    """
    while header := source.readline():
        signal.alarm(block_s)
        out = bytearray()
        for _ in range(int(header)):
            function.write(out, function.answer(function.read(source)))
        sink.write(out)
        sink.flush()
        signal.alarm(0)


def main(arguments: list[str]) -> int:
    """Serve the function that is named; 2 when there is none."""
    if not arguments or arguments[0] not in SIGNATURES:
        print(f"which function? {', '.join(SIGNATURES)}", file=sys.stderr)
        return _USAGE
    block_s = int(arguments[1]) if len(arguments) > 1 else _BLOCK_S
    serve(Function(arguments[0]), sys.stdin.buffer, sys.stdout.buffer, block_s)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
