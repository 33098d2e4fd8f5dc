"""Memory, measured: one model in one isolated child at one size of tensor, from loading to the steady state.

The arena's figures come from the runtime inside the child, the process's from outside: by NVML on a GPU, on the CPU by
the system. Two runs warm it up, for the second one lays out the memory pattern and cuDNN has searched by then; only
what comes after is steady. What cannot be had says why. A run on another provider than the one that was asked for is an
error. Left out: what is predicted (`predictor`), and keeping both.
"""

import contextlib
import hashlib
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Literal

from changeover_registry.records.base import Unknown
from changeover_registry.records.memory import MemoryAnswer, MemoryKey, MemoryMeasurement, Steady
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.memory_plan import WARM_UP_RUNS
from changeover_validators.runtimes.process import ModelProcess
from changeover_validators.runtimes.sandbox import Isolation
from changeover_validators.runtimes.watch import family_pids
from changeover_validators.vram.device_memory import DeviceWatch, Seen, accounted_bytes, opened_nvml
from changeover_validators.vram.windows_memory import asked

__all__ = ["ALARM", "STEADY_RUNS", "Figures", "MeasuringProcess", "Place", "beside", "is_alarm", "measure_memory"]

ALARM = Decimal("0.05")
"""Above this share of the measured arena, a prediction is wrong enough to be looked into."""

STEADY_RUNS = 3
"""Runs after the warm-up, whose most is reported."""

_SIX = Decimal("0.000001")
_NOT_ON_CPU = "the run was on the CPU, where no driver keeps accounts"


