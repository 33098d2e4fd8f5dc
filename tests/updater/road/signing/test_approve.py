import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from changeover_registry import canonical
from changeover_registry.records.choice import Pending


def test_a_choice_short_of_signatures_waits_and_reaches_no_station(signers: Any) -> None:
    before = signers.current()

    said = signers.world.ok("promote", "tiny-roto@1.1.0", "--reason", "sharper")

    assert "waits for one more signature of 2, by bob" in said
    assert "approve site/5" in said
    assert "nothing changed" in signers.world.ok("update")
    assert signers.current() == before


def test_the_second_signature_chooses_without_the_sites_key_and_the_next_writer_says_it(signers: Any) -> None:
    signers.world.ok("promote", "tiny-roto@1.1.0", "--reason", "sharper")

    shown = signers.bob.ok("approve")
    said = signers.bob.ok("approve", "site/5", "--reason", "seen on sh010")

    line = f"channel stable, acme/tiny-roto: {signers.first.ref()} by verdict"
    assert line in shown
    assert line in said
    assert f"-> {signers.second.ref()} by verdict" in said
    assert "the site's key is not here" in said
    assert "nothing changed" in signers.world.ok("update")
    signers.world.ok("sync")
    signers.world.ok("update")
    assert signers.served() == str(signers.second.ref())
    (kept,) = (signers.folder / "settled" / "site").glob("5-*.json")
    record = Pending.from_bytes(kept.read_bytes(), where="settled")
    assert [approval.why for approval in record.signatures] == ["sharper", "seen on sh010"]
    assert signers.bob.ok("approve") == "nothing waits for signatures\n"


def test_nobody_approves_what_they_signed_themselves(signers: Any, person: Callable[..., Any]) -> None:
    signers.world.ok("promote", "tiny-roto@1.1.0", "--reason", "sharper")
    second = signers.world.root / "mine"
    signers.world.ok("keys", "new", "mine", "--out", str(second))
    enrolled = ("--scope", "site", "--role", "promoter", "--owner", "td@vm1", "--reason", "a laptop")
    _reject(signers)
    signers.world.ok("keys", "enrol", str(second / "mine.pub"), *enrolled)
    signers.world.ok("promote", "tiny-roto@1.1.0", "--reason", "sharper")
    laptop = person(signers.world, "laptop", f'promoter = "{second / "mine.pem"}"\n')

    answers = [one.run("approve", signers.waiting()) for one in (signers.world, laptop)]

    for code, _, err in answers:
        assert (code, err.count("\n")) == (5, 1)
        assert "nobody approves what they signed themselves" in err
    assert json.loads(signers.bob.ok("approve", "--json"))[0]["signatures"][0]["who"] == signers.call().settings.who


def _reject(signers: Any) -> None:
    signers.world.ok("approve", signers.waiting(), "--reject", "--reason", "once more")


def test_a_key_that_may_not_sign_for_the_scope_approves_nothing(signers: Any, person: Callable[..., Any]) -> None:
    signers.world.ok("promote", "tiny-roto@1.1.0", "--reason", "sharper")
    signers.world.ok("keys", "new", "eve", "--out", str(signers.world.root / "eves"))
    eve = person(signers.world, "eve", f'promoter = "{signers.world.root / "eves" / "eve.pem"}"\n')

    code, _, err = eve.run("approve", "site/5")

    assert (code, "signing key" in err) == (5, True)
    assert "waits for one more signature of 2" in signers.bob.ok("approve")


def test_an_entry_that_was_overtaken_is_named_stale_with_7(signers: Any) -> None:
    from changeover_registry.repository import choice
    from changeover_updater import choose
    from changeover_updater.signed import change_of

    signers.world.ok("promote", "tiny-roto@1.1.0", "--reason", "sharper")
    change = change_of(signers.call(), "urgent")
    with_bob = [signers.world.root / "bobs" / "bob.pem"]
    now = signers.call().now
    choice.write(
        signers.folder, signers.keys, "site", lambda c: choose.renew(c, "site", change), now, co_signers=with_bob
    )

    code, _, err = signers.bob.run("approve", "site/5")

    assert code == 7
    assert "a stale one: promote acme/tiny-roto@1.1.0" in err
    assert "nobody can sign it" in signers.bob.ok("approve")


