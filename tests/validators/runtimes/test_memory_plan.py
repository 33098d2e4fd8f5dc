"""Plans against the real runtime: what its arena says in its log while a session runs under them."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from changeover_registry.errors import InvalidInputError, MeasurementError, UndecidedError
from changeover_registry.records.memory import MemoryPlan
from changeover_registry.records.release import Contract, Tile
from changeover_validators.runtimes.memory_plan import (
    ArenaSettings,
    described,
    fixed_shapes,
    providers,
    register_arena,
    run_options,
    settings_of,
    shrinks,
)
from changeover_validators.runtimes.process import ModelProcess
from changeover_validators.runtimes.sandbox import Isolation

MIB = 2**20
SIDE = 256
_SESSION = """
import hashlib, json, sys
import numpy as np, onnxruntime
from changeover_registry.records.memory import MemoryPlan
from changeover_validators.runtimes.memory_plan import providers, register_arena, run_options, session_options

asked = json.loads(sys.argv[1])
onnxruntime.set_default_logger_severity(1)
plan, limit = MemoryPlan.model_validate(asked["plan"]), asked["limit"]
shapes = {name: tuple(dims) for name, dims in asked["shapes"].items()}
arena = register_arena(onnxruntime, plan, "cpu", limit)
options = session_options(
    onnxruntime, plan, provider="cpu", threads=1, shapes=shapes, model=asked["model"], arena=arena
)
session = onnxruntime.InferenceSession(asked["model"], options, providers=providers(plan, "cpu", limit))
values = [np.zeros(0)]
given = {name: np.random.default_rng(1).random(dims, np.float32) for name, dims in shapes.items()}
for number in range(1, asked["runs"] + 1):
    values = []  # What is still held of the run before would keep its chunks.
    values = session.run(None, given, run_options(onnxruntime, plan, number))
    print(f"run {number} ended", file=sys.stderr, flush=True)
digest, inputs = hashlib.sha256(values[0].tobytes()).hexdigest(), [list(x.shape) for x in session.get_inputs()]
print(json.dumps({"digest": digest, "inputs": inputs}))
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a session did: the regions that its arena took in each run and all that it held then; its last answer."""

    regions: tuple[tuple[int, ...], ...]
    totals: tuple[tuple[int, ...], ...]
    first_chunk: int
    digest: str
    inputs: list[list[Any]]

    @property
    def all_regions(self) -> tuple[int, ...]:
        return tuple(size for run in self.regions for size in run)

    @property
    def given_back(self) -> list[int]:
        """How much was gone of the arena at each region that it took."""
        totals, held, gone = [size for run in self.totals for size in run], 0, []
        for size, total in zip(self.all_regions, totals, strict=True):
            gone.append(held + size - total)
            held = total
        return gone


Run = Callable[..., Ran]


def of_log(lines: list[str], key: str) -> tuple[tuple[int, ...], ...]:
    """The numbers that follow `key`, run by run."""
    runs: list[list[int]] = [[]]
    for line in lines:
        if re.fullmatch(r"run \d+ ended", line):
            runs.append([])
        elif found := re.search(rf"{key}\s*(\d+)", line):
            runs[-1].append(int(found[1]))
    return tuple(map(tuple, runs))


@pytest.fixture(scope="session")
def hourglass(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Convolutions that grow and shrink again; `x` is [1, 3, rows, columns] with free dimensions of those names."""
    rng, nodes, weights, feeds, before = np.random.default_rng(0), [], [], "x", 3
    for index, channels in enumerate((16, 32, 32, 16, 1)):
        kernel = rng.standard_normal((channels, before, 3, 3)).astype(np.float32) / 10
        weights.append(onnx.numpy_helper.from_array(kernel, f"w{index}"))
        nodes.append(helper.make_node("Conv", [feeds, f"w{index}"], [f"c{index}"], pads=[1] * 4))
        feeds = "y" if index == 4 else f"r{index}"
        nodes.append(helper.make_node("Sigmoid" if index == 4 else "Relu", [f"c{index}"], [feeds]))
        before = channels
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "rows", "columns"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, "rows", "columns"])
    graph = helper.make_graph(nodes, "net", [x], [y], initializer=weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path_factory.mktemp("hourglass") / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="session")
def run(hourglass: Path) -> Run:
    """Runs the hourglass under a plan in a process of its own."""
    kept: dict[str, Ran] = {}

    def go(plan: MemoryPlan, *, limit: int | None = None, runs: int = 4, model: Path = hourglass, **shapes: Any) -> Ran:
        sizes = shapes or {"x": (1, 3, SIDE, SIDE)}
        asked = {"plan": plan.model_dump(), "limit": limit, "runs": runs, "model": str(model), "shapes": sizes}
        text = json.dumps(asked)
        if text not in kept:
            done = subprocess.run([sys.executable, "-c", _SESSION, text], capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr[-2000:])
            lines, said = done.stderr.splitlines(), json.loads(done.stdout)
            chunks = [size for line in of_log(lines, "initial_chunk_size_bytes:") for size in line]
            kept[text] = Ran(
                of_log(lines, "Extended allocation by"), of_log(lines, "Total allocated bytes:"),
                chunks[0], said["digest"], said["inputs"],
            )  # fmt: skip
        return kept[text]

    return go


