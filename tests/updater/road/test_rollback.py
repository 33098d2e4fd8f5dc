"""``rollback``, ``hold`` and ``unhold``: the way back is quick, needs nothing, and stays."""

import json
import shutil
import time
from typing import Any

import pytest

from changeover_registry.clock import format_time
from changeover_registry.records.station import Hold
from changeover_updater import vendors


@pytest.fixture
def two(world: Any) -> Any:
    """A station that went from 1.0.0 to 1.1.0."""
    world.first = world.served("1.0.0")
    world.second = world.served("1.1.0", current=world.first)
    return world


def in_use(world: Any) -> tuple[int, str]:
    generation = world.station.in_use()
    return generation.number, generation.channels[0].key


def fails(world: Any, code: int, *arguments: str) -> str:
    before = (in_use(world), world.station.hold(), len(world.station.events()))
    found, _, err = world.run(*arguments)
    assert (found, err.count("\n")) == (code, 1), f"{arguments}: {found}\n{err}"
    assert (in_use(world), world.station.hold(), len(world.station.events())) == before
    return str(err)


def test_rollback_stays_through_updates_until_unhold(two: Any) -> None:
    two.ok("rollback", "--reason", "hair flickers")
    held = two.ok("update")

    assert in_use(two) == (1, str(two.first.ref()))
    assert "held by" in held
    assert "hair flickers" in two.ok("status")
    assert "changeover unhold" in two.ok("plan")

    two.ok("unhold")
    two.ok("update")

    assert in_use(two)[1] == str(two.second.ref())
    assert two.station.hold() is None


def test_rollback_needs_neither_site_nor_vendor_nor_runtime_and_takes_a_second(two: Any) -> None:
    shutil.rmtree(two.repository)
    two.site.root.rename(two.root / "site-is-away")
    started = time.monotonic()

    two.ok("rollback")

    assert time.monotonic() - started < 5
    assert in_use(two)[0] == 1
    two.ok("status")
    two.ok("log")


def test_rollback_goes_to_the_generation_that_is_named_and_forward_again(two: Any) -> None:
    two.ok("rollback", "--to", "1")
    answer = json.loads(two.ok("rollback", "--to", "2", "--json"))

    assert answer == {"generation": 2, "hold": True}
    assert in_use(two)[0] == 2
    assert [e.what for e in two.station.events() if e.phase == "done"] == ["update", "update", "rollback", "rollback"]


@pytest.mark.parametrize(("arguments", "code"), [(("--to", "9"), 3), (("--to", "0"), 3), (("--to", "one"), 2)])
def test_generation_that_is_not_there_is_refused_and_nothing_moves(
    two: Any, arguments: tuple[str, ...], code: int
) -> None:
    line = fails(two, code, "rollback", *arguments)

    assert code == 2 or "(1, 2)" in line


def test_first_generation_has_nothing_to_go_back_to(world: Any) -> None:
    world.served("1.0.0")

    assert "the first" in fails(world, 3, "rollback")


def test_station_without_a_generation_refuses_rollback_with_3(world: Any) -> None:
    code, _, err = world.run("rollback")

    assert (code, err.count("\n")) == (3, 1)
    assert "no generation in use" in err


def test_rollback_to_a_withdrawn_release_needs_the_override(two: Any) -> None:
    from changeover_registry.repository import vendor

    vendor.withdraw(two.repository, two.keys, "tiny-roto", "1.0.0", "leaks hair", two.now)
    vendors.sync_vendor(two.site.vendor("acme"))
    two.ok("update")

    line = fails(two, 3, "rollback", "--to", "1")
    two.ok("rollback", "--to", "1", "--override", "--reason", "still better")

    assert "leaks hair" in line
    assert "--override" in line
    assert in_use(two)[0] == 1


@pytest.fixture
def pinned(two: Any) -> Any:
    """A station whose channel went from 1.0.0 to 1.1.0 and back, while a pin of the show stays at 1.1.0.

    Its vendor has taken 1.1.0 back since, and no update was run after that.
    """
    from changeover_registry.repository import vendor

    two.ok("pin", "tiny-roto@1.1.0", "--reason", "atlas is at it")
    two.ok("update")
    two.ok("promote", "tiny-roto@1.0.0", "--reason", "hair")
    two.ok("update")
    vendor.withdraw(two.repository, two.keys, "tiny-roto", "1.1.0", "leaks hair", two.now)
    return two


