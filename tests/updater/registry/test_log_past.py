"""``log MODEL``, ``log --at``, ``log --choice --verify``: a studio with a threshold of 2, a way back and a lost key."""

import json
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata

from changeover_registry import clock, signing
from changeover_registry.clock import format_time

START = clock.now() - timedelta(hours=2)


@pytest.fixture(scope="module")
def minutes() -> Iterator[Any]:
    """Moves the one clock that commands read to so many minutes after the beginning."""
    patch = pytest.MonkeyPatch()

    def move(count: int) -> str:
        patch.setattr(clock, "now", lambda: START + timedelta(minutes=count))
        return format_time(START + timedelta(minutes=count))

    yield move
    patch.undo()


@pytest.fixture(scope="module")
def past(module_world_at: Any, tmp_path_factory: pytest.TempPathFactory, minutes: Any) -> Any:
    """1.0.0 at minute 10, a share of 1.1.0 at 20, all of it at 30, back at 40, a pin at 50, bob signs at 70."""
    minutes(0)
    world = module_world_at(tmp_path_factory.mktemp("past"), start=START)
    world.without_mlflow()
    first, second = world.publish("1.0.0"), world.publish("1.1.0")
    world.accept(first)
    world.accept(second, current=first)
    for minute, command in (
        (10, ("promote", "tiny-roto@1.0.0", "--reason", "first")),
        (20, ("promote", "tiny-roto@1.1.0", "--share", "10%", "--reason", "a tenth")),
        (30, ("promote", "tiny-roto@1.1.0", "--reason", "all")),
        (40, ("rollback", "--channel", "stable", "--reason", "hair tears")),
        (50, ("pin", "tiny-roto@1.1.0", "--show", "atlas", "--shot", "s1", "--sequence", "q1", "--reason", "hero")),
    ):
        minutes(minute)
        world.ok(*command)
    _with_bob(world, minutes)
    return world


def _with_bob(world: Any, minutes: Any) -> None:
    """Two must sign from minute 55 on; what td proposes at 60 is chosen when bob signs at 70; then bob's key goes."""
    minutes(55)
    world.ok("keys", "new", "bob", "--out", str(world.root / "bobs"))
    private, public = world.root / "bobs" / "bob.pem", world.root / "bobs" / "bob.pub"
    enrol = ("--scope", "site", "--role", "promoter", "--owner", "bob", "--threshold", "2", "--reason", "two of us")
    world.ok("keys", "enrol", str(public), *enrol, "--with", str(private))
    minutes(60)
    code, out, _ = world.run("promote", "tiny-roto@1.1.0", "--reason", "mended")
    assert (code, "waits for" in out) == (0, True)
    minutes(70)
    (waits,) = (world.site.choice / "pending").glob("*/*.json")
    mine = world.config.read_text(encoding="utf-8")
    world.config.write_text(mine.replace(str(world.root / "keys" / "online" / "promoter.pem"), str(private)))
    world.ok("approve", f"{waits.parent.name}/{waits.stem}")
    world.config.write_text(mine, encoding="utf-8")
    minutes(75)
    promoter = world.root / "keys" / "online" / "promoter.pem"
    (world.root / "td.pub").write_bytes(signing.public_pem(promoter))
    alone = ("--scope", "site", "--role", "promoter", "--owner", "td@vm1", "--threshold", "1", "--reason", "bob left")
    world.ok("keys", "enrol", str(world.root / "td.pub"), *alone, "--with", str(private))
    lost = signing.read_public_key(public).keyid
    world.ok("keys", "revoke", lost, "--scope", "site", "--reason", "bob left", "--with", str(private))
    assert "bob" not in world.ok("keys", "list", "--scope", "site")
    minutes(80)


def at(moment: int) -> str:
    return format_time(START + timedelta(minutes=moment))


