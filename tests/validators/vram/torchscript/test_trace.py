"""Trace files: what is written is read, and what a child or a stranger wrote is not believed."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.errors import InvalidInputError
from changeover_validators.vram.trace import Allocation, Call, Trace, parse_recording, read_traces, write_traces
from changeover_validators.vram.trace_child import history_events, write_file

Make = Callable[..., Trace]


@st.composite
def calls(draw: st.DrawFn) -> Call:
    """Allocations in order, each ended somewhere after it began."""
    names = st.sampled_from(["input", "script", "aten::conv2d"])
    allocation = st.builds(Allocation, st.integers(1, 1 << 40), names, scratch=st.booleans())
    allocations = draw(st.lists(allocation, max_size=8))
    order: list[int] = []
    alive: list[int] = []
    for handle in range(len(allocations)):
        order.append(handle)
        alive.append(handle)
        while alive and bool(draw(st.booleans())):
            order.append(-1 - alive.pop(draw(st.integers(0, len(alive) - 1))))
    return Call(tuple(allocations), (*order, *(-1 - handle for handle in alive)))


@settings(deadline=None, max_examples=40)
@given(st.lists(calls(), min_size=1, max_size=3), st.lists(st.integers(1, 1 << 30), max_size=4))
def test_a_trace_that_is_written_is_read_again(tmp_path_factory: Any, made: list[Call], weights: list[int]) -> None:
    path = tmp_path_factory.mktemp("trace") / "net.trace"
    trace = Trace("2.1.1", "cuda", 64, 32, tuple(weights), tuple(made), ({"reserved_bytes.all.peak": 5},), (512,))

    write_traces(path, [trace, trace])

    assert read_traces(path) == (trace, trace)
    assert read_traces(path)[0].counters == trace.counters
    assert trace.weights_bytes == sum(weights)


GOOD: dict[str, Any] = {
    "torch": "2.1.1",
    "device": "cpu",
    "width": 64,
    "height": 32,
    "weights": [100],
    "operators": ["input"],
    "calls": [[[0, 8, 0, 0], [0]]],
}


@pytest.mark.parametrize(
    "change",
    [
        {"torch": ""},
        {"torch": "2.1\n1"},
        {"torch": "x" * 300},
        {"device": "tpu"},
        {"width": 0},
        {"width": True},
        {"height": 1 << 40},
        {"weights": [-1]},
        {"weights": [1.5]},
        {"weights": "many"},
        {"operators": [7]},
        {"calls": []},
        {"calls": [[[0, 8, 0, 0]]]},
        {"calls": [[[0, 8, 0, 0], [0], [0]]]},
        {"calls": [[[1, 8, 0, 0], [1]]]},
        {"calls": [[[0, 0, 0, 0], [0]]]},
        {"calls": [[[0, 8, 1, 0], [0]]]},
        {"calls": [[[0, 8, 0, 3], [0]]]},
        {"calls": [[[0, 8], [0]]]},
        {"calls": [[[0, 1 << 60, 0, 0], [0]]]},
        {"calls": [7]},
        {"counters": [{"peak": -1}]},
        {"counters": [7]},
        {"libraries": [0]},
    ],
)
def test_a_recording_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    parse_recording(json.dumps(GOOD).encode(), where="child")

    with pytest.raises(InvalidInputError, match="a recording of allocations|at least one call") as caught:
        parse_recording(json.dumps(GOOD | change).encode(), where="child")

    assert caught.value.where == "child"


@pytest.mark.parametrize("line", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_a_line_that_is_no_object_is_refused(line: bytes) -> None:
    with pytest.raises(InvalidInputError):
        parse_recording(line, where="child")


def test_more_events_than_a_call_can_have_are_refused() -> None:
    events = [[0, 8, 0, 0]] * 100_001

    with pytest.raises(InvalidInputError, match="100001 events"):
        parse_recording(json.dumps(GOOD | {"calls": [events]}).encode(), where="child")


@pytest.mark.parametrize("text", ["", "{}\n", '{"schema": "changeover.trace/2"}\n', "\x80\x04pickle"])
def test_a_file_of_another_kind_is_no_trace_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "net.trace"
    path.write_bytes(text.encode("latin-1"))

    with pytest.raises(InvalidInputError):
        read_traces(path)


def test_the_recorder_writes_a_file_that_is_read(tmp_path: Path, scripts: Path, recorded: Any) -> None:
    path = tmp_path / "conv.trace"
    question = {
        "path": str(scripts / "conv.pt"),
        "device": "cpu",
        "threads": 1,
        "sizes": [(64, 64)],
        "sessions": 1,
        "calls": 4,
        "inputs": [{"channels": 3, "dtype": "float32"}],
        "states": [],
    }

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        write_file(str(path), question)

    assert read_traces(path) == recorded("conv", (64, 64))


def test_a_memory_history_becomes_a_call_and_what_libraries_keep() -> None:
    # By hand, in the form that torch.cuda.memory._snapshot documents for `device_traces`.
    history = [
        {"action": "free_requested", "addr": 90, "size": 512},
        {"action": "segment_alloc", "addr": 1000, "size": 2097152},
        {"action": "alloc", "addr": 1000, "size": 700},
        {"action": "alloc", "addr": 5000, "size": 8519680},
        {"action": "alloc", "addr": 2024, "size": 0},
        {"action": "alloc", "addr": 2024, "size": 300},
        {"action": "free_requested", "addr": 1000, "size": 700},
        {"action": "free_completed", "addr": 1000, "size": 700},
        {"action": "alloc", "addr": 1000, "size": 64},
        {"action": "snapshot", "addr": 0, "size": 0},
        {"action": "free_requested", "addr": 2024, "size": 300},
        {"action": "free_requested", "addr": 1000, "size": 64},
        {"action": "segment_free", "addr": 1000, "size": 2097152},
    ]
    operators: list[str] = []

    events, kept = history_events(history, operators)

    assert events == [[0, 700, 0, 0], [1, 300, 0, 0], [0], [2, 64, 0, 0], [1], [2]]
    assert kept == [8519680]
    data = GOOD | {"device": "cuda", "operators": operators, "calls": [events], "libraries": kept}
    trace = parse_recording(json.dumps(data).encode(), where="history")
    assert [made.size for made in trace.calls[0].allocations] == [700, 300, 64]
    assert trace.libraries == (8519680,)