def test_withdrawn_release_that_a_pin_serves_is_told_at_once_and_no_channel_moves_to_it(pinned: Any) -> None:
    pinned.ok("sync")
    told = pinned.ok("status")
    plan = pinned.ok("plan")
    in_json = json.loads(pinned.ok("plan", "--json"))["moves"], json.loads(pinned.ok("status", "--json"))
    pinned.site.root.rename(pinned.root / "site-is-away")

    line = fails(pinned, 3, "rollback", "--to", "3")

    (of_pin,) = [row for row in told.splitlines() if row.startswith("site ") and "tiny-roto" in row]
    assert "WITHDRAWN: leaks hair" in of_pin
    assert told.count("pin another with: changeover pin") == 1
    assert f"stays {pinned.second.ref()}  WITHDRAWN: leaks hair" in plan
    assert [move["withdrawn"] for move in in_json[0]] == [None, "leaks hair"]
    assert in_json[1]["withdrawn"] == {str(pinned.second.ref()): "leaks hair"}
    assert "1.1.0" in line
    assert "leaks hair" in line


def test_rollback_that_leaves_a_withdrawn_pin_as_it_is_goes(pinned: Any) -> None:
    older = pinned.ok("status", "--json")
    pinned.ok("promote", "tiny-roto@1.1.0", "--channel", "beta", "--reason", "try")
    pinned.ok("update")
    pinned.ok("sync")

    pinned.ok("rollback", "--to", str(json.loads(older)["generation"]["number"]))

    assert in_use(pinned)[1] == str(pinned.first.ref())
    assert [pin.key for pin in pinned.station.in_use().pins] == [str(pinned.second.ref())]


def test_plan_under_a_hold_tells_the_station_what_was_withdrawn(pinned: Any) -> None:
    vendors.sync_vendor(pinned.site.vendor("acme"))
    pinned.ok("hold", "--reason", "dailies")
    assert "WITHDRAWN" not in pinned.ok("status")

    pinned.ok("update")

    assert "WITHDRAWN: leaks hair" in pinned.ok("status")
    fails(pinned, 3, "rollback", "--to", "2")


@pytest.mark.parametrize("damage", ["gone", "short"])
def test_rollback_to_a_generation_whose_file_is_not_whole_is_refused(two: Any, damage: str) -> None:
    path = two.station.store.variant_folder(two.first.ref(), "onnx-fp32") / "model.onnx"
    path.parent.chmod(0o755)
    path.chmod(0o644)
    path.unlink() if damage == "gone" else path.write_bytes(b"x")

    line = fails(two, 3, "rollback")

    assert "model.onnx" in line


def test_hold_keeps_the_station_until_its_end_and_no_longer(world: Any) -> None:
    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second, current=first)
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "test")

    world.ok("hold", "--reason", "dailies", "--until", "3d")
    world.ok("update")
    kept = in_use(world)
    told = world.ok("status")
    world.station.set_hold(Hold(by="td", why="dailies", since="2020-01-01T00:00:00Z", until="2020-01-02T00:00:00Z"))
    world.ok("update")

    assert kept[1] == str(first.ref())
    assert "dailies" in told
    assert in_use(world)[1] == str(second.ref())
    assert "held" not in world.ok("status")


@pytest.mark.parametrize("until", ["2020-01-01", "2020-01-01T10:00:00Z"])
def test_hold_until_a_moment_that_is_over_holds_nothing(world: Any, until: str) -> None:
    world.served("1.0.0")

    code, _, err = world.run("hold", "--reason", "late", "--until", until)

    assert code == 2
    assert err.count("\n") == 1
    assert world.station.hold() is None


@pytest.mark.parametrize("until", ["tomorrow", "2026-13-40", "-3d", "99999999d", "2026-01-01T00:00:00+02:00"])
def test_until_that_is_no_moment_is_2_and_holds_nothing(world: Any, until: str) -> None:
    world.served("1.0.0")

    fails(world, 2, "hold", "--reason", "x", f"--until={until}")


def test_hold_and_unhold_are_events_that_say_who_and_why(world: Any) -> None:
    world.served("1.0.0")

    world.ok("hold", "--reason", "dailies")
    world.ok("unhold", "--reason", "seen")

    told = json.loads(world.ok("log", "--json"))
    assert [(e["what"], e["why"]) for e in told][-2:] == [("hold", "dailies"), ("unhold", "seen")]
    assert told[-1]["when"] >= format_time(world.now)


def test_unhold_where_nothing_is_held_changes_nothing(world: Any) -> None:
    world.served("1.0.0")
    before = len(world.station.events())

    code, out, _ = world.run("unhold")

    assert code == 0
    assert "there is no hold" in out
    assert len(world.station.events()) == before


def test_rollback_while_somebody_changes_the_station_exits_7(two: Any) -> None:
    with two.station.lock():
        line = fails(two, 7, "rollback")

    assert "station vm1" in line
