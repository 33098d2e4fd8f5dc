"""Does the prediction hold for every release of a runtime? The same models on many releases, predicted and run.

    python -m changeover_validators.vram.drift [--release V ...] [--only NAME ...] [--here] [--sessions N] [--markdown]

Each release is installed into a throw-away environment, predicted for by sessions that are built there, and run there
by its own Python module, whose log tells what the arena holds: nothing of the measurement is shared with the
prediction. Beside the error stands what the prediction for the newest release would have been off by, which is what an
estimate that is not redone costs. Ends with 1 where a prediction misses by more than 2 %. Releases before 1.20 ship no
library that tells their graphs, and are left out.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from changeover_registry.errors import MeasurementError
from changeover_registry.records.memory import MemoryPlan, MemoryRange
from changeover_validators.runtimes.capi import Api, find_library
from changeover_validators.runtimes.statistics import logged_total
from changeover_validators.vram import arena_log
from changeover_validators.vram.bench_cases import SIZES
from changeover_validators.vram.environments import interpreter_with, lend_packages, runtime_requirements
from changeover_validators.vram.onnx_predictor import OnnxPredictor
from changeover_validators.vram.predictor import Target
from changeover_validators.vram.zoo import Architecture, architectures

__all__ = ["LIMIT", "RELEASES", "Row", "arena_of_runs", "main", "rows_of", "table"]

RELEASES = ("1.20.1", "1.21.1", "1.22.1", "1.23.2", "1.24.4", "1.26.0", "1.27.0", "1.29.0", "1.31.1", "1.32.0")
NAMES = ("unet", "resnet-aspp", "vit", "convgru", "attention-gate", "segformer")
LIMIT = 0.02
"""How far off a prediction may be, as a share of the arena."""
_RUNS, _PROCESSES = 3, 3
_SESSIONS = 10
"""Of two answers that are equally likely, five sessions miss one in one of sixteen tables; ten, in one of 512."""


@dataclass(frozen=True, slots=True)
class Row:
    """One model on one release: bytes of its arena in the steady state, as predicted, and of several processes."""

    release: str
    name: str
    form: str
    predicted: MemoryRange
    measured: tuple[int, ...]

    @property
    def error(self) -> float:
        """The share by which the prediction is off where it is furthest off: from the nearest end of its range."""
        low, high = self.predicted.low_bytes, self.predicted.high_bytes
        errors = (min(max(real, low), high) / real - 1 for real in self.measured)
        return max(errors, key=abs)


def arena_of_runs(python: Path, model: Path, feeds: Mapping[str, tuple[int, ...]], runs: int = _RUNS) -> int:
    """Bytes that the arena holds after `runs` runs, by the log of the runtime of the interpreter `python`.

    Raises:
        MeasurementError: It did not run, or its log tells no arena.
    """
    shapes = json.dumps({name: list(shape) for name, shape in feeds.items()})
    command = [str(python), "-I", arena_log.__file__, str(model), shapes, str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    total = logged_total(done.stderr)
    if done.returncode or total is None:
        raise MeasurementError(
            "arena",
            where=str(model),
            expected="a run whose log tells the arena",
            actual=(done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1],
            remedy="run the model with that release by hand",
        )
    return total


def rows_of(
    release: str, python: Path, chosen: Sequence[Architecture], folder: Path, sessions: int = _SESSIONS
) -> list[Row]:
    """Predictions and runs on one release, whose interpreter is `python`; models are written to `folder`."""
    size = SIZES["512p"]
    target = Target("onnxruntime", release, "cpu", interpreter=str(python))
    found = []
    for architecture in chosen:
        for form, fixed in (("fixed", size), ("free", None)):
            path = folder / "model.onnx"
            architecture.build(path, *(fixed or ()))
            contract = architecture.contract_at(*fixed) if fixed else architecture.contract
            predictor = OnnxPredictor(folder, path.name, contract, target, sessions=sessions)
            answer = predictor.answer(*size, MemoryPlan())
            real = tuple(arena_of_runs(python, path, architecture.feeds(*size)) for _ in range(_PROCESSES))
            found.append(Row(release, architecture.name, form, answer.range, real))
    return found


def table(rows: Sequence[Row], *, markdown: bool) -> str:
    """A line for each model on each release, and one for each release."""
    newest = {(row.name, row.form): row.predicted for row in rows}
    head = ("release", "model", "form", "arena MB", "predicted MB", "error", "as predicted for the newest")
    body = [_cells(row, newest[row.name, row.form]) for row in rows]
    most: dict[str, float] = {}
    for row in rows:
        most[row.release] = max(most.get(row.release, 0.0), abs(row.error))
    ends = "".join(f"{release}: at most {error:.2%} off\n" for release, error in most.items())
    if markdown:
        rule = ("---",) * 3 + ("---:",) * 4
        return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *body)) + "\n" + ends
    wide = (9, 16, 7, 18, 18, 10, 30)
    lines = ("".join(text.ljust(size) for text, size in zip(line, wide, strict=True)) for line in (head, *body))
    return "\n".join((*lines, "", ends))


def _fresh(release: str, folder: Path) -> Path:
    python = interpreter_with(folder / "runtime", runtime_requirements(release))
    lend_packages(python)
    return python


def _cells(row: Row, newest: MemoryRange) -> tuple[str, ...]:
    stale = max((newest.high_bytes / real - 1 for real in row.measured), key=abs)
    real = _megabytes(min(row.measured), max(row.measured))
    said = _megabytes(row.predicted.low_bytes, row.predicted.high_bytes)
    return row.release, row.name, row.form, real, said, f"{row.error:+.2%}", f"{stale:+.1%}"


def _megabytes(low: int, high: int) -> str:
    """Both ends, or one where they are the same."""
    ends = dict.fromkeys(f"{value / 1e6:,.1f}" for value in (low, high))
    return " to ".join(ends)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m changeover_validators.vram.drift")
    parser.add_argument("--release", action="append", help=f"a release from 1.20 on (default: {' '.join(RELEASES)})")
    parser.add_argument("--only", action="append", help=f"a name of the zoo (default: {' '.join(NAMES)})")
    parser.add_argument("--here", action="store_true", help="only the runtime of this interpreter")
    parser.add_argument("--sessions", type=int, default=_SESSIONS, help=f"of a prediction (default {_SESSIONS})")
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args(arguments)
    chosen = [item for item in architectures() if item.name in (given.only or NAMES)]
    rows: list[Row] = []
    for release in [Api(find_library()).version] if given.here else given.release or RELEASES:
        sys.stderr.write(f"onnxruntime {release}\n")
        with tempfile.TemporaryDirectory(prefix="changeover-drift-") as folder:
            python = Path(sys.executable) if given.here else _fresh(release, Path(folder))
            rows += rows_of(release, python, chosen, Path(folder), given.sessions)
    sys.stdout.write(table(rows, markdown=given.markdown))
    return int(any(abs(row.error) > LIMIT for row in rows))


if __name__ == "__main__":
    sys.exit(main())
