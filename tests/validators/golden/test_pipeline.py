import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import PyOpenColorIO as ocio  # noqa: N813 - as its own documentation
import pytest

from changeover_registry.errors import ChangeoverError, MeasurementError, RefusedError
from changeover_registry.records.golden import GoldenFrame, GoldenInput, GoldenShot
from changeover_registry.records.release import Contract, Port, State, TensorIn, TensorOut, Tile
from changeover_registry.records.scores import Curve, ScoreKey, ShotScores, SubjectKey
from changeover_registry.records.verdict import OperatingPoint
from changeover_validators.golden import decoding, scorers
from changeover_validators.golden.aspect import narrow, widen
from changeover_validators.golden.catalogue import METRICS, VERSION
from changeover_validators.golden.colour import linear_to_srgb, transform
from changeover_validators.golden.curves import curves
from changeover_validators.golden.frames import read_plate, sha256
from changeover_validators.golden.images import Image
from changeover_validators.golden.metrics import FrameScorer, FrameScores, Measured, NotAvailable, mad
from changeover_validators.golden.pipeline import Infers, Progress, ShotJob, Subject, score_shot
from changeover_validators.golden.sets import create_set, load_set, shot_folder
from changeover_validators.golden.shots import NewShot, add_shot
from changeover_validators.runtimes import interface
from changeover_validators.runtimes.in_memory import InMemoryModel

Array = np.ndarray[Any, np.dtype[np.float32]]
Write = Callable[..., Path]
Add = Callable[..., tuple[Path, GoldenShot]]
PORT = Port(name="plate", channels=("R", "G", "B"), colour="scene-linear")
CONTRACT = Contract(
    evaluation="stateless",
    inputs=(TensorIn(name="src", port="plate", channels=("R", "G", "B")),),
    output=TensorOut(name="pha", port="matte"),
    colour="scene-linear",
)
STARTED = interface.Started("cpu", 0, "1.2.3", "none")
POINT = OperatingPoint(variant="onnx-fp32", precision="fp32", tile=Tile(size=0), provider="cpu")
ACES = "ocio://cg-config-v1.0.0_aces-v1.3_ocio-v2.1"
NEEDS_NEIGHBOUR = {metric.name for metric in METRICS if "neighbour" in metric.needs}


@dataclass
class Inferred:
    matte: Array
    frame_us: int = 1000


@dataclass
class Spy:
    """A model that answers with a function of its planes, and remembers what it was given."""

    answer: Callable[[Array], Array]
    frame_us: int = 1000
    port: str = "plate"
    planes: list[Array] = field(default_factory=list)
    resets: list[bool] = field(default_factory=list)

    def infer(self, planes: Mapping[str, Array], *, reset: bool) -> Inferred:
        self.planes.append(planes[self.port])
        self.resets.append(reset)
        return Inferred(self.answer(planes[self.port]), self.frame_us)


def red(plane: Array) -> Array:
    return plane[..., 0]


def green(plane: Array) -> Array:
    return plane[..., 1]


def subject(model: Infers, *ports: Port, **changes: object) -> Subject:
    return Subject(model, CONTRACT.model_copy(update=changes), ports or (PORT,), STARTED)


def job(
    added: tuple[Path, GoldenShot],
    candidate: Subject | Infers,
    current: Subject | Infers | None = None,
    *,
    threshold: str = "0.5",
    host: str = "one",
) -> ShotJob:
    subjects = [one if one is None or isinstance(one, Subject) else subject(one) for one in (candidate, current)]
    key_of = SubjectKey(files=("a" * 64,), contract="b" * 64, point=POINT)
    key = ScoreKey(
        shot=added[1].digest(),
        candidate=key_of,
        current=None if current is None else key_of,
        threshold=threshold,
        metrics=VERSION,
        golden_class="c" * 64,
    )
    assert subjects[0] is not None
    return ShotJob(added[1], added[0], key, subjects[0], subjects[1], host)