def test_without_a_plan_the_arena_is_the_runtimes_own(run: Run) -> None:
    ran = run(MemoryPlan())

    assert ran.first_chunk == MIB
    assert all(size.bit_count() == 1 for size in ran.all_regions), "powers of two"
    assert ran.regions[1], "the second run takes the pattern's block"
    assert not any(ran.regions[2:])
    assert not any(ran.given_back)


def test_same_as_requested_takes_no_power_of_two_and_a_smaller_arena(run: Run) -> None:
    ran = run(MemoryPlan(extend="same-as-requested"))

    assert any(size.bit_count() > 1 for size in ran.all_regions)
    assert sum(ran.all_regions) < sum(run(MemoryPlan()).all_regions)


def test_without_the_pattern_the_second_run_takes_nothing_more(run: Run) -> None:
    ran = run(MemoryPlan(pattern=False))

    assert ran.regions[0]
    assert not any(ran.regions[1:])


def test_a_first_region_is_taken_at_its_size_and_is_the_only_one(run: Run) -> None:
    size = 48 * MIB + 256

    ran = run(MemoryPlan(initial_chunk_bytes=size))

    assert ran.first_chunk == size
    assert ran.all_regions == (size,)


def test_a_first_region_counts_only_where_the_arena_grows_by_powers_of_two(run: Run) -> None:
    """So a plan that has both is as good as one that grows as requested; the choice never makes one."""
    ran = run(MemoryPlan(extend="same-as-requested", initial_chunk_bytes=48 * MIB))

    assert ran.regions == run(MemoryPlan(extend="same-as-requested")).regions


def test_a_shrink_after_warm_up_comes_once_after_the_second_run(run: Run) -> None:
    ran = run(MemoryPlan(extend="same-as-requested", shrink="after-warm-up"))

    assert not any(ran.given_back[:-1])
    assert ran.given_back[-1] > 0
    assert [len(regions) > 0 for regions in ran.regions] == [True, True, True, False, False]


def test_a_shrink_each_run_gives_back_each_time(run: Run) -> None:
    ran = run(MemoryPlan(extend="same-as-requested", shrink="each-run"))

    assert [len(regions) > 0 for regions in ran.regions] == [True, True, True, True, False]
    assert all(size > 0 for size in ran.given_back[-3:])


def test_a_limit_bounds_the_arena(run: Run) -> None:
    with pytest.raises(RuntimeError, match="smaller than requested bytes"):
        run(MemoryPlan(), limit=MIB)

    assert run(MemoryPlan(), limit=64 * MIB).all_regions


@pytest.mark.parametrize(
    "plan",
    [
        MemoryPlan(extend="same-as-requested"),
        MemoryPlan(extend="same-as-requested", pattern=False),
        MemoryPlan(pattern=False),
        MemoryPlan(initial_chunk_bytes=48 * MIB),
        MemoryPlan(extend="same-as-requested", shrink="after-warm-up"),
        MemoryPlan(shrink="each-run"),
        MemoryPlan(freeze=True),
    ],
    ids=str,
)
def test_no_plan_changes_a_bit_of_what_the_model_answers(run: Run, plan: MemoryPlan) -> None:
    assert run(plan).digest == run(MemoryPlan()).digest


def test_freezing_fixes_the_free_dimensions_by_their_names(run: Run) -> None:
    assert run(MemoryPlan(freeze=True)).inputs == [[1, 3, SIDE, SIDE]]
    assert run(MemoryPlan()).inputs == [[1, 3, "rows", "columns"]]


