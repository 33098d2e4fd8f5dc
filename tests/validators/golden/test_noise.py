import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changeover_registry.errors import InvalidInputError, RefusedError
from changeover_registry.records.golden import GoldenFrame, GoldenShot
from changeover_registry.records.policy import GoldenPolicy
from changeover_registry.records.release import Tile
from changeover_registry.records.scores import Curve, ScoreKey, ShotScores, SubjectKey, WorstFrame
from changeover_registry.records.verdict import NoiseFloor, OperatingPoint
from changeover_validators.golden.catalogue import VERSION
from changeover_validators.golden.gates import check_noise
from changeover_validators.golden.noise import (
    FRAMES,
    add_noise,
    all_noise,
    beginning,
    floors,
    largest,
    read_noise,
    shortest,
)

MAD, JACCARD, DTSSD = "mad:rvm", "jaccard:davis2017", "dtssd:rvm"
CLASS = "c" * 64
OTHER = "d" * 64


def scores(**curves: Sequence[str | None]) -> ShotScores:
    """The candidate's curves by metric; `current` is another subject that must not count."""
    names = {"mad": MAD, "jaccard": JACCARD, "dtssd": DTSSD}
    length = len(next(iter(curves.values())))
    point = OperatingPoint(variant="v", precision="fp32", tile=Tile(size=0), provider="cpu")
    subject = SubjectKey(files=("a" * 64,), contract="b" * 64, point=point)
    return ShotScores(
        key=ScoreKey(shot="a" * 64, candidate=subject, threshold="0.5", metrics=VERSION, golden_class=CLASS),
        set="hero",
        shot="sh1",
        version=1,
        width=8,
        height=4,
        frames=tuple(range(1001, 1001 + length)),
        curves=(
            Curve(metric=MAD, subject="current", values=("0.9",) * length),
            *(Curve(metric=names[name], subject="candidate", values=tuple(values)) for name, values in curves.items()),
        ),
        worst=WorstFrame(frame=1001, x=0, y=0, difference="0"),
        provider_ran="cpu",
        runtime_version="1",
        sandbox="none",
    )


def floor(metric: str, difference: str) -> NoiseFloor:
    return NoiseFloor(metric=metric, difference=difference)


def test_floor_is_the_difference_of_the_means_over_the_frames_that_both_runs_have() -> None:
    first = scores(mad=["0.10", "0.20", "0.90"], jaccard=["1", "1", "0"], dtssd=[None, "0.5", "0.5"])
    again = scores(mad=["0.11", "0.22"], jaccard=["1", "0.5"], dtssd=[None, "0.4"])

    found = floors(first, again)

    assert found == (floor(JACCARD, "0.250000000"), floor(MAD, "0.015000000"), floor(DTSSD, "0.100000000"))


def test_equal_runs_have_a_floor_of_nothing_and_what_is_never_defined_has_none() -> None:
    run = scores(mad=["0.1", "0.2"], dtssd=[None, None])

    assert floors(run, run) == (floor(MAD, "0.000000000"),)


def test_floor_is_never_rounded_below_what_was_seen() -> None:
    first, again = scores(mad=["0.000000001", "0", "0"]), scores(mad=["0", "0", "0"])

    assert floors(first, again) == (floor(MAD, "0.000000001"),)


DIFFERENCES = st.dictionaries(st.sampled_from([MAD, JACCARD, DTSSD]), st.integers(0, 10**9), max_size=3)


@given(DIFFERENCES, DIFFERENCES)
def test_largest_of_two_runs_is_the_same_in_either_order_and_is_never_smaller_than_one(
    one: Mapping[str, int], other: Mapping[str, int]
) -> None:
    first, second = (tuple(floor(m, f"{d / 10**9:.9f}") for m, d in run.items()) for run in (one, other))

    both = {found.metric: found.difference for found in largest((*first, *second))}

    assert both == {found.metric: found.difference for found in largest((*second, *first))}
    assert all(float(both[found.metric]) >= float(found.difference) for found in (*first, *second))
    assert set(both) == {*one, *other}