@pytest.fixture
def add(tmp_path: Path, write_image: Write) -> Add:
    """Add a shot whose matte is its plate's red channel; gives the shot's folder and record."""
    golden = tmp_path / "golden"
    create_set(golden, "hair")

    def make(
        name: str = "a",
        *,
        frames: int = 3,
        edit: Callable[[Array], None] = lambda _: None,
        **more: object,
    ) -> tuple[Path, GoldenShot]:
        for number in range(1, frames + 1):
            random = np.random.default_rng([number, *name.encode()])
            plate = (random.random((12, 20, 3)) * 0.99).astype(np.float16).astype(np.float32)
            truth = plate[..., :1].copy()
            edit(plate)
            write_image(tmp_path / name / f"plate.{number}.exr", plate, ("R", "G", "B"))
            write_image(tmp_path / name / f"matte.{number}.exr", truth, ("A",))
        footage = {kind: str(tmp_path / name / f"{kind}.%d.exr") for kind in ("plate", "matte")}
        said: dict[str, Any] = {
            "matte_channel": "A",
            "colour": "scene-linear",
            "level": 1,
            "added_by": "ana",
            "approved_by": "Jane Doe",
            **footage,
            **more,
        }
        added = add_shot(golden, NewShot(set="hair", shot=name, **said), now=datetime(2026, 11, 22, tzinfo=UTC))
        assert added.shot in load_set(golden, "hair")[1]
        return shot_folder(golden, added.shot), added.shot

    return make


def curve(scores: ShotScores, metric: str, of: str = "candidate") -> Curve:
    (found,) = [one for one in scores.curves if one.metric == metric and one.subject == of]
    return found


def one_after_the_other(
    mattes: list[Array], truths: list[Array], threshold: float
) -> dict[str, tuple[str | None, ...]]:
    """What every curve is when one frame is scored after the other, without threads."""
    scorer = FrameScorer(threshold=threshold)
    rows = [scorer.score(matte, truth).values for matte, truth in zip(mattes, truths, strict=True)]
    columns = {metric.name: [row[at] for row in rows] for at, metric in enumerate(METRICS)}
    return {
        name: tuple(f"{one.value:.9f}" if isinstance(one, Measured) else None for one in column)
        for name, column in columns.items()
    }


def test_a_model_that_gives_the_truth_has_full_marks(add: Add) -> None:
    scores = score_shot(job(add(), Spy(red))).scores
    assert scores.frames == (1, 2, 3)
    assert (scores.set, scores.shot, scores.version, scores.width, scores.height) == ("hair", "a", 1, 20, 12)
    assert (scores.provider_ran, scores.runtime_version, scores.sandbox) == ("cpu", "1.2.3", "none")
    assert curve(scores, "jaccard:davis2017").values == ("1.000000000",) * 3
    assert curve(scores, "boundary_f:davis2017").values == ("1.000000000",) * 3
    assert curve(scores, "mad:rvm").values == ("0.000000000",) * 3
    assert {one.subject for one in scores.curves} == {"candidate"}
    assert [one.metric for one in scores.curves] == [metric.name for metric in METRICS]
    assert scores.replaced == 0


def test_the_stream_gives_what_scoring_one_frame_after_the_other_gives(add: Add) -> None:
    added = add(frames=7)
    candidate, current = Spy(green), Spy(lambda plane: red(plane) * np.float32(0.9))
    scores = score_shot(job(added, candidate, current, threshold="0.25")).scores
    truths = [red(plane) for plane in candidate.planes]
    for role, model in (("candidate", candidate), ("current", current)):
        expected = one_after_the_other([model.answer(plane) for plane in model.planes], truths, 0.25)
        assert {one.metric: one.values for one in scores.curves if one.subject == role} == expected
    assert scores.band_px is not None


def test_both_models_see_the_same_frames_in_order_and_start_anew_with_each_shot(add: Add) -> None:
    candidate, current = Spy(red), Spy(red)
    for name in ("a", "b"):
        score_shot(job(add(name, frames=2), candidate, current))
    assert candidate.resets == current.resets == [True, False, True, False]
    assert all(np.array_equal(one, other) for one, other in zip(candidate.planes, current.planes, strict=True))
    assert candidate.planes[0].dtype == np.float32
    assert candidate.planes[0].flags.c_contiguous


def test_who_goes_first_changes_with_each_frame(add: Add) -> None:
    order: list[str] = []

    def noted(name: str) -> Spy:
        def answer(plane: Array) -> Array:
            order.append(name)
            return red(plane)

        return Spy(answer)

    score_shot(job(add(frames=4), noted("candidate"), noted("current")))
    assert order == ["candidate", "current", "current", "candidate"] * 2


