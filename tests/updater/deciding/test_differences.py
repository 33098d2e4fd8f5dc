from typing import Any

from changeover_registry.records.choice import Choice, Pin
from changeover_updater.choose import Change, first_choice
from changeover_updater.differences import differences

CHANGE = Change(who="td", when="2026-11-22T12:00:00Z", why="test")


def test_of_two_pins_for_one_place_both_are_shown(build: Any) -> None:
    """A record may hold such; whoever signs it must see the one that holds, wherever it stands."""
    first, second = (build.release(version).ref() for version in ("1.0.0", "1.1.0"))
    before = first_choice(CHANGE, (), "b" * 64)
    pins = tuple(Pin(release=ref, reason="x") for ref in (first, second))
    after = before.model_copy(update={"number": 2, "previous": before.digest(), "pins": pins})
    Choice.from_bytes(after.to_bytes(), where="choice")

    (line,) = differences(before, after)

    assert line.before == "nothing"
    assert str(first) in line.after
    assert str(second) in line.after
