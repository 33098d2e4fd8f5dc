from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from changeover_registry.errors import ChangeoverError, MeasurementError, RefusedError
from changeover_registry.records.golden import GoldenShot
from changeover_registry.records.release import Contract, Port, State, TensorIn, TensorOut, Tile
from changeover_validators.golden.colour import linear_to_srgb
from changeover_validators.golden.frames import sha256
from changeover_validators.golden.metrics import Measured, score_frame
from changeover_validators.golden.pipeline import Infers, NotScored, SetProgress, Subject, score_set
from changeover_validators.golden.shots import NewShot, add_shot, create_set, load_set, shot_folder
from changeover_validators.runtimes import interface
from changeover_validators.runtimes.in_memory import InMemoryModel

Array = np.ndarray[Any, np.dtype[np.float32]]
Write = Callable[..., Path]
Add = Callable[..., tuple[Path, tuple[GoldenShot, ...]]]
PORT = Port(name="plate", channels=("R", "G", "B"), colour="scene-linear")
CONTRACT = Contract(
    evaluation="stateless",
    inputs=(TensorIn(name="src", port="plate", channels=("R", "G", "B")),),
    output=TensorOut(name="pha", port="matte"),
    colour="scene-linear",
)


@dataclass
class Inferred:
    matte: Array
    frame_us: int = 1000


@dataclass
class Spy:
    """A model that answers with a function of its planes, and remembers what it was given."""

    answer: Callable[[Array], Array]
    frame_us: int = 1000
    planes: list[Array] = field(default_factory=list)
    resets: list[bool] = field(default_factory=list)

    def infer(self, planes: Mapping[str, Array], *, reset: bool) -> Inferred:
        self.planes.append(planes["plate"])
        self.resets.append(reset)
        return Inferred(self.answer(planes["plate"]), self.frame_us)


def red(plane: Array) -> Array:
    return plane[..., 0]


def subject(model: Infers, **changes: object) -> Subject:
    return Subject(model, CONTRACT.model_copy(update=changes), (PORT,))


@pytest.fixture
def add(tmp_path: Path, write_image: Write) -> Add:
    """Add shots whose matte is their plate's red channel; gives the site's folder and the set's shots."""
    golden = tmp_path / "golden"
    create_set(golden, "hair")

    def make(
        *names: str, frames: int = 3, edit: Callable[[Array], None] = lambda _: None, **more: object
    ) -> tuple[Path, tuple[GoldenShot, ...]]:
        for name in names:
            for number in range(1, frames + 1):
                random = np.random.default_rng([number, *name.encode()])
                plate = random.random((12, 20, 3)).astype(np.float16).astype(np.float32)
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
            add_shot(golden, NewShot(set="hair", shot=name, **said), now=datetime(2026, 11, 22, tzinfo=UTC))
        return golden, load_set(golden, "hair")[1]

    return make


def test_a_model_that_gives_the_truth_has_full_marks_on_every_shot(add: Add) -> None:
    golden, shots = add("a", "b")
    scored = score_set(shots, golden, subject(Spy(red)), None, threshold=0.5)
    found = [(score.shot, score.metric, score.frames, score.candidate, score.current) for score in scored.scores]
    assert found == [
        (shot, metric, 3, value, None)
        for shot in ("a", "b")
        for metric, value in (("jaccard", "1.000000"), ("boundary_f", "1.000000"), ("mad", "0.000000"))
    ]
    assert (scored.not_scored, scored.replaced, scored.candidate_us, scored.current_us) == ((), 0, 1000, None)


def test_a_shots_score_is_the_mean_over_its_frames_of_both_models(add: Add) -> None:
    golden, shots = add("a")
    worse, dim = Spy(lambda plane: plane[..., 1], frame_us=700), Spy(lambda plane: red(plane) * np.float32(0.9))
    scored = score_set(shots, golden, subject(worse), subject(dim), threshold=0.25)
    for metric in ("jaccard", "boundary_f", "mad"):
        (score,) = [one for one in scored.scores if one.metric == metric]
        for model, text in ((worse, score.candidate), (dim, score.current)):
            frames = [score_frame(model.answer(p), red(p), threshold=0.25) for p in model.planes]
            values = [getattr(frame, metric) for frame in frames]
            assert all(isinstance(value, Measured) for value in values)
            assert text == f"{sum(value.value for value in values) / 3:.6f}"
    assert (scored.candidate_us, scored.current_us) == (700, 1000)


