import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from changeover_registry._fs import lock
from changeover_registry.errors import (
    InvalidInputError,
    LostRaceError,
    MeasurementError,
    RefusedError,
)
from changeover_registry.records.golden import Approval, GoldenSet, ShotRef
from changeover_validators.golden.approvals import approval_of, approve, retire_set, retire_shot, waiting
from changeover_validators.golden.history import all_refs, current_refs, set_history, shot_versions, steps
from changeover_validators.golden.kept import kept_files, verify_shots
from changeover_validators.golden.readers import may_use
from changeover_validators.golden.sets import (
    change_readers,
    create_set,
    list_sets,
    load_set,
    read_set,
    read_shot,
    shot_folder,
    write_set,
)
from changeover_validators.golden.shots import NewShot, add_shot

NOW = datetime(2026, 11, 22, 13, 45, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
Write = Callable[..., Path]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    golden = tmp_path / "site" / "golden"
    create_set(golden, "hair", by="td@vm1", now=NOW)
    return golden


@pytest.fixture
def new(tmp_path: Path, write_image: Write) -> NewShot:
    """A shot of two frames that nobody has approved."""
    random = np.random.default_rng(5)
    for number in (1, 2):
        write_image(tmp_path / "footage" / f"plate.{number}.exr", random.random((9, 16, 3)), ("R", "G", "B"))
        write_image(tmp_path / "footage" / f"matte.{number}.exr", random.random((9, 16, 1)), ("A",))
    return NewShot(
        set="hair",
        shot="ab010",
        plate=str(tmp_path / "footage" / "plate.#.exr"),
        matte=str(tmp_path / "footage" / "matte.#.exr"),
        matte_channel="A",
        colour="scene-linear",
        level=3,
        added_by="td@vm1",
    )


def add(site: Path, new: NewShot, *shots: str, approved_by: str | None = None) -> GoldenSet:
    for shot in shots:
        add_shot(site, replace(new, shot=shot, approved_by=approved_by), now=NOW)
    return read_set(site, "hair")


def jane(note: str | None = None) -> Approval:
    return approval_of("Jane Doe", note, by="td@vm1", now=LATER)


def once(action: Callable[[], object]) -> Callable[[str, int | None], None]:
    """A watcher that does something when the first file is hashed, as somebody else might just then."""
    left = [action]

    def watch(_shot: str, _frame: int | None) -> None:
        while left:
            left.pop()()

    return watch


def named(refs: Sequence[ShotRef] | None) -> list[tuple[str, int]]:
    return [(ref.shot, ref.version) for ref in refs or ()]


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_created_set_is_empty_and_at_version_1(site: Path) -> None:
    golden_set, found = load_set(site, "hair")
    assert (golden_set.version, golden_set.shots, found) == (1, (), ())
    assert (golden_set.changed_by, golden_set.changed_at) == ("td@vm1", "2026-11-22T13:45:00Z")
    assert (site / "hair" / "set.json").read_bytes() == (site / "hair" / "set-1.json").read_bytes()


def test_a_set_knows_its_owner_and_readers(site: Path) -> None:
    create_set(site, "atlas", owner_show="atlas", readers=("borea", "site", "borea", "atlas"))
    assert load_set(site, "atlas")[0].readers == ("borea", "site")
    assert [(one.name, one.owner_show) for one in list_sets(site)] == [("atlas", "atlas"), ("hair", None)]


@pytest.mark.parametrize(
    ("show", "readers", "match"),
    [
        ("Atlas", (), "name: show"),
        ("site", (), "name: show"),
        ("atlas", ("Bad Name",), "name: reader"),
        (None, ("borea",), "readers: skin: expected the show that owns the set"),
    ],
)
def test_readers_that_cannot_be_are_refused(site: Path, show: str | None, readers: tuple[str, ...], match: str) -> None:
    with pytest.raises(InvalidInputError, match=match):
        create_set(site, "skin", owner_show=show, readers=readers)
    assert not (site / "skin").exists()


def test_a_set_that_is_there_is_not_created_again(site: Path, new: NewShot) -> None:
    add(site, new, "ab010", approved_by="Jane Doe")
    with pytest.raises(InvalidInputError, match="golden set: hair: .* found a set with 1 shots"):
        create_set(site, "hair")
    assert len(load_set(site, "hair")[1]) == 1


@pytest.mark.parametrize("name", ["Hair", "../hair", "", "con"])
def test_a_name_that_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInputError, match="name: golden set"):
        create_set(tmp_path, name)
    with pytest.raises(InvalidInputError, match="name: golden set"):
        load_set(tmp_path, name)


