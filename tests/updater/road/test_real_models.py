"""Real models on real plates, by the contracts that docs/how-to/write-a-contract.md writes, through the real child."""

import os
import re
import statistics
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import OpenEXR
import OpenImageIO as oiio  # noqa: N813 - the name that its own documentation uses
import pytest
from onnx import TensorProto, helper, numpy_helper

from changeover_registry.records.golden import GoldenShot
from changeover_registry.records.release import Contract, Release, Tile
from changeover_registry.records.scores import ScoreKey, SubjectKey
from changeover_registry.records.verdict import OperatingPoint
from changeover_updater.release_folder import read_release
from changeover_updater.vendor import smoke
from changeover_validators.golden.pipeline import ShotJob, Subject, score_shot
from changeover_validators.golden.sets import create_set, load_set, shot_folder
from changeover_validators.golden.shots import NewShot, add_shot
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.process import ModelProcess
from changeover_validators.runtimes.sandbox import available

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "how-to" / "write-a-contract.md"
MODELS = ("sinet", "prisma", "deeplab")

pytestmark = pytest.mark.skipif(available().name is None, reason="nothing isolates a child on this machine")


@dataclass(frozen=True)
class Scored:
    """Means over the shots."""

    jaccard: float
    mad: float


@pytest.fixture(scope="module")
def data() -> Path:
    place = Path(os.environ.get("CHANGEOVER_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (place / "models").is_dir():
        pytest.skip(f"no real models at {place}")
    return place


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def releases(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[Path, Release]]:
    """The three releases as the page has them, smoked in the sandbox, each with its folder."""
    head, *variants = blocks("toml")
    root = tmp_path_factory.mktemp("portraits")
    made = {}
    for name, variant in zip(MODELS, variants, strict=True):
        folder = root / name
        (folder / "onnx-fp32").mkdir(parents=True)
        (folder / "release.toml").write_text(f"{head}\n{variant}", encoding="utf-8")
        target = folder / "onnx-fp32" / "model.onnx"
        target.write_bytes((data / "models" / f"{name}.onnx").read_bytes())
        if name == "deeplab":
            with_sigmoid(target)
        smoke(folder, interpreter=sys.executable)
        made[name] = (folder / "onnx-fp32", read_release(folder))
    return made


def with_sigmoid(path: Path) -> None:
    """Do to the file what the page's own lines do."""
    (code,) = blocks("python")
    here = {"deeplab.onnx": str(path), "model.onnx": str(path)}
    for name, place in here.items():
        code = code.replace(f'"{name}"', repr(place))
    exec(compile(code, str(PAGE), "exec"), {})  # noqa: S102 - the lines are this repository's own page


@pytest.fixture(scope="module")
def shots(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, GoldenShot]]:
    """Each photograph as it is, mirrored, and darker and cut: six scene-linear shots of one frame."""
    root = tmp_path_factory.mktemp("golden")
    create_set(root / "site", "portraits")
    sources = {
        "lemur": (pixels(data / "plates/lemur/lemur.png")[..., :3], pixels(data / "plates/lemur/lemur_alpha.png")),
        "gt05": (pixels(data / "plates/gt05/merged_GT05.jpg"), pixels(data / "plates/gt05/alpha_GT05.jpg")),
    }
    for name, (plate, matte) in sources.items():
        whole = (linear(plate), matte[..., 0])
        kinds = {
            "plain": whole,
            "mirrored": tuple(image[:, ::-1] for image in whole),
            "dark-and-cut": (whole[0][40:, 60:] * np.float32(0.4), whole[1][40:, 60:]),
        }
        for kind, (one, truth) in kinds.items():
            add(root, f"{name}-{kind}", one, truth)
    _, found = load_set(root / "site", "portraits")
    return [(shot_folder(root / "site", shot), shot) for shot in found]


def pixels(path: Path) -> Any:
    return np.asarray(oiio.ImageBuf(str(path)).get_pixels(oiio.FLOAT), np.float32)


def linear(srgb: Any) -> Any:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def add(root: Path, shot: str, plate: Any, matte: Any) -> None:
    folder = root / "plates" / shot
    folder.mkdir(parents=True)
    for name, channels in (("plate", {"RGB": plate}), ("matte", {"A": matte})):
        held = {key: np.ascontiguousarray(value) for key, value in channels.items()}
        OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION}, held).write(str(folder / f"{name}.1.exr"))
    new = NewShot(
        set="portraits", shot=shot, plate=str(folder / "plate.%d.exr"), matte=str(folder / "matte.%d.exr"),
        matte_channel="A", colour="scene-linear", level=2, added_by="ana", approved_by="Jane Doe",
    )  # fmt: skip
    add_shot(root / "site", new, now=datetime(2026, 11, 22, tzinfo=UTC))


def trivial(path: Path) -> None:
    """A net that knows nothing: every pixel is as much a person as it is bright."""
    weights = numpy_helper.from_array(np.array([0.2126, 0.7152, 0.0722], np.float32).reshape(1, 3, 1, 1), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "grey",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, "h", "w"])],
        [weights],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


