"""``promote`` and ``pin``: what may be chosen, by what proof, for whom, and who wins when several choose at once."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.clock import format_time
from changeover_updater import choose
from changeover_updater.studio import choice_history

RACERS = 6


def refused(world: Any, code: int, *arguments: str) -> str:
    """Run a command line that must fail in one line and choose nothing; returns the line."""
    before = choice_history(world.site)
    found, out, err = world.run(*arguments)
    assert (found, out, err.count("\n")) == (code, "", 1), f"{found}\n{out}\n{err}"
    assert choice_history(world.site) == before
    return str(err)


def test_release_is_promoted_by_the_newest_verdict_and_by_none_that_does_not_hold(world: Any) -> None:
    release = world.publish("1.0.0")
    promotion = ("promote", "tiny-roto@1.0.0", "--reason", "test")

    assert "no verdict at all" in refused(world, 4, *promotion)
    world.accept(release, made_at=format_time(world.now - timedelta(days=31)))
    assert "older than 30 days" in refused(world, 4, *promotion)
    world.accept(release, policy="0" * 64, made_at=format_time(world.now - timedelta(hours=3)))
    assert "under another policy" in refused(world, 4, *promotion)
    world.accept(
        release,
        decision="inconclusive",
        reason="golden: 2 shots",
        points=(),
        made_at=format_time(world.now - timedelta(hours=2)),
    )
    assert "inconclusive: golden: 2 shots" in refused(world, 4, *promotion)
    world.accept(
        release, decision="reject", reason="worst shot", points=(), made_at=format_time(world.now - timedelta(hours=1))
    )
    assert "reject: worst shot" in refused(world, 3, *promotion)
    digest = world.accept(release)

    out = world.ok(*promotion)

    assert "promote acme/tiny-roto@1.0.0" in out
    pointer = next(c for c in choice_history(world.site) if c.channels).channels[0]
    assert (pointer.channel, pointer.release, pointer.verdict) == ("stable", release.ref(), digest)


def test_verdict_against_another_release_than_the_one_in_use_does_not_promote(world: Any) -> None:
    world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second)

    line = refused(world, 4, "promote", "tiny-roto@1.1.0", "--reason", "test")

    assert "compares with nothing" in line
    assert "1.0.0" in line
    assert "changeover check tiny-roto@1.1.0" in line.replace("acme/", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("promote", "nobody@1.0.0", "--reason", "x"), "acme/tiny-roto"),
        (("promote", "acme/nobody@1.0.0", "--reason", "x"), "acme/tiny-roto"),
        (("promote", "tiny-roto@9.9.9", "--reason", "x"), "1.0.0"),
        (("promote", "tiny-roto@1.0", "--reason", "x"), "three integers"),
        (("promote", "tiny-roto@1.0.0+cu12", "--reason", "x"), "three integers"),
        (("promote", "tiny-roto", "--reason", "x"), "MODEL@VERSION"),
        (("promote", "tiny-roto@1.0.0"), "--reason"),
        (("promote", "--reason", "x"), "--policy"),
        (("promote", "tiny-roto@1.0.0", "--policy", "--reason", "x"), "both"),
        (("promote", "tiny-roto@1.0.0", "--channel", "Stable!", "--reason", "x"), "channel"),
        (("promote", "tiny-roto@1.0.0", "--channel", "show/../x", "--reason", "x"), "show/NAME"),
        (("promote", "tiny-roto@1.0.0", "--channel", "show/", "--reason", "x"), "show/NAME"),
        (("pin", "tiny-roto@1.0.0", "--shot", "s1", "--reason", "x"), "wider"),
        (("pin", "tiny-roto@1.0.0", "--sequence", "aa", "--reason", "x"), "wider"),
        (("pin", "tiny-roto@1.0.0", "--show", "Bad Show", "--reason", "x"), "name"),
        (("pin", "tiny-roto@1.0.0", "--show", "atlas", "--sequence", "a\nb", "--reason", "x"), "sequence"),
        (("pin", "tiny-roto@1.0.0", "--show", "", "--reason", "x"), "is the variable set"),
        (("pin", "tiny-roto@1.0.0", "--show", "atlas", "--sequence", "", "--reason", "x"), "is the variable set"),
        (("pin", "tiny-roto@1.0.0", "--reason", " "), "say why"),
        (("promote", "tiny-roto@1.0.0", "--reason", "\x1b[2J"), "say why"),
        (("promote", "tiny-roto@1.0.0", "--channel", "", "--reason", "x"), "channel"),
        (("unpin", "tiny-roto", "--show", "atlas"), "no such pin"),
        (
            ("override", "add", "tiny-roto@1.0.0", "--check", "golden", "--reason", "x", "--until", "2001-01-01"),
            "a moment to come",
        ),
        (("override", "add", "tiny-roto@1.0.0", "--check", "nose", "--reason", "x", "--until", "3d"), "golden"),
        (("override", "add", "tiny-roto@1.0.0", "--check", "golden", "--reason", "x", "--until", "soon"), "--until"),
        (("override", "add", "tiny-roto@1.0.0", "--check", "golden", "--reason", "", "--until", "3d"), "say why"),
        (
            ("override", "add", "tiny-roto@1.0.0", "--check", "golden", "--reason", "x", "--until", "3d", "--show", ""),
            "is the variable set",
        ),
        (
            ("override", "add", "tiny-roto@1.0.0", "--check", "golden", "--reason", "x", "--until", "9999999999d"),
            "--until",
        ),
    ],
)
def test_what_names_nothing_is_2_and_chooses_nothing(chosen_one: Any, arguments: tuple[str, ...], words: str) -> None:
    line = refused(chosen_one, 2, *arguments)

    assert words in line


@pytest.fixture(scope="module")
def chosen_one(module_world: Any) -> Any:
    """A world whose 1.0.0 has an accept verdict."""
    module_world.accept(module_world.publish("1.0.0"))
    return module_world


def test_two_shows_have_their_own_channels_and_neither_moves_the_other(world: Any) -> None:
    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second, current=first)
    world.ok("promote", "tiny-roto@1.1.0", "--channel", "show/atlas", "--reason", "atlas")
    world.ok("pin", "tiny-roto@1.0.0", "--show", "boreas", "--reason", "boreas delivers")
    world.ok("update")
    world.ok("unpin", "tiny-roto", "--show", "boreas", "--reason", "delivered")
    world.ok("promote", "tiny-roto@1.0.0", "--channel", "show/boreas", "--reason", "boreas")

    world.ok("update")

    channels = {c.channel: c.key for c in world.station.in_use().channels}
    assert channels == {"stable": str(first.ref()), "show/atlas": str(second.ref()), "show/boreas": str(first.ref())}
    assert world.station.in_use().pins == ()
    numbers = [(c.scope, c.number) for c in choice_history(world.site) if c.scope != "site"]
    assert sorted(numbers) == [("shows/atlas", 1), ("shows/boreas", 1), ("shows/boreas", 2), ("shows/boreas", 3)]


def test_six_processes_that_promote_at_once_have_one_winner_for_each_number(world: Any) -> None:
    first = world.publish("1.0.0")
    world.accept(first)
    command = [sys.executable, "-m", "changeover_updater", "--config", str(world.config), *world.extra]
    before = len(choice_history(world.site))

    racers = [
        subprocess.Popen(
            [*command, "promote", "tiny-roto@1.0.0", "--reason", f"racer {n}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(RACERS)
    ]
    answers = [(process.communicate(timeout=120), process.returncode) for process in racers]

    codes = Counter(code for _, code in answers)
    history = choice_history(world.site)[before:]
    assert set(codes) <= {0, 7}, answers
    assert codes[0] >= 1
    assert len(history) == codes[0]
    assert len({choice.number for choice in history}) == len(history)
    for (_, err), code in answers:
        assert code == 0 or (err.count("\n") == 1 and "found choice" in err), err
    reasons = {choice.entry.why for choice in history}
    winners = {f"racer {n}" for n, (_, code) in enumerate(answers) if code == 0}
    assert reasons == winners
    world.ok("update")


def test_loser_of_a_race_exits_7_and_is_told_the_head(world: Any) -> None:
    """Somebody else's choice is complete on the disk before ours is signed: as between our reading and our writing."""
    from changeover_registry.errors import LostRaceError
    from changeover_registry.repository import choice
    from changeover_updater.cli._context import Invocation
    from changeover_updater.settings import load_settings
    from changeover_updater.signed import studio_keys

    release = world.publish("1.0.0")
    world.accept(release)
    call = Invocation(load_settings({}, config=world.config, station="vm1"), world.now)
    keys = studio_keys(call)
    change = choose.Change(who="other@vm2", when=format_time(world.now), why="first")

    def late(last: Any) -> Any:
        theirs = choose.promote(last, "beta", release.ref(), None, change)
        beside = world.root / "elsewhere"
        shutil.copytree(world.site.choice, beside, ignore=shutil.ignore_patterns("lock"))
        choice.write(beside, keys, "site", lambda _: theirs, world.now)
        for path in (*beside.glob("metadata/*.site.json"), *beside.glob("targets/site/*")):
            shutil.copy(path, world.site.choice / path.relative_to(beside))
        return choose.promote(last, "stable", release.ref(), None, change)

    with pytest.raises(LostRaceError) as lost:
        choice.write(world.site.choice, keys, "site", late, world.now)

    assert lost.value.exit_code == 7
    assert "other@vm2" in str(lost.value)


