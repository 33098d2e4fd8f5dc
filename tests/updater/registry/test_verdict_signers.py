"""Whose verdicts promote: keys are enrolled and revoked by the site's signed choice, and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest

from changeover_registry import signing
from changeover_updater.studio import choice_history

SITE = ("--scope", "site", "--role", "verdict")


def signed_by(world: Any, release: Any, key: Path, current: Any = None) -> str:
    """An accept verdict of a release, by this key alone."""
    own = world.site.verdicts / f"{world.accept(release, current)}.json"
    payload, _ = signing.open_envelope(own.read_bytes(), "verdict", _keys(world), where="test")
    own.unlink()
    digest: str = world.site.file_verdict(signing.sign_envelope(payload, "verdict", signing.load_signer(key)))
    return digest


def _keys(world: Any) -> Any:
    return [choice for choice in choice_history(world.site) if choice.scope == "site"][-1].verdict_keys


def state(world: Any) -> tuple[Any, ...]:
    served = world.station.in_use().to_bytes() if world.station.current() else b""
    return tuple(choice.digest() for choice in choice_history(world.site)), served


@pytest.fixture
def mary(world: Any) -> Any:
    """A studio in which a supervisor has a verdict key of her own, which counts for nothing yet."""
    world.without_mlflow()
    world.ok("keys", "new", "mary", "--out", str(world.root / "marys"))
    return world


def key_of(world: Any) -> Path:
    return Path(world.root / "marys" / "mary.pem")


def enrol(world: Any) -> None:
    public = str(world.root / "marys" / "mary.pub")
    world.ok("keys", "enrol", public, *SITE, "--owner", "mary", "--reason", "she runs the checks")


def revoke(world: Any) -> None:
    key_id = signing.read_public_key(world.root / "marys" / "mary.pub").keyid
    world.ok("keys", "revoke", key_id[:12], "--scope", "site", "--reason", "her laptop was stolen")


def test_a_verdict_promotes_once_its_signer_is_enrolled_and_not_before(mary: Any) -> None:
    release = mary.publish("1.0.0")
    digest = signed_by(mary, release, key_of(mary))
    before = state(mary)

    refused = mary.run("promote", "tiny-roto@1.0.0", "--reason", "x")
    unchanged = state(mary) == before
    enrol(mary)
    mary.ok("promote", "tiny-roto@1.0.0", "--reason", "x")

    assert (refused[0], "no verdict at all" in refused[2]) == (4, True)
    assert unchanged
    assert choice_history(mary.site)[-1].channels[0].verdict == digest
    (listed,) = json.loads(mary.ok("verdict", "list", "--json"))
    assert listed["signer"] == "mary"


def test_nothing_that_a_revoked_signer_signed_promotes_any_more(mary: Any) -> None:
    first = mary.served("1.0.0")
    enrol(mary)
    second = mary.publish("1.1.0")
    signed_by(mary, second, key_of(mary), first)
    revoke(mary)
    before = state(mary)

    for arguments in (
        ("promote", "tiny-roto@1.1.0", "--reason", "x"),
        ("promote", "tiny-roto@1.1.0", "--channel", "show/atlas", "--reason", "x"),
        ("promote", "tiny-roto@1.1.0", "--share", "10%", "--reason", "x"),
        ("pin", "tiny-roto@1.1.0", "--show", "atlas", "--reason", "x"),
    ):
        code, _, err = mary.run(*arguments)
        assert (code, "no verdict at all" in err) == (4, True), err
    assert state(mary) == before
    assert "1.1.0" not in mary.ok("verdict", "list", "tiny-roto@1.1.0")
    mary.accept(second, first)
    mary.ok("promote", "tiny-roto@1.1.0", "--reason", "checked again by somebody else")


def test_what_is_in_use_by_a_revoked_signers_word_stays_and_no_other_station_takes_it(
    mary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol(mary)
    release = mary.publish("1.0.0")
    signed_by(mary, release, key_of(mary))
    mary.ok("promote", "tiny-roto@1.0.0", "--reason", "x")
    mary.ok("update")
    served = mary.station.in_use()

    revoke(mary)

    assert "nothing changed" in mary.ok("update")
    assert mary.station.in_use() == served
    monkeypatch.setattr(type(mary.station), "in_use", lambda _: None)
    monkeypatch.setattr(type(mary.station), "newest", lambda _: None)
    code, out, _ = mary.run("plan")
    assert (code, "no signed verdict for this operating point" in " ".join(out.split())) == (4, True), out


def test_enrolling_and_revoking_are_signed_steps_of_the_log(mary: Any) -> None:
    enrol(mary)
    revoke(mary)

    told = [entry["entry"] for entry in json.loads(mary.ok("log", "--choice", "--json")) if "entry" in entry]

    steps = [(one["what"].partition(" key ")[0], one["why"]) for one in told]
    assert ("enrol verdict", "she runs the checks") in steps
    assert ("revoke verdict", "her laptop was stolen") in steps
    assert "3 choices" in mary.ok("log", "--choice", "--verify") or "4 choices" in mary.ok(
        "log", "--choice", "--verify"
    )
