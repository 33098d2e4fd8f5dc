import io
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from changeover_registry.errors import MeasurementError
from changeover_registry.records.release import Contract, Tile
from changeover_validators.runtimes import child
from changeover_validators.runtimes.frames import Frame, read_frame, write_frame
from changeover_validators.runtimes.interface import PROTOCOL
from changeover_validators.runtimes.onnx import OnnxModel, check_provider


@pytest.fixture
def head(variant: Path, contract: Contract) -> dict[str, Any]:
    return {
        "protocol": PROTOCOL,
        "folder": str(variant),
        "entry": "net.onnx",
        "runtime": "onnx",
        "contract": contract.model_dump_json(),
        "tile": Tile(size=0).model_dump_json(),
        "ports": [],
        "provider": "cpu",
        "threads": 1,
        "memory_plan": "{}",
        "arena_limit_bytes": None,
        "ram_mib": 100_000,
        "wall_seconds": 1e6,
        "room": None,
    }


def converse(*frames: tuple[dict[str, Any], Sequence[bytes]]) -> list[Frame]:
    """What a real child process answers to the frames, started as the parent starts it."""
    asked = io.BytesIO()
    for head, blobs in frames:
        write_frame(asked, head, blobs)
    done = subprocess.run(
        [sys.executable, "-m", "changeover_validators.runtimes.child"],
        input=asked.getvalue(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    answers, answered = [], io.BytesIO(done.stdout)
    while (frame := read_frame(answered, limit_bytes=1 << 30)) is not None:
        answers.append(frame)
    return answers


def infer(plate: Any) -> tuple[dict[str, Any], Sequence[bytes]]:
    return {"kind": "infer", "reset": True, "planes": [["plate", list(plate.shape)]]}, [plate.tobytes()]


def test_a_child_answers_start_frame_smoke_and_mistakes(nets: Any, head: dict[str, Any], plate: Any) -> None:
    nets.weighted()

    answers = converse((head, []), infer(plate), ({"kind": "make-smoke", "seed": 1}, []), ({"kind": "smoke"}, []))
    started, matte, made, refused = answers

    assert started.head["kind"] == "started"
    assert started.head["provider_ran"] == "cpu"
    assert matte.head["shape"] == [30, 40]
    np.testing.assert_allclose(
        np.frombuffer(matte.blobs[0], "<f4").reshape(30, 40), plate @ np.array([0.5, 0.25, 0.125], "f4"), atol=1e-6
    )
    assert made.blobs[0][:2] == b"PK"
    assert refused.head["kind"] == "refusal"
    assert refused.head["class"] == "UndecidedError"


def test_a_child_runs_its_smoke_file(nets: Any, variant: Path, head: dict[str, Any]) -> None:
    nets.weighted()
    _, made = converse((head, []), ({"kind": "make-smoke", "seed": 1}, []))
    (variant / "smoke.npz").write_bytes(made.blobs[0])

    _, smoke = converse((head, []), ({"kind": "smoke"}, []))

    assert dict(smoke.head) == {"kind": "smoke", "worst": 0.0, "tolerance": 1e-3}


def test_an_unknown_request_is_answered_and_the_next_one_too(nets: Any, head: dict[str, Any], plate: Any) -> None:
    nets.weighted()

    _, unknown, matte = converse((head, []), ({"kind": "dance"}, []), infer(plate))

    assert unknown.head["kind"] == "error"
    assert unknown.head["class"] == "KeyError"
    assert matte.head["kind"] == "matte"


def test_another_protocol_is_refused(head: dict[str, Any]) -> None:
    (answer,) = converse((head | {"protocol": PROTOCOL + 1}, []))

    assert answer.head["class"] == "UndecidedError"
    assert answer.head["remedy"] == "install the same Changeover in both interpreters"


def test_a_model_that_does_not_load_is_answered_as_an_error(nets: Any, head: dict[str, Any]) -> None:
    nets.garbage()

    (answer,) = converse((head, []))

    assert answer.head["class"] == "InvalidProtobuf"


def test_a_child_that_is_asked_nothing_ends() -> None:
    assert converse() == []


def test_an_interpreter_without_the_runtime_is_named(head: dict[str, Any]) -> None:
    """An interpreter whose onnxruntime cannot be imported, as in the base install."""
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from changeover_validators.runtimes.child import serve\n"
        "serve(sys.stdin.buffer, sys.stdout.buffer)"
    )
    asked = io.BytesIO()
    write_frame(asked, head)

    done = subprocess.run([sys.executable, "-c", code], input=asked.getvalue(), capture_output=True, check=True)
    answer = read_frame(io.BytesIO(done.stdout), limit_bytes=0)

    assert answer is not None
    assert answer.head["class"] == "UndecidedError"
    assert answer.head["expected"] == "an interpreter with onnxruntime"
    assert answer.head["remedy"] == "install changeover[run] there, or name another interpreter"


def test_an_error_of_ours_keeps_its_parts() -> None:
    error = MeasurementError("r", where="w", expected="e", actual="a", remedy="m")

    assert child.describe(error) == {
        "kind": "refusal", "class": "MeasurementError", "rule": "r", "where": "w", "expected": "e", "actual": "a",
        "remedy": "m",
    }  # fmt: skip


def test_the_onnx_adapter_answers_outputs_by_name(nets: Any) -> None:
    model = OnnxModel(str(nets.counting()), "cpu", 1)

    answer = model.run({"x": np.ones((1, 3, 2, 2), np.float32), "s": np.full((1, 1, 1, 1), 6, np.float32)})

    assert set(answer) == {"y", "t"}
    assert answer["t"].item() == 7
    np.testing.assert_allclose(answer["y"], 0.07, atol=1e-6)


@pytest.mark.parametrize("ran", [["CPUExecutionProvider"], []])
def test_a_silent_fallback_is_a_failed_measurement(ran: list[str]) -> None:
    with pytest.raises(MeasurementError) as caught:
        check_provider("cuda", ran)

    assert caught.value.rule == "provider"
    assert check_provider("cuda", ["CUDAExecutionProvider", "CPUExecutionProvider"]) == "cuda"
    assert check_provider("cpu", ["CPUExecutionProvider"]) == "cpu"


def test_the_parents_side_needs_neither_numpy_nor_a_runtime() -> None:
    code = (
        "import sys\n"
        "import changeover_validators.runtimes.process, changeover_validators.checks.smoke\n"
        "import changeover_validators.checks.speed\n"
        "print(sorted({'numpy', 'onnxruntime', 'onnx', 'torch', 'mlflow'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
