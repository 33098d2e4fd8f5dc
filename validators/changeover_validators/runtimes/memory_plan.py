"""The one place that turns a memory plan into settings of onnxruntime, exactly, and refuses what it cannot apply.

`settings_of` says what a plan means in onnxruntime's own words, as a value that any of its interfaces can be told; the
functions after it tell the Python module. Everything that builds a session of ours calls them: the isolated child, the
sessions that a prediction builds, the measurement. What a plan does not say stays the runtime's own. On the CPU the
arena's settings are those of an allocator that the process registers, so a process holds sessions of one plan only.
Nothing of onnxruntime is imported here; the caller hands in the module. Left out: which plan is best (`vram.plans`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from changeover_registry.errors import InvalidInputError, UndecidedError
from changeover_registry.records.memory import MemoryAnswer, MemoryPlan
from changeover_registry.records.release import Contract, Tile
from changeover_validators.runtimes.placement import placement_entries

__all__ = [
    "CHOSEN",
    "PROVIDERS",
    "WARM_UP_RUNS",
    "ArenaSettings",
    "Settings",
    "described",
    "fixed_shapes",
    "needs_arena",
    "predicted",
    "providers",
    "register_arena",
    "run_options",
    "session_options",
    "settings_of",
    "shrinks",
]

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""onnxruntime's names of our providers."""

WARM_UP_RUNS = 2
"""The first run tells what is needed, the second lays out the memory pattern; from the third on nothing changes."""

CHOSEN = "at its most it needs the least of all settings that may be chosen"
"""Why a plan that is not the runtime's own stands in a verdict, for a person."""

_STRATEGY = {"next-power-of-two": 0, "same-as-requested": 1}
_STRATEGY_NAMES = {"next-power-of-two": "kNextPowerOfTwo", "same-as-requested": "kSameAsRequested"}
_DEVICES = {"cpu": ("Cpu", "cpu:0"), "cuda": ("Cuda", "gpu:0")}
_OWN = -1
"""What an arena's setting is called that stays the runtime's own."""
_ERRORS_ONLY = 3


@dataclass(frozen=True, slots=True)
class ArenaSettings:
    """An arena of the process, in the words of ``OrtArenaCfg``; -1 (of `max_mem` 0) is the runtime's own.

    Attributes:
        memory: The name of the memory, ``Cpu`` or ``Cuda``.
        max_mem: The most bytes that it may hold.
        arena_extend_strategy: 0 grows by powers of two, 1 by what is asked for.
        initial_chunk_size_bytes: The first region; it counts only where the arena grows by powers of two.
    """

    memory: str
    max_mem: int
    arena_extend_strategy: int
    initial_chunk_size_bytes: int


@dataclass(frozen=True, slots=True)
class Settings:
    """What a plan is in onnxruntime's words.

    Attributes:
        pattern: ``enable_mem_pattern``.
        arena: The allocator to register before the session is built; None where the session's own one will do.
        session: Entries of the session's configuration.
        provider: Options of the provider.
    """

    pattern: bool
    arena: ArenaSettings | None
    session: Mapping[str, str]
    provider: Mapping[str, str]


def settings_of(plan: MemoryPlan, provider: str, limit_bytes: int | None = None) -> Settings:
    """What `plan` is on `provider` (``cpu`` or ``cuda``), with an arena of at most `limit_bytes`."""
    arena = _arena(plan, provider, limit_bytes) if needs_arena(plan, provider, limit_bytes) else None
    entries = {} if arena is None else {"session.use_env_allocators": "1"}
    if provider != "cuda":
        return Settings(plan.pattern, arena, entries, {})
    return Settings(plan.pattern, arena, entries, _cuda_options(plan, limit_bytes))


def needs_arena(plan: MemoryPlan, provider: str, limit_bytes: int | None = None) -> bool:
    """Whether an allocator of the process has to stand in for the session's own one.

    CUDA's strategy and limit are options of its provider; only a first region can be asked for in no other way.
    """
    if provider == "cuda":
        return plan.initial_chunk_bytes is not None
    return plan.extend != "next-power-of-two" or plan.initial_chunk_bytes is not None or limit_bytes is not None


def _arena(plan: MemoryPlan, provider: str, limit_bytes: int | None) -> ArenaSettings:
    first = _OWN if plan.initial_chunk_bytes is None else plan.initial_chunk_bytes
    return ArenaSettings(_DEVICES[provider][0], limit_bytes or 0, _STRATEGY[plan.extend], first)


