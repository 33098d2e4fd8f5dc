from typing import Any

from changeover_registry.clock import format_time
from changeover_registry.records.release import Release
from changeover_registry.records.station import Answer, Generation, GenerationRelease
from changeover_registry.records.verdict import CurvePoint
from changeover_updater.in_use import points_in_use


def generation(build: Any, release: Release, *tiles: str) -> Generation:
    """One that serves the release's first variant to Python with these tiles, and nothing to Flame."""
    served = Answer(loader="python", variant="onnx-fp32", precision="fp32", tiles=tiles, path="releases/x/model.onnx")
    answers = (served, Answer(loader="flame", unavailable="not available in the loader flame here"))
    held = GenerationRelease(
        key="k", model=release.model, version=release.version, digest=release.digest(), answers=answers
    )
    at = format_time(build.now)
    return Generation(number=1, station="vm1", made_at=at, why="test", site="/site", releases=(held,))


def test_points_in_use_are_those_of_the_answers_with_the_newest_memory_of_their_class(build: Any) -> None:
    release = build.release()
    elsewhere = build.report(release, golden_class="e" * 64, memory=(CurvePoint(width=64, height=64, bytes=2),))
    verdicts = (build.verdict(release, points=(elsewhere,)), build.verdict(release))

    found = points_in_use(generation(build, release, "none"), (release,), verdicts, (build.facts(),), build.policy)

    assert found == {release.ref(): (build.report(release),)}


def test_point_in_use_that_no_verdict_tells_has_no_memory_and_is_there(build: Any) -> None:
    release, tile = build.release(), str(build.release().variants[0].contract.tiles[1])
    held = generation(build, release, "none", tile)

    found = points_in_use(held, (release,), (), (build.facts(), build.facts()), build.policy)

    assert [str(report.point) for report in found[release.ref()]] == [f"onnx-fp32/{t}/cpu" for t in ("none", tile)]
    assert all(report.memory == () for report in found[release.ref()])


def test_station_without_a_generation_or_a_record_has_no_points(build: Any) -> None:
    held = generation(build, build.release(), "none")

    assert points_in_use(None, (), (), (build.facts(),), build.policy) == {}
    assert points_in_use(held, (), (), (build.facts(),), build.policy) == {}