def test_host_without_the_promoters_key_cannot_choose(world: Any) -> None:
    world.accept(world.publish("1.0.0"))
    (world.root / "keys" / "online" / "promoter.pem").unlink()

    line = refused(world, 2, "promote", "tiny-roto@1.0.0", "--reason", "test")

    assert "keys.promoter" in line


def test_key_that_is_not_the_enrolled_one_signs_nothing(world: Any) -> None:
    from changeover_registry import signing

    world.accept(world.publish("1.0.0"))
    path = world.root / "keys" / "online" / "promoter.pem"
    path.unlink()
    signing.new_key(path)

    line = refused(world, 5, "promote", "tiny-roto@1.0.0", "--reason", "test")

    assert "Traceback" not in line


def test_choice_with_one_byte_changed_is_refused_with_5_by_every_command(world: Any) -> None:
    world.served("1.0.0")
    target = max(_choices(world.site.choice / "targets" / "site"))
    data = bytearray(target.read_bytes())
    data[-2] ^= 1
    target.chmod(0o644)
    target.write_bytes(bytes(data))

    codes = [world.run(*command)[0] for command in (["plan"], ["update"], ["verdict", "list"])]

    assert codes == [5, 5, 5]
    assert world.run("status")[0] == 0


def _choices(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)[-1:]


def test_history_of_choices_tells_who_when_what_and_why(world: Any) -> None:
    world.served("1.0.0")

    told = json.loads(world.ok("log", "--choice", "--json"))

    assert [entry["entry"]["what"].split()[0] for entry in told] == ["init", "policy", "promote"]
    assert told[-1]["entry"]["why"] == "test"
    assert "promote acme/tiny-roto@1.0.0" in world.ok("log", "--choice")
