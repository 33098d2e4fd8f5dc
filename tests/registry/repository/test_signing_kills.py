"""Every state that a disk goes through while something is signed: readers see old or new, and the next run finishes."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from changeover_registry import signing
from changeover_registry.errors import ChangeoverError, LostRaceError, RefusedError, TrustError
from changeover_registry.records.choice import Back, Choice, Pointer, Returned
from changeover_registry.records.release import ReleaseRef
from changeover_registry.repository import approval, backs, choice, enrolment, pending, rotation
from changeover_registry.repository.enrolment import Anew, Rekeying

Studio = Any
ONE = ReleaseRef(model="acme/person-roto", version="1.0.0", digest="1" * 64)
TWO = ReleaseRef(model="acme/person-roto", version="2.0.0", digest="2" * 64)


@pytest.fixture
def bob(studio: Studio, tmp_path: Path) -> Any:
    """The second promoter of the site, where both must sign; the keys with his in the promoter's place."""
    key = signing.new_key(tmp_path / "bob.pem")
    what = Rekeying(promoters=(enrolment.owned(key, "bob"),))
    enrolment.rekey(studio.folder, studio.keys, "site", what, same(studio), studio.now)
    anew = same(studio, tmp_path / "bob.pem")
    enrolment.rekey(studio.folder, studio.keys, "site", Rekeying(threshold=2), anew, studio.now)
    return replace(studio.keys, promoter=tmp_path / "bob.pem")


def same(studio: Studio, *co_signers: Path) -> Anew:
    entry = studio.choice("site", "the same once more").entry
    return Anew(lambda last: last.model_copy(update={"entry": entry}), co_signers)


def signer(studio: Studio) -> approval.Signature:
    return approval.Signature("bob", studio.now, "seen")


def propose(studio: Studio, folder: Path) -> pending.Written:
    new = studio.choice("site", "two of us")
    return choice.write(folder, studio.keys, "site", lambda _: new, studio.now)


def next_choice(new: Choice, _: Choice | None) -> Choice:
    return new


def accept(*_: object) -> None:
    """A check that has nothing against it."""


def test_wherever_filing_is_killed_readers_see_nothing_of_it(
    studio: Studio, bob: Any, tmp_path: Path, disk_states: Any
) -> None:
    with disk_states.watching(studio.folder, tmp_path / "states") as states:
        propose(studio, studio.folder)
    for number, state in enumerate(states):
        assert studio.read(tmp_path / f"state-{number}", state)["site"].number == 2
        if not pending.names(state):
            assert propose(studio, state).entry == "site/3"
        assert approval.approve(state, bob, "site/3", accept, signer(studio)).chosen
        assert studio.read(tmp_path / f"state-{number}", state)["site"].entry.what == "two of us"


@pytest.mark.parametrize("has_site_key", [True, False])
def test_wherever_approval_is_killed_it_is_chosen_or_waits_and_the_next_finishes(
    studio: Studio, bob: Any, tmp_path: Path, disk_states: Any, has_site_key: bool
) -> None:
    hers = bob if has_site_key else replace(bob, site=tmp_path / "none" / "x.pem", trusted=studio.keys.anchor)
    propose(studio, studio.folder)
    with disk_states.watching(studio.folder, tmp_path / "states") as states:
        approval.approve(studio.folder, hers, "site/3", accept, signer(studio))
    for number, state in enumerate(states):
        assert studio.read(tmp_path / f"state-{number}", state)["site"].number in {2, 3}
        if pending.names(state):
            assert approval.approve(state, hers, "site/3", accept, signer(studio)).chosen
        choice.repair(state, studio.keys, studio.now)
        assert studio.read(tmp_path / f"state-{number}", state)["site"].entry.what == "two of us"
        assert pending.names(state) == ()
        assert propose(studio, state).entry == "site/4"


def test_two_choices_decided_without_the_sites_key_are_said_together(studio: Studio, bob: Any, tmp_path: Path) -> None:
    hers = replace(bob, site=tmp_path / "none" / "x.pem", trusted=studio.keys.anchor)
    his = replace(studio.keys, site=tmp_path / "none" / "x.pem", trusted=studio.keys.anchor)
    for number, what in ((3, "third"), (4, "fourth")):
        new = partial(next_choice, studio.choice("site", what))
        assert choice.write(studio.folder, his, "site", new, studio.now).entry == f"site/{number}"
        assert approval.approve(studio.folder, hers, f"site/{number}", accept, signer(studio)).reached is False
    assert studio.read(tmp_path / "state")["site"].number == 2

    assert choice.repair(studio.folder, studio.keys, studio.now) == ("3.site.json", "4.site.json")

    assert studio.read(tmp_path / "state")["site"].entry.what == "fourth"