@dataclass(frozen=True, slots=True)
class Place:
    """Where and when it is measured, as the record says it: the host, the moment (RFC 3339), the GPU and its driver."""

    host: str
    made_at: str
    gpu: str | None = None
    driver: str | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What the child tells after a run.

    Attributes:
        in_use_bytes: The most in use at once so far.
        arena_bytes: The most that its allocator held during this run, given back or not.
        now_bytes: What its allocator holds now, between two frames.
        peak_rss: Its highest resident memory so far.
        run_us: Microseconds of this run.
    """

    in_use_bytes: int
    arena_bytes: int
    now_bytes: int
    peak_rss: int | Unknown
    run_us: int

    @property
    def steady(self) -> Steady:
        """As the record has it."""
        return Steady(in_use_bytes=self.in_use_bytes, arena_bytes=self.arena_bytes)


class MeasuringProcess(ModelProcess):
    """A child that is asked for what it holds, as a context manager like `ModelProcess`.

    Args:
        request: What to run and how; its tile does not matter.
        width: Of the tensors, in pixels.
        height: As above.
        isolation: What isolates on this machine; None finds out.
    """

    _module: ClassVar[tuple[str, ...]] = ("-I", "-m", "changeover_validators.vram.measure_child")

    def __init__(self, request: RunRequest, width: int, height: int, isolation: Isolation | None = None) -> None:
        super().__init__(request, isolation, room=False)
        self._size = width, height

    def loaded(self) -> Figures:
        """What is held now, without a run.

        Raises:
            UndecidedError: This release of the runtime tells nothing.
            MeasurementError: As `ModelProcess.infer`; or the runtime keeps no counters on this provider.
        """
        return self._figures("figures")

    def run(self) -> Figures:
        """Run once, and tell what is held.

        Raises:
            UndecidedError: As `loaded`.
            MeasurementError: As `loaded`.
        """
        return self._figures("run")

    def pids(self) -> Collection[int]:
        """The child and all below it, as this machine numbers them."""
        return () if self._running is None else family_pids(self._running.process.pid)

    def _more(self) -> Mapping[str, object]:
        width, height = self._size
        return {"width": width, "height": height}

    def _figures(self, kind: Literal["figures", "run"]) -> Figures:
        frame = self._exchange({"kind": kind}, [], 0)
        told: Any = frame.head.get("peak_rss")
        peak = told if type(told) is int and told >= 0 else Unknown(unknown=str(told)[:300] or "not told")
        in_use, arena, now = (self._bytes(frame.head.get(name)) for name in ("in_use", "arena", "now"))
        return Figures(in_use, arena, now, peak, self._integer(frame, "run_us"))

    def _bytes(self, value: object) -> int:
        if type(value) is not int or value < 0:
            raise self._broken("an answer without bytes")
        return value


def measure_memory(
    request: RunRequest,
    width: int,
    height: int,
    place: Place,
    *,
    runs: int = STEADY_RUNS,
    isolation: Isolation | None = None,
    nvml: Any = None,  # noqa: ANN401 - NVML's binding has no types
    step: Callable[[str], None] = lambda _: None,
) -> MemoryMeasurement:
    """Measure a model at one size of tensor.

    Args:
        request: What to run, with its memory plan.
        width: Of the tensors, in pixels, padded or resized as the contract says.
        height: As above.
        place: Where and when.
        runs: Runs after the warm-up of two.
        isolation: What isolates on this machine; None finds out.
        nvml: NVML, started; None starts it where the run is on a GPU.
        step: Told what is being done.

    Raises:
        UndecidedError: Not run: no isolation, no runtime, or one that tells nothing of its memory.
        InvalidInputError: The request names no file, or its contract does not fit the file.
        MeasurementError: It crashed, hung, took too much memory or ran on another provider, or cannot be counted.
    """
    with _nvml_for(request.provider, nvml) as device, MeasuringProcess(request, width, height, isolation) as model:
        version = model.started.runtime_version
        with _watched(device, model) as watch:
            loaded = model.loaded()
            after = []
            for number in range(1, WARM_UP_RUNS + runs + 1):
                step(f"run {number} of {WARM_UP_RUNS + runs}")
                after.append(model.run())
        seen, accounted = _of_the_process(request.provider, device, watch, model, after[-1])
        seen, shared = _by_the_system(request.provider, seen, model)
    key = MemoryKey(
        model=_sha256(request.folder / request.entry),
        runtime="onnxruntime" if request.runtime == "onnx" else "torch",
        version=version,
        provider="cuda" if request.provider == "cuda" else "cpu",
        gpu=(seen.gpu or place.gpu) if request.provider == "cuda" else None,
        driver=place.driver if request.provider == "cuda" else None,
        width=width,
        height=height,
        threads=request.threads,
        plan=request.memory_plan,
    )
    return MemoryMeasurement(
        key=key,
        host=place.host,
        made_at=place.made_at,
        runs=len(after),
        loaded=loaded.steady,
        first=after[0].steady,
        steady=_steady(after[WARM_UP_RUNS:]),
        resting_bytes=after[-1].now_bytes,
        process_bytes=seen.bytes,
        accounted_bytes=accounted,
        frame_us=after[-1].run_us,
        shared_bytes=shared,
    )


def beside(measured: MemoryMeasurement, predicted: MemoryAnswer | None) -> MemoryMeasurement:
    """The measurement with what was predicted for it, and by how much that was off.

    The error is of the arena: it is what the device loses, and both sides count it alike on every provider. Where the
    prediction is a range, the error is the distance to the nearest end of it: sessions of one model may differ.
    """
    if predicted is None:
        return measured
    low, high, arena = predicted.range.low_bytes, predicted.range.high_bytes, measured.steady.arena_bytes
    nearest = min(max(arena, low), high)
    error = Decimal(nearest - arena) / Decimal(arena) if arena else Decimal(0 if nearest == 0 else 1)
    text = f"{error.quantize(_SIX):f}".rstrip("0").rstrip(".") if error else "0"
    return measured.model_copy(update={"predicted": predicted, "error": "0" if text in {"-0", ""} else text})


def is_alarm(measured: MemoryMeasurement) -> bool:
    """Whether the prediction beside a measurement was off by more than `ALARM`."""
    return measured.error is not None and abs(Decimal(measured.error)) > ALARM


@contextlib.contextmanager
def _nvml_for(provider: str, nvml: Any) -> Iterator[Any]:  # noqa: ANN401 - as above
    if provider != "cuda" or nvml is not None:
        yield nvml
        return
    with opened_nvml() as opened:
        yield opened


@contextlib.contextmanager
def _watched(nvml: Any, model: MeasuringProcess) -> Iterator[DeviceWatch | None]:  # noqa: ANN401 - as above
    """A watch over the child's memory on the GPUs, where there is anything that tells it."""
    if nvml is None or isinstance(nvml, Unknown):
        yield None
        return
    watch = DeviceWatch(nvml, model.pids)
    watch.start()
    try:
        yield watch
    finally:
        watch.stop()


def _of_the_process(
    provider: str,
    nvml: Any,  # noqa: ANN401 - as above
    watch: DeviceWatch | None,
    model: MeasuringProcess,
    last: Figures,
) -> tuple[Seen, int | Unknown]:
    """What the whole process took: of the GPU where it ran there, else of the host's memory."""
    if provider != "cuda":
        return Seen(last.peak_rss), Unknown(unknown=_NOT_ON_CPU)
    if watch is None:
        reason = nvml if isinstance(nvml, Unknown) else Unknown(unknown="NVML was not asked")
        return Seen(reason), reason
    return watch.most, accounted_bytes(nvml, model.pids())


def _by_the_system(
    provider: str, seen: Seen, model: MeasuringProcess, system: str = sys.platform
) -> tuple[Seen, int | Unknown | None]:
    """On Windows, what the system's counters tell: in the place of what its driver does not, and what was spilled."""
    if provider != "cuda" or system != "win32":
        return seen, None
    counted = asked(model.pids())  # pragma: windows
    known = counted.dedicated if isinstance(seen.bytes, Unknown) else seen.bytes  # pragma: windows
    return Seen(known, seen.gpu), counted.shared  # pragma: windows


def _steady(after: Sequence[Figures]) -> Steady:
    """The most over the runs after the warm-up."""
    return Steady(in_use_bytes=after[-1].in_use_bytes, arena_bytes=max(figures.arena_bytes for figures in after))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
