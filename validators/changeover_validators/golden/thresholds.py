"""Every number that the judgement rests on as it really holds, and where it came from. Pure, needs no numpy.

The policy's guards may leave limits out; what then holds is fixed here, once, for the judge and for the report.
"""

from dataclasses import dataclass
from decimal import Decimal

from changeover_registry.records.policy import GoldenPolicy, Guards
from changeover_validators.golden.catalogue import metric
from changeover_validators.golden.gates import gates

__all__ = ["Limits", "Threshold", "limits", "thresholds"]

WINDOW_FRAMES = 12
"""Half a second at 24 frames a second: what an eye sees as a moment, and shorter than any shot."""
FLICKER_RATIO = Decimal("1.75")
"""A first release that a studio would take flickers up to 1.6 times as much as the truth (measured on the shots of the
demonstration, where it is the weakest model); boil that MAD lets through on a calm shot comes to twice and more."""
FLICKER_FLOOR = Decimal("0.0005")
"""Mean change a frame that nobody sees: a twentieth of a matte moving by one per cent. A still truth has 0."""
WINDOW_OF_SHOT = 2
"""The worst window may lose this many times what the worst shot may."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The guards as they hold. Losses and floors in the metric's unit, flicker in the matte's own range 0 to 1."""

    worst_shot: Decimal
    worst_window: Decimal
    window_frames: int
    floor_jaccard: Decimal
    floor_boundary_f: Decimal
    ceiling_mad: Decimal
    empty_frames: int
    flicker_ratio: Decimal
    flicker_floor: Decimal
    ratchet: Decimal


@dataclass(frozen=True, slots=True)
class Threshold:
    """One number of the judgement: the policy's key, the value as text, its unit, and where it came from."""

    name: str
    value: str
    unit: str
    origin: str


def limits(guards: Guards) -> Limits:
    """The guards with every absent limit at its default."""
    worst_shot = Decimal(guards.worst_shot)
    return Limits(
        worst_shot=worst_shot,
        worst_window=_or(guards.worst_window, WINDOW_OF_SHOT * worst_shot),
        window_frames=WINDOW_FRAMES if guards.window_frames is None else guards.window_frames,
        floor_jaccard=Decimal(guards.floor_jaccard),
        floor_boundary_f=Decimal(guards.floor_boundary_f),
        ceiling_mad=Decimal(guards.ceiling_mad),
        empty_frames=guards.empty_frames or 0,
        flicker_ratio=_or(guards.flicker_ratio, FLICKER_RATIO),
        flicker_floor=_or(guards.flicker_floor, FLICKER_FLOOR),
        ratchet=_or(guards.ratchet, worst_shot),
    )


def _or(given: str | None, default: Decimal) -> Decimal:
    return default if given is None else Decimal(given)


_GUARD_UNITS = {
    "worst_shot": "of J or F, on one shot",
    "worst_window": "of J or F, over one window",
    "window_frames": "frames",
    "floor_jaccard": "J, on every shot",
    "floor_boundary_f": "F, on every shot",
    "ceiling_mad": "MAD, on every shot",
    "empty_frames": "frames of a shot",
    "flicker_ratio": "times the flicker of current or truth",
    "flicker_floor": "mean change a frame, matte 0 to 1",
    "ratchet": "of J or F, on one shot",
}


def thresholds(policy: GoldenPolicy, origin: str) -> tuple[Threshold, ...]:
    """Every threshold with its effective value.

    Args:
        policy: As it was read from the file, so that what the file says can be told from what it leaves out.
        origin: What to call that file.
    """
    said, guards = policy.model_fields_set, policy.guards.model_fields_set

    def of(name: str, value: object, unit: str) -> Threshold:
        key = "margins" if name.startswith("margins.") else name
        return Threshold(f"golden.{name}", str(value), unit, origin if key in said else "default")

    held = limits(policy.guards)
    return (
        of("confidence", policy.confidence, "of each one-sided bound"),
        of("min_shots", policy.min_shots, "shots"),
        of("threshold", policy.threshold, "matte value above which a pixel is inside"),
        *(
            of(gate.key.removeprefix("golden."), gate.margin, f"{gate.label}, {metric(gate.name).unit}")
            for gate in gates(policy)
        ),
        *(
            Threshold(f"golden.guards.{key}", str(getattr(held, key)), unit, origin if key in guards else "default")
            for key, unit in _GUARD_UNITS.items()
        ),
    )
