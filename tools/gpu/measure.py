"""``make gpu``: what this machine's GPU takes of memory beside tensors, so that predictions for it can be calibrated.

It installs nothing and needs the Python that runs it and nothing else: torch and onnxruntime are used where that
Python has them, and every part that could not be measured says why. It ends within ten minutes, and writes at most
eight files to the folder in ``OUT`` (else ``gpu-out``): a report for people, all figures, a calibration for each
runtime in the form that the tables ship, and traces of torch's allocator. ``--check`` replays the traces of such a
folder through the simulated allocator and compares what is reserved; the exit code is 1 where one is over 5 % off.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import fixtures
from device import Card, Nvml

__all__ = ["main"]

SIZES = {"512": (896, 512), "1080": (1920, 1088), "2160": (3840, 2176)}
"""Sizes of tensors in pixels, multiples of 32."""

_SECONDS = 540.0
_PART_SECONDS = 120.0
_FILE_BYTES = 15 * 1024 * 1024
_PARTS = Path(__file__).with_name("parts.py")
_OPTIONS: Mapping[str, tuple[bool, Mapping[str, str]]] = {
    "the runtime's own": (True, {}),
    "as requested, no pattern": (False, {"arena_extend_strategy": "kSameAsRequested"}),
    "heuristic search": (True, {"cudnn_conv_algo_search": "HEURISTIC"}),
    "default search, small workspace": (
        True,
        {"cudnn_conv_algo_search": "DEFAULT", "cudnn_conv_use_max_workspace": "0"},
    ),
}


@dataclass
class Session:
    """One measurement: the time it may still take, and all that was found, by part."""

    ends: float
    found: dict[str, Any] = field(default_factory=dict)

    def part(self, name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What a part answers, with what it wrote to standard error; a sentence where it could not be measured."""
        left = self.ends - time.monotonic()
        if left < 10:
            return {"not_measured": "the ten minutes were over"}
        command = [sys.executable, "-W", "ignore", str(_PARTS), name, json.dumps(asked)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=min(left, _PART_SECONDS), check=False
            )
        except subprocess.TimeoutExpired:
            return {"not_measured": "it took longer than its time"}
        if done.returncode:
            told = done.stderr.strip().splitlines()
            return {"not_measured": f"it ended with {done.returncode}: {told[-1][:200] if told else 'no word'}"}
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer | {"stderr": done.stderr}


def measure(folder: Path) -> str:
    """Measure all parts, write the files, and return the report."""
    session = Session(time.monotonic() + _SECONDS)
    card, why = _card()
    session.found["card"] = {"not_measured": why} if card is None else asdict(card)
    if card is not None:
        session.found["context"] = _quiet(session.part("context", {}))
        session.found["workspace"] = _quiet(session.part("workspace", {"sizes": list(SIZES.values())[:2]}))
        session.found["onnx"] = _sessions(session)
        session.found["traces"] = _traces(session, folder)
    # The figures first: whatever goes wrong with what is made of them, they are there.
    _write(folder / "measurements.json", json.dumps(session.found, indent=1, sort_keys=True) + "\n")
    report = "\n".join(_report(session.found)) + "\n"
    _write(folder / "report.txt", report)
    if card is not None:
        for runtime, calibration in _calibrations(session.found, card).items():
            _write(folder / f"calibration-{runtime}.json", _canonical(calibration))
    return report


def _card() -> tuple[Card | None, str]:
    try:
        return Nvml().card(), ""
    except OSError as error:
        return None, str(error)


def _traces(session: Session, folder: Path) -> list[dict[str, Any]]:
    """Each net at each size and precision; a file of recordings for each size."""
    rows = []
    for label, (width, height) in SIZES.items():
        lines = [json.dumps({"schema": "changeover.trace/1"})]
        for net in fixtures.TORCH:
            for half in (False, True):
                asked = {"net": net, "half": half, "width": width, "height": height, "device": "cuda"}
                answer = _quiet(session.part("trace", asked))
                recording = answer.pop("recording", None)
                rows.append(asked | answer)
                if recording is not None:
                    line = json.dumps(recording, separators=(",", ":"))
                    if sum(map(len, lines)) + len(line) < _FILE_BYTES:
                        rows[-1]["line"] = len(lines) + 1
                        lines.append(line)
                    rows[-1]["counters"] = recording["counters"]
        if len(lines) > 1:
            _write(folder / f"traces-{label}.jsonl", "\n".join(lines) + "\n")
    return rows