def test_a_set_that_nobody_created_is_refused_with_those_that_are(site: Path, new: NewShot) -> None:
    before = tree(site)
    calls: tuple[Callable[[], object], ...] = (
        lambda: load_set(site, "skin"),
        lambda: add_shot(site, replace(new, set="skin"), now=NOW),
        lambda: approve(site, "skin", jane()),
        lambda: retire_set(site, "skin", reason="old", by="td", now=NOW),
        lambda: change_readers(site, "skin", add=("borea",), by="td", now=NOW),
    )
    for call in calls:
        with pytest.raises(InvalidInputError, match="golden set: skin: expected a set of this site, found hair;"):
            call()
    assert tree(site) == before
    with pytest.raises(InvalidInputError, match="found no set;"):
        load_set(site / "nowhere", "skin")


def test_an_earlier_version_is_read_by_its_number_and_another_is_refused(site: Path, new: NewShot) -> None:
    add(site, new, "ab010")
    assert read_set(site, "hair", version=1).pending is None
    assert named(read_set(site, "hair", version=2).pending) == [("ab010", 1)]
    for version in (0, 3):
        with pytest.raises(InvalidInputError, match=f"hair version {version}: expected a version from 1 to 2"):
            read_set(site, "hair", version=version)


def test_an_added_shot_waits_and_is_not_scored_until_it_is_approved(site: Path, new: NewShot) -> None:
    golden_set = add(site, new, "ab010", "ab020")
    assert (golden_set.shots, named(golden_set.pending)) == ((), [("ab010", 1), ("ab020", 1)])
    assert load_set(site, "hair")[1] == ()

    done = approve(site, "hair", jane("hair edge checked at 2x"), ("ab020",))

    golden_set, (shot,) = load_set(site, "hair")
    assert (shot.shot, done.set, named(done.refs)) == ("ab020", golden_set, [("ab020", 1)])
    assert named(golden_set.pending) == [("ab010", 1)]
    (ref,) = golden_set.shots
    assert ref.approval is not None
    assert ref.approval.model_dump() == {
        "name": "Jane Doe",
        "at": "2026-11-22T14:45:00Z",
        "by": "td@vm1",
        "note": "hair edge checked at 2x",
    }


def test_all_that_waits_is_approved_where_no_shot_is_named(site: Path, new: NewShot) -> None:
    add(site, new, "ab010", "ab020")
    assert named(approve(site, "hair", jane()).refs) == [("ab010", 1), ("ab020", 1)]
    version = read_set(site, "hair").version

    assert approve(site, "hair", jane()).refs == ()
    assert (read_set(site, "hair").version, read_set(site, "hair").pending) == (version, None)


def test_a_new_version_waits_while_the_approved_one_goes_on_being_scored(site: Path, new: NewShot) -> None:
    add(site, new, "ab010", "ab020", approved_by="Jane Doe")

    golden_set = add(site, replace(new, level=5), "ab010")
    assert [(shot.shot, shot.version, shot.level) for shot in load_set(site, "hair")[1]] == [
        ("ab010", 1, 3),
        ("ab020", 1, 3),
    ]
    assert named(golden_set.pending) == [("ab010", 2)]

    approve(site, "hair", jane(), ("ab010",))
    assert [(shot.shot, shot.version, shot.level) for shot in load_set(site, "hair")[1]] == [
        ("ab010", 2, 5),
        ("ab020", 1, 3),
    ]
    assert read_shot(site, "hair", read_set(site, "hair", version=3).shots[0]).level == 3


