"""``verdict sign-off``: one name where shots are all that is missing, and nothing else that it could pass over."""

import base64
import json
from datetime import timedelta
from typing import Any

import pytest

from changeover_registry import signing
from changeover_registry.clock import format_time
from changeover_registry.records.findings import NotRun, Refused
from changeover_registry.records.release import Release
from changeover_registry.repository import vendor

FEW = NotRun(check="golden", why="too few shots: 3 of 5", rule="few-shots")
FELL = Refused(check="golden", rule="worst shot", expected="no drop", actual="shot fox fell", remedy="keep")
SIGN = ("--name", "Ada Lovelace", "--note", "all three shots are as good")


@pytest.fixture
def studio(world: Any) -> Any:
    """A studio whose policy lets a supervisor sign off, with a release that was published."""
    path = world.site.root / "policy.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("[golden]\n", "[golden]\nsupervisor_review = true\n"), encoding="utf-8")
    world.without_mlflow()
    world.ok("promote", "--policy", "--reason", "few shots yet")
    return world


def judged(world: Any, release: Release, *found: Any, decision: str = "inconclusive", **changes: Any) -> str:
    """File a verdict whose golden findings are these, at every operating point; returns its digest."""
    points = []
    for tile in release.variants[0].contract.tiles:
        report = world.point(release, tile)
        rest = tuple(f for f in report.findings if f.check != "golden")
        points.append(report.model_copy(update={"findings": (*rest, *found)}))
    reason = f"golden: {FEW.why}"
    return str(world.accept(release, decision=decision, reason=reason, points=tuple(points), **changes))


def refused(world: Any, code: int, *arguments: str) -> str:
    """Run a sign-off that must fail in one line and file nothing; returns the line."""
    before = sorted(path.name for path in world.site.verdicts.iterdir())
    found, out, err = world.run("verdict", "sign-off", *arguments)
    assert (found, out, err.count("\n")) == (code, "", 1), f"{found}\n{out}\n{err}"
    assert sorted(path.name for path in world.site.verdicts.iterdir()) == before
    return str(err)


def test_signed_off_release_is_promoted_and_changed_over_to(studio: Any) -> None:
    release = studio.publish("1.0.0")
    first = judged(studio, release, FEW)
    assert studio.run("promote", "tiny-roto@1.0.0", "--reason", "test")[0] == 4

    out = studio.ok("verdict", "sign-off", first[:12], *SIGN)

    digest = out.partition("verdict ")[2].partition(",")[0]
    assert "signed off by Ada Lovelace: all three shots are as good" in out
    assert "next: changeover promote acme/tiny-roto@1.0.0 --channel CHANNEL --reason" in out
    answer = json.loads(studio.ok("verdict", "show", digest, "--json"))
    assert (answer["decision"], answer["sign_off"]["of"], answer["sign_off"]["by"]) == (
        "accept",
        first,
        answer["made_by"],
    )
    shown = studio.ok("verdict", "show", digest)
    assert f"signed off by Ada Lovelace, {answer['made_at']}, of verdict {first[:12]}" in shown
    studio.ok("promote", "tiny-roto@1.0.0", "--reason", "test")
    studio.ok("update")
    assert studio.run("status")[0] == 0


def test_next_step_is_for_the_channel_that_was_checked(studio: Any) -> None:
    first = judged(studio, studio.publish("1.0.0"), FEW, channel="show/atlas")

    out = studio.ok("verdict", "sign-off", first[:12], *SIGN)

    assert 'next: changeover promote acme/tiny-roto@1.0.0 --channel show/atlas --reason "..."' in out


def test_second_sign_off_changes_nothing_and_names_the_first(studio: Any) -> None:
    first = judged(studio, studio.publish("1.0.0"), FEW)
    made = json.loads(studio.ok("verdict", "sign-off", first, *SIGN, "--json"))
    again = studio.ok("verdict", "sign-off", first, "--name", "Bob", "--note", "me too")
    assert "was signed off by Ada Lovelace" in again
    assert made["verdict"] in again
    assert len(list(studio.site.verdicts.iterdir())) == 2
    assert "the verdict is accept" in refused(studio, 3, made["verdict"], *SIGN)


def test_sign_off_is_refused_without_the_policy_that_allows_it(world: Any) -> None:
    first = judged(world, world.publish("1.0.0"), FEW)
    assert "golden.supervisor_review is not set in the policy" in refused(world, 3, first, *SIGN)