def live(world: Any, moment: int, *more: str) -> dict[str, str]:
    """What answered then, by where: the versions."""
    told = json.loads(world.ok("log", "--at", at(moment), *more, "--json"))
    return {line["where"]: line["release"].partition("@")[2].partition("-")[0] for line in told["live"]}


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (5, {}),
        (10, {"stable": "1.0.0"}),
        (25, {"stable": "1.0.0", "share of stable": "1.1.0"}),
        (35, {"stable": "1.1.0"}),
        (45, {"stable": "1.0.0"}),
        (65, {"stable": "1.0.0"}),
        (71, {"stable": "1.1.0"}),
        (79, {"stable": "1.1.0"}),
    ],
)
def test_what_was_live_on_a_channel_at_each_moment(past: Any, moment: int, expected: dict[str, str]) -> None:
    """At 65 the promotion of 60 had one signature of two, so what the way back returned still held."""
    assert live(past, moment, "--channel", "stable") == expected


def test_pins_answer_beside_their_shows_channel_and_everything_is_shown_without_one(past: Any) -> None:
    assert live(past, 52, "--channel", "show/atlas") == {"pin atlas/q1/s1": "1.1.0"}
    assert live(past, 52) == {"stable": "1.0.0", "pin atlas/q1/s1": "1.1.0"}
    assert live(past, 45, "tiny-roto", "--channel", "stable") == {"stable": "1.0.0"}
    assert "site 5, returned" in past.ok("log", "--at", at(45), "--channel", "stable")


def test_before_anything_was_chosen_and_after_now(past: Any, minutes: Any) -> None:
    minutes(80)
    assert "nothing had been chosen yet" in past.ok("log", "--at", at(-60))
    assert past.ok("log", "--at", at(80)[:10]) == past.ok("log", "--at", at(80))
    for arguments, says in (
        (("log", "--at", at(600)), "a moment that has been"),
        (("log", "--at", "noon"), "a date such as 2026-11-20, or UTC such as 2026-11-20T18:00:00Z, found 'noon'"),
        (("log", "--at", at(10), "--channel", "shows/atlas"), "stable, beta or show/NAME"),
        (("log", "--channel", "stable"), "--channel with --at"),
        (("log", "nothing-such"), "a model that something was chosen of: acme/tiny-roto"),
    ):
        code, _, err = past.run(*arguments)
        assert (code, says in err) == (2, True), err


def test_a_models_history_names_every_signed_step_and_nothing_else(past: Any) -> None:
    told = json.loads(past.ok("log", "tiny-roto", "--json"))

    steps = [(step["scope"], step["entry"]["why"], step["entry"]["when"]) for step in told]
    assert steps == [
        ("site", "first", at(10)),
        ("site", "a tenth", at(20)),
        ("site", "all", at(30)),
        ("site/back", "hair tears", at(40)),
        ("shows/atlas", "hero", at(50)),
        ("site", "two of us", at(55)),
        ("site", "mended", at(60)),
    ]
    assert any("by verdict" in line for line in told[0]["changes"])
    assert "hair tears" in past.ok("log", "acme/tiny-roto")
    assert json.loads(past.ok("log", "acme/never-chosen", "--json")) == []


def test_every_choice_is_proved_also_by_keys_that_were_revoked_since(past: Any, minutes: Any) -> None:
    minutes(90)

    out = past.ok("log", "--choice", "--verify")

    count = len(list((past.site.choice / "targets").glob("**/*choice-*.json")))
    assert f"{count} choices: each follows from the one before" in out


MEDDLING = {
    "a choice edited": ("targets/site", "*.choice-4.json", lambda data: data.replace(b"a tenth", b"a third")),
    "a choice removed": ("targets/site", "*.choice-2.json", None),
    "its signatures removed": ("metadata", "3.site.json", None),
    "its signature forged": ("metadata", "3.site.json", lambda data: data.replace(b'"sig":"', b'"sig":"00')),
    "garbage for its signatures": ("metadata", "3.site.json", lambda _: b"{}"),
    "the newest removed": ("metadata", "timestamp.json", lambda _: b""),
}


