"""What scoring a long 4K shot costs: memory beyond the models' own, and time against what the machine could do at best.

    python -m changeover_validators.golden.bench_pipeline [--frames 300] [--folder SCRATCH]

Writes a few distinct plates (RGB half, ZIP, with grain) and mattes, and scores a shot that shows them over and over, so
the disk stays small; each frame is hashed and decoded for real. Two small ONNX models run in real isolated children.
First each stage runs alone with the threads that it has in the pipeline, and each model alone with the same plates.
Then the whole shot runs. The bound is the larger of the slowest stage and all processor time over the cores.

What others use of the machine meanwhile is measured and told: the ratio means something only where that is near none.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import OpenImageIO as oiio  # noqa: N813 - the name that its own documentation uses

from changeover_registry.records.golden import GoldenFrame, GoldenShot
from changeover_registry.records.release import Contract, Port, TensorIn, TensorOut, Tile
from changeover_registry.records.scores import ScoreKey, SubjectKey
from changeover_registry.records.verdict import OperatingPoint
from changeover_validators.golden.catalogue import VERSION
from changeover_validators.golden.decoding import Ahead, Decoded
from changeover_validators.golden.frames import sha256
from changeover_validators.golden.jobs import Plane, ShotJob, Subject
from changeover_validators.golden.pipeline import score_shot
from changeover_validators.golden.results import Bundle
from changeover_validators.golden.scorers import Given, Scorer
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.process import ModelProcess
from changeover_validators.runtimes.watch import family_memory, family_pids

__all__ = ["CONTRACT", "PORT", "Figures", "Footage", "main", "measure", "opened", "write_footage", "write_model"]

PORT = Port(name="plate", channels=("R", "G", "B"), colour="scene-linear")
CONTRACT = Contract(
    evaluation="stateless",
    inputs=(TensorIn(name="src", port="plate", channels=("R", "G", "B")),),
    output=TensorOut(name="pha", port="matte"),
    colour="srgb",
    resize=(512, 288),
)
_POINT = OperatingPoint(variant="onnx-fp32", precision="fp32", tile=Tile(size=0), provider="cpu")
_MIB = 2**20
_LOOK_SECONDS = 0.05
_DISTINCT = 6
_SAMPLE = 12
"""Frames of a stage alone, and of a model alone: enough for a mean, and for memory to have reached its height."""


@dataclass(frozen=True, slots=True)
class Footage:
    """A shot on the disk: its record, and the folder of its files."""

    shot: GoldenShot
    folder: Path


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured. Seconds for the whole shot, bytes resident.

    Attributes:
        frames: How many there were.
        wall: The pipeline, start to end.
        cpu: Processor time of all processes meanwhile.
        cores: That this process may use.
        others: How many cores others kept busy meanwhile.
        stages: Each stage alone, at its thread count, scaled to the whole shot.
        peak_bytes: The highest sum over all processes.
        model_bytes: What the models' children reach alone on the same plates.
    """

    frames: int
    wall: float
    cpu: float
    cores: int
    others: float
    stages: Mapping[str, float]
    peak_bytes: int
    model_bytes: int

    @property
    def bound(self) -> float:
        """The larger of the slowest stage and all processor time over the cores, in seconds."""
        return max(*self.stages.values(), self.cpu / self.cores)

    @property
    def beyond_bytes(self) -> int:
        """Memory that is not the models' own."""
        return self.peak_bytes - self.model_bytes

    def lines(self) -> Iterator[str]:
        """The figures as text."""
        yield f"{self.frames} frames: {self.wall:.1f} s, {self.wall / self.frames:.3f} s a frame"
        for name, seconds in self.stages.items():
            yield f"  {name} alone: {seconds:.1f} s, {seconds / self.frames:.3f} s a frame"
        yield f"  processor time {self.cpu:.1f} s on {self.cores} cores, bound {self.bound:.1f} s"
        yield f"  it took {self.wall / self.bound:.2f} times that; others kept {self.others:.2f} cores busy meanwhile"
        mib = [count / _MIB for count in (self.peak_bytes, self.model_bytes, self.beyond_bytes)]
        yield f"  peak of all processes {mib[0]:.0f} MiB, models alone {mib[1]:.0f} MiB, beyond them {mib[2]:.0f} MiB"


def write_footage(folder: Path, *, frames: int, distinct: int, size: tuple[int, int]) -> Footage:
    """A shot of `frames` frames that shows `distinct` different ones in turn; `size` is (width, height)."""
    width, height = size
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(distinct):
        matte = _figure(width, height, number)
        _write(folder / f"plate.{number}.exr", _plate(matte, number), ("R", "G", "B"))
        _write(folder / f"matte.{number}.exr", matte[..., None], ("A",))
    made = [_frame(folder, number + 1, number % distinct) for number in range(distinct)]
    every = tuple(made[at % distinct].model_copy(update={"number": 1001 + at}) for at in range(frames))
    shot = GoldenShot(
        set="bench",
        shot="long",
        version=1,
        alias="long",
        width=width,
        height=height,
        colour="scene-linear",
        matte_channel="A",
        level=3,
        frames=every,
        added_by="bench",
        added_at="2026-01-01T00:00:00Z",
    )
    return Footage(shot, folder)