@pytest.fixture(scope="module")
def scores(
    releases: Mapping[str, tuple[Path, Release]],
    shots: list[tuple[Path, GoldenShot]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapping[str, Scored]:
    """Every model by its own contract, the trivial one, and SINet by three contracts that are not its own."""
    subjects: dict[str, tuple[Path, Contract, Release]] = {
        name: (folder, release.variants[0].contract, release) for name, (folder, release) in releases.items()
    }
    folder, own, release = subjects["sinet"]
    (tensor,) = own.inputs
    wrong = {
        "sinet, not normalised": own.model_copy(
            update={"inputs": (tensor.model_copy(update={"mean": (), "scale": ()}),)}
        ),
        "sinet, red first": own.model_copy(
            update={"inputs": (tensor.model_copy(update={"channels": ("R", "G", "B")}),)}
        ),
        "sinet, fed scene-linear": own.model_copy(update={"colour": "scene-linear"}),
    }
    subjects |= {name: (folder, contract, release) for name, contract in wrong.items()}
    grey = tmp_path_factory.mktemp("grey")
    trivial(grey / "model.onnx")
    plain = own.model_copy(
        update={
            "inputs": (tensor.model_copy(update={"name": "x", "mean": (), "scale": (), "channels": ("R", "G", "B")}),),
            "output": own.output.model_copy(update={"name": "y", "channel": 0}),
            "resize": None,
        }
    )
    subjects["grey"] = (grey, plain, release)
    return {name: score(*subject, shots) for name, subject in subjects.items()}


def score(folder: Path, contract: Contract, release: Release, shots: list[tuple[Path, GoldenShot]]) -> Scored:
    request = RunRequest(
        interpreter=sys.executable, folder=folder, entry="model.onnx", runtime="onnx", contract=contract,
        tile=Tile(size=0), provider="cpu", sandbox="required", wall_seconds=60, ram_mib=4096,
        ports=release.interface.inputs,
    )  # fmt: skip
    with ModelProcess(request) as process:
        subject = Subject(process, contract, release.interface.inputs, process.started)
        curves = [curve for folder_, shot in shots for curve in score_shot(job(folder_, shot, subject)).scores.curves]
    return Scored(*(mean(curves, metric) for metric in ("jaccard:davis2017", "mad:rvm")))


def job(folder: Path, shot: GoldenShot, subject: Subject) -> ShotJob:
    point = OperatingPoint(variant="onnx-fp32", precision="fp32", tile=Tile(size=0), provider="cpu")
    of = SubjectKey(files=("a" * 64,), contract="b" * 64, point=point)
    key = ScoreKey(shot=shot.digest(), candidate=of, threshold="0.5", metrics="m", golden_class="c" * 64)
    return ShotJob(shot, folder, key, subject, None, "host")


def mean(curves: list[Any], metric: str) -> float:
    return statistics.fmean(float(value) for curve in values_of(curves, metric) for value in curve)


def values_of(curves: list[Any], metric: str) -> Iterator[tuple[str, ...]]:
    yield from (curve.values for curve in curves if curve.metric == metric)


@pytest.mark.parametrize("name", MODELS)
def test_a_real_model_by_the_contract_of_the_page_is_far_above_one_that_knows_nothing(
    scores: Mapping[str, Scored], name: str
) -> None:
    assert scores[name].jaccard > scores["grey"].jaccard + 0.2, scores
    assert scores[name].mad < scores["grey"].mad - 0.1, scores


def test_the_real_models_rank_as_they_do_by_eye(scores: Mapping[str, Scored]) -> None:
    """SINet and prisma-net find both subjects; DeepLab, trained on people alone, misses parts of the animal."""
    assert min(scores["sinet"].jaccard, scores["prisma"].jaccard) > 0.85, scores
    assert scores["deeplab"].jaccard < min(scores["sinet"].jaccard, scores["prisma"].jaccard), scores


@pytest.mark.parametrize("wrong", ["sinet, not normalised", "sinet, red first", "sinet, fed scene-linear"])
def test_a_model_by_a_wrong_contract_ranks_below_its_right_self(scores: Mapping[str, Scored], wrong: str) -> None:
    assert scores[wrong].jaccard < scores["sinet"].jaccard - 0.02, scores
    assert scores[wrong].mad > scores["sinet"].mad + 0.01, scores


def test_the_table_of_the_page_is_what_was_measured(scores: Mapping[str, Scored]) -> None:
    told = dict(re.findall(r"^\| ([^|]+) \| (0\.\d\d) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    names = {
        "as above": "sinet",
        "channels in the order R, G, B": "sinet, red first",
        "scene-linear values in place of sRGB": "sinet, fed scene-linear",
        "without mean and scale": "sinet, not normalised",
    }

    assert {row: float(value) for row, value in told.items()} == {
        row: pytest.approx(scores[name].jaccard, abs=0.011) for row, name in names.items()
    }
