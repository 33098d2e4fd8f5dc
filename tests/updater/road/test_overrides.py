"""Overrides: what a named, reasoned, expiring permission passes over, and what nothing does."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from changeover_registry.records.facts import NukeInstall
from changeover_registry.records.findings import CheckName
from changeover_registry.records.station import Generation

MEASURED: tuple[CheckName, ...] = ("hardware", "vram", "speed", "golden", "smoke")


def override(world: Any, release: str, *checks: str, until: str = "14d") -> tuple[int, str, str]:
    named = [word for check in checks for word in ("--check", check)]
    done = world.run("override", "add", release, *named, "--reason", "no twin for this line", "--until", until)
    return done[0], done[1], done[2]


def answers(generation: Generation | None) -> dict[str, Any]:
    assert generation is not None
    return {f"{a.loader} {a.nuke_line or ''}".strip(): a for r in generation.releases for a in r.answers}


def test_executable_release_of_a_vendor_without_the_flag_is_refused_and_the_line_names_it(
    make_world: Callable[..., Any],
) -> None:
    world = make_world(nuke="15.1v3")
    world.publish("cat")

    checked = world.run("check", "edge-roto@1.0.0", "--json")
    promoted = world.run("promote", "edge-roto@1.0.0", "--reason", "test")

    assert checked[0] == 3
    assert "--allow-executable" in json.loads(checked[1])["reason"]
    assert promoted[0] == 3
    assert "--allow-executable" in promoted[2]
    assert world.station.current() is None


def test_opaque_cat_is_undecided_until_each_open_check_is_overridden_and_then_lies_in_the_cattery(
    make_world: Callable[..., Any],
) -> None:
    world = make_world(executable=True, nuke="15.1v3")
    world.without_mlflow()
    release = world.publish("cat")
    checked, answer, _ = world.run("check", "edge-roto@1.0.0", "--json")
    undecided = world.run("promote", "edge-roto@1.0.0", "--reason", "test")
    assert override(world, "edge-roto@1.0.0", *MEASURED)[0] == 0

    world.ok("promote", "edge-roto@1.0.0", "--reason", "seen in Nuke by hand")
    world.ok("update")

    assert checked == 4, answer
    assert undecided[0] == 4
    assert "golden" in undecided[2]
    found = answers(world.station.in_use())["nuke-inference 15.1"]
    assert found.variant == "nuke-cat-torch2.1"
    cattery = world.station.folder / "generations" / "1" / "nuke" / "15.1" / "Cattery"
    name = f"edge-roto-1.0.0-{release.digest()[:12]}"
    (package,) = (json.loads(path.read_text(encoding="utf-8")) for path in (cattery / name).glob("cat.json"))
    assert str(package).count("EdgeRoto.cat") == 1
    (node,) = (entry for entry in walk(package) if str(entry.get("filepath", "")).endswith(".cat"))
    assert (cattery / name / node["filepath"]).read_bytes() == bytes(range(256)) * 64
    assert world.run("plan")[0] == 0


def walk(node: Any) -> Iterator[Any]:
    """Every object of a JSON document."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from walk(child)


def test_override_is_told_with_its_reason_and_its_end(make_world: Callable[..., Any]) -> None:
    world = make_world(executable=True, nuke="15.1v3")
    world.publish("cat")
    override(world, "edge-roto@1.0.0", "golden", "smoke")

    told = json.loads(world.ok("override", "list", "--json"))

    assert [(o["scope"], o["checks"], o["reason"]) for o in told] == [
        ("site", ["golden", "smoke"], "no twin for this line")
    ]
    assert "holds" in world.ok("override", "list")
    assert "override golden, smoke" in world.ok("log", "--choice")


def test_nothing_passes_over_trust(world: Any) -> None:
    world.publish("1.0.0")

    code, out, err = override(world, "tiny-roto@1.0.0", "trust", "golden")

    assert (code, out, err.count("\n")) == (5, "", 1)
    assert json.loads(world.ok("override", "list", "--json")) == []


