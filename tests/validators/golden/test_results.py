import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from changeover_registry import canonical
from changeover_registry.errors import InvalidInputError
from changeover_registry.records.golden import GoldenFrame, GoldenShot
from changeover_registry.records.memory import MemoryPlan
from changeover_registry.records.release import Contract, FileEntry, Requires, TensorIn, TensorOut, Tile, Variant
from changeover_registry.records.scores import Curve, Picture, ScoreKey, ShotScores, ShotTimes, WorstFrame
from changeover_registry.records.verdict import OperatingPoint
from changeover_validators.golden import catalogue
from changeover_validators.golden.results import Bundle, ResultStore, score_key, subject_key

Damage = Callable[[Path], object]
POINT = OperatingPoint(variant="onnx-fp32", precision="fp32", tile=Tile(size=0), provider="cpu")
CONTRACT = Contract(
    evaluation="stateless",
    inputs=(TensorIn(name="src", port="plate", channels=("R", "G", "B")),),
    output=TensorOut(name="pha", port="matte"),
    colour="srgb",
)
VARIANT = Variant(
    id="onnx-fp32",
    runtime="onnx",
    precision="fp32",
    loaders=("python",),
    entry="model.onnx",
    files=(FileEntry(path="model.onnx", size=3, sha256="a" * 64, blocks=("a" * 64,)),),
    contract=CONTRACT,
    requires=Requires(),
)
SHOT = GoldenShot(
    set="hair",
    shot="a",
    version=1,
    alias="shot-1",
    width=20,
    height=12,
    colour="srgb",
    matte_channel="A",
    level=1,
    frames=(GoldenFrame(number=1, plate="p.exr", plate_sha256="b" * 64, matte="m.exr", matte_sha256="c" * 64),),
    added_by="ana",
    added_at="2026-11-22T00:00:00Z",
)


def a_key(shot: GoldenShot = SHOT, threshold: str = "0.5", golden_class: str = "d" * 64) -> ScoreKey:
    subject = subject_key(VARIANT, POINT)
    return score_key(shot, subject, subject, threshold=threshold, golden_class=golden_class)


def a_bundle(value: str = "0.900000000", host: str = "one", key: ScoreKey | None = None) -> Bundle:
    data = b"a picture of " + value.encode()
    scores = ShotScores(
        key=key or a_key(),
        set="hair",
        shot="a",
        version=1,
        width=20,
        height=12,
        frames=(1,),
        curves=(Curve(metric="mad:rvm", subject="candidate", values=(value,)),),
        worst=WorstFrame(frame=1, x=3, y=4, difference="0.100000000"),
        pictures=(Picture(kind="truth", file="truth.png", sha256=canonical.digest(data)),),
        provider_ran="cpu",
        runtime_version="1.2.3",
        sandbox="none",
    )
    times = ShotTimes(host=host, candidate_us=(100,), wall_us=5, scores=scores.digest())
    return Bundle(scores, times, (("truth.png", data),))


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "site" / "scores")


def folder_of(tmp_path: Path, key: ScoreKey) -> Path:
    return tmp_path / "site" / "scores" / key.digest()[:2] / key.digest()


@pytest.mark.parametrize(
    ("plan", "counts"),
    [
        (MemoryPlan(), False),
        (MemoryPlan(extend="same-as-requested", pattern=False, shrink="each-run"), False),
        (MemoryPlan(initial_chunk_bytes=4096), False),
        (MemoryPlan(freeze=True), True),
        (MemoryPlan(cudnn_search="heuristic"), True),
        (MemoryPlan(cudnn_max_workspace=False), True),
    ],
)
def test_a_memory_plan_opens_a_score_only_where_it_may_change_a_number(plan: MemoryPlan, counts: bool) -> None:
    without, under = subject_key(VARIANT, POINT), subject_key(VARIANT, POINT, plan)

    assert (under != without) is counts


def test_what_was_put_is_there_under_its_key(store: ResultStore, tmp_path: Path) -> None:
    bundle = a_bundle()
    ref = store.put(bundle)
    assert (ref.shot, ref.key, ref.digest) == ("a", bundle.scores.key.digest(), bundle.scores.digest())
    assert store.get(bundle.scores.key) == bundle.scores
    assert store.bundle(bundle.scores.key) == bundle
    assert store.picture(ref.key, bundle.scores.pictures[0]) == bundle.pictures[0][1]
    place = folder_of(tmp_path, bundle.scores.key)
    assert sorted(path.name for path in place.iterdir()) == ["scores.json", "times.json", "truth.png"]
    assert canonical.digest((place / "scores.json").read_bytes()) == ref.digest
    assert list((tmp_path / "site" / "scores" / ".staging").iterdir()) == []