def _sessions(session: Session) -> list[dict[str, Any]]:
    """Sessions of onnxruntime under each set of options; the first that cannot be had speaks for all."""
    rows = []
    for label in ("512", "1080"):
        width, height = SIZES[label]
        for net in fixtures.ONNX:
            for name, (pattern, options) in _OPTIONS.items():
                asked = {"net": net, "width": width, "height": height, "pattern": pattern, "options": dict(options)}
                answer = session.part("onnx", asked)
                rows.append({**asked, "name": name, **_arena(answer)})
                if any(lacks in str(answer.get("not_measured")) for lacks in ("has no onnxruntime", "lists no")):
                    return rows
    return rows


def _arena(answer: dict[str, Any]) -> dict[str, Any]:
    """The arena's regions on the GPU, by what the runtime logged: all that were taken, and the last total."""
    text = answer.pop("stderr", "")
    regions, total, here = [], 0, False
    for line in text.splitlines():
        if "Extending BFCArena for" in line:
            here = "BFCArena for Cuda." in line or "BFCArena for CUDA." in line
        elif here and (found := re.search(r"Extended allocation by (\d+) bytes", line)):
            regions.append(int(found[1]))
        elif here and (found := re.search(r"Total allocated bytes: (\d+)", line)):
            total = int(found[1])
    return answer | ({"regions": regions, "arena_bytes": total} if "not_measured" not in answer else {})


def _quiet(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "stderr"}


def _calibrations(found: Mapping[str, Any], card: Card) -> dict[str, dict[str, Any]]:
    """The constants of each runtime, in the form of the record ``memory-calibration``."""
    steps = found["context"].get("steps", {})
    made = {}
    if "first MatMul" in steps:
        context, whole = _beside(steps["torch"]), _beside(steps["first MatMul"])
        version = found["context"]["torch"]
        made["torch"] = _calibration(card, "torch", version, context, max(whole - context, 0), ())
    rows = [row for row in found["onnx"] if row.get("arena_bytes")]
    if rows:
        beside = [(row["process"] or row["device_rise"]) - row["arena_bytes"] for row in rows]
        bare = _held(steps.get("bare context", {})) or 0
        libraries = max(max(beside) - bare, 0)
        made["onnxruntime"] = _calibration(card, "onnxruntime", rows[0]["onnxruntime"], bare, libraries, _rates(rows))
    return made


