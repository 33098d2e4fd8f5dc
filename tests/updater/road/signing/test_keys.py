import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.errors import TrustError
from changeover_registry.repository import choice


def key_of(signers: Any, owner: str, role: str = "promoter", scope: str = "site") -> str:
    held = json.loads(signers.world.ok("keys", "list", "--json"))
    return str(next(k["key"] for k in held if (k["owner"], k["role"], k["scope"]) == (owner, role, scope)))


def new_key(signers: Any, name: str) -> Path:
    folder = Path(signers.world.root, f"{name}s")
    signers.world.ok("keys", "new", name, "--out", str(folder))
    return folder / name


def test_a_new_key_is_private_and_its_public_part_can_be_given_away(signers: Any) -> None:
    made = new_key(signers, "carol")

    private, public = made.with_suffix(".pem"), made.with_suffix(".pub")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert b"PRIVATE" not in public.read_bytes()
    kept = private.read_bytes()
    assert "is there already" in signers.world.ok("keys", "new", "carol", "--out", str(made.parent))
    assert private.read_bytes() == kept
    # Carol's host signs with another key until its owner writes this one into host.toml.
    told = signers.world.ok("keys", "new", "carol", "--out", str(made.parent))
    assert "until you set it you sign with" in told


def test_keys_are_listed_with_scope_role_owner_threshold_and_expiry(signers: Any) -> None:
    held = json.loads(signers.world.ok("keys", "list", "--json"))

    roles = [(k["scope"], k["role"], k["owner"], k["threshold"]) for k in held]
    assert ("site", "promoter", "td@vm1", 2) in roles
    assert ("site", "promoter", "bob", 2) in roles
    assert ("site", "back", "bob", 1) in roles
    assert ("site", "verdict", "td@vm1", 1) in roles
    assert {"root", "targets", "snapshot", "timestamp"} <= {k["role"] for k in held if k["expires"]}
    assert "of them sign" in signers.world.ok("keys", "list", "--scope", "site")


def test_a_show_has_keys_of_its_own_that_sign_for_it_alone(signers: Any, person: Callable[..., Any]) -> None:
    world = signers.world
    carol = new_key(signers, "carol")
    enrol = ("keys", "enrol", str(carol.with_suffix(".pub")), "--scope", "show/atlas", "--role", "promoter")
    world.ok(*enrol, "--owner", "carol", "--reason", "her show")
    keys = f'promoter = "{carol.with_suffix(".pem")}"\nsite = "{signers.keys.site}"\n'
    hers = person(world, "carol", keys)

    hers.ok("promote", "tiny-roto@1.1.0", "--channel", "show/atlas", "--reason", "for us")

    world.ok("update")
    channels = {c.channel: c.key for c in world.station.in_use().channels}
    assert channels == {"stable": str(signers.first.ref()), "show/atlas": str(signers.second.ref())}
    code, _, err = hers.run("promote", "tiny-roto@1.1.0", "--reason", "for all")
    assert (code, "role site" in err) == (5, True)
    code, _, err = world.run("promote", "tiny-roto@1.1.0", "--channel", "show/atlas", "--reason", "mine")
    assert (code, "role shows.atlas" in err) == (5, True)


def test_a_revoked_promoter_signs_nothing_and_what_was_chosen_holds(signers: Any) -> None:
    """The newest choice was signed by the one who goes and by one who stays; it is signed again by those who stay."""
    world, carol = signers.world, new_key(signers, "carol")
    enrol = ("keys", "enrol", str(carol.with_suffix(".pub")), "--scope", "site", "--role", "promoter")
    world.ok(*enrol, "--owner", "carol", "--reason", "a third")
    bobs = key_of(signers, "bob")
    assert "one more signature of 2" in world.run("keys", "revoke", bobs[:12], "--scope", "site", "--reason", "left")[1]
    world.ok("approve", signers.waiting(), "--reject", "--reason", "at once instead")

    done = ("keys", "revoke", bobs[:12], "--scope", "site", "--reason", "left")
    said = world.ok(*done, "--with", str(carol.with_suffix(".pem")))

    assert "choice site 5 was signed for it" in said
    told = json.loads(world.ok("log", "--choice", "--json"))[-1]
    assert (told["entry"]["what"], told["entry"]["why"]) == (f"revoke key {bobs[:12]} for site", "left")
    assert f"revoke key {bobs[:12]} for site" in world.ok("log", "--choice")
    assert bobs not in world.ok("keys", "list", "--json")
    assert "nothing changed" in world.ok("update")
    for command in (("promote", "tiny-roto@1.1.0", "--reason", "x"), ("rollback", "--channel", "stable")):
        code, _, err = signers.bob.run(*command)
        assert code in {2, 5}, err
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "x")
    code, _, err = signers.bob.run("approve", signers.waiting())
    assert (code, "signing key" in err) == (5, True)


