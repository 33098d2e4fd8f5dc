"""Asks releases of onnxruntime which operators write over an input or only rename it, and writes the table of it.

    python -m changeover_validators.vram.probes [--release V ...] [--here]

Each release runs in a throw-away environment: one small model a question (`probe_cases`), run without an arena in a
process whose high-water mark is read (`probe_peaks`). What an operator's kernel does is taken from no documentation and
written by no hand: ``tables/in-place.toml`` is this program's output. With ``--here`` only the runtime of this
interpreter is asked, and what differs from the table is printed. What this leaves out: how the table is read
(`in_place`), providers on a GPU, and what kernels take besides.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from changeover_registry.errors import MeasurementError
from changeover_validators.vram import probe_peaks
from changeover_validators.vram.environments import RELEASES, interpreter_with, runtime_requirements
from changeover_validators.vram.probe_cases import CASES, Case, feeds, models

__all__ = ["Found", "main", "probe", "table"]

_TABLE = Path(__file__).parents[1] / "tables" / "in-place.toml"
_HEAD = """\
# Which operators of onnxruntime write over an input's buffer, and which only rename it. Written by
# `python -m changeover_validators.vram.probes` and never by hand. A pair is operator, input index, output index.
# `neither` was asked and does neither; `absent` has no kernel in these releases, or is taken apart before it runs.

schema = "changeover.table.in-place/1"
"""
_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "MALLOC_ARENA_MAX": "1",
    "OMP_NUM_THREADS": "1",
}
"""Each buffer is a mapping of its own, so that what is freed leaves the process at once."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one release answered; pairs are ``operator input output``, sorted."""

    version: str
    in_place: tuple[str, ...]
    alias: tuple[str, ...]
    neither: tuple[str, ...]
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Question:
    case: Case
    index: int
    path: Path

    @property
    def pair(self) -> str:
        return f"{self.case.name} {self.index} {self.case.outputs[-1]}"


def probe(python: Path) -> Found:
    """What the onnxruntime of the interpreter `python` does. Linux only.

    Raises:
        MeasurementError: It ended without an answer.
    """
    with tempfile.TemporaryDirectory(prefix="changeover-probe-") as folder:
        questions = _write(Path(folder))
        answer = _ask(python, Path(folder))
        peaks = iter(answer["peaks"])
        answers = [_judged(question, next(peaks), next(peaks)) for question in questions]
    return _found(str(answer["version"]), questions, answers)


def table(found: Iterable[Found], day: date) -> str:
    """The text of the table; releases that answered the same share a row."""
    rows: dict[tuple[tuple[str, ...], ...], list[str]] = {}
    for one in found:
        rows.setdefault((one.in_place, one.alias, one.neither, one.absent), []).append(one.version)
    return _HEAD + "".join(_row(versions, facts, day) for facts, versions in rows.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 1 where this interpreter's runtime differs from the table."""
    parser = argparse.ArgumentParser(prog="python -m changeover_validators.vram.probes")
    parser.add_argument("--release", action="append", help="a release of onnxruntime (default: the last of each line)")
    parser.add_argument("--here", action="store_true", help="ask only the runtime of this interpreter")
    given = parser.parse_args(arguments)
    today = datetime.now(UTC).date()
    if given.here:
        sys.stdout.write(table([probe(Path(sys.executable))], today))
        return 0
    found = [_in_fresh_environment(version) for version in given.release or RELEASES]
    _TABLE.write_text(table(found, today), "utf-8")
    return 0


def _in_fresh_environment(version: str) -> Found:
    with tempfile.TemporaryDirectory(prefix="changeover-runtime-") as folder:
        found = probe(interpreter_with(Path(folder), runtime_requirements(version)))
    sys.stdout.write(f"{version}: {len(found.in_place)} in place, {len(found.alias)} renamed\n")
    sys.stdout.flush()
    return found


def _write(folder: Path) -> list[_Question]:
    """All questions as files, two each, and their index."""
    questions, index = [], []
    for number, case in enumerate(CASES):
        for place, operand in enumerate(case.operands):
            if not operand.probed:
                continue
            question = _Question(case, place, folder / f"{number}-{place}.onnx")
            for path, model in zip((question.path, _again(question.path)), models(case, place), strict=True):
                path.write_bytes(model.SerializeToString())
                index.append((path.name, feeds(case)))
            questions.append(question)
    (folder / "index.json").write_text(json.dumps(index), "utf-8")
    return questions


def _again(path: Path) -> Path:
    return path.with_suffix(".again.onnx")


def _ask(python: Path, folder: Path) -> dict[str, list[int | str]]:
    command = [str(python), probe_peaks.__file__, str(folder)]
    done = subprocess.run(command, env=os.environ | _ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MeasurementError(
            "micro-probe",
            where=str(python),
            expected="an answer for each operator",
            actual=(done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1],
            remedy="the probe needs Linux, and an onnxruntime that loads there",
        )
    answer: dict[str, list[int | str]] = json.loads(done.stdout)
    return answer


def _judged(question: _Question, alone: int | str, again: int | str) -> str:
    """``in_place``, ``alias``, ``neither`` or ``absent``."""
    if isinstance(alone, str) or isinstance(again, str) or not _survived(question):
        return "absent"
    size = question.case.bytes_of(question.index)
    others = sum(question.case.bytes_of(at) for at in range(len(question.case.operands))) - size
    if again - others < 1.5 * size:
        return "alias"
    return "in_place" if again - alone > 0.5 * size else "neither"


def _survived(question: _Question) -> bool:
    """Whether the session runs the operator itself, and not what its definition as a function says."""
    import onnx

    built = onnx.load(f"{question.path}.built", load_external_data=False)
    return any(
        (node.domain, node.op_type) == (question.case.domain, question.case.operator) for node in built.graph.node
    )


def _found(version: str, questions: Sequence[_Question], answers: Sequence[str]) -> Found:
    sets: dict[str, set[str]] = {kind: set() for kind in ("in_place", "alias", "neither", "absent")}
    for question, answer in zip(questions, answers, strict=True):
        sets[answer].add(question.pair if answer in {"in_place", "alias"} else question.case.name)
    known = {pair.split()[0] for pair in sets["in_place"] | sets["alias"]}
    sets["neither"] -= known
    sets["absent"] -= known | sets["neither"]
    return Found(version, *(tuple(sorted(sets[kind])) for kind in ("in_place", "alias", "neither", "absent")))


def _row(versions: Sequence[str], facts: Sequence[Sequence[str]], day: date) -> str:
    lines = ["", "[[release]]", f"versions = {_list(versions)}", 'provider = "cpu"']
    lines += [
        f"{key} = {_list(values)}"
        for key, values in zip(("in_place", "alias", "neither", "absent"), facts, strict=True)
    ]
    lines.append('source = "micro-probe of one-node graphs, high-water mark of a process without arena"')
    return "\n".join([*lines, f'date = "{day.isoformat()}"', ""])


def _list(values: Sequence[str]) -> str:
    """A TOML list over lines of at most 120 characters."""
    whole = "[" + ", ".join(f'"{value}"' for value in values) + "]"
    if len(whole) < 90:
        return whole
    lines, line = [], " "
    for value in values:
        item = f' "{value}",'
        if len(line) + len(item) > 118:
            lines.append(line)
            line = " "
        line += "  " + item.strip() if line == " " else item
    return "[\n" + "\n".join([*lines, line]) + "\n]"


if __name__ == "__main__":
    sys.exit(main())
