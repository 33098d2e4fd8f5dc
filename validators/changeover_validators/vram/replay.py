"""Replays traces through torch's caching allocator: what is reserved once calls repeat, and what it is made of.

Load first, weights staying; then call after call until nothing changes any more. Several traces share one allocator,
as several models in one process do: all weights are resident and the calls take turns, so memory that one model leaves
cached serves the next one. Pure. What this leaves out: the context, and whatever does not go through the allocator.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from changeover_registry.records.memory import Steady, WorkspaceRate
from changeover_validators.vram.caching import CachingAllocator
from changeover_validators.vram.lines import Line
from changeover_validators.vram.trace import INPUT, Allocation, Call, Trace

__all__ = ["MATRIX_PRODUCTS", "Device", "Replay", "Shares", "resident", "with_workspaces"]

MATRIX_PRODUCTS = frozenset(
    f"aten::{name}"
    for name in (
        "addmm", "addmv", "baddbmm", "bilinear", "bmm", "einsum", "inner", "linear", "matmul", "mm", "mv",
        "multi_head_attention_forward", "scaled_dot_product_attention", "tensordot",
    )
)  # fmt: skip
"""Operators that make torch call cuBLAS, which is lent its workspace when the first of them runs."""

_MOST_ROUNDS = 12
"""A round that leaves the allocator as it was found comes after two or three; this many would be a mistake of ours."""


@dataclass(frozen=True, slots=True)
class Device:
    """Where traces are played.

    Attributes:
        line: The sizes of the torch line's allocator.
        blas_bytes: What cuBLAS is lent for ever when the first matrix product runs.
        rates: Measured workspaces by operator, which take the place of the scratch memory of the CPU.
        item_bytes: Bytes of one element of the operators' outputs, to which `rates` belong.

    The last three complete traces of the CPU; a GPU's own trace has in it what they stand for.
    """

    line: Line
    blas_bytes: int = 0
    rates: Mapping[str, WorkspaceRate] = field(default_factory=dict)
    item_bytes: int = 4


@dataclass(frozen=True, slots=True)
class Shares:
    """Bytes of blocks by what they hold, at the moment at which the most is in use."""

    weights: int = 0
    activations: int = 0
    workspace: int = 0
    bound_io: int = 0


@dataclass(frozen=True, slots=True)
class Replay:
    """What one allocator held.

    Attributes:
        loaded: After all weights are there.
        first: Over the first call of each trace.
        steady: Over a round of calls once nothing changes any more.
        requested_bytes: The most that was asked for at once in that round, before rounding.
        shares: `steady.in_use_bytes`, split.
        retries: How often the device was full and the cache was given back.
        rounds: How many rounds of calls it took.
    """

    loaded: Steady
    first: Steady
    steady: Steady
    requested_bytes: int
    shares: Shares
    retries: int
    rounds: int


def resident(traces: Sequence[Trace], device: Device, *, limit_bytes: int | None = None) -> Replay:
    """What a process holds in which all of `traces` are loaded and called in turn; one trace is one model alone.

    Args:
        traces: One for each model or instance.
        device: Where they are played.
        limit_bytes: The most that the allocator may reserve; None is no limit.

    Raises:
        ArenaFullError: Over the limit.
    """
    turns = [_turn(trace, device) for trace in traces]
    player = _Player(device, limit_bytes)
    for trace in traces:
        player.load(trace)
    loaded = player.steady()
    first = _round(player, [turn[0] for turn in turns])
    for place in range(1, max(len(turn) for turn in turns)):
        _round(player, [turn[min(place, len(turn) - 1)] for turn in turns])
    return _settled(player, [turn[-1] for turn in turns], loaded, first)


def with_workspaces(call: Call, rates: Mapping[str, WorkspaceRate], item_bytes: int) -> Call:
    """`call` with the measured workspace of each operator in `rates` instead of its scratch memory.

    The output is there first, then the workspace for as long as the operator runs.
    """
    allocations: list[Allocation] = []
    order: list[int] = []
    now: dict[int, int] = {}
    for step in call.order:
        if step < 0:
            if -1 - step in now:
                order.append(-1 - now[-1 - step])
            continue
        made = call.allocations[step]
        rate = rates.get(made.operator)
        if rate is not None and made.scratch:
            continue
        now[step] = len(allocations)
        order.append(len(allocations))
        allocations.append(made)
        size = _workspace(rate, made.size // item_bytes)
        if size:
            order += [len(allocations), -1 - len(allocations)]
            allocations.append(Allocation(size, made.operator, scratch=True))
    return Call(tuple(allocations), tuple(order))


def _workspace(rate: WorkspaceRate | None, elements: int) -> int:
    return 0 if rate is None else rate.constant_bytes + rate.per_thousand * elements // 1000


def _turn(trace: Trace, device: Device) -> tuple[Call, ...]:
    if trace.device == "cpu" and device.rates:
        return tuple(with_workspaces(call, device.rates, device.item_bytes) for call in trace.calls)
    return trace.calls


def _round(player: "_Player", calls: Sequence[Call]) -> Steady:
    player.begin()
    for call in calls:
        player.play(call)
    return player.steady()


def _settled(player: "_Player", calls: Sequence[Call], loaded: Steady, first: Steady) -> Replay:
    """Repeat the last calls until a round changes neither what is reserved nor what is in use at the most."""
    before, rounds = None, 0
    while rounds < _MOST_ROUNDS:
        steady, rounds = _round(player, calls), rounds + 1
        if steady == before:
            break
        before = steady
    stats = player.allocator.stats
    return Replay(loaded, first, steady, stats.max_requested, player.shares, stats.num_alloc_retries, rounds)


class _Player:
    """Plays loads and calls on one allocator, and keeps what kinds of blocks are in use at the peak of a round."""

    def __init__(self, device: Device, limit_bytes: int | None) -> None:
        self.allocator = CachingAllocator(device.line, limit_bytes=limit_bytes)
        self.shares = Shares()
        self._blas_bytes = device.blas_bytes
        self._now = {"weights": 0, "activations": 0, "workspace": 0, "bound_io": 0}
        self._most = 0

    def load(self, trace: Trace) -> None:
        """Weights, and what libraries keep for ever; none of it is ever given back."""
        for size in trace.weights:
            self._allocate(size, "weights")
        for size in trace.libraries:
            self._allocate(size, "workspace")

    def begin(self) -> None:
        """A round begins: peaks start at what is held now."""
        self.allocator.reset_peaks()
        self._most = 0

    def steady(self) -> Steady:
        """The most in use in this round, and what is reserved."""
        stats = self.allocator.stats
        return Steady(in_use_bytes=stats.max_allocated, arena_bytes=stats.reserved)

    def play(self, call: Call) -> None:
        """One call, from its first allocation to the end of its last."""
        handles: dict[int, tuple[int, str]] = {}
        for step in call.order:
            if step < 0:
                handle, kind = handles.pop(-1 - step)
                self._now[kind] -= self.allocator.size_of(handle)
                self.allocator.free(handle)
                continue
            made = call.allocations[step]
            self._lend(made.operator)
            kind = _kind(made)
            handles[step] = (self._allocate(made.size, kind), kind)

    def _lend(self, operator: str) -> None:
        if self._blas_bytes and operator in MATRIX_PRODUCTS:
            self._allocate(self._blas_bytes, "workspace")
            self._blas_bytes = 0

    def _allocate(self, size: int, kind: str) -> int:
        handle = self.allocator.allocate(size)
        self._now[kind] += self.allocator.size_of(handle)
        total = sum(self._now.values())
        if total > self._most:
            self._most, self.shares = total, replace(Shares(), **self._now)
        return handle


def _kind(made: Allocation) -> str:
    if made.operator == INPUT or made.output:
        return "bound_io"
    return "workspace" if made.scratch else "activations"
