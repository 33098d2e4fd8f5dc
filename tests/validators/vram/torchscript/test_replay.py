"""Traces replayed: against sums by hand, against each other, and against the counters of the torch that made them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.records.memory import WorkspaceRate
from changeover_validators.vram.arena import ArenaFullError
from changeover_validators.vram.lines import line_of
from changeover_validators.vram.replay import Device, resident, with_workspaces
from changeover_validators.vram.trace import Trace, read_traces

MIB = 1 << 20
LINE = line_of("2.1.1")
DEVICE = Device(LINE)
WITH_BLAS = Device(LINE, LINE.blas)
GPU_TRACES = sorted((Path(__file__).parent / "gpu").glob("traces-*.jsonl"))
NAMES = ("conv", "unet", "vit", "convgru")
Make = Callable[..., Trace]
Recorded = Callable[..., tuple[Trace, ...]]


def live(trace: Trace, number: int) -> int:
    """The most that one call asks for at once, by adding up after each step."""
    call, sizes = trace.calls[number], dict[int, int]()
    most = 0
    for step in call.order:
        if step >= 0:
            sizes[step] = call.allocations[step].size
        else:
            del sizes[-1 - step]
        most = max(most, sum(sizes.values()))
    return most


@pytest.mark.parametrize("name", NAMES)
def test_the_replay_asks_for_what_torch_itself_counted(name: str, recorded: Recorded) -> None:
    (trace,) = recorded(name, (96, 64))

    replay = resident([trace], DEVICE)

    counted = [dict(counters)["allocated_bytes.all.peak"] for counters in trace.counters]
    assert live(trace, -1) == counted[-1]
    assert replay.requested_bytes == trace.weights_bytes + counted[-1]
    assert replay.requested_bytes <= replay.steady.in_use_bytes <= replay.steady.arena_bytes


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", NAMES)
def test_weights_are_those_of_the_module(name: str, recorded: Recorded, scripts: Any) -> None:
    torch = pytest.importorskip("torch")
    (trace,) = recorded(name, (64, 64))
    held = torch.jit.load(str(scripts / f"{name}.pt")).state_dict().values()

    named = sorted(value.numel() * value.element_size() for value in held if value.numel())

    # Tensors that stand in the code itself, such as the number of a traced net, come on top.
    assert sum(named) <= trace.weights_bytes <= sum(named) + 64


def test_states_settle_after_the_first_call(recorded: Recorded) -> None:
    (trace,) = recorded("convgru", (96, 64))

    first, second, *others = trace.calls

    assert sum(made.size for made in first.allocations) != sum(made.size for made in second.allocations)
    assert all(call == others[-1] for call in others)
    handed = [made.size for made in others[-1].allocations if made.operator == "input"]
    assert handed == [3 * 96 * 64 * 4, 8 * 96 * 64 * 4]
    assert sorted(made.size for made in others[-1].allocations if made.output) == [96 * 64 * 4, 8 * 96 * 64 * 4]


def test_a_replay_by_hand(made: Make) -> None:
    steps = [
        (3 * MIB, "input", ""),
        (4 * MIB, "aten::conv2d", "scratch"),
        (5 * MIB, "aten::conv2d", ""),
        1,
        (MIB, "aten::sigmoid", "output"),
        2,
        0,
        3,
    ]
    trace = made([100, 2 * MIB], steps, steps)

    replay = resident([trace], DEVICE)

    # 100 bytes lie in a small segment, 2 + 3 + 4 + 5 MiB in one of 20 MiB, the output of 1 MiB again in a small one.
    assert (replay.loaded.in_use_bytes, replay.loaded.arena_bytes) == (2 * MIB + 512, 22 * MIB)
    assert replay.first == replay.steady
    assert (replay.steady.in_use_bytes, replay.steady.arena_bytes) == (14 * MIB + 512, 22 * MIB)
    assert replay.requested_bytes == 14 * MIB + 100
    shares = replay.shares
    assert (shares.weights, shares.bound_io) == (2 * MIB + 512, 3 * MIB)
    assert (shares.workspace, shares.activations) == (4 * MIB, 5 * MIB)
    assert (replay.retries, replay.rounds) == (0, 2)


@pytest.mark.parametrize("name", NAMES)
def test_shares_add_up_to_what_is_in_use(name: str, recorded: Recorded) -> None:
    (trace,) = recorded(name, (96, 64))

    replay = resident([trace], WITH_BLAS)

    shares = replay.shares
    parts = (shares.weights, shares.activations, shares.workspace, shares.bound_io)
    assert sum(parts) == replay.steady.in_use_bytes
    assert shares.weights >= trace.weights_bytes
    assert shares.bound_io >= 96 * 64 * 3 * 4
    assert (shares.activations > 0) == (name != "vit")  # Its peak is where the picture is put together: all output.


def test_the_workspace_of_cublas_is_lent_once_and_only_where_matrices_are_multiplied(recorded: Recorded) -> None:
    (vit,), (conv,) = recorded("vit", (64, 64)), recorded("conv", (64, 64))

    with_it, without = (resident([vit], device) for device in (WITH_BLAS, DEVICE))

    assert with_it.requested_bytes - without.requested_bytes == LINE.blas
    assert resident([conv], WITH_BLAS) == resident([conv], DEVICE)


def test_models_in_one_process_share_what_the_other_leaves_cached(recorded: Recorded) -> None:
    traces = [recorded(name, (192, 128))[0] for name in ("unet", "convgru")]
    alone = [resident([trace], DEVICE) for trace in traces]

    both = resident(traces, DEVICE)

    held = [replay.steady.arena_bytes for replay in alone]
    assert max(held) <= both.steady.arena_bytes < sum(held)
    others_weights = sum(trace.weights_bytes for trace in traces) - traces[1].weights_bytes
    assert both.requested_bytes == max(
        alone[1].requested_bytes + others_weights, alone[0].requested_bytes + traces[1].weights_bytes
    )


def test_two_instances_hold_the_weights_twice_and_the_activations_once(made: Make) -> None:
    steps = [(30 * MIB, "aten::conv2d", ""), 0]
    trace = made([12 * MIB], steps)

    one, two = resident([trace], DEVICE), resident([trace, trace], DEVICE)

    assert one.steady.in_use_bytes == 42 * MIB
    assert two.steady.in_use_bytes == 54 * MIB


def test_the_least_limit_under_which_it_runs_is_found_and_one_segment_less_is_too_little(recorded: Recorded) -> None:
    (trace,) = recorded("unet", (384, 256))
    free = resident([trace], DEVICE)

    under = free.steady.arena_bytes
    while True:
        try:
            held = resident([trace], DEVICE, limit_bytes=under - 2 * MIB)
        except ArenaFullError:
            break
        under -= 2 * MIB
        assert held.steady.arena_bytes <= under
        assert held.requested_bytes == free.requested_bytes

    assert free.steady.in_use_bytes <= under <= free.steady.arena_bytes


def test_measured_workspaces_take_the_place_of_the_recorded_ones(made: Make) -> None:
    call = made(
        [],
        [
            (MIB, "input", ""),
            (7 * MIB, "aten::conv2d", "scratch"),
            (4000, "aten::conv2d", "output"),
            1,
            (9 * MIB, "aten::relu", "scratch"),
            3,
            0,
            2,
        ],
    ).calls[0]
    rate = WorkspaceRate(operator="aten::conv2d", constant_bytes=100, per_thousand=2000)

    changed = with_workspaces(call, {rate.operator: rate}, 4)

    assert [(a.size, a.operator, a.scratch) for a in changed.allocations] == [
        (MIB, "input", False),
        (4000, "aten::conv2d", False),
        (2100, "aten::conv2d", True),
        (9 * MIB, "aten::relu", True),
    ]
    assert changed.order == (0, 1, 2, -3, 3, -4, -1, -2)
    assert with_workspaces(call, {}, 4) == call


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in GPU_TRACES] or [None])
def test_a_trace_of_a_gpu_is_replayed_to_what_that_gpu_reserved(path: Path | None) -> None:
    if path is None:
        pytest.skip("no trace of a GPU has been recorded yet: make gpu does it")
    for trace in read_traces(path):
        replay = resident([trace], Device(line_of(trace.torch)))

        counted = trace.counters[-1]
        assert replay.steady.in_use_bytes == pytest.approx(counted["allocated_bytes.all.peak"], rel=0.01)
        assert replay.steady.arena_bytes == pytest.approx(counted["reserved_bytes.all.peak"], rel=0.05)


def test_replaying_needs_neither_torch_nor_numpy() -> None:
    code = "import sys, changeover_validators.vram.torch_predictor; print({'torch', 'numpy', 'onnx'} & {*sys.modules})"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"
