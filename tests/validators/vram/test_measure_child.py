"""The measuring child by its pipe, without isolation around it, so that what it does is seen."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from changeover_registry.records.memory import MemoryPlan
from changeover_registry.records.release import Contract, State, Tile
from changeover_validators.runtimes.frames import read_frame, write_frame
from changeover_validators.runtimes.interface import PROTOCOL
from changeover_validators.vram.measure_child import _peak_rss, synthetic_tensors
from changeover_validators.vram.native import NativeSession


@pytest.fixture
def converse(tmp_path: Path, contract: Callable[..., Contract]) -> Callable[..., list[dict[str, Any]]]:
    """What the child answers to some words, after it loaded ``net.onnx`` or what the test names instead."""

    def ask(*words: str, **changes: Any) -> list[dict[str, Any]]:
        head: dict[str, Any] = {
            "protocol": PROTOCOL,
            "folder": str(tmp_path),
            "entry": "net.onnx",
            "runtime": "onnx",
            "contract": contract().model_dump_json(),
            "tile": Tile(size=0).model_dump_json(),
            "ports": [],
            "provider": "cpu",
            "threads": 1,
            "memory_plan": "{}",
            "arena_limit_bytes": None,
            "ram_mib": 100_000,
            "wall_seconds": 1e6,
            "room": None,
            "width": 64,
            "height": 32,
        }
        asked = io.BytesIO()
        for said in (head | changes, *({"kind": word} for word in words)):
            write_frame(asked, said)
        command = [sys.executable, "-W", "ignore", "-m", "changeover_validators.vram.measure_child"]
        done = subprocess.run(command, input=asked.getvalue(), capture_output=True, check=True, timeout=120)
        answers, answered = [], io.BytesIO(done.stdout)
        while (frame := read_frame(answered, limit_bytes=0)) is not None:
            answers.append(dict(frame.head))
        return answers

    return ask


def test_a_child_tells_what_it_holds_and_counts_as_a_session_here_does(
    converse: Callable[..., list[dict[str, Any]]],
    build: Callable[..., onnx.ModelProto],
    contract: Callable[..., Contract],
    tmp_path: Path,
) -> None:
    (tmp_path / "net.onnx").write_bytes(build("unet", 8, 2).SerializeToString())
    plan = MemoryPlan(freeze=True)
    tensors = synthetic_tensors(contract(), 64, 32)

    started, loaded, first, second = converse("figures", "run", "run", memory_plan=plan.model_dump_json())

    with NativeSession(tmp_path / "net.onnx", plan=plan, shapes={"x": tensors["x"].shape}) as session:
        expected = []
        for number in range(3):
            if number:
                session.run(tensors)
            figures = session.statistics()
            assert figures is not None
            expected.append((figures.max_in_use, figures.total_allocated))
    assert (started["kind"], started["provider_ran"], started["runtime_version"]) == ("started", "cpu", session.version)
    assert [(told["in_use"], told["now"]) for told in (loaded, first, second)] == expected
    assert second["peak_rss"] >= first["peak_rss"] > 10 << 20
    assert first["run_us"] > loaded["run_us"]


def test_an_output_or_a_state_that_the_file_does_not_have_is_refused_by_name(
    converse: Callable[..., list[dict[str, Any]]],
    build: Callable[..., onnx.ModelProto],
    contract: Callable[..., Contract],
    tmp_path: Path,
) -> None:
    (tmp_path / "net.onnx").write_bytes(build("plain", 4, 1).SerializeToString())
    wrong = contract(output="alpha")
    refused = converse("run", contract=wrong.model_dump_json())[1]
    assert (refused["kind"], refused["class"], refused["where"]) == ("refusal", "MeasurementError", "output alpha")

    recurrent = contract(states=(State(input="s", output="t"),))
    unknown = converse("run", contract=recurrent.model_dump_json())[1]
    assert unknown["kind"] == "error"
    assert "Invalid input name: s" in unknown["text"]


def test_a_limit_of_the_arena_ends_the_run_and_not_the_child(
    converse: Callable[..., list[dict[str, Any]]], build: Callable[..., onnx.ModelProto], tmp_path: Path
) -> None:
    (tmp_path / "net.onnx").write_bytes(build("unet", 8, 2).SerializeToString())
    _, refused, figures = converse("run", "figures", width=512, height=512, arena_limit_bytes=2 << 20)
    assert "smaller than requested bytes" in refused["text"]
    assert figures["arena"] <= 2 << 20


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torch_on_the_cpu_is_refused_when_it_is_asked_for_figures(
    converse: Callable[..., list[dict[str, Any]]], tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    module: Any = type("Net", (torch.jit.ScriptModule,), {})()
    module.define("def forward(self, x):\n    return torch.sigmoid(x[:, 0:1])\n")
    module.save(str(tmp_path / "net.pt"))
    started, refused = converse("run", runtime="torchscript", entry="net.pt")
    assert started["provider_ran"] == "cpu"
    assert (refused["kind"], refused["rule"]) == ("refusal", "memory")


def test_a_system_that_tells_no_resident_memory_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tpython\n", encoding="utf-8")
    assert "does not tell it" in str(_peak_rss(tmp_path / "status"))
    assert "has no" in str(_peak_rss(tmp_path / "none"))
