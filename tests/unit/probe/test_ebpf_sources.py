"""What the loaders read: headers in their places, symbols of an object, BCC's bindings."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from probe.ebpf.bcc import import_bcc, inlined
from probe.ebpf.bcc_headers import write_headers
from probe.ebpf.libbpf import symbol_value
from probe.ebpf.loaded import LoadFiles
from probe.errors import Unavailable


def test_local_headers_are_inlined_once(tmp_path: Path) -> None:
    """Headers of ours are put in their places, those of headers too, each once."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.c").write_text('#include <x.h>\n#include "b.h"\n  #  include "sub/c.h"\nend\n')
    (tmp_path / "b.h").write_text('b\n#include "sub/c.h"\n')
    (tmp_path / "sub" / "c.h").write_text('c\n#include "../b.h"\n')
    text = inlined(tmp_path / "a.c")
    assert [line for line in text.split("\n") if line] == ["#include <x.h>", "b", "c", "end"]


def test_header_tree_needs_the_public_headers(tmp_path: Path) -> None:
    """Without linux-libc-dev, the message names it."""
    with pytest.raises(Unavailable, match="linux-libc-dev"):
        write_headers(tmp_path / "tree", tmp_path)


def test_symbol_of_an_object_that_has_none(tmp_path: Path) -> None:
    """An ELF file without sections has no symbol, and the message says what to do."""
    with pytest.raises(Unavailable, match="no symbol knobs; `make bpf`"):
        symbol_value(b"\x7fELF".ljust(64, b"\0"), b"knobs")


def test_symbol_of_the_compiled_object() -> None:
    """The compiled object has the constants."""
    compiled = LoadFiles().compiled
    if not compiled.is_file():
        pytest.skip("no compiled object; make bpf")
    assert symbol_value(compiled.read_bytes(), b"knobs") % 8 == 0


def forget_bcc(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "bcc"]:
        monkeypatch.delitem(sys.modules, name)


def test_bcc_that_isnt_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no bindings are, the message names the package; another ``bcc`` isn't taken."""
    forget_bcc(monkeypatch)
    (tmp_path / "bcc").mkdir()
    (tmp_path / "bcc" / "__init__.py").write_text("raise RuntimeError('something else')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Unavailable, match="apt install python3-bpfcc"):
        import_bcc(tmp_path / "nothing")


def test_bcc_that_doesnt_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bindings that can't be imported are a reason to step down, and leave nothing behind."""
    forget_bcc(monkeypatch)
    (tmp_path / "libbcc.py").write_text("raise OSError('libbcc.so.0: no such file')")
    (tmp_path / "__init__.py").write_text("from .libbcc import lib")
    with pytest.raises(Unavailable, match=r"bindings don't work here \(libbcc.so.0"):
        import_bcc(tmp_path)
    assert "bcc" not in sys.modules
    assert "bcc.libbcc" not in sys.modules