def _cuda_options(plan: MemoryPlan, limit_bytes: int | None) -> dict[str, str]:
    options = {"arena_extend_strategy": _STRATEGY_NAMES[plan.extend]}
    if limit_bytes is not None:
        options["gpu_mem_limit"] = str(limit_bytes)
    if plan.cudnn_search is not None:
        options["cudnn_conv_algo_search"] = plan.cudnn_search.upper()
    if plan.cudnn_max_workspace is not None:
        options["cudnn_conv_use_max_workspace"] = str(int(plan.cudnn_max_workspace))
    return options


def register_arena(runtime_module: Any, plan: MemoryPlan, provider: str, limit_bytes: int | None = None) -> bool:  # noqa: ANN401 - onnxruntime has no types
    """Register the arena that `plan` and `limit_bytes` ask for, before the session is built; whether one was needed.

    It stays for the process' life and serves every session that is built with `arena` in `session_options`.

    Raises:
        UndecidedError: This release of onnxruntime cannot make such an arena for that provider.
    """
    wanted = settings_of(plan, provider, limit_bytes).arena
    if wanted is None:
        return False
    settings = runtime_module.OrtArenaCfg(
        wanted.max_mem, wanted.arena_extend_strategy, wanted.initial_chunk_size_bytes, _OWN
    )
    kind, memory = runtime_module.OrtAllocatorType.ORT_ARENA_ALLOCATOR, runtime_module.OrtMemType.DEFAULT
    info = runtime_module.OrtMemoryInfo(wanted.memory, kind, 0, memory)
    if provider == "cpu":
        runtime_module.create_and_register_allocator(info, settings)
        return True
    if not hasattr(runtime_module, "create_and_register_allocator_v2"):
        raise _too_old(runtime_module)
    runtime_module.create_and_register_allocator_v2(PROVIDERS[provider], info, {}, settings)  # pragma: gpu
    return True  # pragma: gpu


def session_options(
    runtime_module: Any,  # noqa: ANN401 - onnxruntime has no types
    plan: MemoryPlan,
    *,
    provider: str,
    threads: int,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    model: str | bytes | None = None,
    arena: bool = False,
) -> Any:  # noqa: ANN401 - as above
    """SessionOptions for `plan`.

    Args:
        runtime_module: onnxruntime.
        plan: The settings.
        provider: ``cpu`` or ``cuda``; with ``cuda`` no node may run on the CPU.
        threads: Threads inside one operator; operators run one after another.
        shapes: The dims of the tensors that the contract feeds, by input name. A plan that freezes needs them.
        model: The file or its bytes, whose names of dimensions a plan that freezes needs.
        arena: What `register_arena` said, which a limit may have needed that the plan alone does not.

    Raises:
        InvalidInputError: The plan freezes, and sizes or model are not given.
    """
    options = runtime_module.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    settings = settings_of(plan, provider)
    options.enable_mem_pattern = settings.pattern
    entries = dict(settings.session) | ({"session.use_env_allocators": "1"} if arena else {})
    if provider == "cuda":
        # Without them a missing CUDA provider ends in a warning and a run on the CPU.
        entries |= placement_entries(runtime_module)
    for name, value in entries.items():
        options.add_session_config_entry(name, value)
    if plan.freeze:
        if shapes is None or model is None:
            raise _no_sizes()
        for name, size in sorted(_frozen(_inputs(runtime_module, model), shapes).items()):
            options.add_free_dimension_override_by_name(name, size)
    return options


def providers(
    plan: MemoryPlan, provider: str, limit_bytes: int | None = None
) -> list[str | tuple[str, dict[str, str]]]:
    """What a session is told of its provider: the name, and on CUDA the options that the plan sets."""
    name, options = PROVIDERS[provider], dict(settings_of(plan, provider, limit_bytes).provider)
    return [(name, options)] if options else [name]


def run_options(runtime_module: Any, plan: MemoryPlan, run_number: int, provider: str = "cpu") -> Any | None:  # noqa: ANN401 - as above
    """RunOptions of the run that is number `run_number` of its session, from 1 on; None where nothing is special.

    With them the arena gives back, at the end of that run, the regions that hold nothing.
    """
    if not shrinks(plan, run_number):
        return None
    options = runtime_module.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", _DEVICES[provider][1])
    return options


