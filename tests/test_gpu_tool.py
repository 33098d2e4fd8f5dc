"""``make gpu`` where there is no GPU: what it says, and the parts of it that need none."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from changeover_registry.records.memory import Calibration

TOOLS = Path(__file__).parents[1] / "tools" / "gpu"
MIB = 2**20


def run(*arguments: str, out: Path | None = None, isolated: bool = False) -> "subprocess.CompletedProcess[str]":
    """A script of the tool, as `make gpu` runs it; isolated: with the standard library alone."""
    environment = {name: value for name, value in os.environ.items() if name not in {"OUT", "PYTHONPATH"}}
    if out is not None:
        environment["OUT"] = str(out)
    command = [sys.executable, *(("-S",) if isolated else ()), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)


def recording(reserved: int | None, **changes: Any) -> dict[str, Any]:
    """100 MiB of weights and calls that take 30 MiB for a moment: torch reserves 130 MiB for them."""
    counted = {} if reserved is None else {"reserved_bytes.all.peak": reserved}
    call = [[0, 30 * MIB, 0, 0], [0]]
    return {
        "torch": "2.1.1+cu118",
        "device": "cuda",
        "width": 64,
        "height": 32,
        "weights": [100 * MIB],
        "operators": ["script"],
        "calls": [call, call],
        "counters": [counted, counted],
        "libraries": [],
        **changes,
    }


def written(folder: Path, *recordings: dict[str, Any]) -> Path:
    lines = [{"schema": "changeover.trace/1"}, *recordings]
    (folder / "traces-512.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_without_a_gpu_every_part_says_that_it_was_not_measured_and_why(tmp_path: Path) -> None:
    if list(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("this machine has a GPU")

    done = run(str(TOOLS / "measure.py"), out=tmp_path / "out", isolated=True)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("not measured on a GPU: no NVIDIA driver")
    assert done.stdout.count(": not measured: ") == 4
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"measurements.json", "report.txt"}
    assert (tmp_path / "out" / "report.txt").read_text() == done.stdout


def test_a_part_that_misses_something_says_what_in_a_sentence() -> None:
    if list(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("this machine has a GPU")

    lacking = run(str(TOOLS / "parts.py"), "workspace", '{"sizes": []}', isolated=True)

    assert json.loads(lacking.stdout) == {"not_measured": f"{sys.executable} has no torch"}


def test_nets_are_traced_in_the_form_that_predictions_are_made_from(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from changeover_validators.vram.trace import read_traces

    asked = {"net": "attention", "half": True, "width": 64, "height": 32, "device": "cpu"}
    done = run("-W", "ignore", str(TOOLS / "parts.py"), "trace", json.dumps(asked))

    (trace,) = read_traces(written(tmp_path, json.loads(done.stdout)["recording"]) / "traces-512.jsonl")
    assert (trace.width, trace.height, trace.device) == (64, 32, "cpu")
    assert trace.weights_bytes > 100_000
    assert max(len(call.allocations) for call in trace.calls) > 10


def test_the_constants_have_the_form_of_the_record() -> None:
    """From forged figures: 300 MB of context, 400 with libraries and 10 MB of torch's own; a session of onnxruntime."""
    held = {"process": 300_000_000, "device_rise": 1, "reserved": 0}
    steps = {"bare context": held, "torch": held, "first MatMul": {**held, "process": 410_000_000, "reserved": 10**7}}
    session = {"onnxruntime": "1.26.0", "process": None, "device_rise": 900_000_000, "arena_bytes": 500_000_000}
    alone = {"onnxruntime": "1.26.0", "process": None, "device_rise": 0, "net": "single", "pattern": False}
    small = {**alone, "width": 100, "height": 100, "arena_bytes": 160_000 + 5000 + 20_000}
    large = {**alone, "width": 200, "height": 100, "arena_bytes": 320_000 + 5000 + 40_000}
    rows = [{"not_measured": "x"}, {**session, "net": "spread", "pattern": True}, small, large]
    found = {"context": {"torch": "2.11.0+cu130", "steps": steps}, "onnx": rows}
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import measure; from device import Card; "
        "card = Card('RTX', '580.1', '9.0', 1, 1); "
        "made = measure._calibrations(json.loads(sys.argv[2]), card); "
        "print(json.dumps({name: measure._canonical(body) for name, body in made.items()}))"
    )

    done = run("-c", code, str(TOOLS), json.dumps(found), isolated=True)

    texts = json.loads(done.stdout)
    made = {name: Calibration.from_bytes(text.encode(), where=name) for name, text in texts.items()}
    assert (made["torch"].context_bytes, made["torch"].libraries_bytes) == (300_000_000, 100_000_000)
    assert (made["onnxruntime"].context_bytes, made["onnxruntime"].libraries_bytes) == (300_000_000, 100_000_000)
    (rate,) = made["onnxruntime"].workspaces
    assert (rate.operator, rate.constant_bytes, rate.per_thousand) == ("Conv", 5000, 2000)
    assert (made["torch"].version, made["torch"].gpu, made["torch"].driver) == ("2.11.0+cu130", "RTX", "580.1")


