"""Recording in the isolated child: what it tells is what this process tells, and whatever goes wrong is named."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.errors import ChangeoverError, InvalidInputError, RefusedError, UndecidedError
from changeover_registry.records.release import Contract
from changeover_validators.runtimes.interpreter import inspect_interpreter
from changeover_validators.runtimes.sandbox import Isolation
from changeover_validators.vram import trace_child
from changeover_validators.vram.record import RecordRequest, record
from changeover_validators.vram.trace import Trace, parse_recording

Recorded = Callable[..., tuple[Trace, ...]]
Pretend = Callable[[str], str]

LINE = json.dumps(
    {
        "torch": "2.13.0",
        "device": "cpu",
        "width": 64,
        "height": 32,
        "weights": [],
        "operators": ["input"],
        "calls": [[[0, 8, 0, 0], [0]]] * 4,
    }
)


@pytest.fixture
def request_for(scripts: Path, contracts: dict[str, Contract]) -> Callable[..., RecordRequest]:
    def make(**changes: Any) -> RecordRequest:
        fields: dict[str, Any] = {
            "interpreter": sys.executable,
            "folder": scripts,
            "entry": "convgru.pt",
            "contract": contracts["convgru"],
            "sizes": ((64, 32),),
            "sessions": 1,
        }
        return RecordRequest(**(fields | changes))

    return make


def test_the_child_tells_what_this_process_tells(
    isolated: None, request_for: Callable[..., RecordRequest], recorded: Recorded
) -> None:
    sizes = ((96, 64), (64, 64))

    sessions = record(request_for(sizes=sizes, sessions=2))

    assert sessions == (recorded("convgru", *sizes),) * 2
    assert [trace.counters for trace in sessions[0]] == [trace.counters for trace in recorded("convgru", *sizes)]


@pytest.mark.parametrize(
    ("words", "kind", "rule", "actual"),
    [
        ("exit 3", ChangeoverError, "crash", "exit status 3"),
        ("kill -SEGV $$", ChangeoverError, "crash", "SIGSEGV"),
        ("exec sleep 20", ChangeoverError, "hang", "the watch ended it"),
        ("printf 'half a line'", ChangeoverError, "crash", "exit status 0"),
        ("yes xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx | tr -d '\\n'", ChangeoverError, "crash", "no end"),
        ("echo nonsense", InvalidInputError, "trace", "JSONDecodeError"),
        (f"echo '{LINE.replace('64', '128')}'", ChangeoverError, "crash", "another size"),
        (f"echo '{LINE.replace('cpu', 'cuda')}'", ChangeoverError, "crash", "another size"),
        ("echo '{\"error\":7}'", ChangeoverError, "crash", "an error that is none"),
        (
            'echo \'{"error":{"class":"ModuleNotFoundError","text":"no torch"}}\'',
            UndecidedError,
            "runtime",
            "ModuleNotFoundError: no torch",
        ),
        (
            'echo \'{"error":{"class":"TooOldError","text":"memory events"}}\'',
            UndecidedError,
            "runtime",
            "TooOldError",
        ),
        (
            'echo \'{"error":{"class":"RuntimeError","text":"PytorchStreamReader failed"}}\'',
            ChangeoverError,
            "invalid model",
            "PytorchStreamReader",
        ),
    ],
)
def test_whatever_a_child_does_instead_is_named(
    isolated: None,
    request_for: Callable[..., RecordRequest],
    pretend: Pretend,
    words: str,
    kind: type[ChangeoverError],
    rule: str,
    actual: str,
) -> None:
    seconds = 1.0 if "exec sleep" in words else 60.0

    with pytest.raises(kind) as caught:
        record(request_for(interpreter=pretend(words), wall_seconds=seconds))

    assert caught.value.rule == rule
    assert actual in caught.value.actual


def test_a_child_that_answers_well_is_believed(
    isolated: None, request_for: Callable[..., RecordRequest], pretend: Pretend
) -> None:
    ((trace,), (other,)) = record(request_for(interpreter=pretend(f"echo '{LINE}'; echo '{LINE}'"), sessions=2))

    assert trace == other
    assert (trace.width, trace.height, len(trace.calls)) == (64, 32, 4)


def test_a_program_is_recorded_in_isolation_or_not_at_all(request_for: Callable[..., RecordRequest]) -> None:
    with pytest.raises(RefusedError, match="limits-only"):
        record(request_for(sandbox="limits-only"))
    with pytest.raises(UndecidedError, match="not run"):
        record(request_for(), Isolation(None, "none"))
    with pytest.raises(InvalidInputError, match="a TorchScript file"):
        record(request_for(entry="none.pt"))


def test_only_a_bare_interpreter_need_not_hold_changeover(pretend: Pretend) -> None:
    path = pretend("exit 1")

    assert inspect_interpreter(path, bare=True).path == path
    with pytest.raises(UndecidedError, match="one without Changeover"):
        inspect_interpreter(path)


def test_the_recorder_runs_as_a_file_by_itself(scripts: Path) -> None:
    question = {
        "path": str(scripts / "conv.pt"),
        "device": "cpu",
        "threads": 1,
        "sizes": [[64, 32], [0, 0]],
        "sessions": 1,
        "calls": 1,
        "inputs": [{"channels": 3, "dtype": "float32"}],
        "states": [],
        "cpu_seconds": 100,
        "ram_mib": 4096,
    }

    done = subprocess.run(
        [sys.executable, trace_child.__file__],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=True,
    )

    # No net takes an image without pixels, so the second recording fails, and the error is the last line.
    first, second = done.stdout.splitlines()
    trace = parse_recording(first.encode(), where="child")
    assert (trace.width, trace.height, len(trace.calls)) == (64, 32, 1)
    assert json.loads(second)["error"]["class"] == "RuntimeError"


@pytest.mark.parametrize(
    ("answer", "names", "states"),
    [
        ({"t2": 3, "y": 1, "t": 2}, ["t", "t2"], [2, 3]),
        ((1, 2, 3), ["t", "t2"], [2, 3]),
        ([1, 2, 3, 4], ["t"], [2]),
        (1, [], []),
    ],
)
def test_states_are_found_as_the_runtime_finds_them(answer: Any, names: list[str], states: list[int]) -> None:
    assert trace_child.later(answer, names) == states


def test_memory_events_without_addresses_are_too_old() -> None:
    from types import SimpleNamespace as Value

    event = Value(tag="_EventType.Allocation", extra_fields=Value(ptr=None), children=[])

    with pytest.raises(trace_child.TooOldError):
        trace_child.flat([event])


def test_what_was_there_before_and_what_goes_to_the_host_is_not_of_the_call() -> None:
    call, host, given = trace_child.SCRIPT, trace_child.HOST, trace_child.INPUT
    found: list[Any] = [
        (1, None, 900, (-50, 950), given),
        (2, None, 100, (64, 1014), given),
        (3, 7, 200, (32, 1046), "aten::relu"),
        (4, 7, 300, (16, 1062), "aten::relu"),
        (5, 7, 300, (-16, 1046), "aten::relu"),
        (6, None, 400, (8, 1054), call),
        (7, 8, 400, (-8, 1046), "aten::tanh"),
        (8, None, 500, (99, 1145), host),
        (9, None, 500, (-99, 1046), given),
        (10, None, 200, (-32, 1014), given),
    ]
    operators: list[str] = []

    events = trace_child.events_of(found, operators)

    assert operators == [given, "aten::relu", call]
    assert events == [[0, 64, 0, 0], [1, 32, 1, 2], [2, 16, 1, 1], [2], [3, 8, 2, 0], [3], [1], [0]]
    assert trace_child.peak_of(found) == 1062 - 1000
    assert trace_child.peak_of([]) == 0