def shrinks(plan: MemoryPlan, run_number: int) -> bool:
    """Whether the arena gives back what it can at the end of the run that is number `run_number`, from 1 on."""
    return plan.shrink == "each-run" or (plan.shrink == "after-warm-up" and run_number == WARM_UP_RUNS)


def described(plan: MemoryPlan) -> str:
    """A plan in one line, for a person: what differs from the runtime's own settings."""
    own, words = MemoryPlan(), []
    if plan.extend != own.extend:
        words.append("growth as requested")
    if plan.initial_chunk_bytes is not None:
        words.append(f"a first region of {plan.initial_chunk_bytes / 2**20:.0f} MiB")
    if not plan.pattern:
        words.append("no pattern")
    if plan.shrink != own.shrink:
        words.append(f"shrink {plan.shrink.replace('-', ' ')}")
    if plan.freeze:
        words.append("frozen shapes")
    if plan.cudnn_search is not None:
        words.append(f"cuDNN search {plan.cudnn_search}")
    if plan.cudnn_max_workspace is not None:
        words.append(f"cuDNN workspace {'unbounded' if plan.cudnn_max_workspace else 'bounded'}")
    return ", ".join(words) or "the runtime's own settings"


def predicted(answer: MemoryAnswer) -> str:
    """A prediction in one line, for a person: the arena's range, and with all the rest the most that is taken."""
    low, high = (f"{size / 2**20:.0f}" for size in (answer.range.low_bytes, answer.range.high_bytes))
    arena = f"{high} MiB" if low == high else f"{low} to {high} MiB"
    sessions = f"{answer.range.sessions} session{'s' if answer.range.sessions > 1 else ''}"
    return f"arena {arena} over {sessions}, in all {answer.total_bytes / 2**20:.0f} MiB, {answer.label}"


def fixed_shapes(contract: Contract, tile: Tile) -> Mapping[str, tuple[int, ...]] | None:
    """The dims of the tensors that a contract feeds, where they are the same for every plate; else None.

    They are where the contract resizes or the tile has a size. States are left out: they change after the first frame.
    """
    width, height = contract.resize or (tile.size, tile.size)
    if not width:
        return None
    multiple = contract.multiple
    rows, columns = (-(-side // multiple) * multiple for side in (height, width))
    return {tensor.name: (1, len(tensor.channels), rows, columns) for tensor in contract.inputs}


def _inputs(runtime_module: Any, model: str | bytes) -> dict[str, list[int | str | None]]:  # noqa: ANN401 - as above
    """The dims of every input: a number, the name of a free one, None for a free one without name.

    onnxruntime itself is asked, since the interpreter that runs models need not have onnx. The session takes no arena
    and optimises nothing, and is gone before the real one is built.
    """
    options = runtime_module.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.enable_cpu_mem_arena = False
    options.graph_optimization_level = runtime_module.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime_module.InferenceSession(model, options, providers=[PROVIDERS["cpu"]])
    return {given.name: list(given.shape) for given in session.get_inputs()}


def _frozen(inputs: Mapping[str, Iterable[int | str | None]], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The free dimensions by name that may be fixed, with their sizes.

    A name stays free that stands for two sizes, or that an input without known dims (a state) also has.
    """
    sizes: dict[str, set[int]] = {}
    elsewhere: set[str] = set()
    for name, dims in inputs.items():
        if name not in shapes:
            elsewhere |= {dim for dim in dims if isinstance(dim, str)}
            continue
        for dim, size in zip(dims, shapes[name], strict=False):
            if isinstance(dim, str):
                sizes.setdefault(dim, set()).add(size)
    return {name: size.pop() for name, size in sizes.items() if len(size) == 1 and name not in elsewhere}


def _no_sizes() -> InvalidInputError:
    return InvalidInputError(
        "memory plan",
        where="freeze",
        expected="an operating point whose tensors have one size, by its tile or by a resize of the contract",
        actual="tensors that follow the plate",
        remedy="take a plan that does not freeze, or an operating point with a tile",
    )


def _too_old(runtime_module: Any) -> UndecidedError:  # noqa: ANN401 - as above
    return UndecidedError(
        "memory plan",
        where="initial_chunk_bytes",
        expected="an onnxruntime that lets a process register CUDA's arena",
        actual=f"onnxruntime {runtime_module.__version__}",
        remedy="take a plan without a first region, or a newer onnxruntime",
    )
