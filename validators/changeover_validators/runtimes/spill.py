"""Whether a run on Windows spilled: its GPU memory did not suffice, and the driver quietly took the host's.

Since driver 536.40 an allocation that the card has no room for goes to shared memory, over the bus, and runs many times
slower: no error, no crash, and a model that "fits". Two signs are asked: shared memory that grew, and frames that take
longer than they did where the release was approved. Either is enough to fail; neither having been looked at is unknown,
which is never a pass. Decides only; the figures come from the performance counters of Windows (``GPU Process Memory``),
which were not measured here.
"""

from dataclasses import dataclass
from typing import Literal

from changeover_registry.errors import ChangeoverError, MeasurementError, UndecidedError

__all__ = ["SHARED_SLACK_BYTES", "SLOWER", "Spill", "SpillFacts", "spill_error", "spilled"]

SHARED_SLACK_BYTES = 64 * 1024 * 1024
"""What a process keeps in shared memory in any case: staging buffers for copies. Not measured on Windows."""
SLOWER = 3.0
"""A frame that takes this many times the approved one is not the same run; noise and clocks stay far below."""


@dataclass(frozen=True, slots=True)
class SpillFacts:
    """What was seen of a run; None is not looked at.

    Attributes:
        driver_model: ``wddm``, ``tcc``, ``mcdm``; None on other systems, where there is no such thing.
        shared_before_bytes: Shared GPU memory of the process when the model was loaded.
        shared_after_bytes: The most of it from then on.
        frame_us: Microseconds of a frame after the warm-up, by the median.
        approved_us: The same on the same class of host where the release was approved.
    """

    driver_model: str | None
    shared_before_bytes: int | None = None
    shared_after_bytes: int | None = None
    frame_us: int | None = None
    approved_us: int | None = None


@dataclass(frozen=True, slots=True)
class Spill:
    """The answer, and what it rests on in words."""

    answer: Literal["spilled", "none", "unknown"]
    why: str


def spilled(facts: SpillFacts, *, slower: float = SLOWER, slack_bytes: int = SHARED_SLACK_BYTES) -> Spill:
    """Whether the run took the host's memory for the GPU's.

    Args:
        facts: What was seen.
        slower: How many times the approved time of a frame is too much.
        slack_bytes: How much shared memory may grow.
    """
    if facts.driver_model != "wddm":
        return Spill("none", "only Windows with a display driver (WDDM) spills")
    grown, ratio = _grown(facts), _ratio(facts)
    if grown is not None and grown > slack_bytes:
        return Spill("spilled", f"shared GPU memory grew by {grown} bytes, over {slack_bytes}")
    if ratio is not None and ratio >= slower:
        return Spill("spilled", f"a frame takes {ratio:.1f} times the approved one, from {slower:g} on too much")
    if grown is None and ratio is None:
        return Spill("unknown", "neither shared GPU memory nor the time of a frame was looked at")
    seen = [] if grown is None else [f"shared GPU memory grew by {max(grown, 0)} bytes"]
    seen += [] if ratio is None else [f"a frame takes {ratio:.1f} times the approved one"]
    return Spill("none", " and ".join(seen))


def spill_error(spill: Spill, *, where: str) -> ChangeoverError | None:
    """The error that ends a validation; None where nothing spilled."""
    if spill.answer == "none":
        return None
    kind = MeasurementError if spill.answer == "spilled" else UndecidedError
    return kind(
        "out of device memory",
        where=where,
        expected="a run within the GPU's own memory",
        actual=spill.why,
        remedy="use a smaller tile or another variant, or forbid the fallback to system memory in the driver",
    )


def _grown(facts: SpillFacts) -> int | None:
    if facts.shared_before_bytes is None or facts.shared_after_bytes is None:
        return None
    return facts.shared_after_bytes - facts.shared_before_bytes


def _ratio(facts: SpillFacts) -> float | None:
    if facts.frame_us is None or not facts.approved_us:
        return None
    return facts.frame_us / facts.approved_us