def test_a_version_that_waits_is_replaced_by_a_later_one(site: Path, new: NewShot) -> None:
    assert named(add(site, new, "ab010", "ab010").pending) == [("ab010", 2)]
    golden_set = add(site, new, "ab010", approved_by="Jane Doe")
    assert (named(golden_set.shots), golden_set.pending) == ([("ab010", 3)], None)
    assert [step.changes[1:] for step in steps(set_history(site, "hair", last=2))] == [
        ("ab010 version 2 no longer waits, since a later one came",)
    ]


def test_a_shot_that_does_not_wait_is_not_approved_and_the_answer_says_where_it_stands(
    site: Path, new: NewShot
) -> None:
    add(site, new, "ab010", approved_by="Jane Doe")
    add(site, new, "ab020", "ab030")
    retire_shot(site, "hair", "ab030", reason="soft edge", by="td", now=NOW)
    before = tree(site)
    for shot, found in (
        ("ab010", "version 1 approved by Jane Doe"),
        ("ab030", "version 1 retired: soft edge"),
        ("ab999", "no such shot"),
    ):
        with pytest.raises(InvalidInputError, match=rf"waits for approval \(ab020\), found {found}"):
            approve(site, "hair", jane(), ("ab020", shot))
    assert tree(site) == before


@pytest.mark.parametrize("name", ["", "  ", "td@vm1", "td", "jane@studio.example", "Jane\nDoe", "J" * 201, "a\x1b[2J"])
def test_only_a_persons_name_approves(site: Path, new: NewShot, name: str) -> None:
    before = tree(site)
    with pytest.raises(InvalidInputError, match="approval: name: expected the name of a person"):
        approval_of(name, None, by="td@vm1", now=NOW)
    with pytest.raises(InvalidInputError, match="approval: name"):
        add(site, new, "ab010", approved_by=name)
    assert tree(site) == before


@pytest.mark.parametrize("name", ["Jane Doe", "Björk", "李小龍", "  Jane Doe "])
def test_any_persons_name_may_approve(name: str) -> None:
    assert approval_of(name, None, by="td@vm1", now=NOW).name == name.strip()


def test_an_empty_note_is_refused_and_so_is_a_note_of_nobody(site: Path, new: NewShot) -> None:
    for note in ("", " ", "a\x07", "\x1b[2J"):
        with pytest.raises(InvalidInputError, match="approval: note"):
            approval_of("Jane Doe", note, by="td@vm1", now=NOW)
    assert approval_of("Jane Doe", "two\nlines\tand a tab", by="td@vm1", now=NOW).note == "two\nlines\tand a tab"
    with pytest.raises(InvalidInputError, match="note: ab010: expected who approves, beside the note"):
        add_shot(site, replace(new, note="fine"), now=NOW)


@pytest.mark.parametrize("damaged", ["plate/plate.0002.exr", "matte/matte.0001.exr", "shot.json"])
def test_what_is_approved_is_what_lies_there(site: Path, new: NewShot, damaged: str) -> None:
    add(site, new, "ab010", "ab020")
    path = site / "hair" / "ab010" / "1" / damaged
    path.write_bytes(path.read_bytes().replace(path.read_bytes()[-2:], b"??"))
    before = tree(site)

    with pytest.raises(MeasurementError, match=f"golden files: hair: .* found ab010 version 1.*{damaged}: other bytes"):
        approve(site, "hair", jane())

    assert tree(site) == before
    assert named(approve(site, "hair", jane(), ("ab020",)).refs) == [("ab020", 1)]


