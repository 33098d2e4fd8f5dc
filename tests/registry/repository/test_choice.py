import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Targets

from changeover_registry import canonical, signing
from changeover_registry._fs import lock
from changeover_registry.errors import InvalidInputError, LostRaceError, RefusedError, TrustError, UnreachableError
from changeover_registry.records.choice import Choice
from changeover_registry.repository import choice, metadata, scopes
from changeover_registry.repository.reached import read_reached

Studio = Any

RACER = """
import json, sys, time
from datetime import UTC, datetime
from pathlib import Path
from changeover_registry.clock import format_time
from changeover_registry.errors import LostRaceError
from changeover_registry.records.choice import Choice, Entry
from changeover_registry.repository import choice
base, who, start, tries = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
keys = choice.StudioKeys.in_folder(base / "keys")
outcomes = []
while time.time() < start:
    time.sleep(0.001)
for attempt in range(tries):
    now = datetime.now(UTC).replace(microsecond=0)
    entry = Entry(who=who, when=format_time(now), why="a race", what=f"try {attempt}")
    new = Choice(scope="site", number=1, entry=entry)
    try:
        outcomes.append(["won", choice.write(base / "choice", keys, "site", lambda _: new, now).choice.number])
    except LostRaceError as error:
        outcomes.append([error.exit_code, str(error)])
print(json.dumps(outcomes))
"""


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


# Writing and reading.


def test_the_first_choice_is_the_sites_and_has_number_1(studio: Studio, tmp_path: Path) -> None:
    (first,) = studio.read(tmp_path / "state").values()
    assert (first.scope, first.number, first.previous, first.entry.what) == ("site", 1, None, "it begins")


def test_each_choice_names_the_one_before(studio: Studio, tmp_path: Path) -> None:
    second = studio.write("site", "second")
    third = studio.write("site", "third")
    assert (third.number, third.previous) == (3, second.digest())
    assert studio.read(tmp_path / "state") == {"site": third}
    assert [past.entry.what for past in choice.history(studio.folder, "site")] == ["it begins", "second", "third"]
    assert choice.history(studio.folder, "site", root=studio.root)[2] == third


def test_a_change_is_given_the_newest_choice_and_none_before_the_first(studio: Studio) -> None:
    given: list[Choice | None] = []

    new: Choice = studio.choice("shows/atlas", "first")

    def change(head: Choice | None) -> Choice:
        given.append(head)
        return new

    choice.enrol_scope(studio.folder, studio.keys, "shows/atlas", studio.now)
    first = choice.write(studio.folder, studio.keys, "shows/atlas", change, studio.now).choice
    choice.write(studio.folder, studio.keys, "shows/atlas", change, studio.now)
    assert given == [None, first]


def test_a_show_that_is_enrolled_has_no_choice_until_it_chooses(studio: Studio, tmp_path: Path) -> None:
    choice.enrol_scope(studio.folder, studio.keys, "shows/atlas", studio.now)
    assert list(studio.read(tmp_path / "state")) == ["site"]
    assert choice.history(studio.folder, "shows/atlas") == ()
    written = studio.write("shows/atlas", "ours")
    assert studio.read(tmp_path / "state")["shows/atlas"] == written
    assert written.number == 1


def test_scopes_count_by_themselves_and_are_read_in_the_order_of_enrolment(studio: Studio, tmp_path: Path) -> None:
    for show in ("zebra", "atlas"):
        choice.enrol_scope(studio.folder, studio.keys, f"shows/{show}", studio.now)
        studio.write(f"shows/{show}", "first")
    studio.write("site", "second")
    read = studio.read(tmp_path / "state")
    assert {scope: found.number for scope, found in read.items()} == {"site": 2, "shows/zebra": 1, "shows/atlas": 1}
    assert list(read) == ["site", "shows/zebra", "shows/atlas"]


def test_enrolling_again_changes_nothing(studio: Studio) -> None:
    choice.enrol_scope(studio.folder, studio.keys, "shows/atlas", studio.now)
    before = tree(studio.folder)
    choice.enrol_scope(studio.folder, studio.keys, "shows/atlas", studio.now)
    choice.enrol_scope(studio.folder, studio.keys, "site", studio.now)
    assert tree(studio.folder) == before


def test_names_on_the_disk_are_of_the_allowed_characters_and_without_links(studio: Studio) -> None:
    choice.enrol_scope(studio.folder, studio.keys, "shows/atlas", studio.now)
    studio.write("shows/atlas", "first")
    names = tree(studio.folder)
    assert "metadata/1.shows.atlas.json" in names
    assert all(re.fullmatch(r"[A-Za-z0-9._/-]+", name) for name in names)
    assert not any(
        path.is_symlink() or path.stat().st_nlink != 1 for path in studio.folder.rglob("*") if path.is_file()
    )