@pytest.mark.parametrize(
    "lie",
    [
        {"curves": (Curve(metric="mad:rvm", subject="candidate", values=("0.1", "0.1")),)},
        {"curves": (Curve(metric="mad:rvm", subject="candidate", values=()),)},
        {"curves": (Curve(metric="mad:rvm", subject="candidate", values=("0.1",)),) * 2},
        {"curves": (Curve(metric="mad:rvm", subject="candidate", values=("9" * 600,)),)},
        {"frames": (2, 1), "curves": ()},
        {"frames": (1, 1), "curves": ()},
    ],
)
def test_a_result_whose_curves_are_not_of_its_frames_is_no_result(store: ResultStore, lie: dict[str, object]) -> None:
    bundle = a_bundle()
    scores = bundle.scores.model_copy(update=lie)
    times = bundle.times.model_copy(update={"scores": scores.digest()})
    with pytest.raises(InvalidInputError):
        store.put(Bundle(scores, times, bundle.pictures))
    assert store.get(a_key()) is None


def test_a_key_that_nobody_scored_has_no_result(store: ResultStore) -> None:
    assert store.get(a_key()) is None
    store.put(a_bundle())
    assert store.get(a_key(threshold="0.25")) is None


def _contract(**changes: object) -> Variant:
    return VARIANT.model_copy(update={"contract": CONTRACT.model_copy(update=changes)})


@pytest.mark.parametrize(
    "changed",
    [
        VARIANT.model_copy(update={"files": (VARIANT.files[0].model_copy(update={"sha256": "e" * 64}),)}),
        VARIANT.model_copy(update={"files": (*VARIANT.files, VARIANT.files[0])}),
        _contract(colour="scene-linear"),
        _contract(pad="zero"),
        _contract(clamp="unit"),
        _contract(output=CONTRACT.output.model_copy(update={"rule": "as-is"})),
    ],
)
def test_other_files_or_another_contract_of_either_release_are_another_key(changed: Variant) -> None:
    same, other = subject_key(VARIANT, POINT), subject_key(changed, POINT)
    keys = {
        score_key(SHOT, one, two, threshold="0.5", golden_class="d" * 64).digest()
        for one, two in ((same, same), (other, same), (same, other), (same, None))
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    "point",
    [
        POINT.model_copy(update={"tile": Tile(size=256, overlap=32)}),
        POINT.model_copy(update={"provider": "cuda"}),
        POINT.model_copy(update={"precision": "fp16"}),
    ],
)
def test_another_operating_point_is_another_key(point: OperatingPoint) -> None:
    subjects = subject_key(VARIANT, POINT), subject_key(VARIANT, point)
    keys = {score_key(SHOT, one, None, threshold="0.5", golden_class="d" * 64).digest() for one in subjects}
    assert len(keys) == 2


def test_another_shot_truth_threshold_class_or_metric_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = SHOT.frames[0].model_copy(update={"matte_sha256": "e" * 64})
    keys = [
        a_key(),
        a_key(SHOT.model_copy(update={"version": 2})),
        a_key(SHOT.model_copy(update={"frames": (frame,)})),
        a_key(SHOT.model_copy(update={"colour": "scene-linear"})),
        a_key(threshold="0.25"),
        a_key(golden_class="e" * 64),
    ]
    monkeypatch.setattr(catalogue, "VERSION", "changeover-metrics/2")
    keys.append(a_key())
    assert len({key.digest() for key in keys}) == len(keys)


def test_the_name_of_a_variant_or_its_loaders_is_no_part_of_the_key() -> None:
    other = VARIANT.model_copy(update={"loaders": ("mlserver",), "requires": Requires(opset=17)})
    assert subject_key(other, POINT) == subject_key(VARIANT, POINT)


def test_equal_bundles_are_equal_bytes_that_read_back() -> None:
    data = a_bundle().to_bytes()
    assert data == a_bundle().to_bytes()
    assert Bundle.from_bytes(data, where="worker 1") == a_bundle()


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.6, 0.99])
def test_a_cut_bundle_is_an_error_that_names_its_origin(keep: float) -> None:
    data = a_bundle().to_bytes()
    with pytest.raises(InvalidInputError, match="golden result: worker 1"):
        Bundle.from_bytes(data[: int(len(data) * keep)], where="worker 1")


def test_every_flipped_byte_of_a_bundle_is_seen_or_means_nothing() -> None:
    bundle = a_bundle()
    data = bundle.to_bytes()
    for place in range(0, len(data), 7):
        bad = bytearray(data)
        bad[place] ^= 0x5A
        try:
            assert Bundle.from_bytes(bytes(bad), where="worker 1") == bundle
        except InvalidInputError:
            continue


def test_a_bundle_with_another_picture_is_refused(store: ResultStore) -> None:
    bundle = a_bundle()
    forged = Bundle(bundle.scores, bundle.times, (("truth.png", b"another"),))
    with pytest.raises(InvalidInputError, match="the pictures that the record names"):
        store.put(forged)
    with pytest.raises(InvalidInputError, match="the pictures that the record names"):
        Bundle.from_bytes(forged.to_bytes(), where="worker 1")
    assert store.get(bundle.scores.key) is None


