"""Tokens whose rows a killed process never put in place."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.storage.repair import forget_tokens_without_rows


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table's directory as the engine lays it out."""
    path = tmp_path / "store" / "abc" / "abc-def"
    (path / "deduplication_logs").mkdir(parents=True)
    return path


def log(table: Path, *lines: str) -> Path:
    path = table / "deduplication_logs" / "deduplication_log_1.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_only_the_orphan_goes(table: Path, tmp_path: Path) -> None:
    """A token without part goes; those with a part, merged or mutated, and removals stay."""
    for part in ("202311_1_3_1", "202311_4_4_0_9", "all_7_7_0", "tmp_insert_202311_5_5_0"):
        (table / part).mkdir()
    kept = [
        "1\t202311_1_1_0\t202311_11_11",
        "1\t202311_2_2_0\t202311_22_22",
        "1\t202311_4_4_0\t202311_44_44",
        "1\tall_7_7_0\tall_77_77",
        "2\t202310_9_9_0\t202310_99_99",
    ]
    path = log(table, *kept, "1\t202311_5_5_0\t202311_55_55", "1\t202312_1_1_0\t202312_1_1")
    assert forget_tokens_without_rows(tmp_path) == 2
    assert path.read_text().splitlines() == kept


def test_whole_log_is_left_alone(table: Path, tmp_path: Path) -> None:
    """A log with nothing to mend isn't written."""
    (table / "202311_1_1_0").mkdir()
    path = log(table, "1\t202311_1_1_0\t202311_11_11", "", "garbage")
    path.chmod(0o400)
    before = path.stat().st_mtime_ns
    assert forget_tokens_without_rows(tmp_path) == 0
    assert path.stat().st_mtime_ns == before


def test_no_store(tmp_path: Path) -> None:
    """A directory without a store needs no mending."""
    assert forget_tokens_without_rows(tmp_path) == 0