def _rates(rows: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """The scratch memory of a convolution as a constant and bytes for a thousand outputs, never below a figure.

    From one convolution alone at two sizes, in an arena that takes exactly what is asked for: what it holds beyond the
    image and the answer.
    """
    exact = [row for row in rows if row["net"] == "single" and not row["pattern"]]
    extras = {row["width"] * row["height"]: row["arena_bytes"] - 4 * 4 * row["width"] * row["height"] for row in exact}
    if len(extras) < 2:
        return ()
    (few, least), (many, most) = min(extras.items()), max(extras.items())
    rate = max(-(-(most - least) * 1000 // (many - few)), 0)
    constant = max(0, *(extra - rate * count // 1000 for count, extra in extras.items()))
    return ({"operator": "Conv", "constant_bytes": constant, "per_thousand": rate},)


def _calibration(
    card: Card, runtime: str, version: str, context: int, libraries: int, rates: tuple[Any, ...]
) -> dict[str, Any]:
    now = dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "schema": "changeover.memory-calibration/1",
        "ext": {},
        "gpu": card.name,
        "compute_capability": card.capability,
        "driver": card.driver,
        "runtime": runtime,
        "version": version,
        "made_at": now,
        "context_bytes": context,
        "libraries_bytes": libraries,
        "workspaces": list(rates),
        "source": "measured: tools/gpu/measure.py",
    }


def _beside(step: Mapping[str, Any]) -> int:
    return (_held(step) or 0) - int(step["reserved"])


def _held(step: Mapping[str, Any]) -> int | None:
    """What the process holds of the device; where the driver does not tell, by how much the device's use rose."""
    held = step.get("process") or step.get("device_rise")
    return None if held is None else int(held)


def _report(found: Mapping[str, Any]) -> Iterator[str]:
    card = found["card"]
    if "not_measured" in card:
        yield f"not measured on a GPU: {card['not_measured']}"
        for name in ("context and libraries", "cuDNN workspace", "onnxruntime's arena", "torch's caching allocator"):
            yield f"  {name}: not measured: there is no GPU"
        return
    yield f"{card['name']}, driver {card['driver']}, compute capability {card['capability']}, Python {sys.executable}"
    yield from _context_lines(found["context"])
    yield from _workspace_lines(found["workspace"])
    yield from _onnx_lines(found["onnx"])
    yield from _trace_lines(found["traces"])


def _context_lines(part: Mapping[str, Any]) -> Iterator[str]:
    if "not_measured" in part:
        yield f"context and libraries: not measured: {part['not_measured']}"
        return
    yield f"context and libraries, torch {part['torch']} (MB held of the device, of which reserved by torch)"
    for name, step in part["steps"].items():
        held = _held(step)
        how = "by the driver's account" if step.get("process") else "as the rise of the whole device"
        yield f"  {name}: {_mb(held)}, {_mb(step.get('reserved'))}; {step.get('error') or how}"


def _workspace_lines(part: Mapping[str, Any]) -> Iterator[str]:
    if "not_measured" in part:
        yield f"cuDNN workspace: not measured: {part['not_measured']}"
        return
    yield f"cuDNN {part['cudnn']} workspace (MB in the first and the second run)"
    for row in part["rows"]:
        kind = f"{'fp16' if row['half'] else 'fp32'}, search {'on' if row['search'] else 'off'}"
        size = f"{row['width']}x{row['height']}"
        yield f"  {row['operator']}, {size}, {kind}: {_mb(row['first_run'])}, {_mb(row['second_run'])}"


def _onnx_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "onnxruntime's arena on CUDA (MB: arena, held of the device)"
    for row in rows:
        where = f"  {row['net']} {row['width']}x{row['height']}, {row['name']}"
        if "not_measured" in row:
            yield f"{where}: not measured: {row['not_measured']}"
        else:
            yield f"{where}: {_mb(row['arena_bytes'])}, {_mb(_held(row))}"


def _trace_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "torch's caching allocator (MB at the peak of the last call: allocated, reserved)"
    for row in rows:
        where = f"  {row['net']} {row['width']}x{row['height']} {'fp16' if row['half'] else 'fp32'}"
        if "not_measured" in row:
            yield f"{where}: not measured: {row['not_measured']}"
        else:
            last = row["counters"][-1]
            allocated, reserved = (last.get(f"{kind}_bytes.all.peak") for kind in ("allocated", "reserved"))
            yield f"{where}: {_mb(allocated)}, {_mb(reserved)}"


def _mb(size: int | None) -> str:
    return "not told" if size is None else f"{size / 1e6:.1f}"


def _canonical(record: Mapping[str, Any]) -> str:
    """A record in its one spelling, as the tables take it."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def main() -> int:
    """Measure, or check a folder of measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT") or "gpu-out"), help="the folder")
    parser.add_argument("--check", action="store_true", help="compare predictions with what is in the folder")
    asked = parser.parse_args()
    if asked.check:
        from replaying import check

        lines, good = check(asked.out)
        sys.stdout.write("\n".join(lines) + "\n")
        return 0 if good else 1
    sys.stdout.write(measure(asked.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