def test_a_version_that_came_while_the_files_were_hashed_is_not_approved(site: Path, new: NewShot) -> None:
    add(site, new, "ab010")

    with pytest.raises(LostRaceError, match=r"hair/ab010: expected version 1 to wait, .* found version 2 waiting"):
        approve(site, "hair", jane(), watch=once(lambda: add(site, new, "ab010")))

    golden_set = read_set(site, "hair")
    assert (golden_set.shots, named(golden_set.pending)) == ((), [("ab010", 2)])


def test_of_two_who_approve_the_same_shot_one_has_lost_the_race(site: Path, new: NewShot) -> None:
    add(site, new, "ab010")
    john = approval_of("John Roe", None, by="td@vm2", now=NOW)

    with pytest.raises(LostRaceError, match="found version 1 approved by John Roe"):
        approve(site, "hair", jane(), watch=once(lambda: approve(site, "hair", john)))

    assert [ref.approval.name for ref in read_set(site, "hair").shots if ref.approval] == ["John Roe"]


def test_a_set_that_somebody_else_is_changing_is_left_alone(site: Path, new: NewShot) -> None:
    add(site, new, "ab010")
    before = tree(site)
    calls: tuple[Callable[[], object], ...] = (
        lambda: approve(site, "hair", jane(), wait_seconds=0.02),
        lambda: retire_shot(site, "hair", "ab010", reason="old", by="td", now=NOW, wait_seconds=0.02),
        lambda: retire_set(site, "hair", reason="old", by="td", now=NOW, wait_seconds=0.02),
        lambda: add_shot(site, new, now=NOW, wait_seconds=0.02),
    )
    with lock(site / "hair" / ".lock", what="the golden set hair"):
        for call in calls:
            with pytest.raises(LostRaceError, match="golden set hair"):
                call()
    assert tree(site) == before


def test_a_shot_of_the_first_releases_is_scored_and_can_be_approved(site: Path, new: NewShot) -> None:
    golden_set = add(site, new, "ab010", approved_by="Jane Doe")
    (ref,) = golden_set.shots
    bare = ref.model_copy(update={"approval": None})
    write_set(site, golden_set.model_copy(update={"version": 3, "shots": (bare,)}))

    assert [shot.shot for shot in load_set(site, "hair")[1]] == ["ab010"]
    assert waiting(read_set(site, "hair")) == (bare,)
    (ref,) = approve(site, "hair", jane(), ("ab010",)).set.shots
    assert ref.approval is not None


def test_a_retired_shot_is_no_longer_scored_and_nothing_of_it_is_deleted(site: Path, new: NewShot) -> None:
    add(site, new, "ab010", "ab020", approved_by="Jane Doe")
    add(site, new, "ab010")
    before = tree(site / "hair")

    golden_set = retire_shot(site, "hair", "ab010", reason="the plate was regraded", by="td@vm1", now=LATER)

    assert (named(golden_set.shots), golden_set.pending) == ([("ab020", 1)], None)
    assert [(one.shot, one.version, one.reason, one.by, one.at) for one in golden_set.retired_shots or ()] == [
        ("ab010", version, "the plate was regraded", "td@vm1", "2026-11-22T14:45:00Z") for version in (1, 2)
    ]
    assert {name: data for name, data in tree(site / "hair").items() if name in before and name != "set.json"} == {
        name: data for name, data in before.items() if name != "set.json"
    }


def test_a_version_that_was_turned_down_leaves_the_scored_one(site: Path, new: NewShot) -> None:
    add(site, new, "ab010", approved_by="Jane Doe")
    add(site, new, "ab010")

    golden_set = retire_shot(site, "hair", "ab010", reason="soft edge", by="td", now=NOW, pending_only=True)

    assert (named(golden_set.shots), golden_set.pending) == ([("ab010", 1)], None)
    with pytest.raises(InvalidInputError, match=r"a shot that waits for approval \(there is none\), found version 1"):
        retire_shot(site, "hair", "ab010", reason="soft edge", by="td", now=NOW, pending_only=True)
    with pytest.raises(InvalidInputError, match=r"a shot of the set \(ab010\), found no such shot"):
        retire_shot(site, "hair", "ab020", reason="soft edge", by="td", now=NOW)