def test_a_dimension_stays_free_without_a_name_or_with_one_for_two_sizes(run: Run, tmp_path: Path) -> None:
    """`one` is shared by two sizes, `deep` by an input of unknown size, and the last dimension has no name."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["one", "three", "one", None])
    s = helper.make_tensor_value_info("s", TensorProto.FLOAT, [1, "deep"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "net", [x, s], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())

    ran = run(MemoryPlan(freeze=True), model=path, runs=0, x=(1, 3, 8, 8))

    assert ran.inputs[0] == ["one", 3, "one", None]


def test_what_a_plan_is_on_cuda_is_told_to_its_provider() -> None:
    plan = MemoryPlan(extend="same-as-requested", cudnn_search="heuristic", cudnn_max_workspace=False)

    assert providers(plan, "cuda", 1000) == [
        (
            "CUDAExecutionProvider",
            {
                "arena_extend_strategy": "kSameAsRequested",
                "gpu_mem_limit": "1000",
                "cudnn_conv_algo_search": "HEURISTIC",
                "cudnn_conv_use_max_workspace": "0",
            },
        )
    ]
    assert settings_of(plan, "cuda").arena is None
    assert settings_of(plan, "cuda").session == {}
    assert providers(MemoryPlan(), "cpu") == ["CPUExecutionProvider"]


def test_only_a_first_region_needs_an_arena_of_the_process_on_cuda() -> None:
    plan = MemoryPlan(initial_chunk_bytes=2**31 - 1)

    assert settings_of(plan, "cuda", 5).arena == ArenaSettings("Cuda", 5, 0, 2**31 - 1)
    assert settings_of(plan, "cuda").session["session.use_env_allocators"] == "1"


def test_a_runtime_that_cannot_register_cudas_arena_does_not_run_the_plan() -> None:
    """What a plan says is applied, or nothing runs."""
    import onnxruntime

    class Old:
        __version__ = "1.18.0"
        OrtArenaCfg, OrtMemoryInfo = onnxruntime.OrtArenaCfg, onnxruntime.OrtMemoryInfo
        OrtAllocatorType, OrtMemType = onnxruntime.OrtAllocatorType, onnxruntime.OrtMemType

    with pytest.raises(UndecidedError, match=r"1\.18\.0"):
        register_arena(Old, MemoryPlan(initial_chunk_bytes=256), "cuda")


def test_shrinking_is_asked_for_by_the_number_of_the_run() -> None:
    import onnxruntime

    assert [shrinks(MemoryPlan(shrink="after-warm-up"), number) for number in (1, 2, 3)] == [False, True, False]
    assert run_options(onnxruntime, MemoryPlan(), 2) is None
    on_gpu = run_options(onnxruntime, MemoryPlan(shrink="each-run"), 1, "cuda")
    assert on_gpu is not None
    assert on_gpu.get_run_config_entry("memory.enable_memory_arena_shrinkage") == "gpu:0"


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (MemoryPlan(), "the runtime's own settings"),
        (MemoryPlan(initial_chunk_bytes=64 * MIB, pattern=False), "a first region of 64 MiB, no pattern"),
        (
            MemoryPlan(extend="same-as-requested", shrink="after-warm-up", freeze=True),
            "growth as requested, shrink after warm up, frozen shapes",
        ),
        (
            MemoryPlan(cudnn_search="heuristic", cudnn_max_workspace=False),
            "cuDNN search heuristic, cuDNN workspace bounded",
        ),
    ],
)
def test_a_plan_is_told_in_one_line(plan: MemoryPlan, words: str) -> None:
    assert described(plan) == words


def test_shapes_are_fixed_by_a_tile_or_a_resize_and_else_follow_the_plate(contract: Contract) -> None:
    padded = contract.model_copy(update={"multiple": 32})

    assert fixed_shapes(padded, Tile(size=0)) is None
    assert fixed_shapes(padded, Tile(size=500, overlap=32)) == {"x": (1, 3, 512, 512)}
    assert fixed_shapes(padded.model_copy(update={"resize": (640, 360)}), Tile(size=0)) == {"x": (1, 3, 384, 640)}


def test_the_isolated_child_runs_under_the_plan_that_it_is_asked_for(
    hourglass: Path, request_for: Callable[..., Any], some_isolation: Isolation, plate: Any
) -> None:
    asked = {"folder": hourglass.parent, "tile": Tile(size=64, overlap=8)}
    with ModelProcess(request_for(**asked), some_isolation) as model:
        own = model.infer({"plate": plate}, reset=True).matte
    plan = MemoryPlan(initial_chunk_bytes=64 * MIB, freeze=True, shrink="each-run")

    with ModelProcess(request_for(**asked, memory_plan=plan), some_isolation) as model:
        planned = model.infer({"plate": plate}, reset=True).matte

    np.testing.assert_array_equal(own, planned)


def test_a_first_region_over_what_the_child_may_have_ends_it(
    hourglass: Path, request_for: Callable[..., Any], some_isolation: Isolation, plate: Any
) -> None:
    """The child really takes the region: its private memory is bounded by twice its RAM and half a GiB."""
    asked = request_for(folder=hourglass.parent, ram_mib=400, memory_plan=MemoryPlan(initial_chunk_bytes=2**31 - 1))

    with pytest.raises(MeasurementError, match="bad_alloc"), ModelProcess(asked, some_isolation) as model:
        model.infer({"plate": plate}, reset=True)


def test_a_plan_that_freezes_needs_an_operating_point_of_one_size(
    hourglass: Path, request_for: Callable[..., Any], some_isolation: Isolation
) -> None:
    frozen = request_for(folder=hourglass.parent, memory_plan=MemoryPlan(freeze=True))

    with pytest.raises(InvalidInputError, match="tensors that follow the plate"), ModelProcess(frozen, some_isolation):
        pass


def test_a_plan_is_refused_for_what_onnxruntime_does_not_run(
    variant: Path, request_for: Callable[..., Any], some_isolation: Isolation
) -> None:
    (variant / "net.onnx").write_bytes(b"x")
    script = request_for(runtime="torchscript", memory_plan=MemoryPlan(pattern=False))

    with pytest.raises(InvalidInputError, match="memory plan"), ModelProcess(script, some_isolation):
        pass