def test_pre_roll_is_fed_and_not_scored(add: Add) -> None:
    model = Spy(red)
    scores = score_shot(job(add(frames=5, pre_roll=2), subject(model, pre_roll=2))).scores
    assert len(model.planes) == 5
    assert scores.frames == (3, 4, 5)
    first = curve(scores, "dtssd:rvm")
    assert first.values[0] is None
    assert first.values[1] is not None
    assert first.why == "frame 2 is not scored"


def test_a_shot_with_too_little_pre_roll_cannot_be_measured(add: Add) -> None:
    added, fine, wants_two = add(pre_roll=1), subject(Spy(red), pre_roll=1), subject(Spy(red), pre_roll=2)
    score_shot(job(added, fine))
    with pytest.raises(MeasurementError, match="pre-roll: golden shot a: expected 2 frames .* found 1"):
        score_shot(job(added, fine, wants_two))


def test_states_are_carried_through_a_shot_and_dropped_after_it(add: Add) -> None:
    """The model's matte is a tenth of the number of frames that its state has seen, so the metric tells it."""

    def count(tensors: Mapping[str, Any]) -> dict[str, Any]:
        seen = tensors["seen"].max() + 1
        return {
            "pha": np.full_like(tensors["src"][:, :1], seen / 10),
            "seen_out": np.full((1, 1, 1, 1), seen, np.float32),
        }

    contract = CONTRACT.model_copy(
        update={"evaluation": "sequence", "states": (State(input="seen", output="seen_out"),), "pre_roll": 1}
    )
    model = InMemoryModel(count, contract, Tile(size=0), (PORT,))
    for name in ("a", "b"):
        added = add(name, frames=4, pre_roll=1)
        truths = Spy(red)
        score_shot(job(added, truths))
        scores = score_shot(job(added, Subject(model, contract, (PORT,), STARTED))).scores
        expected = [
            mad(np.full((12, 20), seen / 10, np.float32), red(plane))
            for seen, plane in zip((2, 3, 4), truths.planes[1:], strict=True)
        ]
        values = tuple(f"{one.value:.9f}" for one in expected if isinstance(one, Measured))
        assert curve(scores, "mad:rvm").values == values


def test_planes_come_in_the_contracts_colour_and_the_ports_order(add: Add) -> None:
    linear, display = Spy(red), Spy(red)
    backwards = Port(name="plate", channels=("B", "R"), colour="srgb")
    score_shot(job(add(frames=1), linear, subject(display, backwards, colour="srgb")))
    assert np.array_equal(display.planes[0], linear_to_srgb(linear.planes[0][..., [2, 0]]))


def test_subjects_of_equal_contracts_share_their_planes(add: Add) -> None:
    one, same, clamped = Spy(red), Spy(red), Spy(red)
    score_shot(job(add(frames=1), one, same))
    assert one.planes[0] is same.planes[0]
    score_shot(job(add("b", frames=1), one, subject(clamped, clamp="unit")))
    assert one.planes[1] is not clamped.planes[0]


def test_a_colour_that_cannot_be_reached_is_refused_with_the_shot(add: Add) -> None:
    with pytest.raises(RefusedError, match="colour: golden shot a: .* found a shot in 'raw'"):
        score_shot(job(add(colour="raw"), Spy(red)))
    assert golden_threads() == []