def test_a_retired_shot_that_is_added_again_has_the_next_version(site: Path, new: NewShot) -> None:
    add(site, new, "ab010", approved_by="Jane Doe")
    retire_shot(site, "hair", "ab010", reason="old", by="td", now=NOW)
    golden_set = add(site, new, "ab010", approved_by="Jane Doe")
    assert named(golden_set.shots) == [("ab010", 2)]
    assert [(one.shot, one.version) for one in golden_set.retired_shots or ()] == [("ab010", 1)]


def test_the_alias_of_a_retired_shot_is_not_given_to_another(site: Path, new: NewShot) -> None:
    add(site, new, "ab010", "ab020", approved_by="Jane Doe")
    retire_shot(site, "hair", "ab020", reason="old", by="td", now=NOW)
    golden_set = add(site, new, "ab030", approved_by="Jane Doe")
    assert read_shot(site, "hair", golden_set.shots[1]).alias == "shot-3"


def test_a_retired_set_is_used_and_changed_by_nobody(site: Path, new: NewShot) -> None:
    add(site, new, "ab010", approved_by="Jane Doe")
    retire_set(site, "hair", reason="show has wrapped", by="td@vm1", now=LATER)
    before = tree(site)
    calls: tuple[Callable[[], object], ...] = (
        lambda: add_shot(site, new, now=NOW),
        lambda: approve(site, "hair", jane()),
        lambda: retire_shot(site, "hair", "ab010", reason="old", by="td", now=NOW),
        lambda: retire_set(site, "hair", reason="old", by="td", now=NOW),
        lambda: change_readers(site, "hair", add=("borea",), by="td", now=NOW),
        lambda: may_use(read_set(site, "hair"), "stable"),
    )
    for call in calls:
        with pytest.raises(RefusedError, match="golden set: hair: .* one that was retired: show has wrapped;"):
            call()
    assert tree(site) == before
    assert len(load_set(site, "hair")[1]) == 1


CHANNELS = ("stable", "beta", "show/atlas", "show/borea", "show/cetus")


@pytest.mark.parametrize(
    ("show", "readers", "allowed"),
    [
        (None, (), CHANNELS),
        ("atlas", (), ("show/atlas",)),
        ("atlas", ("borea",), ("show/atlas", "show/borea")),
        ("atlas", ("site",), ("stable", "beta", "show/atlas")),
        ("atlas", ("site", "cetus"), ("stable", "beta", "show/atlas", "show/cetus")),
    ],
)
def test_owner_and_readers_say_which_channels_may_use_a_set(
    show: str | None, readers: tuple[str, ...], allowed: tuple[str, ...]
) -> None:
    golden_set = GoldenSet(name="hair", version=1, owner_show=show, readers=readers)
    for channel in CHANNELS:
        if channel in allowed:
            may_use(golden_set, channel)
        else:
            with pytest.raises(RefusedError, match=f"found channel {channel};") as caught:
                may_use(golden_set, channel)
            assert sorted(caught.value.expected.partition("(")[2].rstrip(")").split(", ")) == sorted(allowed)


def test_readers_come_and_go_and_only_a_change_is_a_new_version(site: Path) -> None:
    create_set(site, "atlas", owner_show="atlas", readers=("borea",))
    changed = change_readers(site, "atlas", add=("site", "cetus"), remove=("borea",), by="td@vm1", now=LATER)
    assert (changed.version, changed.readers) == (2, ("site", "cetus"))
    assert change_readers(site, "atlas", add=("site",), by="td@vm1", now=LATER).version == 2
    with pytest.raises(InvalidInputError, match=r"one of its readers \(site, cetus\), found borea"):
        change_readers(site, "atlas", remove=("borea",), by="td@vm1", now=LATER)
    with pytest.raises(InvalidInputError, match="the show that owns the set"):
        change_readers(site, "hair", add=("borea",), by="td@vm1", now=LATER)


