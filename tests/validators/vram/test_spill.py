"""Memory that spilled into the host's, and what Windows' counters tell of it."""

import json
from typing import Any

import pytest

from changeover_registry.records.base import Unknown
from changeover_registry.records.memory import MemoryKey, MemoryMeasurement, Steady
from changeover_validators.vram.spill import FACTOR, SHARED_BYTES, spilled
from changeover_validators.vram.windows_memory import parsed


def measured(provider: Any = "cuda", **changes: Any) -> MemoryMeasurement:
    held = Steady(in_use_bytes=1000, arena_bytes=1000)
    fields: dict[str, Any] = {
        "key": MemoryKey(
            model="ab" * 32, runtime="onnxruntime", version="1.31.1", provider=provider, width=64, height=32
        ),
        "host": "ws-01",
        "made_at": "2026-11-22T12:00:00Z",
        "runs": 5,
        "loaded": held,
        "first": held,
        "steady": held,
        "resting_bytes": 1000,
        "process_bytes": 1000,
        "accounted_bytes": Unknown(unknown="not asked"),
        "frame_us": 20_000,
    }
    return MemoryMeasurement(**(fields | changes))


@pytest.mark.parametrize(
    ("found", "usual", "said"),
    [
        (measured(), None, None),
        (measured(), 20_000, None),
        (measured(frame_us=FACTOR * 20_000), 20_000, None),
        (measured(frame_us=FACTOR * 20_000 + 1), 20_000, "a frame took 4.0 times"),
        (measured(shared_bytes=SHARED_BYTES), 20_000, None),
        (measured(shared_bytes=SHARED_BYTES + 1), None, "64 MiB of the host's memory"),
        (measured(shared_bytes=Unknown(unknown="the counters cannot be asked")), None, None),
        (measured("cpu", shared_bytes=SHARED_BYTES * 9, frame_us=10**9), 1, None),
        (measured(frame_us=None), 1, None),
    ],
)
def test_memory_that_stood_in_for_the_gpus_is_told_by_its_amount_or_by_the_time_of_a_frame(
    found: MemoryMeasurement, usual: int | None, said: str | None
) -> None:
    reason = spilled(found, usual)
    assert reason is None if said is None else said in str(reason)


def row(pid: int, dedicated: int, shared: int, gpu: int = 0) -> dict[str, Any]:
    name = f"pid_{pid}_luid_0x00000000_0x0000D4B1_phys_{gpu}"
    return {"Name": name, "DedicatedUsage": dedicated, "SharedUsage": shared}


def test_the_counters_rows_of_all_processes_and_gpus_are_one_sum() -> None:
    found = parsed(json.dumps([row(7, 100, 10), row(7, 30, 1, gpu=1), row(8, 5, 2), row(77, 999, 999)]), {7, 8})
    assert (found.dedicated, found.shared) == (135, 13)


def test_one_row_stands_without_a_list() -> None:
    found = parsed(json.dumps(row(7, 100, 0)), {7})
    assert (found.dedicated, found.shared) == (100, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps([row(8, 1, 1)]), "list no such process"),
        ("[]", "list no such process"),
        ("", "cannot be read"),
        ("Get-CimInstance : Invalid class", "cannot be read"),
        ('[{"Name": "pid_7_"}]', "cannot be read"),
        ("3", "cannot be read"),
    ],
)
def test_what_the_counters_do_not_tell_is_unknown_and_never_zero(text: str, said: str) -> None:
    found = parsed(text, {7})
    for figure in (found.dedicated, found.shared):
        assert isinstance(figure, Unknown)
        assert said in figure.unknown