def test_wherever_a_revocation_is_killed_every_signature_holds(
    studio: Studio, bob: Any, tmp_path: Path, disk_states: Any
) -> None:
    """Killed between any two files: readers verify, writers go on, and run again it is done."""
    carol = signing.new_key(tmp_path / "carol.pem")
    bobs = signing.load_signer(bob.promoter).public_key.keyid
    what = Rekeying(promoters=(enrolment.owned(carol, "carol"),))
    enrolment.rekey(studio.folder, studio.keys, "site", what, same(studio), studio.now)
    anew, without = same(studio, tmp_path / "carol.pem"), Rekeying(revoked=frozenset({bobs}))
    with disk_states.watching(studio.folder, tmp_path / "states") as states:
        enrolment.rekey(studio.folder, studio.keys, "site", without, anew, studio.now)
    for number, state in enumerate(states):
        assert studio.read(tmp_path / f"state-{number}", state)["site"].number in {2, 3}
        choice.repair(state, studio.keys, studio.now)
        assert studio.read(tmp_path / f"state-{number}", state)["site"].number in {2, 3}
        if bobs in {held.key_id for held in enrolment.held_keys(state, studio.keys)}:
            enrolment.rekey(state, studio.keys, "site", without, anew, studio.now)
        assert bobs not in {held.key_id for held in enrolment.held_keys(state, studio.keys)}
        assert studio.read(tmp_path / f"state-{number}", state)["site"].number == 3


def test_wherever_a_rotation_is_killed_it_goes_on_with_the_same_key(
    studio: Studio, tmp_path: Path, disk_states: Any
) -> None:
    studio.write("site", "second")
    entry = studio.choice("site", "rotate").entry
    base = tmp_path / "studio"
    with disk_states.watching(base, tmp_path / "states") as states:
        rotation.rotate_online(studio.folder, studio.keys, entry, studio.now)
    refusals: list[str] = []
    for number, state in enumerate(states):
        again = type(studio)(state, studio.now)
        try:
            assert again.read(tmp_path / f"state-{number}")["site"].number == 2
        except TrustError as error:
            refusals.append(str(error))
        done = rotation.rotate_online(again.folder, again.keys, entry, studio.now)
        assert done.heads == (("site", 2),)
        assert again.write("site", "third").number == 3
        assert again.read(tmp_path / f"state-{number}")["site"].number == 3
    assert refusals, "no state lay between root and timestamp: the sweep did not meet it"
    assert all("json: expected 1 signature" in line for line in refusals)


@pytest.mark.parametrize("role", ["root", "targets"])
def test_wherever_a_new_offline_key_is_killed_every_reader_verifies_and_it_goes_on_with_the_same_key(
    studio: Studio, tmp_path: Path, disk_states: Any, role: Literal["root", "targets"]
) -> None:
    studio.write("site", "second")
    studio.read(tmp_path / "old")
    entry = studio.choice("site", "rotate").entry
    with disk_states.watching(tmp_path / "studio", tmp_path / "states") as states:
        rotation.rotate_offline(studio.folder, studio.keys, role, entry, studio.now)
    assert len(states) > 5
    for number, state in enumerate(states):
        again = type(studio)(state, studio.now)
        shutil.copytree(tmp_path / "old", tmp_path / f"old-{number}")
        for reader in (f"new-{number}", f"old-{number}"):
            assert again.read(tmp_path / reader)["site"].number == 2
        rotation.rotate_offline(again.folder, again.keys, role, entry, studio.now)
        bob = signing.new_key(tmp_path / f"bob-{number}.pem")
        what = Rekeying(promoters=(enrolment.owned(bob, "bob"),))
        enrolment.rekey(again.folder, again.keys, "site", what, same(again), again.now)
        assert again.write("site", "third").number == 3
        for reader in (f"new-{number}", f"old-{number}"):
            assert again.read(tmp_path / reader)["site"].number == 3


@pytest.mark.parametrize("role", ["root", "targets"])
def test_an_offline_key_that_is_not_the_repositorys_replaces_nothing(
    studio: Studio, role: Literal["root", "targets"]
) -> None:
    place = getattr(studio.keys, role)
    place.unlink()
    signing.new_key(place)
    before = sorted((studio.folder / "metadata").iterdir())

    with pytest.raises(TrustError, match=f"role {role}"):
        rotation.rotate_offline(studio.folder, studio.keys, role, studio.choice("site", "x").entry, studio.now)

    assert sorted((studio.folder / "metadata").iterdir()) == before


def test_rotation_passes_over_what_no_key_of_a_role_signed_and_names_it(studio: Studio, tmp_path: Path) -> None:
    studio.write("site", "second")
    shutil.copy(studio.folder / "metadata" / "2.site.json", studio.folder / "metadata" / "7.site.json")

    done = rotation.rotate_online(studio.folder, studio.keys, studio.choice("site", "x").entry, studio.now)

    assert (done.forged, done.heads) == (("7.site.json",), (("site", 2),))
    assert studio.read(tmp_path / "state")["site"].number == 2


def test_a_rotation_with_another_root_key_is_refused(studio: Studio) -> None:
    studio.keys.root.unlink()
    signing.new_key(studio.keys.root)
    before = sorted((studio.folder / "metadata").iterdir())
    with pytest.raises(TrustError, match="role root"):
        rotation.rotate_online(studio.folder, studio.keys, studio.choice("site", "x").entry, studio.now)
    assert sorted((studio.folder / "metadata").iterdir()) == before