def test_the_report_of_a_gpu_tells_every_part_and_the_arena_is_read_from_the_runtimes_log() -> None:
    """Forged figures, since no GPU is at hand; one trace and one session were not measured."""
    log = (
        "BFCArena] Extending BFCArena for CudaPinned. bin_num:0\nExtend] Extended allocation by 7 bytes.\n"
        "BFCArena] Extending BFCArena for Cuda. bin_num:12\nExtend] Extended allocation by 4096 bytes.\n"
        "Extend] Total allocated bytes: 4096\nBFCArena] Extending BFCArena for Cuda. bin_num:12\n"
        "Extend] Extended allocation by 8192 bytes.\nExtend] Total allocated bytes: 12288\n"
    )
    at = {"net": "unet", "width": 64, "height": 32, "half": True}
    step = {"process": None, "device_rise": 5_000_000, "reserved": 1_000_000}
    counters = [{"allocated_bytes.all.peak": 3_000_000, "reserved_bytes.all.peak": 4_000_000}]
    workspace = {"operator": "conv", "search": True, "first_run": 2_000_000, "second_run": 1_000_000, **at}
    found = {
        "card": {"name": "RTX", "driver": "580.1", "capability": "9.0"},
        "context": {"torch": "2.11.0", "steps": {"bare context": step, "torch": step}},
        "workspace": {"cudnn": 91300, "rows": [workspace]},
        "onnx": [{**at, "name": "own", "not_measured": "no onnxruntime"}, {**at, **step, "name": "own", "log": log}],
        "traces": [{**at, "counters": counters}, {**at, "not_measured": "the ten minutes were over"}],
    }
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import measure; found = json.loads(sys.argv[2]); "
        "row = found['onnx'][1]; found['onnx'][1] = row | measure._arena({'stderr': row.pop('log')}); "
        "print(found['onnx'][1]['regions']); print(*measure._report(found), sep=chr(10))"
    )

    done = run("-c", code, str(TOOLS), json.dumps(found), isolated=True)

    assert done.stdout.splitlines()[0] == "[4096, 8192]", done.stderr
    for said in (
        "RTX, driver 580.1",
        "torch: 5.0, 1.0; as the rise of the whole device",
        "conv, 64x32, fp16, search on: 2.0, 1.0",
        "own: not measured: no onnxruntime",
        "own: 0.0, 5.0",
        "unet 64x32 fp16: 3.0, 4.0",
        "not measured: the ten minutes were over",
    ):
        assert said in done.stdout


@pytest.mark.parametrize("name", ["hourglass", "spread", "single"])
def test_the_onnx_nets_run_at_any_size(name: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    spec = importlib.util.spec_from_file_location("gpu_fixtures", TOOLS / "fixtures.py")
    assert spec is not None
    assert spec.loader is not None
    fixtures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fixtures)

    session = onnxruntime.InferenceSession(fixtures.onnx_net(name), providers=["CPUExecutionProvider"])

    assert session.run(None, {"x": np.zeros((1, 3, 24, 40), np.float32)})[0].shape == (1, 1, 24, 40)


def test_the_check_passes_what_is_predicted_within_five_per_cent(tmp_path: Path) -> None:
    folder = written(tmp_path, recording(130 * MIB), recording(135 * MIB), recording(None, device="cpu"))

    done = run(str(TOOLS / "measure.py"), "--check", "--out", str(folder))

    assert done.returncode == 0, done.stderr
    assert "off by 0.00%" in done.stdout
    assert "not compared" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("2 compared, off by 3.70% at most; 2 within 5 %")


def test_the_check_fails_where_a_prediction_is_further_off(tmp_path: Path) -> None:
    done = run(str(TOOLS / "measure.py"), "--check", "--out", str(written(tmp_path, recording(160 * MIB))))

    assert done.returncode == 1
    assert "1 compared, off by 18.75% at most; 0 within 5 %" in done.stdout


def test_the_check_of_nothing_says_that_nothing_was_measured(tmp_path: Path) -> None:
    done = run(str(TOOLS / "measure.py"), "--check", "--out", str(tmp_path))

    assert (done.returncode, done.stdout) == (0, "not measured on a GPU: there is no trace to compare\n")
