"""How far the shots of a golden set lie apart when one release is compared with another: as filed, or as assumed.

What a set can detect hangs on this spread. It is the standard deviation of the shots' differences, pooled over the
comparisons of this set that are signed and scored every shot, whatever they decided: a few releases say little of how
far the next one's shots lie apart, so none is left out. One that lost or gained much on some shots spreads them all, so
the forecast is cautious. Pure, needs no numpy.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from changeover_registry.records.policy import GoldenPolicy
from changeover_registry.records.verdict import PointReport, Verdict
from changeover_validators.golden.gates import Gate, full_names, gates
from changeover_validators.golden.power import detectable, power, shots_needed
from changeover_validators.golden.simulation import SETTING

__all__ = ["FEW", "Forecast", "Spread", "forecasts", "spread_of"]

FEW = 3
"""With fewer comparisons the spread is one release's more than the set's, and the next one may change it much."""

WANTED = 0.8
"""The chance of a decision that a set should give an equal release, as is usual in planning a trial."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A standard deviation in a metric's unit; from how many comparisons and differences, none of them if assumed."""

    sd: float
    comparisons: int = 0
    differences: int = 0

    def __str__(self) -> str:
        """Where it comes from."""
        if not self.comparisons:
            return "assumed: no comparison of all shots is filed"
        return f"{self.differences} differences of {self.comparisons} comparison{'s' if self.comparisons > 1 else ''}"


@dataclass(frozen=True, slots=True)
class Forecast:
    """What so many shots can tell of one gated metric. Chances are 0 to 1, the rest is in the metric's unit.

    Attributes:
        gate: The metric and its margin.
        spread: How far shots lie apart.
        chance: That an equal release is accepted.
        needed: The fewest shots with which that chance is 80 %; None where a thousand do not do.
        smallest: The margin at which that chance is 80 % with the shots there are; None with under 2.
    """

    gate: Gate
    spread: Spread
    chance: float
    needed: int | None
    smallest: float | None


def forecasts(
    shots: int, policy: GoldenPolicy, set_name: str, verdicts: Sequence[Verdict], sizes: Mapping[int, int] | None = None
) -> tuple[Forecast, ...]:
    """What a set of so many shots can tell, for every gated metric.

    Args:
        shots: How many are scored.
        policy: Its margins and its confidence.
        set_name: The set.
        verdicts: Verified verdicts, newest first; those on other sets are left out.
        sizes: How many shots each version of the set scored; without its version a rejection counts if it was full.
    """
    compared = tuple(_comparisons(set_name, verdicts, sizes or {}))
    return tuple(_forecast(shots, gate, spread_of(gate, compared), float(policy.confidence)) for gate in gates(policy))


def spread_of(gate: Gate, compared: Iterable[PointReport]) -> Spread:
    """The pooled spread of a metric's differences over these comparisons, else the assumed one."""
    groups = [found for point in compared if len(found := _differences(gate, point)) > 1]
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return Spread(SETTING.mean_sd())
    squares = sum((_squares(group) for group in groups), Decimal(0))
    return Spread(float((squares / freedom).sqrt()), len(groups), sum(map(len, groups)))


def _forecast(shots: int, gate: Gate, spread: Spread, confidence: float) -> Forecast:
    margin = float(gate.margin)
    return Forecast(
        gate=gate,
        spread=spread,
        chance=power(shots, spread.sd, margin, confidence),
        needed=shots_needed(spread.sd, margin, confidence, wanted=WANTED),
        smallest=detectable(shots, spread.sd, confidence, wanted=WANTED),
    )


def _comparisons(set_name: str, verdicts: Sequence[Verdict], sizes: Mapping[int, int]) -> Iterator[PointReport]:
    """Each pair of releases once at each operating point, by its newest verdict that scored every shot."""
    seen: set[tuple[str, str, str]] = set()
    for verdict in verdicts:
        used = verdict.golden_set
        if used is None or used.name != set_name or verdict.current is None or verdict.candidate == verdict.current:
            continue
        for point in verdict.points:
            key = (str(verdict.candidate), str(verdict.current), str(point.point))
            if key not in seen and _whole(verdict, point, sizes.get(used.version)):
                seen.add(key)
                yield point


def _whole(verdict: Verdict, point: PointReport, shots: int | None) -> bool:
    """Whether every shot was scored: a rejection may have ended at the first guard that broke."""
    if verdict.decision != "reject":
        return verdict.decision != "error"
    return bool(verdict.full) or len({score.shot for score in point.scores}) == shots


def _differences(gate: Gate, point: PointReport) -> list[Decimal]:
    scores = full_names(point.scores)
    return [gate.gain(score) for score in scores if score.metric == gate.name and score.current is not None]


def _squares(values: Sequence[Decimal]) -> Decimal:
    """The sum of the squared distances from the mean."""
    mean = sum(values, Decimal(0)) / len(values)
    return sum(((value - mean) ** 2 for value in values), Decimal(0))