def test_both_models_see_the_same_frames_in_order_and_start_anew_with_each_shot(add: Add) -> None:
    golden, shots = add("a", "b", frames=2)
    candidate, current = Spy(red), Spy(red)
    score_set(shots, golden, subject(candidate), subject(current), threshold=0.5)
    assert candidate.resets == current.resets == [True, False, True, False]
    assert all(np.array_equal(one, other) for one, other in zip(candidate.planes, current.planes, strict=True))
    assert candidate.planes[0].dtype == np.float32
    assert candidate.planes[0].flags.c_contiguous


def test_pre_roll_is_fed_and_not_scored(add: Add) -> None:
    golden, shots = add("a", frames=5, pre_roll=2)
    model = Spy(red)
    scored = score_set(shots, golden, subject(model, pre_roll=2), None, threshold=0.5)
    assert len(model.planes) == 5
    assert {score.frames for score in scored.scores} == {3}


def test_a_shot_with_too_little_pre_roll_cannot_be_measured(add: Add) -> None:
    golden, shots = add("a", pre_roll=1)
    fine, wants_two = subject(Spy(red), pre_roll=1), subject(Spy(red), pre_roll=2)
    score_set(shots, golden, fine, None, threshold=0.5)
    with pytest.raises(MeasurementError, match="pre-roll: golden shot a: expected 2 frames .* found 1"):
        score_set(shots, golden, fine, wants_two, threshold=0.5)


def test_states_are_carried_through_a_shot_and_dropped_after_it(add: Add) -> None:
    """The model's matte is a tenth of the number of frames that its state has seen."""
    golden, shots = add("a", "b", frames=3, pre_roll=1)

    def count(tensors: Mapping[str, Any]) -> dict[str, Any]:
        seen = tensors["seen"].max() + 1
        return {
            "pha": np.full_like(tensors["src"][:, :1], seen / 10),
            "seen_out": np.full((1, 1, 1, 1), seen, np.float32),
        }

    contract = CONTRACT.model_copy(
        update={"evaluation": "sequence", "states": (State(input="seen", output="seen_out"),), "pre_roll": 1}
    )
    mattes: list[float] = []

    class Recorded(InMemoryModel):
        def infer(self, planes: Mapping[str, Array], *, reset: bool) -> interface.Inferred:
            inferred = super().infer(planes, reset=reset)
            mattes.append(round(float(inferred.matte.max()), 6))
            return inferred

    model = Recorded(count, contract, Tile(size=0), (PORT,))
    scored = score_set(shots, golden, Subject(model, contract, (PORT,)), None, threshold=0.5)
    assert mattes == [0.1, 0.2, 0.3] * 2
    assert {score.frames for score in scored.scores} == {2}


def test_planes_come_in_the_contracts_colour_and_the_ports_order(add: Add) -> None:
    golden, shots = add("a", frames=1)
    linear, display = Spy(red), Spy(red)
    backwards = Port(name="plate", channels=("B", "R"), colour="srgb")
    contract = CONTRACT.model_copy(update={"colour": "srgb"})
    score_set(shots, golden, subject(linear), Subject(display, contract, (backwards,)), threshold=0.5)
    assert np.array_equal(display.planes[0], linear_to_srgb(linear.planes[0][..., [2, 0]]))


def test_a_colour_that_cannot_be_reached_is_refused_with_the_shot(add: Add) -> None:
    golden, shots = add("a", colour="raw")
    with pytest.raises(RefusedError, match="colour: golden shot a: .* found a shot in 'raw'"):
        score_set(shots, golden, subject(Spy(red)), None, threshold=0.5)


def spoil(plate: Array) -> None:
    plate[3, 4] = np.nan
    plate[5, 6, 0] = -np.inf


