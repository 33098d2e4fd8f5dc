"""How much memory an ONNX file takes in onnxruntime: sessions are built, their buffers planned, their arena simulated.

Where an interpreter with the runtime is at hand, the graph is the one that its session would run, the order of work
included; else the file itself is planned, and the answer says that it is modelled. A GPU that is not here is answered
from the graph without layouts of this processor, with the CPU's table of what is written in place. Sessions and
buffer plans are kept, so another memory plan at the same size costs arithmetic only. What this leaves out: budgets.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from packaging.version import Version

from changeover_registry.errors import ChangeoverError
from changeover_registry.records.memory import (
    MemoryAnswer,
    MemoryKey,
    MemoryLabel,
    MemoryPart,
    MemoryPlan,
    MemoryRange,
    PartName,
    Steady,
)
from changeover_registry.records.release import Contract, Tile
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.vram.arena import ArenaFullError
from changeover_validators.vram.buffers import BufferPlan, Reuse, plan_buffers
from changeover_validators.vram.in_place import aliases, in_place, is_probed
from changeover_validators.vram.optimised import Operation, OptimisedGraph, SessionGraph
from changeover_validators.vram.predictor import SESSIONS, Target
from changeover_validators.vram.raw_graph import raw_sessions
from changeover_validators.vram.scratch import ScratchRules, is_known, scratch_bytes
from changeover_validators.vram.sessions import BuiltSession, SessionsProcess
from changeover_validators.vram.shapes import undecided
from changeover_validators.vram.simulate import Loaded, Simulated, simulate
from changeover_validators.vram.workspace import workspace_bytes

__all__ = ["OnnxPredictor"]

_SECONDS = 60.0
_MOST_MIB = 16384
_RUNS = 3
_CONTEXT_STEP = 16 << 20

Shapes = Mapping[str, tuple[int, ...]]
_Key = tuple[tuple[str, tuple[int, ...]], ...] | None


@dataclass(frozen=True, slots=True)
class _Planned:
    """One session at one size: the steps of a steady run, and of the first run if its states have another size."""

    steady: BufferPlan
    opening: BufferPlan | None
    graph: SessionGraph
    loaded: Loaded
    opset: int


class OnnxPredictor:
    """Answers for one ONNX file at one target; see `predictor.Predictor`.

    Args:
        folder: The variant's folder.
        entry: The file, relative to it.
        contract: How it is called.
        target: Where it would run.
        sandbox: ``required``, or ``limits-only`` by name of the policy.
        sessions: How many sessions an answer is a range over.
    """

    def __init__(
        self,
        folder: Path,
        entry: str,
        contract: Contract,
        target: Target,
        *,
        sandbox: str = "required",
        sessions: int = SESSIONS,
    ) -> None:
        self._folder, self._entry, self._contract, self._target = folder, entry, contract, target
        self._sandbox, self._count = sandbox, sessions
        self._built: dict[_Key, tuple[BuiltSession, ...] | ChangeoverError] = {}
        self._planned: dict[tuple[int, int, bool], tuple[_Planned, ...]] = {}
        self._answers: dict[tuple[int, int, MemoryPlan], MemoryAnswer] = {}
        self._scratches: dict[tuple[int, bool | None], Mapping[int, tuple[int, ...]]] = {}
        self._resident_bytes = 0
        self._built_by: str | None = None

    def answer(self, width: int, height: int, plan: MemoryPlan) -> MemoryAnswer:
        """As `predictor.Predictor.answer`."""
        key = (width, height, plan)
        if key not in self._answers:
            planned = self._sessions_at(width, height, plan)
            self._answers[key] = self._answer(width, height, plan, self._all(planned, plan), self._least(planned, plan))
        return self._answers[key]

    def runs_in(self, width: int, height: int, plan: MemoryPlan, limit_bytes: int) -> bool:
        """As `predictor.Predictor.runs_in`."""
        for one in {id(one): one for one in self._sessions_at(width, height, plan)}.values():
            try:
                for up in _directions(plan):
                    self._simulated(one, plan, upward=up, limit_bytes=limit_bytes)
            except ArenaFullError:
                return False
        return True

    def _all(self, planned: tuple[_Planned, ...], plan: MemoryPlan) -> list[tuple[Simulated, _Planned]]:
        """Each session's runs; sessions that order their work alike are one object and are simulated once."""
        distinct = {id(one): one for one in planned}
        each = {
            key: [self._simulated(one, plan, upward=up) for up in _directions(plan)] for key, one in distinct.items()
        }
        return [(run, one) for one in planned for run in each[id(one)]]

    def _least(self, planned: tuple[_Planned, ...], plan: MemoryPlan) -> list[Simulated]:
        """The runs with what cuDNN takes at the least, where nobody has calibrated what it takes."""
        calibration = self._target.calibration
        if not self._is_elsewhere or (calibration is not None and calibration.workspaces):
            return []
        return [run for run, _ in self._all(planned, plan.model_copy(update={"cudnn_max_workspace": False}))]

    @cached_property
    def _digest(self) -> str:
        with (self._folder / self._entry).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @cached_property
    def _reuse(self) -> Reuse:
        provider = self._target.provider
        table = provider if is_probed(self._target.version, provider) else "cpu"
        return Reuse(aliases(self._target.version, table), in_place(self._target.version, table))

    @property
    def _is_elsewhere(self) -> bool:
        """Whether what runs there cannot be built here: a GPU's graph is read off a session without CPU layouts."""
        return self._target.provider == "cuda"

    def _sessions_at(self, width: int, height: int, plan: MemoryPlan) -> tuple[_Planned, ...]:
        key = (width, height, plan.freeze)
        if key not in self._planned:
            frozen = self._image_shapes(width, height) if plan.freeze else None
            found = self._sessions(frozen)
            planned: dict[object, _Planned] = {}
            ordered = []
            for session in found:
                same = (tuple((node.op_type, *node.output) for node in session.graph.model.graph.node), session.loaded)
                if same not in planned:
                    planned[same] = self._plan(session, width, height)
                ordered.append(planned[same])
            self._planned[key] = tuple(ordered)
        return self._planned[key]

    def _sessions(self, frozen: Shapes | None) -> tuple[BuiltSession, ...]:
        key = None if frozen is None else tuple(sorted(frozen.items()))
        if key not in self._built:
            try:
                self._built[key] = self._build(frozen)
            except ChangeoverError as error:
                # Not tried again for each tile: what could not be built in a minute will not be in the next.
                self._built[key] = error
        found = self._built[key]
        if isinstance(found, ChangeoverError):
            raise found
        return found

    def _build(self, frozen: Shapes | None) -> tuple[BuiltSession, ...]:
        if self._target.interpreter is None:
            return raw_sessions(self._folder / self._entry)
        request = RunRequest(
            interpreter=self._target.interpreter,
            folder=self._folder,
            entry=self._entry,
            runtime="onnx",
            contract=self._contract,
            tile=Tile(size=0),
            provider="cpu",
            sandbox=self._sandbox,
            wall_seconds=_SECONDS,
            ram_mib=_ram_mib(self._workers),
            threads=self._target.threads,
        )
        return tuple(self._build_each(request, frozen))

    @property
    def _workers(self) -> int:
        """How many children build at a time."""
        return min(self._count, os.cpu_count() or 1)

    def _build_each(self, request: RunRequest, frozen: Shapes | None) -> Iterator[BuiltSession]:
        """Each session in a process of its own: the order of work hangs on the addresses that a process gets."""

        def build(_: int) -> tuple[str, BuiltSession]:
            with SessionsProcess(request) as child:
                return child.started.runtime_version, child.build(frozen, standard=self._is_elsewhere)

        with ThreadPoolExecutor(max_workers=self._workers) as pool:
            for version, session in pool.map(build, range(self._count)):
                self._built_by = version
                yield session

    def _plan(self, session: BuiltSession, width: int, height: int) -> _Planned:
        images = self._image_shapes(width, height)
        opening_states = {state.input: state.shape for state in self._contract.states}
        graph = session.graph.at(images | opening_states)
        self._refuse_unknown(graph, session.graph.where)
        settled = {state.input: graph.tensors[state.output].dims for state in self._contract.states}
        opening = None
        if any(settled[name] != shape for name, shape in opening_states.items()):
            opening, graph = self._steps(graph), session.graph.at(images | settled)
        self._resident_bytes = max(self._resident_bytes, session.resident_bytes)
        graph = _with_copies(graph) if self._is_elsewhere else graph
        return _Planned(plan_buffers(graph, self._reuse), opening, graph, session.loaded, _opset(session.graph))

    def _refuse_unknown(self, graph: SessionGraph, where: str) -> None:
        """An operator whose scratch memory is not known makes every figure a guess."""
        found = {operation.operator for operation in graph.operations if not is_known(operation)}
        if found:
            raise undecided(where, "operators whose scratch memory is known", ", ".join(sorted(found)))

    def _steps(self, graph: SessionGraph) -> BufferPlan:
        return plan_buffers(_with_copies(graph) if self._is_elsewhere else graph, self._reuse)

    def _simulated(
        self, planned: _Planned, plan: MemoryPlan, *, upward: bool, limit_bytes: int | None = None
    ) -> Simulated:
        inside = self._scratch(planned, plan)
        return simulate(
            planned.steady,
            planned.loaded,
            plan,
            lambda step: inside.get(id(step.operation), ()),
            opening=planned.opening,
            runs=_RUNS,
            limit_bytes=limit_bytes,
            upward=upward,
        )

    def _scratch(self, planned: _Planned, plan: MemoryPlan) -> Mapping[int, tuple[int, ...]]:
        """What each step takes while it computes: by formula on the CPU, the workspace of cuDNN on a GPU."""
        key = (id(planned), plan.cudnn_max_workspace)
        if key not in self._scratches:
            tensors, target = planned.graph.tensors, self._target
            rules = ScratchRules(_minor(target.version), target.threads, planned.opset)
            found = {
                id(step.operation): workspace_bytes(step.operation, tensors, plan, target.calibration)
                if self._is_elsewhere
                else scratch_bytes(step.operation, tensors, rules)
                for step in planned.steady.steps
            }
            self._scratches[key] = {operation: sizes for operation, sizes in found.items() if sizes}
        return self._scratches[key]

    def _image_shapes(self, width: int, height: int) -> dict[str, tuple[int, ...]]:
        return {tensor.name: (1, len(tensor.channels), height, width) for tensor in self._contract.inputs}

    def _answer(
        self,
        width: int,
        height: int,
        plan: MemoryPlan,
        pairs: list[tuple[Simulated, _Planned]],
        least: list[Simulated],
    ) -> MemoryAnswer:
        by_total = sorted(pairs, key=lambda pair: (pair[0].steady.total, pair[0].steady.max_in_use))
        runs = [run for run, _ in by_total]
        middle = runs[(len(runs) - 1) // 2]
        parts = self._parts(*by_total[-1])
        return MemoryAnswer(
            key=self._key(width, height, plan),
            steady=Steady(in_use_bytes=middle.steady.max_in_use, arena_bytes=middle.steady.total),
            range=MemoryRange(
                low_bytes=min(run.steady.total for run in (*least, runs[0])),
                high_bytes=runs[-1].steady.total,
                sessions=len(pairs) // len(_directions(plan)),
            ),
            parts=parts,
            total_bytes=sum(part.bytes for part in parts if part.name != "resting"),
            # A workspace that is cut off at a bound does not grow evenly, so it is no part of what is interpolated.
            requested_bytes=max(run.alive for run in least) if least else max(run.requested for run in runs),
            label=self._label,
        )

    def _key(self, width: int, height: int, plan: MemoryPlan) -> MemoryKey:
        target = self._target
        return MemoryKey(
            model=self._digest,
            runtime="onnxruntime",
            version=target.version,
            provider=target.provider,
            gpu=target.gpu if target.provider == "cuda" else None,
            driver=target.driver if target.provider == "cuda" else None,
            width=width,
            height=height,
            threads=target.threads,
            plan=plan,
        )

    @property
    def _label(self) -> MemoryLabel:
        """A GPU with constants of its own is calibrated; all else comes out of a model of the runtime."""
        return "calibrated" if self._target.calibration is not None and self._is_elsewhere else "modelled"

    def _parts(self, run: Simulated, planned: _Planned) -> tuple[MemoryPart, ...]:
        """The range's high end, split. Weights that an arena does not hold, and inputs on the CPU, come beside it."""
        outside, label = self._weights_outside(planned), self._label
        arena, given = run.steady.total - planned.loaded.reserved, _input_bytes(planned.graph)
        # On a GPU the copies of the inputs lie in the arena; on the CPU they are the caller's, beside it.
        copied = min(given, arena) if self._is_elsewhere else 0
        activations = max(min(run.requested - planned.loaded.reserved - run.scratch, arena) - copied, 0)
        workspace = min(run.scratch, arena - copied - activations)
        figures: tuple[tuple[PartName, int, MemoryLabel], ...] = (
            ("context", *self._context()),
            ("weights", outside + planned.loaded.reserved, "measured" if self._is_here else "modelled"),
            ("activations", activations, label),
            ("workspace", workspace, label),
            ("fragmentation", arena - copied - activations - workspace, label),
            ("bound-io", given, label),
            ("resting", run.resting, label),
        )
        return tuple(MemoryPart(name=name, bytes=size, label=known) for name, size, known in figures)

    @property
    def _is_here(self) -> bool:
        """Whether the very release that will run has built the sessions."""
        return self._built_by == self._target.version

    def _weights_outside(self, planned: _Planned) -> int:
        """Weights that the runtime keeps outside of its arena; on a GPU all lie on the device."""
        graph = planned.graph
        weights = sum(graph.tensors[name].bytes for name in graph.weights & graph.tensors.keys())
        return max(weights - planned.loaded.reserved - sum(planned.loaded.held), 0)

    def _context(self) -> tuple[int, MemoryLabel]:
        """What is there before any model: the interpreter on the CPU, the CUDA context and its libraries on a GPU."""
        calibration = self._target.calibration
        if not self._is_elsewhere:
            # Pages that happen to be resident differ from process to process; in whole steps they do not.
            steps = -(-self._resident_bytes // _CONTEXT_STEP)
            return steps * _CONTEXT_STEP, "measured" if self._is_here else "modelled"
        if calibration is None:
            return self._target.context_bytes, "modelled"
        return calibration.context_bytes + calibration.libraries_bytes, "calibrated"


def _with_copies(graph: SessionGraph) -> SessionGraph:
    """The graph with a copy of each input made first, as a GPU gets them."""
    copies = {name: f"{name}/device" for name in graph.inputs}
    made = tuple(Operation("", "MemcpyFromHost", (name,), (copy,), {}) for name, copy in copies.items())
    moved = tuple(
        replace(operation, inputs=tuple(copies.get(name, name) for name in operation.inputs))
        for operation in graph.operations
    )
    tensors = {**graph.tensors, **{copy: graph.tensors[name] for name, copy in copies.items()}}
    return replace(graph, operations=(*made, *moved), tensors=tensors)


def _directions(plan: MemoryPlan) -> tuple[bool, ...]:
    """Both orders of addresses where many regions of one size make the order count; the system's decides."""
    return (False, True) if plan.extend == "same-as-requested" else (False,)


def _ram_mib(children: int) -> int:
    """What each of so many children may take: together no more than half of this machine's memory."""
    if not hasattr(os, "sysconf"):  # pragma: windows
        return _MOST_MIB
    return min(_MOST_MIB, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (2 * children) >> 20)


def _input_bytes(graph: SessionGraph) -> int:
    return sum(graph.tensors[name].bytes for name in graph.inputs)


def _opset(graph: OptimisedGraph) -> int:
    return next((item.version for item in graph.model.opset_import if item.domain in {"", "ai.onnx"}), 1)


def _minor(version: str) -> int:
    return Version(version).minor
