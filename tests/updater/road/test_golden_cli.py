"""``golden``: what goes into a set, what is refused at the door, and what is seen when a truth changed."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest

from changeover_registry.records.verdict import GoldenSetRef, ShotScore

SIZE = (48, 64)


@pytest.fixture(scope="module")
def studio(module_world: Any) -> Any:
    """A world with a set ``hero`` of one shot, and good plates and mattes to add."""
    world = module_world
    write(world.root / "good", plate=SIZE, matte=SIZE)
    world.ok("golden", "set", "create", "hero", "--show", "atlas", "--reader", "boreas")
    world.ok(*adding(world.root / "good", "sh010", "--alias", "alley"))
    return world


@pytest.fixture
def world(studio: Any) -> Iterator[Any]:
    before = tree(studio.site.golden)
    yield studio
    assert tree(studio.site.golden) == before


def tree(folder: Path) -> list[tuple[str, bytes]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return [(path.relative_to(folder).as_posix(), path.read_bytes()) for path in files]


def write(folder: Path, *, plate: tuple[int, int], matte: tuple[int, int], channel: str = "A", frames: int = 2) -> Path:
    """Plates and mattes of these sizes (height, width) in a folder."""
    rng = np.random.default_rng(3)
    folder.mkdir(parents=True)
    for number in range(1001, 1001 + frames):
        rgb = rng.uniform(0, 1, (*plate, 3)).astype(np.float16)
        OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION}, {"RGB": rgb}).write(str(folder / f"plate.{number}.exr"))
        alpha = rng.uniform(0, 1, matte).astype(np.float16)
        OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION}, {channel: alpha}).write(
            str(folder / f"matte.{number}.exr")
        )
    return folder


def adding(folder: Path, shot: str, *more: str, channel: str = "A", colour: str = "scene-linear") -> tuple[str, ...]:
    plate, matte = str(folder / "plate.####.exr"), str(folder / "matte.####.exr")
    chosen = ("--channel", channel, "--colour", colour, "--approved-by", "Jane Doe")
    return ("golden", "add", "hero", shot, "--plate", plate, "--matte", matte, *chosen, *more)


def fails(world: Any, code: int, *arguments: str) -> str:
    found, out, err = world.run(*arguments)
    assert (found, out, err.count("\n")) == (code, "", 1), f"{arguments}: {found}\n{out}\n{err}"
    return str(err)


def test_shot_is_copied_hashed_and_listed(world: Any) -> None:
    sets = json.loads(world.ok("golden", "list", "--json"))
    (shot,) = json.loads(world.ok("golden", "list", "hero", "--json"))

    assert [(s["name"], s["version"], s["owner_show"], s["readers"]) for s in sets] == [
        ("hero", 2, "atlas", ["boreas"])
    ]
    assert (shot["shot"], shot["alias"], shot["width"], shot["height"]) == ("sh010", "alley", 64, 48)
    assert len(shot["frames"]) == 2
    assert "alley" in world.ok("golden", "list", "hero")
    assert "1 shots, 5 files as they were added" in world.ok("golden", "verify", "hero")


def test_same_shot_again_is_a_new_version_and_the_old_one_stays(studio: Any) -> None:
    studio.ok("golden", "set", "create", "twice")
    arguments = [word if word != "hero" else "twice" for word in adding(studio.root / "good", "sh010")]
    studio.ok(*arguments)

    out = studio.ok(*arguments)

    assert "version 2" in out
    assert (studio.site.golden / "twice" / "sh010" / "1" / "shot.json").is_file()


def test_plate_and_matte_of_different_sizes_are_2_and_name_both(world: Any, tmp_path: Path) -> None:
    line = fails(world, 2, *adding(write(tmp_path / "x", plate=SIZE, matte=(48, 60)), "sh020"))

    assert "64 x 48" in line
    assert "60 x 48" in line


@pytest.mark.parametrize("part", ["plate", "matte"])
def test_truncated_exr_is_2_and_is_named(world: Any, tmp_path: Path, part: str) -> None:
    folder = write(tmp_path / "x", plate=SIZE, matte=SIZE)
    path = folder / f"{part}.1002.exr"
    path.write_bytes(path.read_bytes()[:-900])

    assert f"{part}.1002.exr" in fails(world, 2, *adding(folder, "sh020"))


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x76\x2f\x31\x01" + b"\0" * 40])
def test_file_that_is_no_image_is_2_and_is_named(world: Any, tmp_path: Path, content: bytes) -> None:
    folder = write(tmp_path / "x", plate=SIZE, matte=SIZE)
    (folder / "plate.1001.exr").write_bytes(content)

    assert "plate.1001.exr" in fails(world, 2, *adding(folder, "sh020"))


def test_channel_that_the_matte_lacks_is_2_and_names_those_that_it_has(world: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "x", plate=SIZE, matte=SIZE)

    line = fails(world, 2, *adding(folder, "sh020", channel="layer.hair"))

    assert "layer.hair" in line
    assert "A" in line


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--level", "9"), "1 to 5"),
        (("--pre-roll", "2"), "pre-roll"),
        (("--pre-roll", "-1"), "pre-roll"),
        (("--alias", "Bad Alias"), "name"),
        (("--alias", "alley"), "alias"),
        (("--region", "/nowhere.exr"), "/nowhere.exr"),
        (("--region", "/nowhere/hold.####.exr"), "one image, no pattern"),
    ],
)
def test_bad_option_is_2_and_names_what_is_expected(world: Any, more: tuple[str, ...], words: str) -> None:
    assert words in fails(world, 2, *adding(world.root / "good", "sh020", *more))


def test_unknown_colour_is_2_and_names_those_that_are_known(world: Any) -> None:
    line = fails(world, 2, *adding(world.root / "good", "sh020", colour="ACEScg"))

    assert "scene-linear" in line
    assert "ACEScg" in line


def test_gap_in_the_frames_is_2(world: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "x", plate=SIZE, matte=SIZE, frames=3)
    (folder / "plate.1002.exr").unlink()

    assert "1002" in fails(world, 2, *adding(folder, "sh020"))


def test_matte_that_is_missing_is_2(world: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "x", plate=SIZE, matte=SIZE)
    (folder / "matte.1002.exr").unlink()

    assert "1002" in fails(world, 2, *adding(folder, "sh020"))


def test_set_that_is_not_there_is_2_and_names_those_that_are(world: Any) -> None:
    arguments = [word if word != "hero" else "nowhere" for word in adding(world.root / "good", "sh020")]

    assert "hero" in fails(world, 2, *arguments)


def test_set_that_is_there_already_is_2(world: Any) -> None:
    assert "1 shots" in fails(world, 2, "golden", "set", "create", "hero")


def test_plate_that_cannot_be_read_is_one_line(world: Any, tmp_path: Path) -> None:
    line = fails(world, 2, *adding(tmp_path / "nowhere", "sh020"))

    assert "nowhere" in line


@pytest.mark.parametrize("damage", ["changed", "gone", "record"])
def test_verify_of_a_truth_that_changed_is_8_and_names_the_file(studio: Any, damage: str) -> None:
    shot = studio.site.golden / "hero" / "sh010" / "1"
    path = shot / "shot.json" if damage == "record" else shot / "matte" / "matte.1002.exr"
    kept = path.read_bytes()
    path.chmod(0o644)
    path.unlink() if damage == "gone" else path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))

    code, out, err = studio.run("golden", "verify", "hero")
    path.unlink(missing_ok=True)
    path.write_bytes(kept)

    assert (code, out.count("\n"), err.count("\n")) == (8, 1, 1)
    assert path.name in out
    assert path.name in err
    studio.ok("golden", "verify", "hero")


def test_warning_goes_to_stderr_and_the_shot_is_added(studio: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "x", plate=SIZE, matte=SIZE)
    flat = np.ones(SIZE, np.float16)
    OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION}, {"A": flat}).write(str(folder / "matte.1001.exr"))
    studio.ok("golden", "set", "create", "warned")
    arguments = [word if word != "hero" else "warned" for word in adding(folder, "sh030")]

    code, out, err = studio.run(*arguments)

    assert code == 0
    assert "warned/sh030 version 1" in out
    assert "note: sh030: the matte is the same value everywhere (frame 1001)" in err


def test_notes_of_a_shot_are_told_again_to_whoever_approves_it(studio: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "x", plate=SIZE, matte=SIZE)
    flat = np.ones(SIZE, np.float16)
    OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION}, {"A": flat}).write(str(folder / "matte.1001.exr"))
    studio.ok("golden", "set", "create", "told")
    words = [word if word != "hero" else "told" for word in adding(folder, "sh030")]
    studio.ok(*(word for word in words if word not in {"--approved-by", "Jane Doe"}))

    shown = studio.ok("golden", "show", "told", "sh030")
    (record,) = (one["record"] for one in json.loads(studio.ok("golden", "show", "told", "sh030", "--json")))
    _, _, err = studio.run("golden", "approve", "told", "--name", "Jane Doe")

    said = "the matte is the same value everywhere (frame 1001)"
    assert said in shown
    assert said in record["notes"]
    assert f"note: sh030: {said}" in err


def fresh(studio: Any, name: str, *more: str) -> Any:
    """Another set in the same world; gives what adds the good plates to it, as ``hero`` is added to."""
    studio.ok("golden", "set", "create", name, *more)

    def add(shot: str, *options: str, approved: bool = False) -> str:
        words = adding(studio.root / "good", shot, *options)
        words = words if approved else tuple(word for word in words if word not in {"--approved-by", "Jane Doe"})
        return str(studio.ok(*(word if word != "hero" else name for word in words)))

    return add


def test_added_shot_waits_until_a_person_approves_it(studio: Any) -> None:
    add = fresh(studio, "wait")

    out = add("sh010") + add("sh020")
    (listed,) = (one for one in json.loads(studio.ok("golden", "list", "--json")) if one["name"] == "wait")
    done = studio.ok("golden", "approve", "wait", "sh020", "--name", "Jane Doe", "--note", "edges at 2x")

    assert 'changeover golden approve wait sh010 --name "Jane Doe"' in out
    assert (listed["shots"], [ref["shot"] for ref in listed["pending"]]) == ([], ["sh010", "sh020"])
    assert "wait/sh020 version 1 approved by Jane Doe" in done
    assert "1 shots of the set are scored, 1 wait" in done
    states = {shot["shot"]: shot["state"] for shot in json.loads(studio.ok("golden", "list", "wait", "--json"))}
    assert states == {"sh010": "waiting", "sh020": "scored"}
    assert "waits for approval" in studio.ok("golden", "list", "wait")
    (record,) = json.loads(studio.ok("golden", "show", "wait", "sh020", "--json"))
    assert {**record["approval"], "at": ""} == {
        "name": "Jane Doe",
        "at": "",
        "by": record["record"]["added_by"],
        "note": "edges at 2x",
    }
    studio.ok("golden", "approve", "wait", "--name", "Jane Doe")
    assert "nothing of wait waits" in studio.ok("golden", "approve", "wait", "--name", "Jane Doe")


def test_new_version_says_what_is_scored_until_then(studio: Any) -> None:
    add = fresh(studio, "versions")

    assert "approved by Jane Doe; 1 shots of the set are scored" in add("sh010", approved=True)
    assert "it waits for approval; until then version 1 is scored" in add("sh010")
    shown = studio.ok("golden", "show", "versions", "sh010")
    assert [line for line in shown.splitlines() if line.startswith("versions/")] == [
        "versions/sh010 version 2: waits for approval",
        "versions/sh010 version 1: scored",
    ]


@pytest.mark.parametrize(
    ("name", "words"), [("td@vm1", "name of a person"), ("", "name of a person"), (" ", "name of a person")]
)
def test_approval_without_a_persons_name_is_2(world: Any, name: str, words: str) -> None:
    assert words in fails(world, 2, "golden", "approve", "hero", "--name", name)


def test_approval_of_a_shot_that_does_not_wait_is_2_and_says_where_it_stands(world: Any) -> None:
    assert "version 1 approved by Jane Doe" in fails(world, 2, "golden", "approve", "hero", "sh010", "--name", "J. Roe")
    assert "no such shot" in fails(world, 2, "golden", "approve", "hero", "sh999", "--name", "J. Roe")
    assert "--name" in fails(world, 2, "golden", "approve", "hero")


def test_approval_of_a_damaged_truth_is_8_and_approves_nothing(studio: Any) -> None:
    add = fresh(studio, "spoilt")
    add("sh010")
    path = studio.site.golden / "spoilt" / "sh010" / "1" / "plate" / "plate.1002.exr"
    path.write_bytes(path.read_bytes()[:-1])

    line = fails(studio, 8, "golden", "approve", "spoilt", "--name", "Jane Doe")

    assert "plate.1002.exr" in line
    assert "changeover golden verify spoilt" in line
    assert "0 wait" not in studio.ok("golden", "show", "spoilt")
    assert json.loads(studio.ok("golden", "show", "spoilt", "--json"))["set"]["shots"] == []


def test_verify_names_every_damaged_file_at_once(studio: Any) -> None:
    add = fresh(studio, "damaged")
    add("sh010", approved=True)
    add("sh010")
    add("sh020")
    folder = studio.site.golden / "damaged"
    spoilt = [folder / "sh010" / "1" / "plate" / "plate.1001.exr", folder / "sh020" / "1" / "matte" / "matte.1002.exr"]
    spoilt[0].unlink()
    spoilt[1].write_bytes(b"")

    code, out, err = studio.run("golden", "verify", "damaged")
    found = json.loads(studio.run("golden", "verify", "damaged", "--json")[1])

    assert (code, err.count("\n")) == (8, 1)
    assert [str(path) for path in spoilt if str(path) in out] == [str(path) for path in spoilt]
    assert out.count("\n") == 2
    assert "2 damaged, the first sh010 version 1, frame 1001" in err
    assert [(one["file"], one["frame"], one["found"]) for one in found["damaged"]] == [
        (str(spoilt[0]), 1001, "gone"),
        (str(spoilt[1]), 1002, "other bytes than were added"),
    ]
    assert (found["shots"], found["files"]) == (3, 15)


def test_verify_looks_at_what_is_retired_only_when_asked(studio: Any) -> None:
    add = fresh(studio, "old")
    add("sh010", approved=True)
    add("sh010", approved=True)
    add("sh020", approved=True)
    studio.ok("golden", "retire", "old", "sh020", "--reason", "regraded")
    for name in ("sh010/1", "sh020/1"):
        (studio.site.golden / "old" / name / "matte" / "matte.1001.exr").unlink()

    assert "1 shots, 5 files" in studio.ok("golden", "verify", "old")
    code, out, _ = studio.run("golden", "verify", "old", "--all")
    assert (code, out.count("gone")) == (8, 2)


def test_retired_shot_and_set_say_why_and_a_retired_set_is_3(studio: Any) -> None:
    add = fresh(studio, "leaving")
    add("sh010", approved=True)
    add("sh010")
    add("sh020", approved=True)

    turned = studio.ok("golden", "retire", "leaving", "sh010", "--waiting", "--reason", "soft edge on 1004")
    gone = studio.ok("golden", "retire", "leaving", "sh020", "--reason", "plate was regraded")
    ended = studio.ok("golden", "retire", "leaving", "--reason", "the show has wrapped")

    assert "the waiting version of leaving/sh010 is retired; 2 shots are scored" in turned
    assert "leaving/sh020 is retired; 1 shots are scored" in gone
    assert "no check runs on it" in ended
    shown = studio.ok("golden", "show", "leaving")
    for words in ("retired: the show has wrapped", "soft edge on 1004", "plate was regraded", "sh010 version 2 added"):
        assert words in shown
    assert "retired" in studio.ok("golden", "list")
    assert "plate was regraded" in studio.ok("golden", "show", "leaving", "sh020")
    for arguments in (("approve", "leaving", "--name", "Jane Doe"), ("retire", "leaving", "--reason", "again")):
        assert "the show has wrapped" in fails(studio, 3, "golden", *arguments)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--reason", ""), "reason"),
        (("sh010",), "--reason"),
        (("sh999", "--reason", "x"), "no such shot"),
        (("--waiting", "--reason", "x"), "--waiting"),
        (("sh010", "--waiting", "--reason", "x"), "waits for approval"),
    ],
)
def test_retiring_without_a_reason_or_a_shot_is_2(world: Any, more: tuple[str, ...], words: str) -> None:
    assert words in fails(world, 2, "golden", "retire", "hero", *more)


def test_readers_are_shown_added_and_removed(studio: Any) -> None:
    fresh(studio, "shared", "--show", "atlas", "--reader", "boreas")

    assert "owned by show atlas, read by boreas" in studio.ok("golden", "set", "readers", "shared")
    changed = studio.ok("golden", "set", "readers", "shared", "--add", "site", "--remove", "boreas")
    assert "read by site (stable, beta)" in changed
    assert "its readers (site)" in fails(studio, 2, "golden", "set", "readers", "shared", "--remove", "boreas")
    assert "name" in fails(studio, 2, "golden", "set", "create", "other", "--show", "Bad Show")
    assert "--show" in fails(studio, 2, "golden", "set", "create", "other", "--reader", "boreas")


def test_every_option_of_golden_add_is_kept_and_shown(studio: Any, tmp_path: Path) -> None:
    add = fresh(studio, "rich")
    folder = studio.root / "good"
    hold = np.ones(SIZE, np.float16)
    OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION}, {"A": hold}).write(str(tmp_path / "hold.exr"))
    extra = (
        *("--second", str(folder / "matte.####.exr"), "--second-channel", "A"),
        *("--input", f"trimap={folder}/plate.####.exr:R,G", "--input", f"first={folder}/matte.1001.exr:A"),
        *("--region", str(tmp_path / "hold.exr"), "--region-channel", "A"),
        *("--alias", "fox", "--level", "5", "--allow-missing", "--note", "edges at 2x"),
    )
    colour = ("--colour", "ACEScg", "--ocio", "ocio://cg-config-v1.0.0_aces-v1.3_ocio-v2.1")

    add("sh010", *extra, *colour, approved=True)

    shown = studio.ok("golden", "show", "rich", "sh010")
    for words in (
        "Jane Doe,",
        "edges at 2x",
        "fox",
        "1001 to 1002, 2 in all",
        "64x48, pixel aspect 1",
        "ACEScg of ocio://cg-config",
        "another artist's mattes on 2 frames, channel A",
        "first (A) on 1 frames",
        "trimap (R, G) on 2 frames",
        "region.exr, channel A",
    ):
        assert words in shown, words
    assert "1 shots, 11 files" in studio.ok("golden", "verify", "rich")


@pytest.mark.parametrize(
    "given", ["trimap", "trimap=plate.####.exr", "=plate.####.exr:A", "trimap=plate.exr:", "t=:A,"]
)
def test_input_of_another_form_is_2_and_shows_the_form(world: Any, given: str) -> None:
    line = fails(world, 2, *adding(world.root / "good", "sh020", "--input", given))

    assert "PORT=PATTERN:CHANNEL, such as trimap=trimap.####.exr:A" in line


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--note", "x", "--approved-by", "td@vm1"), "name of a person"),
        (("--second-channel", "A"), "second channel"),
        (("--region-channel", "A"), "region channel"),
        (("--object", "fox"), "Cryptomatte"),
        (("--ocio", "ocio://default"), "colour"),
        (("--input", "Tri Map=x.exr:A"), "x.exr"),
    ],
)
def test_option_that_does_not_fit_is_2(world: Any, more: tuple[str, ...], words: str) -> None:
    assert words in fails(world, 2, *adding(world.root / "good", "sh020", *more))


def test_power_says_what_a_set_can_tell_and_where_the_spread_comes_from(studio: Any) -> None:
    add = fresh(studio, "few")
    for shot in ("sh010", "sh020"):
        add(shot, approved=True)
    add("sh030")

    told = studio.ok("golden", "power", "few")
    answer = json.loads(studio.ok("golden", "power", "few", "--json"))

    assert "2 shots are scored, 1 wait for approval" in told
    assert "the policy asks for 5 shots" in told
    assert told.count("assumed: no comparison of all shots is filed") == 3
    assert (answer["shots"], answer["waiting"], answer["min_shots"]) == (2, 1, 5)
    assert [one["metric"] for one in answer["metrics"]] == ["jaccard:davis2017", "boundary_f:davis2017", "mad:rvm"]
    assert all(0 < float(one["chance"]) < 0.5 < one["shots_needed"] for one in answer["metrics"])


def test_power_of_an_empty_set_and_of_none(studio: Any) -> None:
    fresh(studio, "empty")

    assert "0 shots are scored" in studio.ok("golden", "power", "empty")
    line = fails(studio, 2, "golden", "power", "nowhere")
    assert "hero" in line
    assert "changeover golden set create nowhere" in line


def test_sets_are_listed_shown_and_approved_without_what_opens_images(studio: Any, tmp_path: Path) -> None:
    add = fresh(studio, "light")
    add("sh010")
    block = "import sys\nfor name in ('numpy', 'OpenImageIO', 'OpenEXR', 'scipy'):\n    sys.modules[name] = None\n"
    words = [*block.splitlines(), "from changeover_updater.cli.main import run", "for a in %r:", "    print(run(a))"]
    start = ["--config", str(studio.config), *studio.extra, "golden"]
    commands = (
        ("list",),
        ("list", "light"),
        ("show", "light"),
        ("verify", "light"),
        ("approve", "light", "--name", "Jane Doe"),
        ("show", "light", "sh010"),
        ("retire", "light", "--reason", "x"),
    )
    script = "\n".join(words) % [[*start, *command] for command in commands]

    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)

    assert [line for line in done.stdout.splitlines() if line.isdecimal()] == ["0"] * len(commands), done.stderr


def test_power_takes_the_spread_from_signed_verdicts_on_the_set(studio: Any) -> None:
    add = fresh(studio, "judged")
    add("sh010", approved=True)
    current, candidate = studio.publish("1.0.0"), studio.publish("1.1.0")
    gains = (0.001, -0.004, 0.006, 0.0)
    scores = tuple(
        ShotScore(shot=f"sh{index}", metric="mad:rvm", frames=2, candidate=f"{0.05 - gain:.6f}", current="0.050000")
        for index, gain in enumerate(gains)
    )
    point = studio.point(candidate, candidate.variants[0].contract.tiles[0]).model_copy(update={"scores": scores})
    judged = GoldenSetRef(name="judged", version=2, digest="a" * 64)
    digest = studio.accept(candidate, current, golden_set=judged, points=(point,))
    forged = studio.site.verdicts / f"{'b' * 64}.json"
    forged.write_bytes((studio.site.verdicts / f"{digest}.json").read_bytes())

    mad = json.loads(studio.ok("golden", "power", "judged", "--json"))["metrics"][2]
    forged.unlink()

    assert (mad["metric"], mad["comparisons"], mad["differences"]) == ("mad:rvm", 1, 4)
    assert mad["spread"] == f"{np.std(gains, ddof=1):.6f}"
    told = studio.ok("golden", "power", "judged")
    assert "4 differences of 1 comparison" in told
    assert "with fewer than 3" in told


def test_check_refuses_a_set_that_is_retired_or_that_the_channel_may_not_use(studio: Any) -> None:
    add = fresh(studio, "guarded", "--show", "atlas")
    add("sh010", approved=True)
    studio.publish("1.0.0")
    before = sorted(studio.site.verdicts.iterdir())
    checking = ("check", "tiny-roto@1.0.0", "--set", "guarded")

    for channel in ("stable", "show/boreas"):
        line = fails(studio, 3, *checking, "--channel", channel)
        assert f"expected a channel that may use it (show/atlas), found channel {channel}" in line
    assert "golden set readers guarded --add boreas" in line
    studio.ok("golden", "retire", "guarded", "--reason", "the show has wrapped")
    assert "the show has wrapped" in fails(studio, 3, *checking, "--channel", "show/atlas")

    assert sorted(studio.site.verdicts.iterdir()) == before


def test_check_fails_where_a_golden_shot_is_missing_and_makes_none(studio: Any) -> None:
    add = fresh(studio, "bare")
    add("sh010", approved=True)
    studio.publish("1.0.0")
    before = sorted(studio.site.verdicts.iterdir())
    shutil.rmtree(studio.site.golden / "bare" / "sh010")

    line = fails(studio, 8, "check", "tiny-roto@1.0.0", "--set", "bare")

    assert "sh010/1/shot.json" in line
    assert not (studio.site.golden / "bare" / "sh010").exists()
    assert sorted(studio.site.verdicts.iterdir()) == before
