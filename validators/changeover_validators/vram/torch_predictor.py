"""Answers how much memory a TorchScript model takes: recorded traces, replayed through the target's caching allocator.

A trace is recorded here on the CPU, or was recorded on a GPU and is handed in. Up to 512 x 512 pixels every session is
recorded at the size itself; a larger size is derived from small recordings where that comes out to the byte (`derive`)
and recorded else. Kernels of the CPU stand in for those of the GPU, so such an answer is "modelled"; a GPU's own trace
gives a "calibrated" one. The allocator is that of the target's torch line, also where another torch recorded.

A ``.cat`` is never answered itself: `twin_target` names the TorchScript twin and the torch line that answer for it.
What this leaves out: budgets, and several models in one process (`replay.resident` takes the traces of each).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from changeover_registry.errors import InvalidInputError, MeasurementError, UndecidedError
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.memory import (
    MemoryAnswer,
    MemoryKey,
    MemoryLabel,
    MemoryPart,
    MemoryPlan,
    MemoryRange,
    PartName,
    WorkspaceRate,
)
from changeover_registry.records.release import Contract, Release, Variant
from changeover_validators.checks.twin import target_line, twin_of
from changeover_validators.tables import capability_of_gpu
from changeover_validators.vram.arena import ArenaFullError
from changeover_validators.vram.derive import anchors, derive
from changeover_validators.vram.lines import Line, line_of
from changeover_validators.vram.predictor import SESSIONS, Target
from changeover_validators.vram.record import RecordRequest, record
from changeover_validators.vram.replay import Device, Replay, resident
from changeover_validators.vram.trace import Trace

__all__ = ["TorchPredictor", "twin_target"]

_RECORDED_PIXELS = 512 * 512
"""Up to here a tensor is recorded as it is: no larger than the largest recording that deriving takes."""

_HOPPER = 9


class TorchPredictor:
    """Answers for one TorchScript file at one target; keeps what it recorded.

    Args:
        folder: The variant's folder.
        entry: The file, relative to `folder`.
        contract: Which tensors a call takes.
        target: Where the model would run; its interpreter holds a torch, best of the same version.
        sandbox: ``required``, the only one for a format that is code.
        sessions: How many recordings an answer is a range over.
        traces: Recordings that are there already, such as a GPU's; they come before any new one at their size.
        ram_mib: The most that recording may take of this machine.
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
        traces: Sequence[Trace] = (),
        ram_mib: int = 8192,
    ) -> None:
        self._request = RecordRequest(
            interpreter=target.interpreter or "",
            folder=folder,
            entry=entry,
            contract=contract,
            sizes=(),
            sessions=sessions,
            threads=target.threads,
            sandbox=sandbox,
            ram_mib=ram_mib,
        )
        self._target, self._given = target, tuple(traces)
        self._kept: dict[tuple[int, int], tuple[Trace, ...]] = {}
        self._replays: dict[tuple[int, int], tuple[Replay, ...]] = {}

    def answer(self, width: int, height: int, plan: MemoryPlan) -> MemoryAnswer:
        """The memory of one call with tensors of `width` by `height` pixels; torch knows only the default `plan`.

        Raises:
            InvalidInputError: `plan` holds settings of onnxruntime, or there is no such file.
            RefusedError: No sandbox, which a program needs.
            UndecidedError: There is no recording and none can be made, or the torch line's allocator is not known.
        """
        _check_plan(plan)
        replays = sorted(self._replayed(width, height), key=_held)
        middle, high = replays[len(replays) // 2], replays[-1]
        label = self._label(width, height)
        parts = (self._context(), *_parts(high, label))
        total = sum(part.bytes for part in parts)
        return MemoryAnswer(
            key=self._key(width, height),
            steady=middle.steady,
            range=MemoryRange(low_bytes=_held(replays[0]), high_bytes=_held(high), sessions=len(replays)),
            # torch gives nothing back between two frames: what was reserved stays so.
            parts=(*parts, MemoryPart(name="resting", bytes=total, label=label)),
            total_bytes=total,
            requested_bytes=max(replay.requested_bytes for replay in replays),
            label="modelled" if any(part.label == "modelled" for part in parts) else label,
        )

    def runs_in(self, width: int, height: int, plan: MemoryPlan, limit_bytes: int) -> bool:
        """Whether every session runs in a process that may reserve `limit_bytes` of the device, context not counted.

        Raises:
            InvalidInputError: As `answer`.
            RefusedError: As `answer`.
            UndecidedError: As `answer`.
        """
        _check_plan(plan)
        if self._target.provider == "cpu":
            return all(replay.steady.in_use_bytes <= limit_bytes for replay in self._replayed(width, height))
        try:
            for trace in self.traces(width, height):
                self._replay(trace, limit_bytes)
        except ArenaFullError:
            return False
        return True

    def traces(self, width: int, height: int) -> tuple[Trace, ...]:
        """One trace a session at that size: of a GPU if there are such, else recorded here or derived.

        Raises:
            InvalidInputError: There is no such file.
            RefusedError: As `answer`.
            UndecidedError: There is no recording and none can be made.
        """
        given = [t for t in self._given if (t.width, t.height, t.device) == (width, height, self._target.provider)]
        if given:
            return tuple(given)
        if (width, height) not in self._kept:
            self._kept[width, height] = self._recorded(width, height)
        return self._kept[width, height]

    @cached_property
    def device(self) -> Device:
        """Where `replay.resident` plays this model's traces beside those of others at this target.

        Raises:
            UndecidedError: The torch line's allocator is not known.
        """
        line = line_of(self._target.version)
        if self._target.provider == "cpu":
            # The CPU's allocator keeps nothing: with blocks of one byte what is in use is what was asked for.
            return Device(replace(line, block=1))
        halves = all(tensor.dtype == "float16" for tensor in self._request.contract.inputs)
        return Device(line, self._blas_bytes(line), self._rates(), 2 if halves else 4)

    @cached_property
    def _digest(self) -> str:
        with (self._request.folder / self._request.entry).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _key(self, width: int, height: int) -> MemoryKey:
        target = self._target
        return MemoryKey(
            model=self._digest,
            runtime="torch",
            version=target.version,
            provider=target.provider,
            gpu=target.gpu,
            driver=target.driver,
            width=width,
            height=height,
            threads=target.threads,
        )

    def _replayed(self, width: int, height: int) -> tuple[Replay, ...]:
        if (width, height) not in self._replays:
            found = tuple(self._replay(trace, None) for trace in self.traces(width, height))
            self._replays[width, height] = found if self._target.provider == "cuda" else tuple(map(_uncached, found))
        return self._replays[width, height]

    def _replay(self, trace: Trace, limit_bytes: int | None) -> Replay:
        return resident((trace,), self.device, limit_bytes=limit_bytes)

    def _rates(self) -> Mapping[str, WorkspaceRate]:
        calibration = self._target.calibration
        return {} if calibration is None else {rate.operator: rate for rate in calibration.workspaces}

    def _blas_bytes(self, line: Line) -> int:
        calibration = self._target.calibration
        capability = calibration.compute_capability if calibration else capability_of_gpu(self._target.gpu or "")
        is_hopper = capability is not None and int(capability.split(".")[0]) >= _HOPPER
        return line.blas_hopper if is_hopper else line.blas

    def _recorded(self, width: int, height: int) -> tuple[Trace, ...]:
        _check_can_record(self._request)
        large = width * height > _RECORDED_PIXELS and self._request.contract.resize is None
        derived = self._derived(width, height) if large else ()
        if derived:
            return derived
        alike = large and len(set(map(id, self._anchored))) == 1
        return self._record_all(width, height, 1 if alike else self._request.sessions)

    def _record_all(self, width: int, height: int, sessions: int) -> tuple[Trace, ...]:
        """Every session at the size itself; only one of sessions that do the same at small sizes."""
        try:
            found = record(replace(self._request, sizes=((width, height),), sessions=sessions))
        except MeasurementError as error:
            raise _no_recording(error) from error
        return tuple(traces[0] for traces in found) * (self._request.sessions // sessions)

    def _derived(self, width: int, height: int) -> tuple[Trace, ...]:
        """Every session at a size that nobody recorded; none where that does not follow."""
        at = anchors(self._request.contract.multiple)
        found = [derive(traces, at, width, height) for traces in self._anchored]
        return () if None in found else tuple(trace for trace in found if trace is not None)

    @cached_property
    def _anchored(self) -> tuple[tuple[Trace, ...], ...]:
        """Every session at every anchor; the same one again where the others do the same at the first anchor."""
        sizes = anchors(self._request.contract.multiple).sizes()
        others = replace(self._request, sizes=sizes[:1], sessions=self._request.sessions - 1)
        try:
            whole = record(replace(self._request, sizes=sizes, sessions=1))
            if not others.sessions or all(traces[0] == whole[0][0] for traces in record(others)):
                return whole * self._request.sessions
            return (*whole, *record(replace(others, sizes=sizes)))
        except MeasurementError:
            # A file that takes one size only fails at others; the size itself is still to be tried.
            return ()

    def _context(self) -> MemoryPart:
        calibration = self._target.calibration
        if calibration is None:
            return MemoryPart(name="context", bytes=self._target.context_bytes, label="modelled")
        measured = calibration.context_bytes + calibration.libraries_bytes
        return MemoryPart(name="context", bytes=measured, label="calibrated")

    def _label(self, width: int, height: int) -> MemoryLabel:
        """What ran where it would run is known; what was only replayed there at most calibrated."""
        traces = self.traces(width, height)
        if all(trace.device == "cuda" for trace in traces):
            return "calibrated"
        return "modelled"


def twin_target(release: Release, variant: Variant, facts: HostFacts) -> tuple[Variant, str]:
    """The TorchScript twin of a ``.cat`` and the torch line of the Nuke that loads it: what answers for its memory.

    Raises:
        UndecidedError: The release has no twin of it, or no Nuke of the host loads it.
    """
    twin, line = twin_of(release, variant), target_line(variant, facts)
    if twin is None:
        raise _no_twin(variant, "a TorchScript twin (derived_from)", "none", "ask the vendor for the twin")
    if line is None:
        remedy = "choose a variant for the Nuke of this host, or measure inside Nuke"
        raise _no_twin(variant, "a Nuke with a known torch line that loads it", "none", remedy)
    return twin, line


def _no_twin(variant: Variant, expected: str, actual: str, remedy: str) -> UndecidedError:
    return UndecidedError("memory of a .cat", where=variant.id, expected=expected, actual=actual, remedy=remedy)


def _held(replay: Replay) -> int:
    return replay.steady.arena_bytes


def _uncached(replay: Replay) -> Replay:
    """The CPU's allocator gives everything back at once, so it holds what is in use."""
    steady = replay.steady.model_copy(update={"arena_bytes": replay.steady.in_use_bytes})
    return replace(replay, steady=steady)


def _parts(replay: Replay, label: MemoryLabel) -> tuple[MemoryPart, ...]:
    shares, steady = replay.shares, replay.steady
    named: tuple[tuple[PartName, int], ...] = (
        ("weights", shares.weights),
        ("activations", shares.activations),
        ("workspace", shares.workspace),
        ("bound-io", shares.bound_io),
        ("fragmentation", steady.arena_bytes - steady.in_use_bytes),
    )
    return tuple(MemoryPart(name=name, bytes=size, label=label) for name, size in named)


def _check_plan(plan: MemoryPlan) -> None:
    if plan != MemoryPlan():
        raise InvalidInputError(
            "memory plan",
            where="torch",
            expected="the runtime's own settings, since a plan is about the arena of onnxruntime",
            actual=plan.model_dump_json(exclude_defaults=True),
            remedy="ask with the default plan",
        )


def _check_can_record(request: RecordRequest) -> None:
    if Path(request.entry).suffix == ".cat":
        raise UndecidedError(
            "memory of a .cat",
            where=str(request.folder / request.entry),
            expected="the TorchScript file that it was made of",
            actual="a .cat, which only Nuke loads",
            remedy="give the variant a twin (derived_from), or measure it inside Nuke",
        )
    if not request.interpreter:
        raise UndecidedError(
            "memory of torch",
            where=str(request.folder / request.entry),
            expected="a recording of its allocations, or a Python with torch that makes one",
            actual="neither",
            remedy="changeover runtimes add torch==... and name it under [runtimes] in host.toml",
        )


def _no_recording(error: MeasurementError) -> UndecidedError:
    return UndecidedError(
        "memory of torch",
        where=error.where,
        expected="a recording of the model's allocations",
        actual=f"{error.rule}: {error.actual}",
        remedy=error.remedy,
    )