def test_a_bundle_that_would_write_elsewhere_is_refused(store: ResultStore, tmp_path: Path) -> None:
    bundle = a_bundle()
    data = b"a picture"
    for name in ("../../escape.png", "deep/picture.png", "scores.json"):
        picture = Picture.model_construct(kind="truth", crop=False, file=name, sha256=canonical.digest(data))
        scores = bundle.scores.model_copy(update={"pictures": (picture,)})
        times = bundle.times.model_copy(update={"scores": scores.digest()})
        with pytest.raises(InvalidInputError, match="PNG files beside the record"):
            store.put(Bundle(scores, times, ((name, data),)))
    assert list(tmp_path.rglob("*.png")) == []


def _forge(place: Path) -> None:
    record = json.loads((place / "scores.json").read_bytes())
    record["curves"][0]["values"] = ["0.000000001"]
    (place / "scores.json").write_bytes(canonical.dumps(record))


def _pipe(place: Path) -> None:
    (place / "scores.json").unlink()
    os.mkfifo(place / "scores.json")


def _of_another_key(place: Path) -> None:
    other = a_bundle(key=a_key(threshold="0.25"))
    for name, data in other.files():
        (place / name).write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda place: (place / "scores.json").write_bytes((place / "scores.json").read_bytes()[:-9]),
        lambda place: (place / "scores.json").write_bytes(b""),
        lambda place: (place / "times.json").write_bytes(b"{}"),
        lambda place: (place / "times.json").unlink(),
        lambda place: (place / "truth.png").unlink(),
        lambda place: (place / "truth.png").write_bytes(b"another"),
        pytest.param(
            _pipe,
            marks=pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes"),
        ),
        _forge,
        _of_another_key,
    ],
)
def test_a_damaged_or_forged_result_is_not_believed_and_is_replaced(
    store: ResultStore, tmp_path: Path, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = a_bundle()
    store.put(bundle)
    damage(folder_of(tmp_path, bundle.scores.key))
    assert store.get(bundle.scores.key) is None
    assert "scored again" in caplog.text
    store.put(bundle)
    assert store.bundle(bundle.scores.key) == bundle
    assert list((tmp_path / "site" / "scores" / ".staging").iterdir()) == []


def test_a_damaged_picture_is_an_error_that_names_it(store: ResultStore, tmp_path: Path) -> None:
    bundle = a_bundle()
    ref = store.put(bundle)
    (folder_of(tmp_path, bundle.scores.key) / "truth.png").write_bytes(b"another")
    with pytest.raises(InvalidInputError, match="truth.png: expected the picture"):
        store.picture(ref.key, bundle.scores.pictures[0])


def test_of_two_results_the_first_one_stands(store: ResultStore, caplog: pytest.LogCaptureFixture) -> None:
    first, second = a_bundle("0.900000000"), a_bundle("0.800000000")
    ref = store.put(first)
    assert store.put(a_bundle("0.900000000", host="two")) == ref
    assert caplog.text == ""
    assert store.put(second) == ref
    assert "gave other numbers" in caplog.text
    assert store.get(first.scores.key) == first.scores


def test_many_writers_of_one_key_leave_one_whole_result(store: ResultStore, tmp_path: Path) -> None:
    bundle = a_bundle()
    refs: list[str] = []
    start = threading.Barrier(8)

    def write(host: str) -> None:
        start.wait()
        refs.append(store.put(a_bundle(host=host)).digest)

    threads = [threading.Thread(target=write, args=(f"host-{at}",)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refs == [bundle.scores.digest()] * 8
    assert store.get(bundle.scores.key) == bundle.scores
    assert len(list((tmp_path / "site" / "scores" / bundle.scores.key.digest()[:2]).iterdir())) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_reader_needs_no_right_to_write(store: ResultStore, tmp_path: Path) -> None:
    bundle = a_bundle()
    store.put(bundle)
    every = [tmp_path / "site", *(tmp_path / "site").rglob("*")]
    for path in every:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert store.get(bundle.scores.key) == bundle.scores
        with pytest.raises(PermissionError):
            store.put(a_bundle(key=a_key(threshold="0.25")))
    finally:
        for path in every:
            path.chmod(0o755)


def test_reading_writes_nothing(store: ResultStore, tmp_path: Path) -> None:
    bundle = a_bundle()
    store.put(bundle)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "site").rglob("*")}
    assert store.get(bundle.scores.key) is not None
    assert store.get(a_key(threshold="0.25")) is None
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "site").rglob("*")} == before


def test_what_a_killed_writer_left_is_swept_a_day_later(store: ResultStore, tmp_path: Path) -> None:
    staging = tmp_path / "site" / "scores" / ".staging"
    (staging / "old").mkdir(parents=True)
    (staging / "new").mkdir()
    (staging / "old" / "scores.json").write_bytes(b"half")
    long_ago = (staging / "new").stat().st_mtime - 25 * 3600
    os.utime(staging / "old", (long_ago, long_ago))
    store.put(a_bundle())
    assert [path.name for path in staging.iterdir()] == ["new"]
