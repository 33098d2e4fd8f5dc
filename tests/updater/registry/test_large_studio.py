"""A studio made as the benchmark makes it: what a promotion does not need, it does not read."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from changeover_registry import clock
from changeover_registry.clock import format_time
from changeover_registry.repository import vendor
from changeover_updater import vendors
from changeover_updater.bench_registry import SMALL, Size, Studio, build, main

SIZE = Size(models=3, releases=6, choices=9)


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return build(tmp_path, SIZE, clock.now())


def spoilt(paths: Iterator[Path]) -> int:
    """Have these files be such that whoever reads one says so; how many there are."""
    found = list(paths)
    for path in found:
        path.chmod(0o644)
        path.write_bytes(b"not what was signed")
    return len(found)


def test_a_promotion_opens_no_record_and_no_past_choice_that_it_does_not_need(studio: Studio) -> None:
    release = next(studio.promotions())
    model, _, version = release.partition("@")
    index = json.loads(next((studio.root / "vendor").glob(f"repository/targets/{model}/*.index.json")).read_bytes())
    needed = {one["record"] for one in index["releases"] if one["version"] in {version, "1.2.0"}}
    records = (studio.root / "site" / "trust" / "acme" / "records").glob("*.json")
    chosen = _chosen(studio)
    others = spoilt(path for path in records if path.stem not in needed | chosen)
    past = (studio.root / "site" / "choice" / "targets" / "site").glob("*.choice-[1-8].json")
    assert (others, spoilt(past)) == (18 - 3 - 1, 8)

    studio.run("promote", release, "--reason", "nothing else is looked at")

    assert "nothing else is looked at" in str(_newest(studio))


def _newest(studio: Studio) -> dict[str, object]:
    files = (studio.root / "site" / "choice" / "targets" / "site").glob("*.choice-*.json")
    newest: dict[str, object] = json.loads(max(files, key=lambda path: int(path.stem.split("-")[-1])).read_bytes())
    return newest


def _chosen(studio: Studio) -> set[str]:
    return {pointer["release"]["digest"] for pointer in _newest(studio)["channels"]}  # type: ignore[attr-defined]


def test_a_release_that_nobody_has_is_said_to_be_unknown_with_the_versions_that_there_are(studio: Studio) -> None:
    with pytest.raises(RuntimeError, match="exit code 2"):
        studio.run("promote", "model-000@7.0.0", "--reason", "x")
    with pytest.raises(RuntimeError, match="exit code 2"):
        studio.run("promote", "model-777@1.0.0", "--reason", "x")


def test_a_bare_name_that_two_vendors_have_is_asked_about_though_one_alone_has_the_version(world: Any) -> None:
    release = world.publish("1.0.0")
    world.accept(release)
    keys = vendor.new_vendor_keys(world.root / "other" / "keys")
    root = vendor.create(world.root / "other" / "repository", "other", keys, world.now)
    theirs = release.model_copy(update={"model": "other/tiny-roto", "version": "9.0.0"})
    folder = world.folders / "1.0.0"
    files = {f.sha256: folder / one.id / f.path for one in release.variants for f in one.files}
    vendor.publish(world.root / "other" / "repository", keys, theirs.to_bytes(), files, world.now)
    place = str(world.root / "other" / "repository")
    vendors.add_trust(world.site, "other", place, root, allow_executable=False, who="td", now=world.now)
    vendors.sync_vendor(world.site.vendor("other"))

    code, _, err = world.run("promote", "tiny-roto@1.0.0", "--reason", "whose?")

    assert (code, "several: acme/tiny-roto, other/tiny-roto" in err) == (2, True), err
    world.ok("promote", "acme/tiny-roto@1.0.0", "--reason", "theirs")
    code, _, err = world.run("unpin", "tiny-roto", "--reason", "whose?")
    assert (code, "several" in err) == (2, True), err


def test_what_was_live_is_found_in_the_long_past(studio: Studio) -> None:
    third = format_time(studio.began + timedelta(minutes=3))

    told = json.loads(studio.run("log", "--at", third, "--channel", "stable", "--json"))["live"]

    assert [(line["model"], line["number"]) for line in told] == [(f"acme/model-00{n}", 4) for n in range(3)]
    assert [step["number"] for step in json.loads(studio.run("log", "model-000", "--json"))] == [2, 5, 8]
    assert "9 choices" in studio.run("log", "--choice", "--verify")


def test_the_benchmark_prints_both_sizes_side_by_side(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from changeover_updater import bench_registry

    monkeypatch.setattr(bench_registry, "SMALL", Size(2, 6, 2))
    monkeypatch.setattr(bench_registry, "LARGE", Size(3, 8, 9))

    assert main(["--runs", "2"]) == 0

    out = capsys.readouterr().out
    assert "12 releases of 2 models, 2 choices\n24 releases of 3 models, 9 choices\n" in out
    assert all(f"\n{name} " in out for name in ("promote", "status", "log", "log --at the first minute"))
    assert Size(10, 10, 10) == SMALL