# The way back.


def chosen(studio: Studio, ref: ReleaseRef) -> Choice:
    def change(last: Choice | None) -> Choice:
        assert last is not None
        return last.model_copy(update={"channels": (Pointer(channel="stable", release=ref),)})

    return choice.write(studio.folder, studio.keys, "site", change, studio.now).choice


def returning(ref: ReleaseRef, held_in: int) -> Callable[..., Back]:
    def change(holds: backs.Effective, _: object) -> Back:
        returned = Returned(channel="stable", release=ref, held_in=held_in, reason="tears")
        head = holds.signed
        back = Back(scope="site", number=1, entry=head.entry, stands_on=1, stands_on_digest=head.digest())
        return back.model_copy(update={"channels": (returned,)})

    return change


def test_wherever_a_way_back_is_killed_it_is_taken_or_not_and_the_next_writer_finishes(
    studio: Studio, tmp_path: Path, disk_states: Any
) -> None:
    chosen(studio, ONE)
    chosen(studio, TWO)
    with disk_states.watching(studio.folder, tmp_path / "states") as states:
        backs.write(studio.folder, studio.keys, "site", returning(ONE, 2), studio.now)
    for number, state in enumerate(states):
        read = studio.read(tmp_path / f"state-{number}", state)["site"].channels[0].release
        assert read in {ONE, TWO}
        finished = choice.repair(state, studio.keys, studio.now)
        if not finished and read == TWO:
            backs.write(state, studio.keys, "site", returning(ONE, 2), studio.now)
        assert studio.read(tmp_path / f"state-{number}", state)["site"].channels[0].release == ONE


def test_a_way_back_to_what_was_never_held_is_not_signed(studio: Studio, tmp_path: Path) -> None:
    chosen(studio, ONE)
    chosen(studio, TWO)
    for ref, held_in in ((ONE, 1), (TWO, 2), (ONE, 9)):
        with pytest.raises(TrustError, match="a stolen back key, or a mistake"):
            backs.write(studio.folder, studio.keys, "site", returning(ref, held_in), studio.now)
    assert backs.history(studio.folder, "site") == ()
    assert studio.read(tmp_path / "state")["site"].channels[0].release == TWO


def test_a_way_back_that_has_expired_is_left_aside_and_the_studio_goes_on(studio: Studio, tmp_path: Path) -> None:
    """One that nobody can renew, after a year: the choice itself is renewed by every promotion."""
    from datetime import timedelta

    chosen(studio, ONE)
    chosen(studio, TWO)
    backs.write(studio.folder, studio.keys, "site", returning(ONE, 2), studio.now - timedelta(days=400))
    choice.renew(studio.folder, studio.keys, studio.now)

    reading = choice.read_all(studio.folder, tmp_path / "state", studio.root)

    assert [problem.rule for problem in reading.ignored] == ["expiry"]
    assert reading.choices[0].channels[0].release == TWO
    assert backs.renew(studio.folder, studio.keys, studio.now) == ("site.back",)
    again = choice.read_all(studio.folder, tmp_path / "state", studio.root)
    assert (again.ignored, again.choices[0].channels[0].release) == ((), ONE)


def test_a_revoked_promoters_way_back_is_signed_again_and_stands(studio: Studio, bob: Any, tmp_path: Path) -> None:
    carol = signing.new_key(tmp_path / "carol.pem")
    what = Rekeying(promoters=(enrolment.owned(carol, "carol"),))
    enrolment.rekey(studio.folder, studio.keys, "site", what, same(studio), studio.now)
    for ref in (ONE, TWO):
        pointers = {"channels": (Pointer(channel="stable", release=ref),)}
        new = partial(next_choice, studio.choice("site", "x").model_copy(update=pointers))
        choice.write(studio.folder, studio.keys, "site", new, studio.now, co_signers=[tmp_path / "carol.pem"])
    backs.write(studio.folder, bob, "site", returning(ONE, 3), studio.now)
    bobs = frozenset({signing.load_signer(bob.promoter).public_key.keyid})

    assert enrolment.rekey(studio.folder, studio.keys, "site", Rekeying(revoked=bobs), same(studio), studio.now) is None

    assert studio.read(tmp_path / "state")["site"].channels[0].release == ONE
    with pytest.raises(TrustError, match=r"role site\.back"):
        backs.write(studio.folder, bob, "site", returning(ONE, 3), studio.now)


def test_errors_of_signing_have_their_exit_codes(studio: Studio, bob: Any) -> None:
    propose(studio, studio.folder)
    with pytest.raises(LostRaceError):
        propose(studio, studio.folder)
    with pytest.raises(RefusedError):
        enrolment.rekey(studio.folder, studio.keys, "site", Rekeying(threshold=3), same(studio), studio.now)
    with pytest.raises(ChangeoverError) as caught:
        approval.approve(studio.folder, bob, "site/9", accept, signer(studio))
    assert caught.value.exit_code == 2
