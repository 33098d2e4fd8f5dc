import json
from typing import Any

import pytest

from changeover_registry.clock import format_time
from changeover_registry.records.station import Quarantine
from changeover_updater.quarantine import listed


@pytest.fixture
def failed(world: Any) -> Any:
    """1.0.0 failed its smoke test here, on two host classes."""
    release = world.publish("1.0.0")
    for host_class in ("a" * 64, "b" * 64):
        world.station.quarantine(
            Quarantine(
                release=release.ref(),
                host_class=host_class,
                check="smoke",
                why="expected at most 0.02, found [0.4]",
                since=format_time(world.now),
            )
        )
    return world


def test_what_failed_is_listed_with_its_reason(failed: Any) -> None:
    told = json.loads(failed.ok("quarantine", "list", "--json"))

    assert [entry["host_class"][0] for entry in told] == ["a", "b"]
    assert told[0]["why"] == "expected at most 0.02, found [0.4]"
    shown = failed.ok("quarantine", "list")
    assert "acme/tiny-roto@1.0.0-" in shown
    assert "found [0.4]" in shown


def test_a_lift_is_recorded_with_its_reason_and_leaves_nothing(failed: Any) -> None:
    told = json.loads(failed.ok("quarantine", "lift", "tiny-roto@1.0.0", "--reason", "a new driver", "--json"))

    assert told["host_classes"] == ["a" * 64, "b" * 64]
    assert listed(failed.station) == ()
    event = failed.station.events()[-1]
    assert (event.what, event.phase) == ("lift", "done")
    assert event.why.endswith(": a new driver")
    failed.ok("log", "--verify")
    assert "nothing is quarantined here" in failed.ok("quarantine", "list")


@pytest.mark.parametrize("name", ["tiny-roto@9.9.9", "tiny-roto", "../../x"])
def test_what_is_not_there_is_refused_and_nothing_changes(failed: Any, name: str) -> None:
    before = failed.station.events()

    code, _, err = failed.run("quarantine", "lift", name, "--reason", "x")

    assert (code, "nothing of that name" in err) == (2, True)
    assert len(listed(failed.station)) == 2
    assert failed.station.events() == before


def test_a_quarantined_release_is_not_tried_until_it_is_lifted(world: Any) -> None:
    from changeover_validators.classes import host_class

    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second, first)
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "sharper")
    world.station.quarantine(
        Quarantine(
            release=second.ref(),
            host_class=host_class(world.facts),
            check="smoke",
            why="crashed",
            since=format_time(world.now),
        )
    )

    code, out, _ = world.run("update")
    assert (code, world.station.current()) == (3, 1)
    assert "changeover quarantine lift" in " ".join(out.split())

    world.ok("quarantine", "lift", "tiny-roto@1.1.0", "--reason", "a new driver")
    world.ok("update")
    assert world.station.current() == 2
