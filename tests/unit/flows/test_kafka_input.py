"""Where a partition of Kafka is read on: by recovery, by the store, or not at all."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from flows.errors import UsageError
from flows.settings import Settings
from flows.sources.kafka_input import choose, shaping_digest
from flows.windows.partition import Moment
from flows.windows.position import Position

SHAPE = shaping_digest(Settings())


def place(offset: int, last_unit: int) -> Position:
    return Position(offset, last_unit, Moment({}, 0, 0, None, (), (), {}, ()), {}, (), ())


@dataclass
class Held:
    """A store that holds units up to one, and a position."""

    newest: int = -1
    known: tuple[str, str] | None = None

    def newest_commit(self, topic: str, partition: str) -> int:
        assert (topic, partition) == ("packets", "3")
        return self.newest

    def position(self, topic: str, partition: str) -> tuple[str, str] | None:
        assert (topic, partition) == ("packets", "3")
        return self.known


def ask(store: Held, recovered: str | None) -> Position | None:
    return choose(store, "packets", "3", recovered, SHAPE)


KNOWN = (place(40, 50).to_text(), SHAPE)


@pytest.mark.parametrize("recovered", [None, ""])
def test_without_recovery_the_store_says(recovered: str | None) -> None:
    """Its position, or the topic's beginning."""
    assert ask(Held(), recovered) is None
    assert ask(Held(70), recovered) is None
    assert ask(Held(70, KNOWN), recovered) == place(40, 50)


@pytest.mark.parametrize("newest", [60, 61, 1000])
def test_recovery_goes_before_a_store_that_has_as_much(
    newest: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its place is right for the horizons; units that the store has more are left out there."""
    for known in (None, KNOWN, (place(900, 990).to_text(), SHAPE)):
        assert ask(Held(newest, known), place(55, 60).to_text()) == place(55, 60)
    assert capsys.readouterr().err == ""


def test_recovery_before_the_first_unit_is_believed() -> None:
    """An empty store has all that a run without units has given out."""
    assert ask(Held(), place(7, -1).to_text()) == place(7, -1)


@pytest.mark.parametrize(
    ("store", "wanted", "where"),
    [(Held(59, KNOWN), place(40, 50), "offset 40"), (Held(59), None, "its beginning"),
     (Held(), None, "its beginning")],
)  # fmt: skip
def test_a_store_with_less_is_believed(
    store: Held, wanted: Position | None, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Read again from its own place, and told so."""
    assert ask(store, place(55, 60).to_text()) == wanted
    (line,) = capsys.readouterr().err.splitlines()
    assert "less of packets/3 than the recovery files say" in line
    assert line.endswith(where)


@pytest.mark.parametrize("recovered", [None, place(55, 60).to_text()])
def test_other_settings_are_refused(recovered: str | None) -> None:
    """Panes of another length can't be gone on with."""
    with pytest.raises(UsageError, match=r"packets/3 was read with other settings"):
        ask(Held(70, (KNOWN[0], "0" * 16)), recovered)


@pytest.mark.parametrize("text", ["{", "[]", '{"version":99}', '{"version":1}', '{"version":1,'])
def test_positions_of_others_are_refused(text: str) -> None:
    """Another version, or damage, wherever it is found: told, not guessed at."""
    with pytest.raises(UsageError, match="packets/3: the position"):
        ask(Held(70, (text, SHAPE)), None)
    with pytest.raises(UsageError, match="packets/3: the position"):
        ask(Held(70, KNOWN), text)


def test_the_digest_follows_what_shapes_units_alone() -> None:
    """Panes, lateness, limits and tenants; not what is computed of them, nor where it goes."""
    plain = Settings()
    window = plain.window
    same = [
        Settings(store="chdb:elsewhere", source="kafka"),
        Settings(window=window.model_copy(update={"horizons": window.horizons[:1]})),
        Settings(tasks=plain.tasks[:1]),
    ]
    assert {shaping_digest(settings) for settings in same} == {SHAPE}
    other = [
        Settings(window={"pane": "4s"}),
        Settings(window={"lateness": "2s"}),
        Settings(window={"idle": "10s"}),
        Settings(window={"max_skew": "10s"}),
        Settings(window={"max_flows": 2000}),
        Settings(tenants=("a",)),
        Settings(max_tenants=3),
        Settings(seed=1),
    ]
    assert len({SHAPE, *map(shaping_digest, other)}) == len(other) + 1