def test_every_damaged_file_is_found_in_one_run(site: Path, new: NewShot) -> None:
    golden_set = add(site, new, "ab010", "ab020", "ab030")
    folder = site / "hair"
    (folder / "ab010" / "1" / "plate" / "plate.0001.exr").unlink()
    matte = folder / "ab010" / "1" / "matte" / "matte.0002.exr"
    matte.write_bytes(matte.read_bytes()[:-1] + b"?")
    (folder / "ab030" / "1" / "shot.json").unlink()
    seen: list[tuple[str, int | None]] = []

    verified = verify_shots(site, "hair", current_refs(golden_set), lambda *at: seen.append(at))

    assert [(one.shot, one.frame, one.path, one.found) for one in verified.damage] == [
        ("ab010", 1, folder / "ab010" / "1" / "plate" / "plate.0001.exr", "gone"),
        ("ab010", 2, matte, "other bytes than were added"),
        ("ab030", None, folder / "ab030" / "1" / "shot.json", "gone"),
    ]
    assert (verified.shots, verified.files) == (3, 5 + 5 + 1)
    assert seen == [(shot, frame) for shot in ("ab010", "ab020") for frame in (1, 1, 2, 2)]


@pytest.mark.parametrize("change", ["edited", "gone"])
def test_a_changed_record_is_noticed_always(site: Path, new: NewShot, change: str) -> None:
    golden_set = add(site, new, "ab010", approved_by="Jane Doe")
    path = shot_folder(site, read_shot(site, "hair", golden_set.shots[0])) / "shot.json"
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b'"level":3', b'"level":1'))
    with pytest.raises(MeasurementError, match=r"golden record: .*ab010/1/shot\.json"):
        load_set(site, "hair")
    with pytest.raises(MeasurementError, match=r"golden record: .*ab010/1/shot\.json"):
        add(site, new, "ab020")


def test_every_file_of_a_shot_is_kept_under_its_digest(site: Path, new: NewShot) -> None:
    golden_set = add(site, new, "ab010", approved_by="Jane Doe")
    shot = read_shot(site, "hair", golden_set.shots[0])
    folder = shot_folder(site, shot)
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {file.path for file in kept_files(shot)} | {"shot.json"} == there


def test_the_history_tells_every_change(site: Path, new: NewShot) -> None:
    create_set(site, "atlas", owner_show="atlas", by="td@vm1", now=NOW)
    new = replace(new, set="atlas")
    for shot in ("ab010", "ab020"):
        add_shot(site, replace(new, shot=shot), now=NOW)
    approve(site, "atlas", jane(), ("ab010",))
    add_shot(site, replace(new, shot="ab010", approved_by="John Roe"), now=LATER)
    change_readers(site, "atlas", add=("borea",), by="td@vm1", now=LATER)
    change_readers(site, "atlas", remove=("borea",), by="td@vm1", now=LATER)
    retire_shot(site, "atlas", "ab020", reason="soft edge", by="td@vm2", now=LATER)
    retire_set(site, "atlas", reason="wrapped", by="td@vm1", now=LATER)

    told = steps(set_history(site, "atlas", last=99))

    assert [(step.version, *step.changes) for step in told] == [
        (1, "created"),
        (2, "ab010 version 1 added, waits for approval"),
        (3, "ab020 version 1 added, waits for approval"),
        (4, "ab010 version 1 approved by Jane Doe"),
        (5, "ab010 version 2 added and approved by John Roe"),
        (6, "borea may use it"),
        (7, "borea may no longer use it"),
        (8, "ab020 version 1 retired: soft edge"),
        (9, "the set retired: wrapped"),
    ]
    assert {(step.by, step.at) for step in told if step.version in {1, 8}} == {
        ("td@vm1", "2026-11-22T13:45:00Z"),
        ("td@vm2", "2026-11-22T14:45:00Z"),
    }
    assert [step.version for step in steps(set_history(site, "atlas", last=4))] == [7, 8, 9]