def test_withdrawn_release_is_not_promoted_whatever_is_overridden(world: Any) -> None:
    from changeover_registry.repository import vendor
    from changeover_updater import vendors

    world.publish("1.0.0")
    assert override(world, "tiny-roto@1.0.0", *MEASURED, "licence", "format", "interface")[0] == 0
    vendor.withdraw(world.repository, world.keys, "tiny-roto", "1.0.0", "leaks hair", world.now)
    vendors.sync_vendor(world.site.vendor("acme"))

    code, _, err = world.run("promote", "tiny-roto@1.0.0", "--reason", "test")

    assert code == 5
    assert "leaks hair" in err


def test_expired_override_counts_for_nothing_at_promote_and_at_update(
    make_world: Callable[..., Any], long_ago: Any
) -> None:
    """The override was signed when its end was still to come; that moment is over."""
    from changeover_registry.clock import format_time
    from changeover_registry.records.choice import Override
    from changeover_registry.repository import choice
    from changeover_updater import choose
    from changeover_updater.cli._context import Invocation
    from changeover_updater.settings import load_settings
    from changeover_updater.signed import studio_keys

    world = make_world(executable=True, nuke="15.1v3")
    release = world.publish("cat")
    call = Invocation(load_settings({}, config=world.config, station="vm1"), world.now)
    old = Override(release=release.ref(), checks=MEASURED, reason="once", by="td", until=format_time(long_ago))
    change = choose.Change(who="td@vm1", when=format_time(world.now), why="once")

    def both(last: Any) -> Any:
        return choose.add_override(last, "site", old, change)

    choice.write(world.site.choice, studio_keys(call), "site", both, world.now)
    refused = world.run("promote", "edge-roto@1.0.0", "--reason", "test")
    choice.write(
        world.site.choice,
        studio_keys(call),
        "site",
        lambda last: choose.promote(last, "stable", release.ref(), None, change),
        world.now,
    )

    code, out, _ = world.run("update")

    assert refused[0] == 4
    assert code == 4
    assert "not changed to" in out
    assert world.station.current() is None
    assert "expired" in world.ok("override", "list")


def test_cat_is_not_available_in_another_nuke_line_and_the_plan_says_so(make_world: Callable[..., Any]) -> None:
    world = make_world(executable=True, nuke="15.1v3")
    world.without_mlflow()
    world.publish("cat")
    assert world.run("check", "edge-roto@1.0.0")[0] == 4
    assert override(world, "edge-roto@1.0.0", "vram", "speed", "golden", "smoke")[0] == 0
    world.ok("promote", "edge-roto@1.0.0", "--reason", "test")
    world.has_nukes(NukeInstall(version="14.0v5", torch_line="1.12.1"))

    planned = world.run("plan")
    updated = world.run("update")
    world.has_nukes(*world.facts.nukes, NukeInstall(version="15.1v3", torch_line="2.1.1"))
    world.ok("update")

    assert (planned[0], updated[0]) == (3, 3)
    assert "not available in Nuke 14.0: nuke-cat-torch2.1" in planned[1]
    assert "1.12.1" in planned[1]
    found = answers(world.station.in_use())
    assert found["nuke-inference 14.0"].unavailable.startswith("not available in Nuke 14.0: ")
    assert found["nuke-inference 15.1"].path is not None


def test_override_of_a_show_permits_that_show_and_nobody_else(world: Any) -> None:
    world.publish("1.0.0")
    named = [word for check in MEASURED for word in ("--check", check)]
    world.ok(
        *("override", "add", "tiny-roto@1.0.0", *named, "--reason", "atlas is in a hurry", "--until", "3d"),
        *("--show", "atlas"),
    )

    codes = [
        world.run("promote", "tiny-roto@1.0.0", "--reason", "test", *where)[0]
        for where in ([], ["--channel", "show/boreas"], ["--channel", "show/atlas"])
    ]
    pins = [
        world.run("pin", "tiny-roto@1.0.0", "--reason", "test", *where)[0]
        for where in ([], ["--show", "boreas"], ["--show", "atlas"])
    ]

    assert codes == [4, 4, 0]
    assert pins == [4, 4, 0]
