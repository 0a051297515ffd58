"""The store's setting, taken apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.errors import UsageError
from flows.storage.address import ChdbAddress, ServerAddress, parse


@pytest.mark.parametrize(
    ("setting", "directory"),
    [
        ("chdb:data", "data"),
        ("chdb://data", "data"),
        ("chdb:./data", "data"),
        ("chdb://./data", "data"),
        (" chdb:data ", "data"),
        ("chdb:a/../data", "data"),
        ("chdb:with space/ünïcode%20", "with space/ünïcode%20"),
    ],
)
def test_relative_directory(
    setting: str, directory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative directory is taken from the working directory and made absolute."""
    monkeypatch.chdir(tmp_path)
    assert parse(setting) == ChdbAddress(tmp_path.resolve() / directory)


def test_absolute_directory(tmp_path: Path) -> None:
    """Both forms name the same absolute directory."""
    expected = ChdbAddress((tmp_path / "d").resolve())
    assert parse(f"chdb:{tmp_path}/d") == parse(f"chdb://{tmp_path}/d") == expected


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A tilde, which the shell leaves alone after the colon, is the home directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse("chdb:~/d") == ChdbAddress((tmp_path / "d").resolve())


def test_server() -> None:
    """Every part of a server's address is read, percent signs decoded."""
    assert parse("https://me:p%40ss@db.example:9443/net") == ServerAddress(
        "db.example", 9443, secure=True, database="net", user="me", password="p@ss"
    )


def test_server_defaults() -> None:
    """Port, user and database have the usual values."""
    assert parse("http://h") == ServerAddress("h", 8123, secure=False, database="netspectra")
    assert parse("https://h/") == ServerAddress("h", 8443, secure=True, database="netspectra")
    assert parse("http://[::1]:1/d") == ServerAddress("::1", 1, secure=False, database="d")


def test_password_is_not_shown() -> None:
    """Neither text nor repr of an address contains the password."""
    address = parse("http://me:hunter2@h/d")
    assert "hunter2" not in f"{address} {address!r}"
    assert str(address) == "http://me@h:8123/d"


@pytest.mark.parametrize(
    "setting",
    [
        "",
        "data",
        "chdb",
        "chdb:",
        "chdb://",
        "chdb: ",
        "chdb::memory:",
        "chdb:a?b",
        "chdb:a\0b",
        "clickhouse://h/d",
        "file:data",
        "CHDB:data",
        "http:",
        "http://",
        "http:///d",
        "http://h:port/d",
        "http://h:99999/d",
        "http://h/a/b",
        "http://h/a-b",
        "http://h/d?x=1",
        "http://h/d#x",
        "http://[::1/d",
    ],
)
def test_refused(setting: str) -> None:
    """Anything else is refused in one line, without the password."""
    with pytest.raises(UsageError) as caught:
        parse(setting)
    assert "\n" not in str(caught.value)


def test_refusal_keeps_the_password() -> None:
    """The message about a bad address doesn't repeat its password."""
    with pytest.raises(UsageError) as caught:
        parse("http://me:hunter2@h/a/b")
    assert "hunter2" not in str(caught.value)


@settings(max_examples=200)
@given(st.text(max_size=30) | st.text(max_size=20).map("chdb:".__add__))
def test_any_text(setting: str) -> None:
    """Any text gives an address with an absolute directory, or a UsageError."""
    try:
        address = parse(setting)
    except UsageError:
        return
    assert isinstance(address, ServerAddress) or address.directory.is_absolute()