def test_every_version_of_a_shot_is_known_with_where_it_stands(site: Path, new: NewShot) -> None:
    add(site, new, "ab010", "ab010", approved_by="Jane Doe")
    add(site, new, "ab010")
    golden_set = read_set(site, "hair")
    found = shot_versions(golden_set, all_refs(site, golden_set), "ab010")
    assert [(one.ref.version, one.state) for one in found] == [(3, "waiting"), (2, "scored"), (1, "replaced")]
    assert [one.ref.approval is None for one in found] == [True, False, False]

    golden_set = retire_shot(site, "hair", "ab010", reason="old", by="td", now=NOW)
    found = shot_versions(golden_set, all_refs(site, golden_set), "ab010")
    assert [(one.ref.version, one.state) for one in found] == [(3, "retired"), (2, "retired"), (1, "replaced")]
    assert found[0].retired is not None
    assert shot_versions(golden_set, all_refs(site, golden_set), "ab020") == ()


def test_a_version_that_a_killed_command_left_is_written_over_and_never_told_of(site: Path, new: NewShot) -> None:
    left = {"schema": "changeover.golden-set/1", "name": "hair", "version": 2}
    (site / "hair" / "set-2.json").write_text(json.dumps(left), encoding="utf-8")
    assert [step.version for step in steps(set_history(site, "hair", last=9))] == [1]
    golden_set = add(site, new, "ab010")
    assert read_set(site, "hair", version=2) == golden_set


def edited(golden_set: GoldenSet, **changes: object) -> bytes:
    return golden_set.model_copy(update=changes).to_bytes()


@pytest.mark.parametrize(
    "changes",
    [{"shots": ()}, {"owner_show": "atlas"}, {"name": "other"}, {"version": 1}, {"version": 7}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_set_that_was_edited_in_place_is_used_by_nobody(site: Path, new: NewShot, changes: dict[str, object]) -> None:
    golden_set = add(site, new, "a", approved_by="Jane Doe")
    path = site / "hair" / "set.json"
    path.write_bytes(edited(golden_set, **changes))

    for use in (
        lambda: load_set(site, "hair"),
        lambda: approve(site, "hair", jane()),
        lambda: retire_shot(site, "hair", "a", reason="hard", by="td@vm1", now=LATER),
        lambda: list_sets(site),
    ):
        with pytest.raises(MeasurementError, match="as it was filed in"):
            use()

    path.write_bytes(golden_set.to_bytes())
    assert load_set(site, "hair")[0] == golden_set


def test_the_history_tells_what_an_editor_did_to_both_files(site: Path, new: NewShot) -> None:
    add(site, new, "a", "b", approved_by="Jane Doe")
    golden_set = retire_shot(site, "hair", "b", reason="grain", by="td@vm1", now=LATER)
    forged = golden_set.shots[0].model_copy(update={"approval": approval_of("Mallory", None, by="x@y", now=LATER)})
    for changes, told in (
        ({"shots": (), "retired_shots": None}, ("a", "b")),
        ({"shots": (), "retired_shots": golden_set.retired_shots}, ("a",)),
        ({"shots": (forged,)}, ("a version 1 no longer approved by Jane Doe, without a word",)),
    ):
        for name in ("set.json", f"set-{golden_set.version}.json"):
            (site / "hair" / name).write_bytes(edited(golden_set, **changes))
        last = steps(set_history(site, "hair", last=2))[-1].changes
        for words in told:
            text = words if " " in words else f"{words} version 1 is no longer scored, and nobody retired it"
            assert text in last
