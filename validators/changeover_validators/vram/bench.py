"""Predicted memory against measured memory, beside what other estimators answer, in one run.

    python -m changeover_validators.vram.bench [--large] [--only NAME ...] [--models FOLDER] [--no-peers] [--markdown]

Every architecture of the zoo at 512p and 1080p (2160p with ``--large``), fixed and with free axes, and the real models
where they are at hand: predicted without a run, then run in an isolated child whose arena is asked. Those that nobody
may tune on are summed up apart, and so are graphs that torch's exporter wrote. A prediction is compared with the arena
(what the device loses) and with the most in use; an estimate that knows no arena is compared with both too, and with
what is in use on the first run, which flatters it. Ends with 1 where the held-out ones miss: mean error of the arena
over 1 %, or under 95 % of the runs within 5 %.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from changeover_registry.errors import ChangeoverError, UnreachableError
from changeover_registry.records.memory import MemoryAnswer, MemoryMeasurement, MemoryPlan
from changeover_validators.vram.bench_cases import SIZES, Case, cases
from changeover_validators.vram.bench_measure import measured, predicted
from changeover_validators.vram.environments import interpreter_with
from changeover_validators.vram.estimates import ONNX_TOOL, Estimates, estimates, packed_by_onnx_tool

__all__ = ["Row", "Summary", "main", "summaries", "table"]

_MEAN, _CLOSE, _SHARE = 0.01, 0.05, 0.95
_SHARE_OF_FREE = 0.7
"""Of the memory that is free here; what is predicted to hold more is not run."""


@dataclass(frozen=True, slots=True)
class Row:
    """One model at one size: what was measured, what we said, what others say. Bytes."""

    case: Case
    measured: MemoryMeasurement
    predicted: MemoryAnswer
    others: Estimates
    packed: int | None

    def error(self, estimator: str) -> float | None:
        """The share by which `estimator` is off; None where it gives no answer."""
        found = _ESTIMATORS[estimator](self)
        return None if found is None else found[0] / found[1] - 1


def _nearest(row: Row) -> int:
    """What of the range over sessions is nearest to the one that ran: sessions of one model may differ."""
    return min(max(row.measured.steady.arena_bytes, row.predicted.range.low_bytes), row.predicted.range.high_bytes)


def _packed(row: Row) -> int | None:
    return None if row.packed is None else row.packed + row.others.weights


_ESTIMATORS: dict[str, Callable[[Row], tuple[int, int] | None]] = {
    "ours: arena": lambda row: (row.predicted.steady.arena_bytes, row.measured.steady.arena_bytes),
    "ours: arena, range": lambda row: (_nearest(row), row.measured.steady.arena_bytes),
    "ours: in use": lambda row: (row.predicted.steady.in_use_bytes, row.measured.steady.in_use_bytes),
    "onnx-tool: arena": lambda row: _of(_packed(row), row.measured.steady.arena_bytes),
    "onnx-tool: in use, first run": lambda row: _of(_packed(row), row.measured.first.in_use_bytes),
    "liveness: arena": lambda row: (row.others.liveness, row.measured.steady.arena_bytes),
    "liveness: in use, first run": lambda row: (row.others.liveness, row.measured.first.in_use_bytes),
    "sum of outputs: arena": lambda row: (row.others.sum_of_outputs, row.measured.steady.arena_bytes),
    "sum of outputs: in use, first run": lambda row: (row.others.sum_of_outputs, row.measured.first.in_use_bytes),
}
"""What each says, and what it is held against."""


def _of(said: int | None, real: int) -> tuple[int, int] | None:
    return None if said is None else (said, real)


@dataclass(frozen=True, slots=True)
class Summary:
    """Errors of one estimator over several runs, as shares."""

    estimator: str
    runs: int
    mean: float
    most: float
    close: float
    """The share of runs within 5 %."""


def summaries(rows: Sequence[Row]) -> list[Summary]:
    """One for each estimator that gave an answer at all."""
    found = []
    for name in _ESTIMATORS:
        errors = [abs(error) for row in rows if (error := row.error(name)) is not None]
        if errors:
            close = sum(error <= _CLOSE for error in errors) / len(errors)
            found.append(Summary(name, len(errors), sum(errors) / len(errors), max(errors), close))
    return found


def table(rows: Sequence[Row], *, markdown: bool) -> str:
    """Every run, then the summaries: of those held out, of the others, of real models."""
    parts = [_lines(_HEAD, [_cells(row) for row in rows], markdown=markdown)]
    for title, chosen in _groups(rows):
        body = [
            (one.estimator, str(one.runs), f"{one.mean:.2%}", f"{one.most:.2%}", f"{one.close:.0%}")
            for one in summaries(chosen)
        ]
        parts.append(
            f"{title}\n\n" + _lines(("estimate", "runs", "mean", "most", "within 5 %"), body, markdown=markdown)
        )
    return "\n".join(parts)


def misses(rows: Iterable[Row]) -> bool:
    """Whether the held-out ones are further off than promised."""
    apart = [row for row in rows if row.case.held_out]
    return any(one.mean > _MEAN or one.close < _SHARE for one in summaries(apart) if one.estimator == "ours: arena")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m changeover_validators.vram.bench")
    parser.add_argument("--large", action="store_true", help="also 2160p, as far as memory goes")
    parser.add_argument("--small", action="store_true", help="only 512p")
    parser.add_argument("--only", action="append", help="a name of the zoo or of a real model; again for more")
    parser.add_argument("--models", type=Path, help="a folder of real models (default: the test data, where it is)")
    parser.add_argument("--no-peers", action="store_true", help="without onnx-tool, which needs a package index")
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="changeover-memory-bench-") as folder:
        peer = None if given.no_peers else _onnx_tool(Path(folder) / "peer")
        chosen = cases(given.models, only=given.only, sizes=_sizes(large=given.large, small=given.small))
        rows = list(_rows(chosen, Path(folder), peer))
    sys.stdout.write(table(rows, markdown=given.markdown))
    return int(misses(rows))


def _sizes(*, large: bool, small: bool) -> tuple[tuple[int, int], ...]:
    names = ("512p",) if small else ("512p", "1080p", *(("2160p",) if large else ()))
    return tuple(SIZES[name] for name in names)


def _onnx_tool(folder: Path) -> Path | None:
    try:
        return interpreter_with(folder, ONNX_TOOL, dependencies=True)
    except UnreachableError as error:
        sys.stderr.write(f"without onnx-tool: {error}\n")
        return None


def _rows(chosen: Iterable[Case], folder: Path, peer: Path | None) -> Iterator[Row]:
    for case in chosen:
        sys.stderr.write(f"{case.name} {case.width}x{case.height} {case.form}\n")
        path = folder / "model.onnx"
        case.build(path)
        others = estimates(path, case.feeds)
        said = predicted(path, case.contract, case.width, case.height, MemoryPlan())
        if said.range.high_bytes > _SHARE_OF_FREE * _free_bytes():
            sys.stderr.write(f"  not run: it would hold {_mb(said.range.high_bytes)} MB\n")
            continue
        real = measured(path, case.contract, case.width, case.height, MemoryPlan())
        yield Row(case, real, said, others, _packed_size(peer, path, case))


def _free_bytes() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _packed_size(peer: Path | None, path: Path, case: Case) -> int | None:
    if peer is None:
        return None
    try:
        return packed_by_onnx_tool(peer, path, case.feeds)
    except ChangeoverError as error:
        sys.stderr.write(f"  {error}\n")
        return None


_HEAD = (
    "model",
    "size",
    "form",
    "in use MB",
    "arena MB",
    "predicted",
    "error",
    "range",
    "onnx-tool",
    "liveness",
    "sum",
)


def _cells(row: Row) -> tuple[str, ...]:
    real, said = row.measured.steady, row.predicted
    inside = said.range.low_bytes <= real.arena_bytes <= said.range.high_bytes
    size = f"{row.case.width}x{row.case.height}"
    error = row.error("ours: arena") or 0.0
    figures = [_mb(value) for value in (real.in_use_bytes, real.arena_bytes, said.steady.arena_bytes)]
    others = [_mb(value) for value in (_packed(row), row.others.liveness, row.others.sum_of_outputs)]
    name = row.case.name + ("*" if row.case.held_out else "")
    return (name, size, row.case.form, *figures, f"{error:+.2%}", "in" if inside else "out", *others)


def _groups(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Titles, and their rows where there are any."""
    kinds = (
        ("Held out while building (*)", [row for row in rows if row.case.held_out]),
        ("Known while building", [row for row in rows if not row.case.held_out and not row.case.real]),
        ("Real models", [row for row in rows if row.case.real]),
    )
    return [(title, chosen) for title, chosen in kinds if chosen]


def _lines(head: Sequence[str], body: Sequence[Sequence[str]], *, markdown: bool) -> str:
    rows = [tuple(head), *(tuple(row) for row in body)]
    if markdown:
        rows.insert(1, ("---", *("---:" for _ in head[1:])))
        return "".join(f"| {' | '.join(row)} |\n" for row in rows)
    wide = [max(len(row[at]) for row in rows) for at in range(len(head))]
    return "".join(
        "  ".join(
            text.rjust(size) if at else text.ljust(size) for at, (text, size) in enumerate(zip(row, wide, strict=True))
        )
        + "\n"
        for row in rows
    )


def _mb(value: int | None) -> str:
    return "-" if value is None else f"{value / 1e6:,.1f}"


if __name__ == "__main__":
    sys.exit(main())