@pytest.mark.parametrize("meddling", MEDDLING)
def test_a_past_that_somebody_changed_is_5_and_names_the_file(past: Any, minutes: Any, meddling: str) -> None:
    minutes(90)
    folder, name, change = MEDDLING[meddling]
    (path,) = (past.site.choice / folder).glob(name)
    kept = path.read_bytes()
    path.chmod(0o644)
    if change is None:
        path.unlink()
    else:
        assert change(kept) != kept
        path.write_bytes(change(kept))
    try:
        code, _, err = past.run("log", "--choice", "--verify")
    finally:
        path.write_bytes(kept)

    assert code == 5, err
    assert path.name.removeprefix("1.") in err or name.removeprefix("*.") in err


def test_a_site_that_follows_has_the_choices_of_the_past_and_not_who_signed_them(past: Any, minutes: Any) -> None:
    """A bundle brings the newest role files alone; the chain of digests from them is whole all the same."""
    minutes(90)
    world = past
    old = world.site.choice / "metadata" / "3.site.json"
    kept = old.read_bytes()
    old.unlink()
    follows = world.site.follows / "root.json"
    follows.parent.mkdir()
    follows.write_bytes((world.site.choice / "metadata" / "1.root.json").read_bytes())
    try:
        out = world.ok("log", "--choice", "--verify")
    finally:
        old.write_bytes(kept)
        shutil.rmtree(follows.parent)

    assert "who signed them stands at the site that chose" in out


def test_a_role_of_another_choice_in_its_place_proves_nothing(past: Any, minutes: Any) -> None:
    """Both are signed: what stands under number 3 is what was signed as number 2."""
    minutes(90)
    third, second = (past.site.choice / "metadata" / f"{n}.site.json" for n in (3, 2))
    kept = third.read_bytes()
    shutil.copy(second, third)
    try:
        code, _, err = past.run("log", "--choice", "--verify")
    finally:
        third.write_bytes(kept)

    assert (code, "a role that names another choice" in err) == (5, True)


def test_a_strangers_signature_under_a_past_choice_proves_nothing(past: Any, minutes: Any) -> None:
    minutes(90)
    third = past.site.choice / "metadata" / "3.site.json"
    kept = third.read_bytes()
    forged = Metadata.from_bytes(kept)
    forged.sign(CryptoSigner.generate_ed25519())
    third.write_bytes(forged.to_bytes())
    try:
        code, _, err = past.run("log", "--choice", "--verify")
    finally:
        third.write_bytes(kept)

    assert (code, "which no version of the scope's keys asked for" in err) == (5, True), err


def test_a_note_of_the_signatures_that_was_changed_moves_no_release_in_time(past: Any, minutes: Any) -> None:
    """The note of who signed when is not signed itself: without it the proposal's moment counts, no earlier one."""
    minutes(90)
    (note,) = [p for p in (past.site.choice / "settled" / "site").glob("*.json") if b"mended" in p.read_bytes()]
    kept = Path(note).read_bytes()
    note.write_bytes(b"{}")
    try:
        assert live(past, 65, "--channel", "stable") == {"stable": "1.1.0"}
        assert live(past, 55, "--channel", "stable") == {"stable": "1.0.0"}
    finally:
        note.write_bytes(kept)
    assert isinstance(START, datetime)


@pytest.mark.parametrize("asked", [("tiny-roto",), ("--at", at(40))])
def test_what_is_asked_of_the_past_is_proved_where_somebody_asks_for_that(
    past: Any, minutes: Any, asked: tuple[str, ...]
) -> None:
    minutes(90)
    assert "each follows from the one before" in past.ok("log", *asked, "--verify")
    (path,) = (past.site.choice / "metadata").glob("3.site.json")
    kept = path.read_bytes()
    path.unlink()
    try:
        code, _, err = past.run("log", *asked, "--verify")
    finally:
        path.write_bytes(kept)

    assert code == 5
    assert "3.site.json" in err