def write_model(path: Path, *, bias: float) -> Path:
    """A small convolutional net, image [1, 3, H, W] to matte [1, 1, H, W]; `bias` makes two of them differ."""
    import onnx  # The one place of this package that writes a model.
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(7)
    shapes = {"a": (8, 3, 3, 3), "b": (8, 8, 3, 3), "c": (1, 8, 3, 3)}
    weights = [
        numpy_helper.from_array(random.normal(0, 0.2, shape).astype(np.float32), n) for n, shape in shapes.items()
    ]
    weights.append(numpy_helper.from_array(np.array([bias], np.float32), "d"))
    nodes = [
        helper.make_node("Conv", ["src", "a"], ["x"], pads=[1] * 4),
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Conv", ["y", "b"], ["z"], pads=[1] * 4),
        helper.make_node("Relu", ["z"], ["w"]),
        helper.make_node("Conv", ["w", "c", "d"], ["v"], pads=[1] * 4),
        helper.make_node("Sigmoid", ["v"], ["pha"]),
    ]
    image = helper.make_tensor_value_info("src", TensorProto.FLOAT, [1, 3, "H", "W"])
    matte = helper.make_tensor_value_info("pha", TensorProto.FLOAT, [1, 1, "H", "W"])
    graph = helper.make_graph(nodes, "bench", [image], [matte], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


@contextmanager
def opened(model: Path) -> Iterator[Subject]:
    """A model in its isolated child, ready to be scored."""
    request = RunRequest(
        interpreter=sys.executable,
        folder=model.parent,
        entry=model.name,
        runtime="onnx",
        contract=CONTRACT,
        tile=Tile(size=0),
        provider="cpu",
        sandbox="required",
        wall_seconds=300,
        ram_mib=8192,
        ports=(PORT,),
    )
    with ModelProcess(request) as process:
        yield Subject(process, CONTRACT, (PORT,), process.started)


def measure(footage: Footage, models: tuple[Path, Path], *, sample: int = _SAMPLE) -> tuple[Figures, Bundle]:
    """Each stage alone and each model alone on the first `sample` frames, then the whole shot, with the same models."""
    frames = len(footage.shot.frames)
    with ExitStack() as stack:
        job = _job(footage, *(stack.enter_context(opened(model)) for model in models))
        seconds, model_bytes = _alone(_job(_first(footage, sample), job.candidate, job.current))
        with _Meter() as meter:
            bundle = score_shot(job)
    figures = Figures(
        frames=frames,
        wall=meter.wall,
        cpu=meter.cpu,
        cores=_cores(),
        others=meter.others,
        stages={name: one * frames / sample for name, one in seconds.items()},
        peak_bytes=meter.peak_bytes,
        model_bytes=model_bytes,
    )
    return figures, bundle


class _Meter(threading.Thread):
    """Watches this process and all below it for the length of a block: wall and processor seconds, resident bytes."""

    def __init__(self) -> None:
        super().__init__(name="bench-meter", daemon=True)
        self._done = threading.Event()
        self.wall = self.cpu = self.others = 0.0
        self.peak_bytes = 0

    def run(self) -> None:
        while not self._done.wait(_LOOK_SECONDS):
            self.peak_bytes = max(self.peak_bytes, family_memory(os.getpid()).now_bytes)

    def __enter__(self) -> Self:
        self._before = time.perf_counter(), _family_cpu(), _machine_cpu()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        wall, cpu, machine = self._before
        self.wall, self.cpu = time.perf_counter() - wall, _family_cpu() - cpu
        self.others = max(_machine_cpu() - machine - self.cpu, 0.0) / self.wall
        self._done.set()
        self.join()


def _family_cpu() -> float:
    """Processor seconds of this process and all below it."""
    tick = os.sysconf("SC_CLK_TCK")
    total = 0.0
    for pid in family_pids(os.getpid()):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / tick
    return total


def _machine_cpu() -> float:
    """Processor seconds that the whole machine has used: all but idle and waiting."""
    fields = [int(text) for text in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def _alone(job: ShotJob) -> tuple[dict[str, float], int]:
    """Seconds of each stage alone, and the bytes that the models' children reach."""
    subjects, frames = job.subjects, len(job.shot.frames)
    first = _decode(job)
    seconds = {"decode": _timed(lambda: _decode(job))}
    mattes = [subject.model.infer(first.planes[at], reset=True).matte for at, subject in enumerate(subjects)]
    seconds["infer"] = _timed(lambda: _infer(subjects, first, frames))
    _score(job, mattes, first, 1)  # The first time compiles.
    seconds["score"] = _timed(lambda: _score(job, mattes, first, frames))
    own = sum(int(getattr(subject.model, "peak_rss_bytes", 0)) for subject in subjects)
    return seconds, own


def _decode(job: ShotJob) -> Decoded:
    """Every frame as the pipeline decodes it, dropped; answers the last one."""
    ahead = Ahead(job)
    ahead.start()
    for decoded in ahead.line:
        last = decoded
    ahead.join()
    return last


def _infer(subjects: Sequence[Subject], decoded: Decoded, frames: int) -> None:
    for _ in range(frames):
        for at, subject in enumerate(subjects):
            subject.model.infer(decoded.planes[at], reset=False)


def _score(job: ShotJob, mattes: Sequence[Plane], decoded: Decoded, frames: int) -> None:
    if decoded.truth is None:
        raise ValueError(decoded.frame)
    scorers = [Scorer(str(at), job.shot, threshold=0.5, region=None) for at in range(len(mattes))]
    for scorer in scorers:
        scorer.start()
    for place in range(frames):
        for scorer, matte in zip(scorers, mattes, strict=True):
            scorer.line.put(Given(place, place, matte, decoded.truth))
    for scorer in scorers:
        scorer.line.end()
        scorer.join()


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _first(footage: Footage, count: int) -> Footage:
    shot = footage.shot
    return Footage(shot.model_copy(update={"frames": shot.frames[:count]}), footage.folder)


def _job(footage: Footage, candidate: Subject, current: Subject | None) -> ShotJob:
    digests = [sha256(Path(__file__)), sha256(Path(footage.folder / footage.shot.frames[0].plate))]
    keys = [SubjectKey(files=(digest,), contract=digests[0], point=_POINT) for digest in digests]
    key = ScoreKey(
        shot=footage.shot.digest(),
        candidate=keys[0],
        current=keys[1],
        threshold="0.5",
        metrics=VERSION,
        golden_class=digests[0],
    )
    return ShotJob(footage.shot, footage.folder, key, candidate, current, "bench")


def _frame(folder: Path, number: int, which: int) -> GoldenFrame:
    plate, matte = f"plate.{which}.exr", f"matte.{which}.exr"
    return GoldenFrame(
        number=number,
        plate=plate,
        plate_sha256=sha256(folder / plate),
        matte=matte,
        matte_sha256=sha256(folder / matte),
    )


def _figure(width: int, height: int, number: int) -> Plane:
    """A figure with a frayed, soft edge that moves from frame to frame; float32 [H, W]."""
    y, x = np.ogrid[:height, :width]
    across, down = x - width * (0.4 + 0.01 * number), y - height * 0.5
    angle = np.arctan2(down, across)
    edge = height * (0.3 + 0.02 * np.sin(24 * angle) + 0.01 * np.sin(97 * angle + number))
    soft = 0.5 + (edge - np.hypot(across, down)) / (height * 0.01)
    figure: Plane = np.clip(soft, 0, 1).astype(np.float32)
    return figure


def _plate(matte: Plane, number: int) -> Plane:
    """A plate of that figure, with grain: it must compress as badly as a photographed one."""
    grain = np.random.default_rng(number).standard_normal(matte.shape, np.float32)[..., None] * np.float32(0.01)
    figure, ground = np.array([0.6, 0.4, 0.3], np.float32), np.array([0.05, 0.12, 0.2], np.float32)
    plate: Plane = ground + matte[..., None] * (figure - ground) + grain
    return plate


def _write(path: Path, pixels: Plane, channels: Sequence[str]) -> None:
    height, width, count = pixels.shape
    spec = oiio.ImageSpec(width, height, count, "half")
    spec.channelnames = tuple(channels)
    spec.attribute("compression", "zip")
    file = oiio.ImageOutput.create(str(path))
    if file is None or not (
        file.open(str(path), spec) and file.write_image(np.ascontiguousarray(pixels)) and file.close()
    ):
        raise OSError(0, oiio.geterror() if file is None else file.geterror(), str(path))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print, as the command line or `arguments` say."""
    parser = argparse.ArgumentParser(description="Memory and time of scoring a long 4K shot.")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--size", type=int, nargs=2, default=(4096, 2160), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--folder", type=Path, default=None, help="a scratch folder; it takes 250 MB")
    asked = parser.parse_args(arguments)
    width, height = asked.size
    said = f"{_DISTINCT} distinct frames of {width} x {height} (half, ZIP) over and over, two models, {_cores()} cores"
    sys.stdout.write(said + "\n")
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        folder = Path(scratch)
        footage = write_footage(folder / "shot", frames=asked.frames, distinct=_DISTINCT, size=(width, height))
        one, other = (
            write_model(folder / f"model{at}" / "model.onnx", bias=bias) for at, bias in enumerate((0.0, 0.2))
        )
        figures, bundle = measure(footage, (one, other))
    sys.stdout.write("\n".join(figures.lines()) + "\n")
    stages = bundle.times.stages_us.items()
    parts = ", ".join(f"{name} {us / 1e6 / asked.frames:.3f} s" for name, us in stages)
    sys.stdout.write(f"  processor time a frame in this process: {parts}; the rest is the models' children\n")


def _cores() -> int:
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    main()