def test_a_shot_in_a_space_of_its_own_configuration_comes_in_the_contracts_colour(add: Add) -> None:
    folder, shot = add(frames=2)
    config = folder / "config.ocio"
    config.write_text(ocio.Config.CreateFromFile(ACES).serialize(), encoding="utf-8")
    named = {"colour": "ACEScg", "ocio_config": "config.ocio", "ocio_config_sha256": sha256(config)}
    shot = shot.model_copy(update=named)
    plain, display = Spy(red), Spy(red)
    score_shot(job((folder, shot.model_copy(update={"colour": "raw"})), subject(plain, colour="raw")))
    bundle = score_shot(job((folder, shot), subject(display, colour="srgb", clamp="unit")))
    colour = transform("ACEScg", config, "srgb", "unit")
    expected = [colour.apply(plane.astype(np.float16), PORT.channels) for plane in plain.planes]
    assert all(np.array_equal(one, other) for one, other in zip(display.planes, expected, strict=True))
    assert not np.array_equal(expected[0], linear_to_srgb(plain.planes[0])), "primaries differ"
    assert len(bundle.pictures) == 8
    config.write_text(config.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    fail(job((folder, shot), subject(Spy(red), colour="srgb")), "golden file: golden shot a: .*config.ocio")


def spoil(plate: Array) -> None:
    plate[3, 4] = np.nan
    plate[5, 6, 0] = -np.inf


def test_what_is_not_finite_in_a_plate_is_replaced_and_counted_once(add: Add) -> None:
    model = Spy(green)
    scores = score_shot(job(add(frames=2, edit=spoil), model, subject(Spy(green), clamp="unit"))).scores
    assert scores.replaced == 8
    assert (model.planes[0][3, 4] == 0).all()
    assert model.planes[0][5, 6, 0] == 0
    assert model.planes[0][5, 6, 1] > 0
    assert np.isfinite(model.planes[1]).all()


def test_what_is_not_finite_is_an_error_where_the_contract_says_so(add: Add) -> None:
    strict = subject(Spy(red), non_finite="error")
    with pytest.raises(MeasurementError, match="plate: golden shot a, frame 1: .* found 4 values of NaN or infinity"):
        score_shot(job(add(edit=spoil), strict))


def test_a_real_plate_with_nan_and_infinity_is_scored(add: Add, data: Path, tmp_path: Path, write_image: Write) -> None:
    matte = write_image(tmp_path / "truth.exr", np.eye(800)[..., None], ("A",))
    added = add("rings", frames=1, plate=str(data / "exr" / "BrightRingsNanInf.exr"), matte=str(matte))
    model = Spy(lambda plane: np.clip(red(plane), 0, 1))
    scores = score_shot(job(added, subject(model, colour="srgb"))).scores
    assert scores.replaced > 0
    assert np.isfinite(model.planes[0]).all()
    assert curve(scores, "mad:rvm").values[0] is not None


def test_outside_the_region_nothing_is_scored(add: Add, tmp_path: Path, write_image: Write) -> None:
    hold = np.zeros((12, 20, 1))
    hold[:, :10] = 1

    def wrong_on_the_right(plane: Array) -> Array:
        matte = red(plane).copy()
        matte[:, 10:] = 1 - matte[:, 10:]
        return matte

    added = add(region=write_image(tmp_path / "hold.exr", hold, ("A",)))
    scores = score_shot(job(added, Spy(wrong_on_the_right))).scores
    assert curve(scores, "jaccard:davis2017").values == ("1.000000000",) * 3
    assert curve(scores, "mad:rvm").values == ("0.000000000",) * 3


def test_a_shot_without_a_scored_frame_cannot_be_measured(add: Add) -> None:
    folder, shot = add(frames=2)
    unscored = shot.model_copy(update={"frames": tuple(f.model_copy(update={"scored": False}) for f in shot.frames)})
    with pytest.raises(MeasurementError, match="golden shot a: expected at least one frame with a matte"):
        score_shot(job((folder, unscored), Spy(red)))


def test_across_a_frame_that_may_be_missing_nothing_is_compared(add: Add) -> None:
    folder, shot = add(frames=6)
    rest = tuple(frame for frame in shot.frames if frame.number != 4)
    model = Spy(green)
    scores = score_shot(job((folder, shot.model_copy(update={"frames": rest, "missing": (4,)})), model)).scores
    assert scores.frames == (1, 2, 3, 5, 6)
    truths = [red(plane) for plane in model.planes]
    mattes = [green(plane) for plane in model.planes]
    before, after = (one_after_the_other(mattes[part], truths[part], 0.5) for part in (slice(0, 3), slice(3, 5)))
    for one in scores.curves:
        assert one.values == before[one.metric] + after[one.metric]
        if one.metric in NEEDS_NEIGHBOUR:
            assert one.values[3] is None
            assert one.why == "frame 1 is the first one; frame 4 is missing, which was allowed"


def test_why_the_frame_before_cannot_be_compared_with(add: Add) -> None:
    _, shot = add(frames=6, pre_roll=1)
    gaps = shot.model_copy(update={"frames": (*shot.frames[:2], *shot.frames[4:]), "missing": (4,)})
    assert scorers.gap_before(gaps, 2, None) == "frame 1 is not scored"
    assert scorers.gap_before(gaps, 5, 2) == "frame 4 is missing, which was allowed"
    assert scorers.gap_before(gaps.model_copy(update={"missing": None}), 5, 2) == "there is no frame 4"
    assert scorers.gap_before(gaps, 6, 5) is None


def test_another_artists_matte_is_scored_as_a_third_subject(add: Add, tmp_path: Path, write_image: Write) -> None:
    folder, shot = add(frames=4)
    others = {}
    for number in (2, 3):
        other = (np.random.default_rng(number).random((12, 20, 1)) * 0.99).astype(np.float16).astype(np.float32)
        path = write_image(folder / "second" / f"second.{number}.exr", other, ("R",))
        others[number] = (other[..., 0], path)
    frames = tuple(
        frame.model_copy(
            update={"second": f"second/second.{frame.number}.exr", "second_sha256": sha256(others[frame.number][1])}
        )
        if frame.number in others
        else frame
        for frame in shot.frames
    )
    shot = shot.model_copy(update={"frames": frames, "second_channel": "R"})
    model = Spy(red)
    scores = score_shot(job((folder, shot), model, Spy(green))).scores
    truths = [red(model.planes[number - 1]) for number in (2, 3)]
    expected = one_after_the_other([others[number][0] for number in (2, 3)], truths, 0.5)
    for one in scores.curves:
        if one.subject == "second":
            assert one.values == (None, *expected[one.metric], None)
            assert one.why is not None
            assert "there is no second matte on this frame" in one.why
    assert {one.subject for one in scores.curves} == {"candidate", "current", "second"}
    others[3][1].unlink()
    with pytest.raises(MeasurementError, match="golden shot a: .*second.3.exr, frame 3: .* found no file"):
        score_shot(job((folder, shot), Spy(red)))


def test_a_further_input_of_the_interface_comes_from_its_own_file(add: Add, write_image: Write) -> None:
    folder, shot = add(frames=2)
    trimap = np.full((12, 20, 1), 0.5, np.float32)
    path = write_image(folder / "trimap.exr", trimap, ("Y",))
    given = GoldenInput(port="trimap", file="trimap.exr", sha256=sha256(path), channels=("Y",))
    shot = shot.model_copy(update={"frames": tuple(f.model_copy(update={"inputs": (given,)}) for f in shot.frames)})
    seen = Spy(lambda plane: plane[..., 0], port="trimap")
    ports = (PORT, Port(name="trimap", channels=("alpha",), colour="raw"))
    scores = score_shot(job((folder, shot), subject(seen, *ports, colour="srgb"))).scores
    assert np.array_equal(seen.planes[0], trimap)
    assert scores.frames == (1, 2)
    gap = shot.model_copy(update={"frames": (shot.frames[0], shot.frames[1].model_copy(update={"inputs": None}))})
    with pytest.raises(MeasurementError, match="golden shot a: expected the input trimap on every frame.*not on 2"):
        score_shot(job((folder, gap), subject(seen, *ports, colour="srgb")))
    score_shot(job((folder, gap), subject(Spy(red))))


def test_an_anamorphic_plate_is_widened_and_its_matte_narrowed_where_the_contract_says_so(add: Add) -> None:
    folder, shot = add(frames=2)
    squeezed = shot.model_copy(update={"pixel_aspect": "2"})
    plain, wide = Spy(red), Spy(red)
    scores = score_shot(job((folder, squeezed), plain, subject(wide, pixel_aspect="desqueeze"))).scores
    assert plain.planes[0].shape == (12, 20, 3)
    assert np.array_equal(wide.planes[0], widen(plain.planes[0], 2.0))
    back = narrow(red(wide.planes[0]), 20)
    assert back.shape == (12, 20)
    expected = mad(back, red(plain.planes[0]))
    assert isinstance(expected, Measured)
    assert curve(scores, "mad:rvm", "current").values[0] == f"{expected.value:.9f}"


def test_the_worst_frame_is_where_the_candidate_lost_most_against_the_current(add: Add) -> None:
    """The candidate is bad on frame 2, where the current release is just as bad, and a little worse on frame 4."""
    added = add(frames=5)
    calls = {"candidate": 0, "current": 0}

    def wrong(name: str, by: dict[int, float]) -> Callable[[Array], Array]:
        def answer(plane: Array) -> Array:
            calls[name] += 1
            matte = red(plane).copy()
            matte[3, 7] += np.float32(by.get(calls[name], 0))
            return matte

        return answer

    candidate, current = Spy(wrong("candidate", {2: 0.9, 4: 0.25})), Spy(wrong("current", {2: 0.9}))
    worst = score_shot(job(added, candidate, current)).scores.worst
    assert (worst.frame, worst.x, worst.y) == (4, 7, 3)
    assert float(worst.difference) == pytest.approx(0.25)
    calls["candidate"] = 0
    alone = score_shot(job(added, candidate)).scores.worst
    assert alone.frame == 2
    assert float(alone.difference) == pytest.approx(0.9)


def test_of_equally_bad_frames_the_first_one_is_shown(add: Add) -> None:
    assert score_shot(job(add(frames=4), Spy(red), Spy(red))).scores.worst.frame == 1


def test_progress_tells_shot_frame_and_the_time_left(add: Add) -> None:
    steps: list[Progress] = []
    score_shot(job(add(frames=3), Spy(red)), steps.append)
    assert [(one.shot, one.frame, one.done, one.frames) for one in steps] == [("a", at, at, 3) for at in (1, 2, 3)]
    assert steps[0].seconds_left > 0
    assert steps[-1].seconds_left == 0


def test_times_say_how_long_each_model_and_each_stage_took(add: Add) -> None:
    bundle = score_shot(job(add(frames=4, pre_roll=1), Spy(red, frame_us=700), Spy(red, frame_us=900)))
    assert bundle.times.candidate_us == (700,) * 4
    assert bundle.times.current_us == (900,) * 4
    assert set(bundle.times.stages_us) == {"decode", "infer", "score"}
    assert bundle.times.wall_us > 0
    assert bundle.times.scores == bundle.scores.digest()


def slowly(answer: Callable[[Array], Array], seed: int) -> Callable[[Array], Array]:
    random = np.random.default_rng(seed)

    def wait(plane: Array) -> Array:
        time.sleep(random.random() * 0.01)
        return answer(plane)

    return wait


def test_the_numbers_do_not_depend_on_host_place_or_who_was_faster(add: Add, tmp_path: Path) -> None:
    folder, shot = add(frames=6)
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    folder.symlink_to(moved)
    runs = [
        score_shot(
            job((where, shot), Spy(slowly(green, seed)), Spy(slowly(red, seed + 1), frame_us=seed), host=f"host-{seed}")
        )
        for seed, where in enumerate((folder, moved, folder))
    ]
    assert len({run.scores.to_bytes() for run in runs}) == 1
    assert len({run.pictures for run in runs}) == 1
    assert len({run.times.host for run in runs}) == 3


def test_few_frames_are_in_memory_however_long_the_shot(add: Add) -> None:
    """A model that is slower than decoding: planes and mattes of long past frames are gone, those to come not there."""
    planes: list[weakref.ref[Array]] = []
    mattes: list[weakref.ref[Array]] = []
    alive: list[tuple[int, int]] = []

    class Slow:
        def infer(self, given: Mapping[str, Array], *, reset: bool) -> Inferred:
            assert reset == (not planes)
            time.sleep(0.003)
            matte = red(given["plate"]).copy()
            planes.append(weakref.ref(given["plate"]))
            mattes.append(weakref.ref(matte))
            alive.append((sum(ref() is not None for ref in planes), sum(ref() is not None for ref in mattes)))
            return Inferred(matte)

    score_shot(job(add(frames=40), Slow()))
    assert len(planes) == 40
    assert max(one for one, _ in alive) == 1, "planes that were used are dropped before the next ones are"
    assert max(other for _, other in alive) <= 5, "one in the model, one waits, one is scored, one is the worst so far"


def test_the_next_frame_is_decoded_while_a_model_works(add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    read = [threading.Event() for _ in range(5)]

    def noted(shot: GoldenShot, folder: Path, frame: GoldenFrame, channels: tuple[str, ...]) -> Image:
        image = read_plate(shot, folder, frame, channels)
        read[frame.number].set()
        return image

    monkeypatch.setattr(decoding, "read_plate", noted)
    calls: list[int] = []

    def wait_for_the_next(plane: Array) -> Array:
        calls.append(1)
        assert read[min(len(calls) + 1, 4)].wait(30), "nobody decodes meanwhile"
        return red(plane)

    score_shot(job(add(frames=4), Spy(wait_for_the_next)))
    assert len(calls) == 4


def test_a_model_works_and_both_subjects_are_scored_at_the_same_time(add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    """No scorer ends its first frame before both have begun it and the candidate is asked for the second."""
    both, asked = threading.Barrier(2), threading.Event()

    class Meeting(FrameScorer):
        met = False

        def score(self, prediction: Array, truth: Array) -> FrameScores:
            if not self.met:
                both.wait(30)
                assert asked.wait(30), "nobody infers meanwhile"
            self.met = True
            return super().score(prediction, truth)

    monkeypatch.setattr(scorers, "FrameScorer", Meeting)
    calls: list[int] = []

    def ask(plane: Array) -> Array:
        calls.append(1)
        if len(calls) == 2:
            asked.set()
        return red(plane)

    score_shot(job(add(frames=3), Spy(ask), Spy(red)))
    assert len(calls) == 3


def golden_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("golden-")]


def fail(run: ShotJob, match: str | None, kind: type[BaseException] = MeasurementError) -> BaseException:
    """Run it and see that it fails once, with the right words, and leaves no thread behind."""
    with pytest.raises(kind, match=match) as caught:
        score_shot(run)
    assert golden_threads() == []
    if isinstance(caught.value, ChangeoverError):
        assert caught.value.exit_code == 8
    return caught.value


def as_it_is(added: tuple[Path, GoldenShot]) -> tuple[Path, GoldenShot]:
    """The shot with its files as they lie there now, as if they had been added like that."""
    folder, shot = added
    frames = tuple(
        frame.model_copy(
            update={f"{kind}_sha256": sha256(folder / getattr(frame, kind)) for kind in ("plate", "matte")}
        )
        for frame in shot.frames
    )
    return folder, shot.model_copy(update={"frames": frames})


@pytest.mark.parametrize("kind", ["plate", "matte"])
def test_a_damaged_frame_cannot_be_measured_and_is_named(add: Add, kind: str) -> None:
    folder, shot = add(frames=8)
    path = folder / kind / f"{kind}.0004.exr"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    model = Spy(red)
    changed = fail(job((folder, shot), model), "golden file: golden shot a")
    damaged = fail(job(as_it_is((folder, shot)), Spy(red)), "image: golden shot a")
    assert isinstance(changed, ChangeoverError)
    assert isinstance(damaged, ChangeoverError)
    assert changed.where == damaged.where == f"golden shot a: {path}, frame 4"
    assert len(model.planes) == 3, "what comes before the damaged frame is fed, nothing behind it"


@pytest.mark.parametrize("kind", ["plate", "matte", "region"])
def test_a_changed_or_missing_file_cannot_be_measured(add: Add, tmp_path: Path, write_image: Write, kind: str) -> None:
    added = add(region=write_image(tmp_path / "hold.exr", np.ones((12, 20, 1)), ("A",)))
    path = next(added[0].rglob(f"{kind}*.exr"))
    other = write_image(tmp_path / "other.exr", np.ones((12, 20, 4)), ("R", "G", "B", "A"))
    path.chmod(0o644)
    path.write_bytes(other.read_bytes())
    fail(job(added, Spy(red)), "golden file: golden shot a: .*expected the file that was added")
    path.unlink()
    fail(job(added, Spy(red)), "golden shot a: .*found no file")


def test_a_truth_of_another_size_is_an_error_that_names_both_sizes(add: Add, write_image: Write) -> None:
    folder, shot = add()
    path = folder / "matte" / "matte.0002.exr"
    path.chmod(0o644)
    write_image(path, np.ones((12, 21, 1)), ("A",))
    fail(job(as_it_is((folder, shot)), Spy(red)), "size: golden shot a: .*frame 2: expected 20 x 12 .* found 21 x 12")


def on_frame(number: int, do: Callable[[Array], Array]) -> Callable[[Array], Array]:
    calls: list[int] = []

    def answer(plane: Array) -> Array:
        calls.append(1)
        return do(plane) if len(calls) == number else red(plane)

    return answer


def crash(_: Array) -> Array:
    raise MeasurementError("crash", where="model", expected="a matte", actual="signal 11", remedy="look")


def with_nan(plane: Array) -> Array:
    matte = red(plane).copy()
    matte[1, 2] = np.nan
    return matte


@pytest.mark.parametrize("who", ["candidate", "current"])
@pytest.mark.parametrize(
    ("do", "said"),
    [
        (crash, "crash: golden shot a, frame 3: model: expected a matte, found signal 11"),
        (with_nan, "matte: golden shot a, frame 3: expected finite values, found 1 pixels of NaN"),
        (lambda plane: red(plane)[:-1], "matte: golden shot a, frame 3: expected a matte of 20 x 12 .*, found 20 x 11"),
    ],
)
def test_a_model_that_fails_on_a_frame_is_an_error_that_names_it(
    add: Add, who: str, do: Callable[[Array], Array], said: str
) -> None:
    models = [Spy(on_frame(3, do)), Spy(red)]
    fail(job(add(frames=9), *(models if who == "candidate" else models[::-1])), said)
    assert max(len(model.planes) for model in models) == 3, "nobody goes on"


@pytest.mark.parametrize("where", ["model", "progress"])
def test_an_interrupt_ends_every_thread(add: Add, where: str) -> None:
    def interrupt(_: object) -> Any:
        raise KeyboardInterrupt

    added = add(frames=9)
    if where == "model":
        fail(job(added, Spy(on_frame(2, interrupt))), None, KeyboardInterrupt)
        return
    with pytest.raises(KeyboardInterrupt):
        score_shot(job(added, Spy(red), Spy(red)), interrupt)
    assert golden_threads() == []


def no_memory(_: Array) -> Array:
    message = "Unable to allocate 101. MiB"
    raise MemoryError(message)


def test_too_little_memory_here_is_an_error_that_names_the_shot(add: Add) -> None:
    fail(job(add(), Spy(on_frame(2, no_memory))), "out of memory: golden shot a: .*few frames of 20 x 12.*101. MiB")


@pytest.mark.parametrize("frames", [3, 30])
def test_an_error_of_a_scorer_is_raised_and_ends_the_rest(
    add: Add, monkeypatch: pytest.MonkeyPatch, frames: int
) -> None:
    class Broken(FrameScorer):
        calls = 0

        def score(self, prediction: Array, truth: Array) -> Any:
            Broken.calls += 1
            if Broken.calls > 2:
                message = "no more"
                raise ArithmeticError(message)
            return super().score(prediction, truth)

    monkeypatch.setattr(scorers, "FrameScorer", Broken)
    model = Spy(red)
    fail(job(add(frames=frames), model), "no more", ArithmeticError)
    assert len(model.planes) <= 6


def test_of_two_errors_the_one_of_the_earlier_frame_is_raised(add: Add) -> None:
    """Decoding is ahead: frame 3 is found damaged before the model has seen frame 2, on which it fails."""
    folder, shot = add(frames=6)
    (folder / "plate" / "plate.0003.exr").unlink()

    def slow_crash(plane: Array) -> Array:
        time.sleep(0.2)
        return crash(plane)

    fail(job((folder, shot), Spy(on_frame(2, slow_crash))), "crash: golden shot a, frame 2")


def test_a_reason_is_given_for_each_kind_of_gap_and_no_more_than_five() -> None:
    rows = {at: FrameScores((NotAvailable(f"reason {at}"),) * len(METRICS), 1, (0, 0, 0.0)) for at in range(9)}
    assert curves("candidate", rows, 9)[0].why == "reason 0; reason 1; reason 2; reason 3; reason 4; and 4 more"
    fine = {0: replace(rows[0], values=(Measured(-1e-12),) * len(METRICS))}
    assert curves("candidate", fine, 1)[0] == Curve(
        metric=METRICS[0].name, subject="candidate", values=("0.000000000",), why=None
    )