def test_what_is_not_finite_in_a_plate_is_replaced_and_counted(add: Add) -> None:
    golden, shots = add("a", frames=2, edit=spoil)
    model = Spy(red)
    scored = score_set(shots, golden, subject(model), None, threshold=0.5)
    assert scored.replaced == 8
    assert (model.planes[0][3, 4] == 0).all()
    assert model.planes[0][5, 6, 0] == 0
    assert model.planes[0][5, 6, 1] > 0
    assert np.isfinite(model.planes[1]).all()


def test_what_is_not_finite_is_an_error_where_the_contract_says_so(add: Add) -> None:
    golden, shots = add("a", edit=spoil)
    strict = subject(Spy(red), non_finite="error")
    with pytest.raises(MeasurementError, match="plate: golden shot a, frame 1: .* found 4 values of NaN or infinity"):
        score_set(shots, golden, strict, None, threshold=0.5)


def test_a_real_plate_with_nan_and_infinity_is_scored(add: Add, data: Path, tmp_path: Path, write_image: Write) -> None:
    matte = write_image(tmp_path / "truth.exr", np.eye(800)[..., None], ("A",))
    golden, shots = add("rings", frames=1, plate=str(data / "exr" / "BrightRingsNanInf.exr"), matte=str(matte))
    model = Spy(lambda plane: np.clip(red(plane), 0, 1))
    scored = score_set(shots, golden, subject(model, colour="srgb"), None, threshold=0.5)
    assert scored.replaced > 0
    assert np.isfinite(model.planes[0]).all()
    assert len(scored.scores) == 3


def test_outside_the_region_nothing_is_scored(add: Add, tmp_path: Path, write_image: Write) -> None:
    hold = np.zeros((12, 20, 1))
    hold[:, :10] = 1
    golden, shots = add("a", region=write_image(tmp_path / "hold.exr", hold, ("A",)))

    def wrong_on_the_right(plane: Array) -> Array:
        matte = red(plane).copy()
        matte[:, 10:] = 1 - matte[:, 10:]
        return matte

    scored = score_set(shots, golden, subject(Spy(wrong_on_the_right)), None, threshold=0.5)
    assert [score.candidate for score in scored.scores] == ["1.000000", "1.000000", "0.000000"]


def test_a_shot_without_a_scored_frame_has_no_score_and_says_why(add: Add) -> None:
    golden, (shot,) = add("a", frames=2)
    unscored = tuple(frame.model_copy(update={"scored": False}) for frame in shot.frames)
    scored = score_set((shot.model_copy(update={"frames": unscored}),), golden, subject(Spy(red)), None, threshold=0.5)
    assert scored.scores == ()
    assert scored.not_scored[0] == NotScored("a", "jaccard", "no scored frame")
    assert score_set((), golden, subject(Spy(red)), None, threshold=0.5).candidate_us == 0


def test_progress_tells_shot_and_frame(add: Add) -> None:
    golden, shots = add("a", "b", frames=2)
    steps: list[SetProgress] = []
    score_set(shots, golden, subject(Spy(red)), None, threshold=0.5, progress=steps.append)
    assert [(step.shot, step.shot_number, step.shots, step.frame, step.done, step.frames) for step in steps] == [
        ("a", 1, 2, 1, 1, 2),
        ("a", 1, 2, 2, 2, 2),
        ("b", 2, 2, 1, 1, 2),
        ("b", 2, 2, 2, 2, 2),
    ]


def fail(golden: Path, shots: tuple[GoldenShot, ...], model: Infers, match: str) -> ChangeoverError:
    with pytest.raises(MeasurementError, match=match) as caught:
        score_set(shots, golden, subject(model), None, threshold=0.5)
    assert caught.value.exit_code == 8
    return caught.value


def approved(golden: Path, shot: GoldenShot) -> tuple[GoldenShot, ...]:
    """The shot with its files as they lie there now, as if they had been added like that."""
    folder = shot_folder(golden, shot)
    frames = tuple(
        frame.model_copy(
            update={f"{kind}_sha256": sha256(folder / getattr(frame, kind)) for kind in ("plate", "matte")}
        )
        for frame in shot.frames
    )
    return (shot.model_copy(update={"frames": frames}),)