def test_a_revocation_waits_for_those_who_remain_and_then_goes_through(
    signers: Any, person: Callable[..., Any]
) -> None:
    world, carol = signers.world, new_key(signers, "carol")
    enrol = ("keys", "enrol", str(carol.with_suffix(".pub")), "--scope", "site", "--role", "promoter")
    world.ok(*enrol, "--owner", "carol", "--reason", "a third")
    hers = person(world, "carol", f'promoter = "{carol.with_suffix(".pem")}"\n')
    revoke = ("keys", "revoke", key_of(signers, "bob"), "--scope", "site", "--reason", "stolen")

    code, out, _ = world.run(*revoke)

    assert (code, "waits" in out) == (4, True)
    assert "carol" in out
    # The stolen key signs too; it does not count.
    assert "still waits for one more signature of 2" in signers.bob.ok("approve", signers.waiting())
    hers.ok("approve", signers.waiting())
    world.ok(*revoke)
    assert "bob" not in world.ok("keys", "list")
    assert "nothing changed" in world.ok("update")


def test_a_revocation_under_the_threshold_is_refused_and_nothing_is_written(signers: Any) -> None:
    before = sorted(path.name for path in (signers.folder / "metadata").iterdir())

    code, _, err = signers.world.run("keys", "revoke", key_of(signers, "bob"), "--scope", "site", "--reason", "x")

    assert (code, "at least 2 promoters' keys" in err) == (3, True)
    last = key_of(signers, "td@vm1", "verdict")
    code, _, err = signers.world.run("keys", "revoke", last, "--scope", "site", "--reason", "x")
    assert (code, "none would remain" in err) == (3, True)
    assert sorted(path.name for path in (signers.folder / "metadata").iterdir()) == before


SITE = ("--scope", "site", "--role", "promoter")
BAD: dict[str, tuple[tuple[str, ...], int]] = {
    "no such file": (("enrol", "none.pub", "--scope", "site", "--role", "promoter", "--owner", "x"), 2),
    "a private key": (("enrol", "{private}", "--scope", "site", "--role", "promoter", "--owner", "x"), 2),
    "no key": (("enrol", "{config}", "--scope", "site", "--role", "promoter", "--owner", "x"), 2),
    "no scope": (("enrol", "{public}", "--scope", "show/", "--role", "promoter", "--owner", "x"), 2),
    "targets": (("enrol", "{public}", "--scope", "targets", "--role", "promoter", "--owner", "x"), 2),
    "a show that is not there": (("enrol", "{public}", "--scope", "show/x", "--role", "back", "--owner", "x"), 2),
    "verdicts for a show": (("enrol", "{public}", "--scope", "show/x", "--role", "verdict", "--owner", "x"), 2),
    "too many": (("enrol", "{public}", "--scope", "site", "--role", "promoter", "--owner", "x", "--threshold", "9"), 3),
    "none at all": (
        ("enrol", "{public}", "--scope", "site", "--role", "promoter", "--owner", "x", "--threshold", "0"),
        3,
    ),
    "an unknown id": (("revoke", "0" * 12, "--scope", "site"), 2),
    "a short id": (("revoke", "a", "--scope", "site"), 2),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_enrolled_or_revoked_is_one_line(signers: Any, what: str) -> None:
    words, wanted = BAD[what]
    made = new_key(signers, "carol")
    places = {"private": made.with_suffix(".pem"), "public": made.with_suffix(".pub"), "config": signers.world.config}

    code, _, err = signers.world.run("keys", *(word.format(**places) for word in words), "--reason", "x")

    assert (code, err.count("\n")) == (wanted, 1), err
    assert " x " not in signers.world.ok("keys", "list")
    assert "nothing changed" in signers.world.ok("update")


def test_without_the_offline_keys_nothing_is_enrolled_revoked_or_rotated(signers: Any) -> None:
    made = new_key(signers, "carol").with_suffix(".pub")
    enrol = ("keys", "enrol", str(made), "--scope", "site", "--role", "promoter", "--owner", "x", "--reason", "x")
    revoke = ("keys", "revoke", key_of(signers, "bob"), "--scope", "site", "--reason", "x")

    for command, key in (
        (enrol, "targets"),
        (revoke, "targets"),
        (("keys", "rotate", "site", "--reason", "x"), "root"),
    ):
        code, _, err = signers.bob.run(*command)
        assert (code, f"keys.{key}" in err) == (2, True), err


def test_a_station_walks_20_roots_from_the_one_that_it_was_given(signers: Any, tmp_path: Path) -> None:
    for _ in range(20):
        signers.world.ok("keys", "rotate", "site", "--reason", "each month")

    root = (signers.world.station.folder / "trust" / "choice" / "root.json").read_bytes()
    assert len(list((signers.folder / "metadata").glob("*.root.json"))) == 21
    assert "nothing changed" in signers.world.ok("update")
    assert choice.read(signers.folder, tmp_path / "state", root)[0].number == 4
    (signers.folder / "metadata" / "9.root.json").write_bytes(
        (signers.folder / "metadata" / "8.root.json").read_bytes()
    )
    with pytest.raises(TrustError, match="root.json"):
        choice.read(signers.folder, tmp_path / "another", root)