def test_runs_of_a_class_add_up_to_the_largest_and_classes_are_kept_apart(tmp_path: Path) -> None:
    add_noise(tmp_path / "noise", CLASS, [floor(MAD, "0.002000000"), floor(JACCARD, "0.000000000")])
    record = add_noise(tmp_path / "noise", CLASS, [floor(MAD, "0.001000000"), floor(DTSSD, "0.300000000")])
    add_noise(tmp_path / "noise", OTHER, [floor(MAD, "0.004000000")])

    assert record == read_noise(tmp_path / "noise", CLASS)
    assert record.runs == 2
    assert record.floors == (floor(MAD, "0.002000000"), floor(JACCARD, "0.000000000"), floor(DTSSD, "0.300000000"))
    assert all_noise(tmp_path / "noise") == (
        floor(MAD, "0.004000000"),
        floor(JACCARD, "0.000000000"),
        floor(DTSSD, "0.300000000"),
    )


def test_nothing_measured_is_nothing_known(tmp_path: Path) -> None:
    assert read_noise(tmp_path / "noise", CLASS) is None
    assert all_noise(tmp_path / "noise") == ()


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"schema":"changeover.noise/1"}'])
def test_damaged_record_counts_for_nothing_and_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / f"{CLASS}.json").write_bytes(content)

    with caplog.at_level(logging.WARNING):
        found = all_noise(tmp_path)

    assert found == ()
    assert CLASS in caplog.text
    assert add_noise(tmp_path, CLASS, [floor(MAD, "0.001")]).runs == 1


def test_record_under_another_class_counts_for_nothing(tmp_path: Path) -> None:
    add_noise(tmp_path, CLASS, [floor(MAD, "0.001")])
    (tmp_path / f"{CLASS}.json").rename(tmp_path / f"{OTHER}.json")

    assert read_noise(tmp_path, OTHER) is None


def test_class_that_is_no_digest_reads_no_file_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="sha256"):
        read_noise(tmp_path, "../../policy")


@pytest.fixture
def make_shot() -> Callable[..., GoldenShot]:
    def make(name: str, *, pre_roll: int, scored: int, width: int = 8) -> GoldenShot:
        frames = tuple(
            GoldenFrame(number=n, plate="p.exr", plate_sha256="a" * 64, scored=n >= pre_roll)
            for n in range(pre_roll + scored)
        )
        return GoldenShot(
            set="hero",
            shot=name,
            version=1,
            alias=name,
            width=width,
            height=4,
            colour="raw",
            matte_channel="A",
            level=1,
            frames=frames,
            added_by="td",
            added_at="2026-01-01T00:00:00Z",
        )

    return make


@pytest.mark.parametrize(("pre_roll", "scored", "kept"), [(0, 3, 3), (2, 3, 5), (0, 16, 16), (4, 300, 20)])
def test_second_run_ends_after_sixteen_scored_frames(
    make_shot: Callable[..., GoldenShot], pre_roll: int, scored: int, kept: int
) -> None:
    part = beginning(make_shot("a", pre_roll=pre_roll, scored=scored))

    assert [frame.number for frame in part.frames] == list(range(kept))
    assert sum(frame.scored for frame in part.frames) <= FRAMES


def test_shortest_shot_is_the_one_whose_beginning_has_fewest_frames_then_fewest_pixels(
    make_shot: Callable[..., GoldenShot],
) -> None:
    long = make_shot("long", pre_roll=0, scored=300)
    other = make_shot("other", pre_roll=0, scored=20, width=4)
    rolled = make_shot("rolled", pre_roll=20, scored=5)
    short = make_shot("short", pre_roll=0, scored=15)

    assert shortest([rolled, long, other]).shot == "other"
    assert shortest([rolled, long, other, short]).shot == "short"


@pytest.mark.parametrize(("difference", "refused"), [("0.001", False), ("0.001000001", True), ("0", False)])
def test_margin_under_five_floors_is_refused_with_metric_floor_and_smallest_margin(
    difference: str, refused: bool
) -> None:
    policy = GoldenPolicy(margin_mad="0.005")

    if not refused:
        check_noise(policy, [floor(MAD, difference)], where="policy.toml")
        return
    with pytest.raises(RefusedError, match="smallest margin 0.005000005") as caught:
        check_noise(policy, [floor(MAD, difference)], where="policy.toml")
    assert "MAD" in str(caught.value)
    assert "0.001000001" in str(caught.value)