def test_sign_off_ends_with_the_policy_that_allowed_it(studio: Any) -> None:
    first = judged(studio, studio.publish("1.0.0"), FEW)
    studio.ok("verdict", "sign-off", first, *SIGN)
    path = studio.site.root / "policy.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("supervisor_review = true", ""), encoding="utf-8")
    studio.ok("promote", "--policy", "--reason", "there are shots now")
    code, _, err = studio.run("promote", "tiny-roto@1.0.0", "--reason", "test")
    assert code == 4
    assert "under another policy" in err


def _guard(world: Any, release: Release) -> str:
    return judged(world, release, FELL, decision="reject")


def _old(world: Any, release: Release) -> str:
    return judged(world, release, FEW, made_at=format_time(world.now - timedelta(days=31)))


def _other_policy(world: Any, release: Release) -> str:
    return judged(world, release, FEW, policy="0" * 64)


def _overtaken(world: Any, release: Release) -> str:
    first = judged(world, release, FEW, made_at=format_time(world.now - timedelta(hours=1)))
    judged(world, release, FELL, decision="reject")
    return first


SITUATIONS = (
    (_guard, "the verdict is reject"),
    (_old, "it is older than 30 days"),
    (_other_policy, "it was made under another policy"),
    (_overtaken, "is newer: reject"),
)


def test_verdict_that_more_speaks_against_is_not_signed_off(studio: Any) -> None:
    release = studio.publish("1.0.0")
    for situation, says in SITUATIONS:
        digest = situation(studio, release)
        assert says in refused(studio, 3, digest, *SIGN)
        for path in studio.site.verdicts.iterdir():
            path.unlink()


def test_release_that_is_withdrawn_or_of_a_vendor_no_longer_trusted_is_not_signed_off(studio: Any) -> None:
    first = judged(studio, studio.publish("1.0.0"), FEW)
    vendor.withdraw(studio.repository, studio.keys, "tiny-roto", "1.0.0", "leaks hair", studio.now)
    studio.ok("sync")
    assert "withdrawn by the vendor: leaks hair" in refused(studio, 5, first, *SIGN)
    studio.ok("trust", "remove", "acme")
    assert "nobody vouches for" in refused(studio, 5, first, *SIGN)


def test_verdict_that_nobody_enrolled_signed_cannot_be_signed_off_nor_sign_off(studio: Any) -> None:
    """An artist puts files into the site: a verdict, and a sign-off of a real one."""
    release = studio.publish("1.0.0")
    real = judged(studio, release, FEW)
    envelope = json.loads((studio.site.verdicts / f"{real}.json").read_bytes())
    payload = base64.b64decode(envelope["payload"]).replace(b"vm1", b"vm2")
    path = studio.root / "stranger.pem"
    signing.new_key(path)
    forged = studio.site.file_verdict(signing.sign_envelope(payload, "verdict", signing.load_signer(path)))
    assert "0 of them" in refused(studio, 2, forged, *SIGN)

    assert signed_off(studio, real)
    made = next(p for p in studio.site.verdicts.iterdir() if p.stem not in {real, forged})
    word = base64.b64decode(json.loads(made.read_bytes())["payload"])
    made.unlink()
    studio.site.file_verdict(signing.sign_envelope(word, "verdict", signing.load_signer(path)))
    assert studio.run("promote", "tiny-roto@1.0.0", "--reason", "test")[0] == 4


def signed_off(world: Any, digest: str) -> str:
    return str(world.ok("verdict", "sign-off", digest, *SIGN))


def test_sign_off_needs_a_name_and_a_note(studio: Any) -> None:
    first = judged(studio, studio.publish("1.0.0"), FEW)
    for name, note in (("", "fine"), ("Ada", " "), ("Ada", "a\x07b")):
        assert "some words" in refused(studio, 2, first, "--name", name, "--note", note)


@pytest.mark.parametrize("name", ["td@vm1", "Ada\nLovelace", "a" * 201])
def test_sign_off_is_by_a_person_not_by_an_account(studio: Any, name: str) -> None:
    first = judged(studio, studio.publish("1.0.0"), FEW)
    assert "the name of a person" in refused(studio, 2, first, "--name", name, "--note", "fine")


def test_note_is_as_long_as_a_verdict_can_hold_and_no_longer(studio: Any) -> None:
    first = judged(studio, studio.publish("1.0.0"), FEW)
    assert "at most 2000 characters" in refused(studio, 2, first, "--name", "Ada", "--note", "n" * 2001)

    answer = json.loads(studio.ok("verdict", "sign-off", first, "--name", "a" * 200, "--note", "n" * 2000, "--json"))

    assert "n" * 2000 in studio.ok("verdict", "show", answer["verdict"])
    studio.ok("promote", "tiny-roto@1.0.0", "--reason", "test")