@pytest.mark.parametrize("kind", ["plate", "matte"])
def test_a_damaged_frame_cannot_be_measured_and_is_named(add: Add, kind: str) -> None:
    golden, shots = add("a")
    path = shot_folder(golden, shots[0]) / kind / f"{kind}.0002.exr"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    changed = fail(golden, shots, Spy(red), "golden file: golden shot a")
    damaged = fail(golden, approved(golden, shots[0]), Spy(red), "image: golden shot a")
    assert changed.where == damaged.where == f"golden shot a: {path}, frame 2"


@pytest.mark.parametrize("kind", ["plate", "matte", "region"])
def test_a_changed_or_missing_file_cannot_be_measured(add: Add, tmp_path: Path, write_image: Write, kind: str) -> None:
    golden, shots = add("a", region=write_image(tmp_path / "hold.exr", np.ones((12, 20, 1)), ("A",)))
    path = next(shot_folder(golden, shots[0]).rglob(f"{kind}*.exr"))
    other = write_image(tmp_path / "other.exr", np.ones((12, 20, 4)), ("R", "G", "B", "A"))
    path.write_bytes(other.read_bytes())
    fail(golden, shots, Spy(red), rf"golden file: golden shot a: .*{path.name}.* found one with sha256")
    path.unlink()
    fail(golden, shots, Spy(red), rf"golden file: golden shot a: .*{path.name}.* found no file")


@pytest.mark.parametrize(("kind", "channels"), [("plate", "RGB"), ("matte", "A")])
def test_a_frame_of_another_size_cannot_be_measured(add: Add, write_image: Write, kind: str, channels: str) -> None:
    golden, shots = add("a")
    path = shot_folder(golden, shots[0]) / kind / f"{kind}.0001.exr"
    write_image(path, np.zeros((12, 19, len(channels))), tuple(channels))
    match = "size: golden shot a: .*, frame 1: expected 20 x 12 as the plate, found 19 x 12"
    fail(golden, approved(golden, shots[0]), Spy(red), match)


def test_a_missing_channel_of_the_interface_cannot_be_measured(add: Add) -> None:
    golden, shots = add("a")
    trimap = Port(name="plate", channels=("R", "G", "B", "A"), colour="scene-linear")
    with pytest.raises(MeasurementError, match="expected channel R, G, B, A, found the channels B, G, R"):
        score_set(shots, golden, replace(subject(Spy(red)), ports=(trimap,)), None, threshold=0.5)


def test_a_matte_of_another_size_cannot_be_measured(add: Add) -> None:
    golden, shots = add("a")
    model = Spy(lambda plane: red(plane)[:, :-1])
    fail(golden, shots, model, "matte: golden shot a, frame 1: expected a matte of 20 x 12 as the plate, found 19 x 12")


def test_a_matte_with_nan_cannot_be_measured(add: Add) -> None:
    golden, shots = add("a")
    model = Spy(lambda plane: np.where(red(plane) > 0.99, np.float32(np.nan), red(plane) * 0 + np.float32(np.inf)))
    fail(golden, shots, model, "golden shot a, frame 1: expected finite values, found 240 pixels")


def test_planes_that_a_contract_does_not_take_cannot_be_measured(add: Add) -> None:
    golden, shots = add("a")
    elsewhere = CONTRACT.model_copy(update={"inputs": (TensorIn(name="src", port="trimap", channels=("R",)),)})
    model = InMemoryModel(dict, elsewhere, Tile(size=0))
    error = fail(golden, shots, model, "golden shot a: .*trimap")
    assert error.where.endswith("frame 1")


def test_a_model_that_fails_is_named_with_shot_and_frame(add: Add) -> None:
    golden, shots = add("a", "b", frames=2)
    calls: list[int] = []

    def crash_on_the_third(plane: Array) -> Array:
        calls.append(1)
        if len(calls) == 3:
            raise MeasurementError("crash", where="model", expected="a matte", actual="signal 11", remedy="look")
        return red(plane)

    fail(
        golden,
        shots,
        Spy(crash_on_the_third),
        "crash: golden shot b, frame 1: model: expected a matte, found signal 11",
    )
