import json
import shutil
from pathlib import Path
from typing import Any

from changeover_registry.repository import vendor
from changeover_updater import vendors


def moved_on(signers: Any) -> None:
    """1.1.0 is on stable and in use."""
    signers.promote("1.1.0", "sharper")
    signers.world.ok("sync")
    signers.world.ok("update")
    assert signers.served() == str(signers.second.ref())


def test_one_signature_and_no_new_verdict_return_a_channel_for_every_station(signers: Any) -> None:
    moved_on(signers)

    said = signers.world.ok("rollback", "--channel", "stable", "--reason", "hair tears on sh0420")

    assert f"return stable to {signers.first.ref()}, as choice 4 held it" in said
    signers.world.ok("update")
    assert signers.served() == str(signers.first.ref())
    assert signers.world.station.hold() is None
    backs = [e for e in json.loads(signers.world.ok("log", "--choice", "--json")) if e.get("stands_on")]
    assert [(e["schema"], e["stands_on"], e["entry"]["why"]) for e in backs] == [
        ("changeover.back/1", 5, "hair tears on sh0420")
    ]
    assert "site/back" in signers.world.ok("log", "--choice")


def test_the_next_choice_of_the_scope_builds_on_what_was_returned(signers: Any) -> None:
    """Somebody pins something else the day after: the channel does not go forward again by that."""
    moved_on(signers)
    signers.world.ok("rollback", "--channel", "stable", "--reason", "tears")
    signers.world.ok("update")

    signers.world.ok("override", "add", "tiny-roto@1.1.0", "--check", "speed", "--reason", "x", "--until", "9d")
    signers.bob.ok("approve", signers.waiting())
    signers.world.ok("sync")

    signers.world.ok("update")
    assert signers.served() == str(signers.first.ref())
    assert signers.history()[-1].channels[0].release == signers.first.ref()


def test_promoting_after_a_way_back_supersedes_it_and_the_old_one_replayed_returns_nothing(signers: Any) -> None:
    moved_on(signers)
    signers.world.ok("rollback", "--channel", "stable", "--reason", "tears")
    signers.world.ok("update")

    signers.promote("1.1.0", "it was the plate")
    signers.world.ok("sync")
    signers.world.ok("update")

    assert signers.served() == str(signers.second.ref())
    (old,) = (signers.folder / "metadata").glob("*.site.back.json")
    shutil.copy(old, old.with_name("2.site.back.json"))
    code, _, err = signers.world.run("promote", "tiny-roto@1.1.0", "--reason", "again")
    assert (code, "2.site.back.json: expected version 2, found version 1" in err) == (5, True)
    assert "nothing changed" in signers.world.ok("update")
    assert signers.served() == str(signers.second.ref())


def test_a_site_put_back_to_what_it_was_is_a_rollback_that_nobody_signed(signers: Any) -> None:
    kept = signers.folder.with_name("choice-of-before")
    shutil.copytree(signers.folder, kept)
    moved_on(signers)
    before = signers.current()
    shutil.rmtree(signers.folder)
    kept.rename(signers.folder)

    code, _, err = signers.world.run("update")

    assert (code, "rollback: " in err) == (5, True)
    assert signers.current() == before


def test_going_back_twice_goes_further_and_forward_again_by_name(signers: Any) -> None:
    moved_on(signers)
    signers.world.ok("rollback", "--channel", "stable", "--reason", "tears")

    code, _, err = signers.world.run("rollback", "--channel", "stable", "--reason", "more")

    assert (code, "nothing before it" in err) == (3, True)
    signers.world.ok("rollback", "--channel", "stable", "--to", "1.1.0", "--reason", "it was the plate")
    assert "nothing changed" in signers.world.ok("update")
    assert signers.served() == str(signers.second.ref())


def test_what_is_no_way_back_is_refused_and_nothing_is_signed(signers: Any) -> None:
    moved_on(signers)
    world = signers.world
    world.publish("1.2.0")
    before = sorted(path.name for path in (signers.folder / "metadata").iterdir())
    for words, code in {
        ("--channel", "stable", "--to", "1.2.0"): 3,
        ("--channel", "stable", "--to", "tiny-roto@9.9.9"): 3,
        ("--channel", "stable", "--to", "edge-roto"): 2,
        ("--channel", "beta"): 2,
        ("--channel", "show/atlas"): 2,
        ("--channel", "nightly"): 2,
        ("--to", "one"): 2,
    }.items():
        answer = world.run("rollback", *words, "--reason", "x")
        assert (answer[0], answer[2].count("\n")) == (code, 1), (words, answer)
    assert world.run("rollback", "--channel", "stable", "--reason", " ")[0] == 2
    vendor.withdraw(world.repository, world.keys, "tiny-roto", "1.0.0", "holes", signers.call().now)
    vendors.sync_vendor(world.site.vendor("acme"))
    code, _, err = world.run("rollback", "--channel", "stable", "--reason", "x")
    assert (code, "withdrawn release" in err) == (5, True)
    assert sorted(path.name for path in (signers.folder / "metadata").iterdir()) == before
    assert signers.served() == str(signers.second.ref())


def test_a_host_without_the_sites_key_returns_nothing(signers: Any) -> None:
    moved_on(signers)

    code, _, err = signers.bob.run("rollback", "--channel", "stable", "--reason", "tears")

    assert (code, "keys.site" in err) == (2, True)


def test_a_key_that_was_enrolled_for_the_way_back_signs_that_and_nothing_else(signers: Any, person: Any) -> None:
    world = signers.world
    moved_on(signers)
    world.ok("keys", "new", "night", "--out", str(world.root / "nights"))
    public = str(world.root / "nights" / "night.pub")
    world.ok("keys", "enrol", public, "--scope", "site", "--role", "back", "--owner", "night", "--reason", "2 a.m.")
    night = world.root / "nights" / "night.pem"
    site_key = Path(signers.keys.site)
    shift = person(world, "night", f'back = "{night}"\npromoter = "{night}"\nsite = "{site_key}"\n')

    code, _, err = shift.run("promote", "tiny-roto@1.0.0", "--reason", "x")
    assert (code, "signing key" in err) == (5, True)
    shift.ok("rollback", "--channel", "stable", "--reason", "tears")
    world.ok("update")
    assert signers.served() == str(signers.first.ref())
