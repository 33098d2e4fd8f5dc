"""Releases are found by typed fields, from what was signed; what nobody knows is told as such."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.records.release import Release
from changeover_registry.records.verdict import CurvePoint, OperatingPoint, PointReport

MIB = 1 << 20
CONTEXT = 400 * MIB
"""What the starter policy takes a context for, where nobody measured one."""


def search(world: Any, *arguments: str) -> dict[str, dict[str, Any]]:
    """What is found, by ``name@version``."""
    found = json.loads(world.ok("search", *arguments, "--json"))
    return {f"{one['model'].partition('/')[2]}@{one['version']}": one for one in found}


def on_gpu(release: Release, size: int) -> tuple[PointReport, ...]:
    """A report of each tile on a GPU: it takes so much at the policy's plate."""
    variant = release.variants[0]
    points = (
        OperatingPoint(variant=variant.id, precision="fp32", tile=tile, provider="cuda")
        for tile in variant.contract.tiles
    )
    curve = (CurvePoint(width=4096, height=2160, bytes=size, requested_bytes=size),)
    return tuple(PointReport(point=point, memory=curve, memory_label="measured") for point in points)


@pytest.fixture(scope="module")
def studio(module_world_at: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Three releases and a ``.cat``: for two nodes 1.0.0 takes 2.4 GiB and 1.1.0 4.4, of 1.2.0 nobody knows."""
    world = module_world_at(tmp_path_factory.mktemp("studio"), executable=True)
    world.without_mlflow()
    first, second, _, cat = (world.publish(name) for name in ("1.0.0", "1.1.0", "1.2.0", "cat"))
    world.accept(first)
    world.accept(first, points=on_gpu(first, CONTEXT + 1024 * MIB))
    world.accept(second, points=on_gpu(second, CONTEXT + 2048 * MIB))
    world.ok("promote", "tiny-roto@1.0.0", "--reason", "test")
    world.releases = (first, second, cat)
    return world


def test_without_words_all_are_found_with_the_newest_first(studio: Any) -> None:
    found = search(studio)

    assert list(found) == ["edge-roto@1.0.0", "tiny-roto@1.2.0", "tiny-roto@1.1.0", "tiny-roto@1.0.0"]
    assert found["tiny-roto@1.0.0"]["channels"] == ["stable"]
    assert found["edge-roto@1.0.0"]["variants"][0]["loaders"] == ["nuke-inference"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["OPAQUE"], ["edge-roto@1.0.0"]),
        (["tiny", "1.1.0"], ["tiny-roto@1.1.0"]),
        (["stable"], ["tiny-roto@1.0.0"]),
        (["tiny", "opaque"], []),
    ],
)
def test_every_word_must_be_somewhere(studio: Any, words: list[str], expected: list[str]) -> None:
    assert list(search(studio, *words)) == expected


@pytest.mark.parametrize(
    ("terms", "fitting", "unknown"),
    [
        ("vram<=5GiB", ["1.1.0", "1.0.0"], ["1.2.0"]),
        ("vram<=4495MiB", ["1.0.0"], ["1.2.0"]),
        ("vram<=4496MiB", ["1.1.0", "1.0.0"], ["1.2.0"]),
        ("vram<4496MiB", ["1.0.0"], ["1.2.0"]),
        ("vram<=2447MiB", [], ["1.2.0"]),
        ("vram<=8GiB,precision=fp16", [], []),
        ("vram<=8GiB,size<=1B", [], []),
    ],
)
def test_memory_is_what_a_signed_verdict_holds_and_never_inferred(
    studio: Any, terms: str, fitting: list[str], unknown: list[str]
) -> None:
    found = search(studio, "tiny-roto", "--fits", terms)

    assert [one["version"] for one in found.values() if one["fit"] == "fits"] == fitting
    assert [one["version"] for one in found.values() if one["fit"] == "unknown"] == unknown
    assert all("no signed verdict" in one["why"] for one in found.values() if one["fit"] == "unknown")
    assert all(one["memory_said_by"] == "measured" for one in found.values() if one["fit"] == "fits")


def test_point_that_no_verdict_speaks_of_leaves_it_open(world: Any) -> None:
    """The whole frame is too large; whether a tile would do was never predicted."""
    world.without_mlflow()
    release = world.publish("1.0.0")
    world.accept(release, points=on_gpu(release, CONTEXT + 9000 * MIB)[:1])

    (found,) = search(world, "--fits", "vram<=8GiB").values()

    assert (found["fit"], found["tile"]) == ("unknown", [1024, 64])


def test_card_is_judged_by_the_budget_and_the_rules_of_a_plan(studio: Any) -> None:
    """An RTX A4000 has 16 GiB, of which the policy leaves 13; a release that nobody measured stays unknown."""
    found = search(studio, "tiny-roto", "--fits", "gpu=RTX A4000")
    less = search(studio, "tiny-roto", "--fits", "gpu=RTX A4000,vram<=3GiB")

    assert [found[f"tiny-roto@{v}"]["fit"] for v in ("1.0.0", "1.1.0", "1.2.0")] == ["fits", "fits", "unknown"]
    assert found["tiny-roto@1.0.0"]["provider"] == "cuda"
    assert list(less) == ["tiny-roto@1.0.0", "tiny-roto@1.2.0"]


@pytest.mark.parametrize(("nuke", "expected"), [("15.1", ["edge-roto@1.0.0"]), ("13.2", [])])
def test_nuke_is_one_whose_own_torch_loads_the_cat(studio: Any, nuke: str, expected: list[str]) -> None:
    assert list(search(studio, "--fits", f"nuke={nuke}")) == expected


def test_nuke_that_the_tables_do_not_know_leaves_it_open(studio: Any) -> None:
    (found,) = search(studio, "--fits", "nuke=99.1").values()

    assert found["fit"] == "unknown"
    assert "99.1" in found["why"]


def test_licence_is_compared_as_the_licence_check_does(studio: Any) -> None:
    assert len(search(studio, "--licence", "cc-by-4.0")) == 4
    assert search(studio, "--licence", "MIT") == {}
    assert len(search(studio, "--licence", "MIT", "--licence", "CC-BY-4.0")) == 4


def test_person_sees_what_fits_and_how_many_are_unknown(studio: Any) -> None:
    code, out, err = studio.run("search", "tiny-roto", "--fits", "vram<=3GiB")

    assert code == 0
    assert "acme/tiny-roto@1.0.0" in out
    assert "2448 MiB, measured" in out
    assert "of 1 release nobody knows" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fits", "gpu=Voodoo 2"], "GPU: --fits gpu: expected one of"),
        (["--fits", "gpu=RTX A4000", "--host", "none"], "one host"),
        (["--fits", "vram=8"], "vram<=SIZE"),
        (["--plate", "big"], "4096x2160"),
    ],
)
def test_question_that_cannot_be_asked_is_one_line_and_2(studio: Any, arguments: list[str], said: str) -> None:
    code, _, err = studio.run("search", *arguments)

    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1


# The index.


def test_index_is_made_once_and_answers_the_same_as_without_it(studio: Any) -> None:
    path = studio.site.root / "search.index"
    path.unlink(missing_ok=True)
    first = search(studio, "--fits", "vram<=5GiB")
    made = path.stat()

    again = search(studio, "--fits", "vram<=5GiB")

    assert again == first
    assert path.stat().st_mtime_ns == made.st_mtime_ns
    assert path.stat().st_ino == made.st_ino


@pytest.mark.parametrize("damage", ["", "changeover.search-index/9\n", "cut", "nonsense", "number", "version"])
def test_damaged_index_is_made_anew(studio: Any, damage: str) -> None:
    expected = search(studio)
    path: Path = studio.site.root / "search.index"
    whole = path.read_text(encoding="utf-8")
    texts = {
        "cut": whole[: len(whole) // 2],
        "nonsense": whole.replace('"variants"', '"variant"'),
        "number": whole.replace('"summary":"A tiny net for tests."', '"summary":5'),
        "version": whole.replace('"version":"1.0.0"', '"version":"1.x.0"'),
    }
    assert whole not in texts.values()
    path.write_text(texts.get(damage, damage), encoding="utf-8")

    assert search(studio) == expected
    assert path.read_text(encoding="utf-8") == whole


def test_pipe_among_the_verdicts_is_waited_for_by_nobody(studio: Any) -> None:
    expected = search(studio)
    pipe = studio.site.verdicts / f"{'0' * 64}.json"
    os.mkfifo(pipe)
    try:
        assert search(studio) == expected
        _, out, _ = studio.run("audit", "site", "mlflow", "--json")
    finally:
        pipe.unlink()

    found = [one for part in json.loads(out)["parts"] for one in part["differences"]]
    told = [one["actual"] for one in found if one["place"] == f"verdicts/{pipe.name}"]
    assert told == ["a link, a folder or a device"]


def test_index_that_cannot_be_written_costs_time_alone(studio: Any) -> None:
    expected = search(studio)
    path: Path = studio.site.root / "search.index"
    path.unlink()
    path.mkdir()
    try:
        assert search(studio) == expected
    finally:
        path.rmdir()


def test_release_and_verdict_that_came_since_are_in_it(world: Any) -> None:
    world.without_mlflow()
    world.publish("1.0.0")
    before = search(world, "--fits", "vram<=8GiB")
    second = world.publish("1.1.0")
    world.accept(second, points=on_gpu(second, CONTEXT + MIB))

    after = search(world, "--fits", "vram<=8GiB")

    assert [one["fit"] for one in before.values()] == ["unknown"]
    assert {name: one["fit"] for name, one in after.items()} == {
        "tiny-roto@1.1.0": "fits",
        "tiny-roto@1.0.0": "unknown",
    }


def test_verdict_that_nobody_enrolled_signed_says_nothing_of_memory(world: Any) -> None:
    from changeover_registry import signing

    world.without_mlflow()
    release = world.publish("1.0.0")
    own = world.root / "evil.pem"
    signing.new_key(own)
    (world.root / "keys" / "online" / "verdict.pem").write_bytes(own.read_bytes())
    world.accept(release, points=on_gpu(release, CONTEXT + MIB))

    (found,) = search(world, "--fits", "vram<=8GiB").values()

    assert found["fit"] == "unknown"


def test_withdrawn_release_is_found_only_where_it_is_asked_for(world: Any) -> None:
    from changeover_registry.repository import vendor
    from changeover_updater import vendors

    world.without_mlflow()
    world.publish("1.0.0")
    search(world)
    vendor.withdraw(world.repository, world.keys, "tiny-roto", "1.0.0", "halos", world.now)
    vendors.sync_vendor(world.site.vendor("acme"))

    assert search(world) == {}
    assert search(world, "--withdrawn")["tiny-roto@1.0.0"]["withdrawn"] == "halos"


def test_record_that_was_changed_in_the_site_is_not_found(world: Any) -> None:
    world.without_mlflow()
    release = world.publish("1.0.0")
    path = world.site.vendor("acme").record_path(release.digest())
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"A tiny net", b"A huge net"))

    assert search(world) == {}
