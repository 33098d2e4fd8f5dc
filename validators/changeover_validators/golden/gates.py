"""Which metrics are gated, by which margin, and whether margins can mean anything here. Pure, needs no numpy.

Jaccard, boundary F and MAD always are, by the policy's own keys; ``golden.margins`` gates further ones by full name. A
margin says how much worse is still as good, as a difference of shot means in the metric's unit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from changeover_registry.errors import InvalidInputError, RefusedError
from changeover_registry.records.policy import GoldenPolicy
from changeover_registry.records.verdict import NoiseFloor, ShotScore
from changeover_validators.golden.catalogue import METRICS, SUMMARIES, metric

__all__ = [
    "BOUNDARY_F",
    "EMPTY",
    "FLICKER",
    "JACCARD",
    "MAD",
    "NOISE_FACTOR",
    "TRUTH_FLICKER",
    "BelowNoise",
    "Gate",
    "below_noise",
    "check_margins",
    "check_noise",
    "full_names",
    "gates",
    "mixed_sizes",
]

JACCARD, BOUNDARY_F, MAD = "jaccard:davis2017", "boundary_f:davis2017", "mad:rvm"
FLICKER, TRUTH_FLICKER, EMPTY = "flicker:mean-abs", "flicker-truth:mean-abs", "empty:threshold"
NOISE_FACTOR = 5
"""How many times the measured noise a margin must be, so that a difference of that size is the model's."""

_OWN_KEYS = {JACCARD: "margin_jaccard", BOUNDARY_F: "margin_boundary_f", MAD: "margin_mad"}
_LABELS = {JACCARD: "Jaccard", BOUNDARY_F: "boundary F", MAD: "MAD"}
_NOT_GATED = {TRUTH_FLICKER: "it says nothing of the candidate", EMPTY: "it is a guard: guards.empty_frames"}


@dataclass(frozen=True, slots=True)
class Gate:
    """A gated metric: its name in scores, its name for people, its direction, its margin, the policy's key."""

    name: str
    label: str
    higher_is_better: bool
    margin: Decimal
    key: str

    def gain(self, score: ShotScore) -> Decimal:
        """How much better the candidate is than the current release, which must be there."""
        return self.better(score.candidate, score.current or "NaN")

    def better(self, value: str, other: str) -> Decimal:
        """By how much `value` is better than `other`."""
        difference = Decimal(value) - Decimal(other)
        return difference if self.higher_is_better else -difference


@dataclass(frozen=True, slots=True)
class BelowNoise:
    """A margin that is finer than the machine can measure: the largest difference of two runs, the smallest margin."""

    gate: Gate
    floor: Decimal
    smallest: Decimal

    def __str__(self) -> str:
        """One clause for a message."""
        return (
            f"{self.gate.label} margin {self.gate.margin}, two runs of one model differ by {self.floor:f} here, "
            f"smallest margin {self.smallest:f}"
        )


def gates(policy: GoldenPolicy) -> tuple[Gate, ...]:
    """The gated metrics: the three that always are, then those of ``golden.margins`` by name.

    Raises:
        InvalidInputError: A metric is unknown, or cannot be gated.
    """
    check_margins(policy, where="policy.toml")
    own = (policy.margin_jaccard, policy.margin_boundary_f, policy.margin_mad)
    further = sorted((policy.margins or {}).items())
    return (
        *(_gate(name, margin, key) for (name, key), margin in zip(_OWN_KEYS.items(), own, strict=True)),
        *(_gate(name, margin, f'margins."{name}"') for name, margin in further),
    )


def _gate(name: str, margin: str, key: str) -> Gate:
    known = metric(name)
    return Gate(name, _LABELS.get(name, known.label), known.higher_is_better, Decimal(margin), f"golden.{key}")


def check_margins(policy: GoldenPolicy, *, where: str) -> None:
    """See that each metric of ``golden.margins`` is one that can be gated.

    Args:
        policy: What was read.
        where: The file, for the message.

    Raises:
        InvalidInputError: It is unknown, has a key of its own, or says nothing of the candidate.
    """
    may = [one.name for one in (*METRICS, *SUMMARIES) if one.name not in {*_OWN_KEYS, *_NOT_GATED}]
    for name in policy.margins or {}:
        if name not in may:
            own = _OWN_KEYS.get(name)
            why = f"a metric with a key of its own, {own}" if own else _NOT_GATED.get(name, "an unknown metric")
            raise InvalidInputError(
                "metric",
                where=f'{where}: golden.margins."{name}"',
                expected=f"one of {', '.join(may)}",
                actual=why,
                remedy=f"use golden.{own}" if own else "correct the name; it carries its variant after a colon",
            )


def below_noise(policy: GoldenPolicy, floors: Sequence[NoiseFloor]) -> tuple[BelowNoise, ...]:
    """The margins under `NOISE_FACTOR` times the noise measured on this machine; none where nothing was measured."""
    measured = {floor.metric: Decimal(floor.difference) for floor in floors}
    found = [
        BelowNoise(gate, measured[gate.name], NOISE_FACTOR * measured[gate.name])
        for gate in gates(policy)
        if gate.name in measured
    ]
    return tuple(one for one in found if one.gate.margin < one.smallest)


def check_noise(policy: GoldenPolicy, floors: Sequence[NoiseFloor], *, where: str) -> None:
    """Refuse margins that are finer than the noise, as configuration.

    Raises:
        RefusedError: One is; the message names metric, floor and smallest margin, of all of them.
    """
    found = below_noise(policy, floors)
    if found:
        raise RefusedError(
            "margin below the noise",
            where=f"{where}: {', '.join(one.gate.key for one in found)}",
            expected=f"at least {NOISE_FACTOR} times the difference between two runs of one model",
            actual="; ".join(map(str, found)),
            remedy="widen these margins",
        )


def mixed_sizes(policy: GoldenPolicy, sizes: Mapping[str, tuple[int, int]] | None, shots: Sequence[str]) -> str:
    """Why a gated metric cannot be compared across these shots, as a sentence; empty where each can.

    A sum over pixels grows with the frame: its differences of a small and a large shot are no sample of one thing.

    Args:
        policy: Names the gated metrics.
        sizes: Width and height of each shot in pixels; None where nobody said, which is as good as mixed.
        shots: The shots that were scored.
    """
    sums = [gate.label for gate in gates(policy) if not metric(gate.name).resolution_invariant]
    if not sums or not shots:
        return ""
    if sizes is None:
        return f"{', '.join(sums)} is a sum over pixels, and the shots' sizes are not known"
    found = sorted({sizes[shot] for shot in shots})
    if len(found) == 1:
        return ""
    listed = ", ".join(f"{width} x {height}" for width, height in found)
    return f"{', '.join(sums)} is a sum over pixels and grows with the frame, and the shots are of {listed}"


def full_names(scores: Sequence[ShotScore]) -> list[ShotScore]:
    """Scores of a filed verdict under today's names: the first verdicts named three metrics without their variant."""
    plain = {name.partition(":")[0]: name for name in _OWN_KEYS}
    return [score.model_copy(update={"metric": plain.get(score.metric, score.metric)}) for score in scores]
