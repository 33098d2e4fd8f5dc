"""`python -m changeover_validators.vram.bench_plans`: chosen memory plans against the runtime's own settings, measured.

For each architecture of the zoo at each size a plan is chosen by simulation; then both run in fresh processes on the
CPU provider, by turns, and what the arena really holds, the answers' bytes and the processor's time are compared. The
exit code is 1 where a chosen plan holds more than the runtime's own settings or changes a bit. Throughput is told and
decides nothing: a busy machine moves it. Left out: a GPU, where cuDNN's workspace comes on top (``make gpu``).
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from changeover_registry.records.memory import MemoryPlan
from changeover_validators.vram.plans import Choice, choose_plan
from changeover_validators.vram.zoo import Architecture, architectures

__all__ = ["Compared", "Ran", "compare", "main", "run_here"]

SIZES = {"512p": (896, 512), "1080p": (1920, 1088), "2160p": (3840, 2176)}
"""Tensor sizes in pixels, multiples of every stride of the zoo."""

_WARM_UP = 3
_TIMED = 5
_TURNS = 2
_WANTED_SPEED = 0.9


@dataclass(frozen=True, slots=True)
class Ran:
    """One process: the most that the arena held in any run, what it holds at the end, the answers' sha256, CPU time.

    Bytes and microseconds; the time is the median of the processor's time of a run after warm-up.
    """

    peak_bytes: int
    arena_bytes: int
    digest: str
    run_us: int


@dataclass(frozen=True, slots=True)
class Compared:
    """One architecture at one size: what was chosen, and both ways as they ran."""

    name: str
    size: str
    choice: Choice
    own: Ran
    planned: Ran

    @property
    def saved(self) -> float:
        """The share of the arena that the plan saves."""
        return 1 - self.planned.peak_bytes / self.own.peak_bytes

    @property
    def speed(self) -> float:
        """Throughput under the plan as a share of the runtime's own."""
        return self.own.run_us / max(1, self.planned.run_us)

    @property
    def error(self) -> float:
        """By how much the prediction under the plan is off, as a share of what was measured."""
        return abs(self.choice.answer.range.high_bytes / self.planned.peak_bytes - 1)

    @property
    def holds(self) -> bool:
        """Whether the plan keeps its two promises: no more memory, and the same bits."""
        return self.planned.peak_bytes <= self.own.peak_bytes and self.planned.digest == self.own.digest


def run_here(model: Path, plan: MemoryPlan, feeds: Sequence[tuple[str, tuple[int, ...]]], runs: int) -> Ran:
    """Run a model `runs` times under `plan` in this process, which must not have run another plan before.

    Inputs are noise, the same whenever they are asked for; states stay at their first value.
    """
    import numpy as np

    from changeover_validators.vram.native import NativeSession

    rng = np.random.default_rng(5)
    tensors = {name: rng.random(dims, np.float32) for name, dims in feeds}
    times, digest, peak = [], hashlib.sha256(), 0
    with NativeSession(model, plan=plan, shapes=dict(feeds), keep_log=True) as session:
        for number in range(runs):
            before = time.process_time_ns()
            outputs = session.run(tensors)
            times.append((time.process_time_ns() - before) // 1000)
            peak = max(peak, session.highest_total() or 0)
            if number == runs - 1:
                for name in sorted(outputs):
                    digest.update(np.ascontiguousarray(outputs[name]).tobytes())
            del outputs
        statistic = session.statistics()
    held = 0 if statistic is None else statistic.total_allocated
    return Ran(peak, held, digest.hexdigest(), int(statistics.median(times[_WARM_UP:] or times)))


def compare(architecture: Architecture, size: str, *, turns: int = _TURNS, runs: int = _WARM_UP + _TIMED) -> Compared:
    """Choose a plan and run both ways, each in fresh processes by turns; of the turns the fastest counts.

    Raises:
        ChangeoverError: There is no prediction.
        CalledProcessError: A run failed.
    """
    from changeover_validators.vram.onnx_predictor import OnnxPredictor
    from changeover_validators.vram.predictor import Target

    width, height = SIZES[size]
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        architecture.build(model)
        target = Target("onnxruntime", _version(), "cpu", interpreter=sys.executable)
        predictor = OnnxPredictor(model.parent, model.name, architecture.contract, target)
        choice = choose_plan(predictor, width, height)
        feeds = tuple(architecture.feeds(width, height).items())
        ran = [
            (_apart(model, MemoryPlan(), feeds, runs), _apart(model, choice.plan, feeds, runs)) for _ in range(turns)
        ]
    own, planned = (min(side, key=lambda one: one.run_us) for side in zip(*ran, strict=True))
    return Compared(architecture.name, size, choice, own, planned)


def _apart(model: Path, plan: MemoryPlan, feeds: Sequence[tuple[str, tuple[int, ...]]], runs: int) -> Ran:
    """`run_here` in a process of its own."""
    asked = {
        "model": str(model),
        "plan": plan.model_dump(),
        "feeds": [[name, list(d)] for name, d in feeds],
        "runs": runs,
    }
    command = [sys.executable, "-m", "changeover_validators.vram.bench_plans", "--one", json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, check=True)
    return Ran(**json.loads(done.stdout))


def _one(text: str) -> None:
    asked = json.loads(text)
    feeds = [(name, tuple(dims)) for name, dims in asked["feeds"]]
    ran = run_here(Path(asked["model"]), MemoryPlan.model_validate(asked["plan"]), feeds, asked["runs"])
    sys.stdout.write(json.dumps(asdict(ran)))


def _version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


def _lines(found: Sequence[Compared]) -> Iterator[str]:
    worst = min(one.speed for one in found)
    saved = [one.saved for one in found]
    yield f"onnxruntime {_version()}, CPU provider, one thread; arena in MB (1e6) at its most over all runs"
    yield f"saved: median {statistics.median(saved):.0%}, least {min(saved):.0%}, most {max(saved):.0%}"
    yield f"throughput: least {worst:.2f} of the runtime's own ({'' if worst >= _WANTED_SPEED else 'not '}at least 0.9)"
    yield f"prediction under the plan: off by {max(one.error for one in found):.2%} at most"
    broken = [f"{one.name} {one.size}" for one in found if not one.holds]
    yield f"more memory or other bits: {', '.join(broken) or 'none'}"


def _row(one: Compared) -> str:
    return (
        f"{one.name:16}{one.size:>7}{one.own.peak_bytes / 1e6:10.1f}{one.planned.peak_bytes / 1e6:10.1f}"
        f"{one.saved:7.0%}{one.speed:7.2f}{one.error:9.2%}  {'same bits' if one.holds else 'BROKEN'}  {one.choice.name}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench; the exit code says whether every plan kept its promises."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="512p,1080p", help="of 512p, 1080p, 2160p; divided by commas")
    parser.add_argument("--only", default="", help="names of architectures, divided by commas")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.one:
        _one(asked.one)
        return 0
    wanted = set(filter(None, asked.only.split(",")))
    found = []
    sys.stdout.write("architecture       size       own   planned  saved  speed    error\n")
    for size in asked.sizes.split(","):
        for architecture in architectures():
            if not wanted or architecture.name in wanted:
                found.append(compare(architecture, size))
                sys.stdout.write(_row(found[-1]) + "\n")
                sys.stdout.flush()
    sys.stdout.write("\n".join(_lines(found)) + "\n")
    return 0 if all(one.holds for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