def test_a_rollback_of_the_channel_makes_what_waits_stale(signers: Any) -> None:
    signers.promote("1.1.0")
    signers.world.ok("sync")
    waiting = signers.world.ok(
        "override", "add", "tiny-roto@1.1.0", "--check", "speed", "--reason", "x", "--until", "9d"
    )
    assert "waits" in waiting
    signers.world.ok("rollback", "--channel", "stable", "--reason", "tears")

    code, _, err = signers.bob.run("approve", signers.waiting())

    assert (code, "returned by back 1" in err) == (7, True)


def test_an_approver_runs_the_rules_that_the_promoter_ran(signers: Any) -> None:
    """The entry is well-formed and rightly signed by one promoter; its release was never accepted."""
    from changeover_registry.repository import choice
    from changeover_updater import choose
    from changeover_updater.signed import change_of

    third = signers.world.publish("1.2.0")
    change = change_of(signers.call(), "trust me")

    def filed(ref: Any, verdict: str | None) -> tuple[int, str]:
        def promoted(last: Any) -> Any:
            return choose.promote(last, "stable", ref, verdict, change)

        choice.write(signers.folder, signers.keys, "site", promoted, signers.call().now)
        code, _, err = signers.bob.run("approve", signers.waiting())
        _reject(signers)
        return code, err

    for verdict in (None, "0" * 64):
        code, err = filed(third.ref(), verdict)
        assert (code, "no verdict at all" in err) == (4, True), err
    code, err = filed(signers.second.ref(), "0" * 64)
    assert (code, "verdict of an entry" in err) == (5, True), err


def test_a_withdrawn_release_is_not_approved(signers: Any) -> None:
    from changeover_registry.repository import vendor
    from changeover_updater import vendors

    signers.world.ok("promote", "tiny-roto@1.1.0", "--reason", "sharper")
    world = signers.world
    vendor.withdraw(world.repository, world.keys, "tiny-roto", "1.1.0", "holes", signers.call().now)
    vendors.sync_vendor(world.site.vendor("acme"))

    code, _, err = signers.bob.run("approve", "site/5")

    assert (code, "withdrawn by the vendor: holes" in err) == (5, True)


def test_an_entry_is_taken_back_with_a_reason_that_is_kept(signers: Any) -> None:
    signers.world.ok("promote", "tiny-roto@1.1.0", "--reason", "sharper")
    assert signers.bob.run("approve", "site/5", "--reject")[0] == 2

    signers.bob.ok("approve", "site/5", "--reject", "--reason", "not before the delivery")

    assert signers.bob.ok("approve") == "nothing waits for signatures\n"
    (kept,) = (signers.folder / "settled" / "site").glob("5-*.json")
    record = Pending.from_bytes(kept.read_bytes(), where="settled")
    assert record.settled is not None
    assert (record.outcome, record.settled.why) == ("rejected", "not before the delivery")
    code, _, err = signers.bob.run("approve", "site/5")
    assert (code, "none of that name" in err) == (2, True)


def test_two_choices_of_one_number_do_not_wait_side_by_side(signers: Any) -> None:
    signers.world.ok("promote", "tiny-roto@1.1.0", "--reason", "sharper")

    code, _, err = signers.bob.run("promote", "tiny-roto@1.1.0", "--channel", "beta", "--reason", "mine")

    assert (code, "which waits for signatures" in err) == (7, True)


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