def test_roles_hold_as_long_as_they_should(studio: Studio) -> None:
    def days(name: str) -> int:
        signed: Any = Metadata.from_bytes((studio.folder / "metadata" / name).read_bytes()).signed
        return int((signed.expires - studio.now).days)

    names = ["timestamp.json", "1.snapshot.json", "1.root.json", "1.targets.json", "1.site.json"]
    assert [days(name) for name in names] == [30, 180, 365, 365, 365]


# Several promoters.


def test_a_threshold_of_two_takes_two_promoters(studio: Studio, tmp_path: Path) -> None:
    second = tmp_path / "second.pem"
    keys = [signing.load_signer(studio.keys.promoter).public_key, signing.new_key(second)]
    choice.enrol_scope(studio.folder, studio.keys, "shows/atlas", studio.now, promoters=keys, threshold=2)
    before = tree(studio.folder)
    alone = choice.write(
        studio.folder, studio.keys, "shows/atlas", lambda _: studio.choice("shows/atlas", "alone"), studio.now
    )
    assert not alone.chosen
    assert list(set(tree(studio.folder)) - set(before)) == ["pending/shows.atlas/1.json"]
    assert list(studio.read(tmp_path / "state")) == ["site"]
    new = studio.choice("shows/atlas", "together")
    choice.write(studio.folder, studio.keys, "shows/atlas", lambda _: new, studio.now, co_signers=[second])
    assert studio.read(tmp_path / "state")["shows/atlas"].entry.what == "together"


def test_a_promoter_of_one_show_signs_for_no_other(studio: Studio, tmp_path: Path) -> None:
    key = signing.new_key(tmp_path / "atlas.pem")
    choice.enrol_scope(studio.folder, studio.keys, "shows/atlas", studio.now, promoters=[key])
    before = tree(studio.folder)
    with pytest.raises(TrustError, match=r"role shows\.atlas"):
        studio.write("shows/atlas", "not mine")
    assert tree(studio.folder) == before


def test_what_the_online_key_alone_signs_is_no_choice(studio: Studio, tmp_path: Path) -> None:
    """Whoever steals the online key can write snapshot and timestamp, and put no choice behind them."""
    studio.read(tmp_path / "state")
    forged = studio.choice("site", "forged").model_copy(update={"number": 2})
    data = forged.to_bytes()
    role = Targets(2, expires=studio.now + timedelta(days=365))
    role.targets["site/choice-2.json"] = metadata.target_info("site/choice-2.json", data)
    signed: Metadata[Any] = Metadata(role)
    signed.sign(signing.load_signer(studio.keys.site))
    file = metadata.RoleFile("site", 2, signed.to_bytes())
    reached = read_reached(studio.folder, studio.root)
    change = metadata.Change({"site/choice-2.json": data}, (file,))
    metadata.write(studio.folder, reached, change, signing.load_signer(studio.keys.site), studio.now)
    with pytest.raises(TrustError, match=r"site\.json: expected 1 signature"):
        studio.read(tmp_path / "state")
    with pytest.raises(TrustError, match=r"2\.site\.json"):
        studio.write("site", "on top of it")


# What is refused, and that it then changes nothing.


@pytest.mark.parametrize("scope", ["shows/", "shows/Atlas", "shows/../x", "other/atlas", "shows/a/b", "", "atlas"])
def test_what_is_no_scope_is_refused(studio: Studio, scope: str) -> None:
    before = tree(studio.folder)
    with pytest.raises(InvalidInputError, match="name"):
        choice.enrol_scope(studio.folder, studio.keys, scope, studio.now)
    assert tree(studio.folder) == before


def test_a_show_that_is_not_enrolled_cannot_choose(studio: Studio) -> None:
    before = tree(studio.folder)
    with pytest.raises(
        InvalidInputError, match="shows/atlas: expected one of site, found a scope that is not enrolled"
    ):
        studio.write("shows/atlas", "too early")
    assert tree(studio.folder) == before


def test_a_choice_of_another_scope_is_refused(studio: Studio, tmp_path: Path, now: datetime) -> None:
    before = tree(studio.folder)
    with pytest.raises(InvalidInputError, match="scope = site"):
        choice.write(studio.folder, studio.keys, "site", lambda _: studio.choice("shows/atlas", "x"), studio.now)
    assert tree(studio.folder) == before
    with pytest.raises(InvalidInputError, match="scope = site"):
        choice.create(tmp_path / "new", studio.keys, studio.choice("shows/atlas", "x"), now)
    assert not (tmp_path / "new").exists()


