"""A trace: what the calls of one TorchScript model allocate at one size, in order, as a compact record in a file.

A trace file is JSON lines: a head with `schema`, then one recording a line as `trace_child` writes it. It comes from a
child that ran the model, or from a GPU's memory history by way of the same script, so nothing in it is believed: a
handle begins once and ends once, sizes are sane, names are short. Nothing is ever unpickled. Needs neither torch nor
numpy. What this leaves out: the allocator (`caching`) and making a trace (`record`).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from changeover_registry.errors import InvalidInputError

__all__ = ["INPUT", "SCHEMA", "Allocation", "Call", "Trace", "parse_recording", "read_traces", "write_traces"]

SCHEMA = "changeover.trace/1"
INPUT = "input"
"""The operator's name under which tensors are handed over."""

_MOST_BYTES = 1 << 48
_MOST_EVENTS = 100_000
_MOST_SIDE = 1 << 20
_NAME = 200


@dataclass(frozen=True, slots=True)
class Allocation:
    """One buffer of a call: its bytes, the operator that made it, and what it is for.

    `scratch` ended within the operator that made it; an `output` was handed back by the call.
    """

    size: int
    operator: str
    scratch: bool = False
    output: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One call. `order` lists what happens: handle h begins as h, and ends as -1 - h; every handle does both."""

    allocations: tuple[Allocation, ...]
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Trace:
    """One session at one size: weights by storage, and the calls in order.

    Attributes:
        torch: The torch that ran it.
        device: ``cpu`` where kernels of the CPU stand in for those of a GPU, ``cuda`` where a GPU told it.
        width: Of the tensors, in pixels.
        height: Of the tensors, in pixels.
        weights: Bytes of each storage that the module holds, in the order in which it is loaded.
        calls: The first one may differ from the others (TorchScript optimises after it), states settle after it.
        counters: What torch itself counted in each call, by its own names.
        libraries: Bytes that libraries were lent in the calls and kept; only a GPU's history tells them.
    """

    torch: str
    device: str
    width: int
    height: int
    weights: tuple[int, ...]
    calls: tuple[Call, ...]
    counters: tuple[Mapping[str, int], ...] = field(default=(), compare=False)
    libraries: tuple[int, ...] = ()

    @property
    def weights_bytes(self) -> int:
        """The sum of the weights, before any rounding."""
        return sum(self.weights)


def write_traces(path: Path, traces: Iterable[Trace]) -> None:
    """Write a trace file.

    Raises:
        OSError: As the file system says.
    """
    lines = [json.dumps({"schema": SCHEMA}), *(json.dumps(_dumped(trace), separators=(",", ":")) for trace in traces)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_traces(path: Path) -> tuple[Trace, ...]:
    """The traces of a file that `write_traces`, or the measurement on a GPU, wrote.

    Raises:
        InvalidInputError: It is not such a file.
        OSError: It cannot be read.
    """
    head, *lines = path.read_bytes().splitlines() or [b""]
    if _object(head, str(path)).get("schema") != SCHEMA:
        raise _bad(str(path), f"a first line with the schema {SCHEMA}", head[:80].decode("utf-8", "replace"))
    return tuple(parse_recording(line, where=f"{path}:{number}") for number, line in enumerate(lines, 2))


def parse_recording(line: bytes, *, where: str) -> Trace:
    """One recording, checked.

    Raises:
        InvalidInputError: It is none.
    """
    data = _object(line, where)
    try:
        operators = [_name(name) for name in data["operators"]]
        width, height = (_number(data[side], 1, _MOST_SIDE) for side in ("width", "height"))
        weights = tuple(_number(size, 1, _MOST_BYTES) for size in data["weights"])
        calls = tuple(_call(events, operators) for events in data["calls"])
        counters = tuple(_counters(counted) for counted in data.get("counters", []))
        libraries = tuple(_number(size, 1, _MOST_BYTES) for size in data.get("libraries", []))
        device = {"cpu": "cpu", "cuda": "cuda"}[data["device"]]
        trace = Trace(_name(data["torch"]), device, width, height, weights, calls, counters, libraries)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise _bad(where, "a recording of allocations", f"{type(error).__name__}: {error}"[:200]) from error
    if not trace.calls:
        raise _bad(where, "at least one call", "none")
    return trace


def _call(events: Any, operators: list[str]) -> Call:  # noqa: ANN401 - JSON, checked here
    allocations: list[Allocation] = []
    order: list[int] = []
    alive: set[int] = set()
    if len(events) > _MOST_EVENTS:
        message = f"{len(events)} events in one call"
        raise ValueError(message)
    for event in events:
        if len(event) == 1:
            alive.remove(_number(event[0], 0, _MOST_EVENTS))
            order.append(-1 - event[0])
            continue
        handle, size, operator, role = event
        if handle != len(allocations):
            message = f"handle {handle} where {len(allocations)} follows"
            raise ValueError(message)
        allocations.append(
            Allocation(
                _number(size, 1, _MOST_BYTES),
                operators[_number(operator, 0, len(operators) - 1)],
                scratch=_number(role, 0, 2) == 1,
                output=role == 2,
            )
        )
        alive.add(handle)
        order.append(handle)
    if alive:
        message = f"{len(alive)} allocations without an end"
        raise ValueError(message)
    return Call(tuple(allocations), tuple(order))


def _dumped(trace: Trace) -> dict[str, Any]:
    operators = list(dict.fromkeys(a.operator for call in trace.calls for a in call.allocations))
    calls = [
        [[step, *_numbers(call.allocations[step], operators)] if step >= 0 else [-1 - step] for step in call.order]
        for call in trace.calls
    ]
    return {
        "torch": trace.torch,
        "device": trace.device,
        "width": trace.width,
        "height": trace.height,
        "weights": list(trace.weights),
        "operators": operators,
        "calls": calls,
        "libraries": list(trace.libraries),
        "counters": [dict(counted) for counted in trace.counters],
    }


def _numbers(allocation: Allocation, operators: list[str]) -> tuple[int, int, int]:
    return allocation.size, operators.index(allocation.operator), allocation.scratch + 2 * allocation.output


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _bad(where, "a line of JSON", f"{type(error).__name__}: {error}"[:200]) from error
    if not isinstance(data, dict):
        raise _bad(where, "a JSON object", type(data).__name__)
    return data


def _counters(counted: Any) -> Mapping[str, int]:  # noqa: ANN401 - JSON, checked here
    return {_name(name): _number(value, 0, _MOST_BYTES) for name, value in counted.items()}


def _number(value: Any, least: int, most: int) -> int:  # noqa: ANN401 - JSON, checked here
    if type(value) is not int or not least <= value <= most:
        message = f"{value!r} where a number of {least} to {most} belongs"
        raise ValueError(message[:200])
    return value


def _name(value: Any) -> str:  # noqa: ANN401 - JSON, checked here
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= _NAME:
        message = "a name that is no short line"
        raise ValueError(message)
    return value


def _bad(where: str, expected: str, actual: str) -> InvalidInputError:
    return InvalidInputError(
        "trace", where=where, expected=expected, actual=actual, remedy="record the model again with this Changeover"
    )