HOSTILE: dict[str, Callable[[Any, Any], object]] = {
    "huge": lambda path, _: path.write_bytes(b" " * (8 * 1024 * 1024 + 1)),
    "no json": lambda path, _: path.write_bytes(b"\x00\xff"),
    "another record": lambda path, signers: path.write_bytes(signers.second.to_bytes()),
    "a link": lambda path, signers: path.unlink() or path.symlink_to(signers.world.config),
    "a pipe": lambda path, _: a_pipe(path),
    "another place": lambda path, _: path.rename(path.with_name("9.json")),
    "another choice": lambda path, _: path.write_bytes(path.read_bytes().replace(b"sharper", b"Sharper")),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_entry_is_refused_in_one_line_and_can_be_taken_away(signers: Any, what: str) -> None:
    signers.world.ok("promote", "tiny-roto@1.1.0", "--reason", "sharper")
    path = signers.folder / "pending" / "site" / "5.json"
    HOSTILE[what](path, signers)
    before = signers.current()
    name = signers.waiting()

    code, _, err = signers.bob.run("approve", name)

    assert code in {2, 5}, err
    assert err.count("\n") == 1
    assert signers.folder.joinpath("metadata", "5.site.json").exists() is False
    assert "nobody can sign it" in signers.bob.ok("approve")
    assert "nothing changed" in signers.world.ok("update")
    assert signers.current() == before
    signers.world.ok("approve", name, "--reject", "--reason", "no entry")
    assert signers.bob.ok("approve") == "nothing waits for signatures\n"


@pytest.mark.parametrize(
    "name", ["../site/5", "site/0", "site", "targets/5", "site.back/1", "shows.Atlas/1", "site/5.json"]
)
def test_what_can_be_no_entrys_name_is_2(signers: Any, name: str) -> None:
    for more in ((), ("--reject", "--reason", "x")):
        code, _, err = signers.bob.run("approve", name, *more)
        assert (code, err.count("\n")) == (2, 1), err


def test_a_signature_in_another_promoters_name_is_refused(signers: Any) -> None:
    """Whoever can write the site adds Bob's key id with a signature that is not his."""
    signers.world.ok("promote", "tiny-roto@1.1.0", "--reason", "sharper")
    path = signers.folder / "pending" / "site" / "5.json"
    entry = Pending.from_bytes(path.read_bytes(), where="test")
    bobs = next(o["key"] for o in json.loads(signers.world.ok("keys", "list", "--json")) if o["owner"] == "bob")
    forged = entry.signatures[0].model_copy(update={"key_id": bobs, "who": "bob"})
    path.write_bytes(entry.model_copy(update={"signatures": (*entry.signatures, forged)}).to_bytes())

    for one in (signers.world, signers.bob):
        code, _, err = one.run("approve", "site/5")
        assert (code, "signature of an entry" in err) == (5, True)
    assert canonical.digest(path.read_bytes())
    assert not (signers.folder / "metadata" / "5.site.json").exists()


def test_a_changed_policy_is_approved_as_the_file_that_stands_there_and_by_itself(signers: Any) -> None:
    from changeover_registry.repository import choice
    from changeover_updater import choose
    from changeover_updater.signed import change_of

    path = signers.world.site.root / "policy.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("verdict_days = 30", "verdict_days = 60"), encoding="utf-8")
    signers.world.ok("promote", "--policy", "--reason", "longer")
    path.write_text(text.replace("verdict_days = 30", "verdict_days = 90"), encoding="utf-8")

    code, _, err = signers.bob.run("approve", "site/5")

    assert (code, "policy of an entry" in err) == (5, True)
    path.write_text(text.replace("verdict_days = 30", "verdict_days = 60"), encoding="utf-8")
    signers.bob.ok("approve", "site/5")
    signers.world.ok("sync")
    signers.world.ok("plan")
    change = change_of(signers.call(), "both at once")

    def both(last: Any) -> Any:
        moved = choose.promote(last, "stable", signers.second.ref(), None, change)
        return moved.model_copy(update={"policy": "0" * 64})

    choice.write(signers.folder, signers.keys, "site", both, signers.call().now)
    code, _, err = signers.bob.run("approve", "site/6")
    assert (code, "a policy, and nothing else" in err) == (5, True)