def test_a_change_that_fails_changes_nothing(studio: Studio) -> None:
    before = tree(studio.folder)
    with pytest.raises(ZeroDivisionError):
        choice.write(studio.folder, studio.keys, "site", lambda _: 1 // 0, studio.now)  # type: ignore[arg-type, return-value]
    assert tree(studio.folder) == before


def test_a_choice_is_not_made_over_another(studio: Studio) -> None:
    with pytest.raises(RefusedError, match="an empty folder"):
        choice.create(studio.folder, studio.keys, studio.choice("site", "again"), studio.now)


def test_a_folder_without_a_choice_is_named(studio: Studio, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="nowhere"):
        studio.write("site", "x", folder=tmp_path / "nowhere")
    with pytest.raises(InvalidInputError, match="nowhere"):
        choice.history(tmp_path / "nowhere", "site")
    with pytest.raises(UnreachableError, match="nowhere"):
        studio.read(tmp_path / "state", tmp_path / "nowhere")


def test_a_read_only_choice_is_read_but_not_written(
    studio: Studio, tmp_path: Path, unprivileged: Callable[[Path, str], list[str]]
) -> None:
    shutil.copytree(studio.folder, tmp_path / "locked")
    for path in studio.keys.site.parent.parent.rglob("*"):
        path.chmod(0o755)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    root = "Path('studio/keys/online/root.json').read_bytes()"
    read = f"print(choice.read(Path('locked'), Path('open/state'), {root})[0].entry.what)"
    assert unprivileged(tmp_path, read) == ["a plain write: PermissionError", "it begins", "done"]
    write = "choice.write(Path('locked'), choice.StudioKeys.in_folder(Path('studio/keys')), 'site', lambda c: c, now)"
    (tmp_path / "locked" / "lock").unlink(missing_ok=True)
    before = tree(tmp_path / "locked")
    assert unprivileged(tmp_path, write) == ["a plain write: PermissionError", "PermissionError locked/lock"]
    assert tree(tmp_path / "locked") == before


def test_a_changed_choice_is_refused_naming_both_digests(studio: Studio, tmp_path: Path) -> None:
    (path,) = (studio.folder / "targets" / "site").iterdir()
    path.write_bytes(path.read_bytes().replace(b"it begins", b"it Begins"))
    with pytest.raises(TrustError) as caught:
        studio.read(tmp_path / "state")
    assert caught.value.expected == f"sha256 {path.name.partition('.')[0]}"
    assert caught.value.actual == f"sha256 {canonical.digest(path.read_bytes())}"
    with pytest.raises(TrustError, match="expected sha256"):
        studio.write("site", "on top of it")


def test_a_changed_past_breaks_the_history(studio: Studio, tmp_path: Path) -> None:
    (path,) = (studio.folder / "targets" / "site").iterdir()
    studio.write("site", "second")
    path.write_bytes(path.read_bytes().replace(b"it begins", b"it Begins"))
    with pytest.raises(TrustError, match="choice-1"):
        choice.history(studio.folder, "site")
    assert studio.read(tmp_path / "state")["site"].number == 2


def test_a_signed_choice_in_the_wrong_place_is_refused(studio: Studio, tmp_path: Path) -> None:
    data = studio.choice("site", "number one again").to_bytes()
    role = Targets(2, expires=studio.now + timedelta(days=365))
    role.targets["site/choice-2.json"] = metadata.target_info("site/choice-2.json", data)
    reached = read_reached(studio.folder, studio.root)
    file = metadata.role_file("site", role, reached.targets, [signing.load_signer(studio.keys.promoter)])
    change = metadata.Change({"site/choice-2.json": data}, (file,))
    metadata.write(studio.folder, reached, change, signing.load_signer(studio.keys.site), studio.now)
    with pytest.raises(TrustError, match="expected choice 2 of site, found choice 1 of site"):
        studio.read(tmp_path / "state")


def test_an_older_choice_served_again_is_refused(studio: Studio, tmp_path: Path) -> None:
    old = shutil.copytree(studio.folder, tmp_path / "old")
    studio.write("site", "second")
    studio.read(tmp_path / "state")
    with pytest.raises(TrustError, match="rollback"):
        studio.read(tmp_path / "state", old)


# Renewing.


def test_renewing_does_nothing_until_half_of_a_life_is_used(studio: Studio, tmp_path: Path) -> None:
    before = tree(studio.folder)
    assert choice.renew(studio.folder, studio.keys, studio.now + timedelta(days=14)) == ()
    assert tree(studio.folder) == before
    assert choice.renew(studio.folder, studio.keys, studio.now + timedelta(days=16)) == ("snapshot", "timestamp")
    assert studio.read(tmp_path / "state")["site"].number == 1


def test_renewing_late_signs_root_and_targets_where_their_keys_are(studio: Studio, tmp_path: Path) -> None:
    renewed = choice.renew(studio.folder, studio.keys, studio.now + timedelta(days=200))
    assert renewed == ("root", "targets", "snapshot", "timestamp")
    assert studio.read(tmp_path / "state")["site"].number == 1
    studio.keys.root.unlink()
    studio.keys.targets.unlink()
    assert choice.renew(studio.folder, studio.keys, studio.now + timedelta(days=399)) == ("snapshot", "timestamp")


def test_an_expired_choice_is_refused_until_it_is_renewed(tmp_path: Path, studio: Studio, now: datetime) -> None:
    old = type(studio)(tmp_path / "old", now - timedelta(days=31)).start()
    with pytest.raises(TrustError, match=r"timestamp\.json: expected metadata that has not expired"):
        old.read(tmp_path / "state")
    choice.renew(old.folder, old.keys, now)
    assert old.read(tmp_path / "state")["site"].number == 1


# Races.


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writers wait for each other for a moment only."""
    monkeypatch.setattr(scopes, "WAIT_SECONDS", 0.1)


@pytest.mark.usefixtures("impatient")
def test_a_writer_who_meets_another_loses_and_is_told_the_newest_choice_and_its_author(studio: Studio) -> None:
    studio.write("site", "hair for everybody", who="joe")
    before = tree(studio.folder)
    with lock(studio.folder / "lock", what="the choice"), pytest.raises(LostRaceError) as caught:
        studio.write("site", "mine")
    assert caught.value.exit_code == 7
    assert "choice 2 by joe" in str(caught.value)
    assert "hair for everybody" in str(caught.value)
    assert tree(studio.folder) == before


@pytest.mark.usefixtures("impatient")
def test_a_loser_is_told_even_where_nothing_can_be_read(studio: Studio) -> None:
    (studio.folder / "metadata" / "1.site.json").unlink()
    with lock(studio.folder / "lock", what="the choice"), pytest.raises(LostRaceError, match="another is the newest"):
        studio.write("site", "mine")


def test_where_locks_do_not_hold_the_number_still_has_one_winner(studio: Studio, tmp_path: Path) -> None:
    """Two writers inside the lock at once, as on a share whose locks are not real: the role file decides."""
    slower: Choice = studio.choice("site", "slower")

    def beaten(_: Choice | None) -> Choice:
        (studio.folder / "lock").unlink()
        studio.write("site", "faster", who="joe")
        return slower

    with pytest.raises(LostRaceError, match=r"choice 2 by joe at .* \(faster\) wrote it first"):
        choice.write(studio.folder, studio.keys, "site", beaten, studio.now)
    assert studio.read(tmp_path / "state")["site"].entry.what == "faster"
    assert studio.write("site", "next").number == 3


def test_of_eight_processes_exactly_one_wins_each_number(studio: Studio, tmp_path: Path) -> None:
    start = time.time() + 3
    names = [f"td-{number}" for number in range(8)]
    commands = [[sys.executable, "-c", RACER, str(studio.base), name, str(start), "12"] for name in names]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    outcomes = [outcome for process in running for outcome in json.loads(process.communicate(timeout=60)[0])]

    won = sorted(number for kind, number in outcomes if kind == "won")
    lost = [text for kind, text in outcomes if kind == 7]
    assert len(won) + len(lost) == 8 * 12
    assert won == list(range(2, 2 + len(won)))
    assert won
    assert all(re.search(r"choice \d+ by (jane|td-\d)", text) for text in lost)
    assert studio.read(tmp_path / "state")["site"].number == won[-1]
    assert [past.number for past in choice.history(studio.folder, "site")] == [1, *won]


# Kills.


def test_wherever_a_writer_is_killed_readers_see_old_or_new_and_the_next_writer_goes_on(
    studio: Studio, tmp_path: Path, disk_states: Any
) -> None:
    studio.read(tmp_path / "state")
    with disk_states.watching(studio.folder, tmp_path / "states") as states:
        killed = studio.write("site", "killed")

    seen, finished = [], 0
    for number, state in enumerate(states):
        known = shutil.copytree(tmp_path / "state", tmp_path / f"known-{number}")
        fresh = studio.read(tmp_path / f"fresh-{number}", state)
        assert fresh == studio.read(known, state)
        seen.append(fresh["site"].number)
        decided = (state / "metadata" / "2.site.json").exists()
        finished += decided and seen[-1] == 1

        after = studio.write("site", "after", folder=state)

        assert after.previous == (killed.digest() if decided else choice.history(state, "site")[0].digest())
        assert studio.read(known, state) == {"site": after}
        assert [past.number for past in choice.history(state, "site")] == list(range(1, after.number + 1))
    assert len(seen) > 8
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (1, 2)
    assert finished > 1


def test_creating_again_after_a_kill_anywhere_succeeds(
    studio: Studio, tmp_path: Path, now: datetime, disk_states: Any
) -> None:
    new = type(studio)(tmp_path / "new", now)
    new.base.mkdir()
    with disk_states.watching(new.base, tmp_path / "states") as states:
        new.start()
    for number, state in enumerate(states):
        again = type(studio)(state, now)
        try:
            again.start()
        except RefusedError:
            assert (state / "choice" / "metadata" / "timestamp.json").exists()
        assert again.read(tmp_path / f"state-{number}")["site"].number == 1


def test_repair_says_what_a_killed_writer_decided(studio: Studio, tmp_path: Path, disk_states: Any) -> None:
    choice.enrol_scope(studio.folder, studio.keys, "shows/atlas", studio.now)
    with disk_states.watching(studio.folder, tmp_path / "states") as states:
        studio.write("shows/atlas", "killed")
    repaired = [choice.repair(state, studio.keys, studio.now) for state in states]
    assert set(repaired) == {(), ("1.shows.atlas.json",)}
    for number, (state, names) in enumerate(zip(states, repaired, strict=True)):
        assert choice.repair(state, studio.keys, studio.now) == ()
        found = studio.read(tmp_path / f"state-{number}", state)
        assert ("shows/atlas" in found) == bool(names) or state == states[-1]


def test_wherever_enrolment_is_killed_it_is_finished_by_the_next(
    studio: Studio, tmp_path: Path, disk_states: Any
) -> None:
    with disk_states.watching(studio.folder, tmp_path / "states") as states:
        choice.enrol_scope(studio.folder, studio.keys, "shows/atlas", studio.now)
    for number, state in enumerate(states):
        assert list(studio.read(tmp_path / f"state-{number}", state)) == ["site"]
        choice.enrol_scope(state, studio.keys, "shows/atlas", studio.now)
        assert studio.write("shows/atlas", "first", folder=state).number == 1
        assert len(studio.read(tmp_path / f"state-{number}", state)) == 2


def test_a_show_enrolled_and_chosen_by_killed_writers_is_finished_whole(studio: Studio, tmp_path: Path) -> None:
    before = shutil.copytree(studio.folder, tmp_path / "before")
    choice.enrol_scope(studio.folder, studio.keys, "shows/atlas", studio.now)
    studio.write("shows/atlas", "first")
    for name in ("2.targets.json", "1.shows.atlas.json"):
        shutil.copy(studio.folder / "metadata" / name, before / "metadata")
    shutil.copytree(studio.folder / "targets" / "shows", before / "targets" / "shows")
    assert choice.repair(before, studio.keys, studio.now) == ("2.targets.json", "1.shows.atlas.json")
    assert studio.read(tmp_path / "state", before)["shows/atlas"].entry.what == "first"


def test_an_empty_role_file_of_a_killed_writer_is_taken_away(studio: Studio) -> None:
    (studio.folder / "metadata" / "2.site.json").write_bytes(b"")
    assert studio.write("site", "second").number == 2


def test_a_role_file_that_nobody_may_have_signed_stops_writers_and_is_named(studio: Studio, tmp_path: Path) -> None:
    role = metadata.renewed(read_reached(studio.folder, studio.root).roles["site"], "site", studio.now)
    forged: Metadata[Any] = Metadata(role)
    forged.sign(signing.load_signer(studio.keys.site))
    (studio.folder / "metadata" / "2.site.json").write_bytes(forged.to_bytes())
    with pytest.raises(TrustError, match=r"2\.site\.json: expected 1 signature"):
        studio.write("site", "mine")
    assert studio.read(tmp_path / "state")["site"].number == 1


def test_a_role_file_under_another_number_stops_writers_and_is_named(studio: Studio) -> None:
    shutil.copy(studio.folder / "metadata" / "1.site.json", studio.folder / "metadata" / "2.site.json")
    with pytest.raises(TrustError, match=r"2\.site\.json: expected version 2, found version 1"):
        studio.write("site", "mine")
