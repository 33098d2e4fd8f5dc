"""Memory of a ``.cat`` inside Nuke: the parent's side of ``plugins/nuke/measure.py``.

Nuke shows no allocator, so what is told is the process: before the model, after the first frame, and once two frames
have warmed it up. From outside NVML knows the process by the number that this machine gives it; from inside, Nuke is
asked as well, for where it is not shut in it may know what nobody outside may see. What neither knows says why. A node
that fell back to the CPU is an error (`runtimes.nuke`). Left out: a prediction, which is a trace's (`torch_predictor`).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from changeover_registry.records.base import Unknown
from changeover_validators.runtimes.memory_plan import WARM_UP_RUNS
from changeover_validators.runtimes.nuke import NukeProcess
from changeover_validators.runtimes.nuke_request import NukeRequest
from changeover_validators.runtimes.sandbox import Isolation
from changeover_validators.runtimes.watch import family_pids
from changeover_validators.vram.device_memory import Seen, accounted_bytes, opened_nvml, seen_now
from changeover_validators.vram.measure import STEADY_RUNS
from changeover_validators.vram.measure_child import synthetic_tensors

__all__ = ["SCRIPT", "MeasuringNuke", "NukeMemory", "measure_in_nuke"]

SCRIPT = "measure.py"
"""The script beside ``score.py`` that tells memory with each frame."""

_ON_CPU = Unknown(unknown="Nuke ran on the CPU, so it held nothing of a GPU")


@dataclass(frozen=True, slots=True)
class NukeMemory:
    """What Nuke held, in bytes, or why that is not known.

    Attributes:
        nuke: Its version.
        gpu: The GPU on which it held most; None where none lists it.
        before: Of the GPUs, with the node and without the model.
        first: After the first frame.
        steady: The most over the frames after the warm-up of two.
        accounted: The most that it ever held, by the driver's accounting.
        resident: The most of the host's memory.
        frame_us: Microseconds of the last frame: one that grows many times slower may lie in the host's memory.
    """

    nuke: str
    gpu: str | None
    before: int | Unknown
    first: int | Unknown
    steady: int | Unknown
    accounted: int | Unknown
    resident: int | Unknown
    frame_us: int

    @property
    def model_bytes(self) -> int | Unknown:
        """What the model added to Nuke in the steady state."""
        if isinstance(self.steady, Unknown):
            return self.steady
        return self.before if isinstance(self.before, Unknown) else max(self.steady - self.before, 0)


class MeasuringNuke(NukeProcess):
    """A Nuke that tells with each frame what it holds; as a context manager like `NukeProcess`.

    Args:
        request: What to run; its script is taken from the same folder.
        isolation: What isolates on this machine; None finds out.
    """

    def __init__(self, request: NukeRequest, isolation: Isolation | None = None) -> None:
        super().__init__(replace(request, script=request.script.with_name(SCRIPT)), isolation)
        self.said: list[Mapping[str, Any]] = []

    def pids(self) -> Collection[int]:
        """Nuke and all below it, as this machine numbers them."""
        return () if self._running is None else family_pids(self._running.process.pid)

    def _heard(self, said: Mapping[str, Any]) -> None:
        self.said.append(said)


def measure_in_nuke(
    request: NukeRequest,
    width: int,
    height: int,
    *,
    runs: int = STEADY_RUNS,
    nvml: Any = None,  # noqa: ANN401 - NVML's binding has no types
    isolation: Isolation | None = None,
) -> NukeMemory:
    """Measure a ``.cat`` at one size of plate, whose tiling is the node's own.

    Args:
        request: What to run and how.
        width: Of the plate, in pixels.
        height: As above.
        runs: Frames after the warm-up of two.
        nvml: NVML, started; None starts it.
        isolation: What isolates on this machine; None finds out.

    Raises:
        UndecidedError: Not run: no bubblewrap, no licence, no Nuke, or a contract that the node cannot honour.
        MeasurementError: Nuke crashed, hung, took too much memory, or did not use the GPU that was asked for.
    """
    if nvml is None:
        with opened_nvml() as opened:
            return measure_in_nuke(request, width, height, runs=runs, nvml=opened, isolation=isolation)
    tensors = synthetic_tensors(request.contract, width, height)
    with MeasuringNuke(request, isolation) as model:
        looks = [_look(nvml, model)]
        for _ in range(WARM_UP_RUNS + runs):
            model.run(tensors)
            looks.append(_look(nvml, model))
        accounted = nvml if isinstance(nvml, Unknown) else accounted_bytes(nvml, model.pids())
        return _told(model, looks, accounted, on_gpu=request.provider == "cuda")


def _look(nvml: Any, model: MeasuringNuke) -> Seen:  # noqa: ANN401 - as above
    return Seen(nvml) if isinstance(nvml, Unknown) else seen_now(nvml, model.pids())


def _told(model: MeasuringNuke, looks: list[Seen], accounted: int | Unknown, *, on_gpu: bool) -> NukeMemory:
    inside = [_inside(said, "after", "gpu") for said in model.said]
    held = [_either(looks[0].bytes, _inside(model.said[0], "before", "gpu"))]
    held += [_either(look.bytes, told) for look, told in zip(looks[1:], inside, strict=True)]
    return NukeMemory(
        nuke=model.started.runtime_version,
        gpu=next((look.gpu for look in reversed(looks) if look.gpu), None),
        before=held[0] if on_gpu else _ON_CPU,
        first=held[1] if on_gpu else _ON_CPU,
        steady=_most(held[1 + WARM_UP_RUNS :]) if on_gpu else _ON_CPU,
        accounted=_either(accounted, _inside(model.said[-1], "after", "accounted")) if on_gpu else _ON_CPU,
        resident=_inside(model.said[-1], "after", "resident", "most"),
        frame_us=_whole(model.said[-1].get("frame_us")),
    )


def _inside(said: Mapping[str, Any], *path: str) -> int | Unknown:
    """A figure that the script told; nothing of it is believed without a look at its form."""
    found: Any = said.get("memory")
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    if type(found) is int and found >= 0:
        return found
    return Unknown(unknown=found[:300] if isinstance(found, str) and found.strip() else "Nuke did not tell it")


def _either(outside: int | Unknown, inside: int | Unknown) -> int | Unknown:
    """What is known from outside, else from inside, else both reasons."""
    if not isinstance(outside, Unknown):
        return outside
    if not isinstance(inside, Unknown):
        return inside
    return Unknown(unknown=f"from outside: {outside.unknown}; from inside: {inside.unknown}")


def _most(held: list[int | Unknown]) -> int | Unknown:
    known = [value for value in held if not isinstance(value, Unknown)]
    return max(known) if known else held[-1]


def _whole(value: object) -> int:
    return value if type(value) is int and value >= 0 else 0
