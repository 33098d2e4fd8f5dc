"""From shot scores to a decision: accept, reject or inconclusive, with one line of reason. Pure.

The unit is the shot: frames of one shot resemble each other, so their number proves nothing. In this order:

1. No shot scored, or a candidate's score without its current one: inconclusive.
2. A guard breaks on any one shot: reject, however good the mean is. Guards are the worst drop of Jaccard and boundary F
   against the current release, floors of both, and a ceiling of the mean absolute difference.
3. Fewer shots than the policy asks for: inconclusive.
4. No baseline (nothing is in use yet): the guards have held, accept, and the reason says so.
5. For each metric, a paired one-sided t interval on the shots' differences (positive is better): reject if the upper
   bound of any lies below -margin, accept if the lower bound of every one lies above it, else inconclusive.

All guards and all metrics must hold, so no correction for their number is due (an intersection-union test). Bounds are
rounded outwards to six digits and compared as they are printed, so that a reader of the record comes to the same
decision. Left out: how a score came about (`pipeline`), what an override may pass over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING

from changeover_registry.records.findings import Finding, NotApplicable, NotRun, Passed, Refused
from changeover_registry.records.policy import GoldenPolicy
from changeover_registry.records.verdict import Decision, MetricSummary, ShotScore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Bounds", "Judgement", "bounds", "judge"]

_MICRO = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the golden shots say.

    Attributes:
        decision: accept, reject or inconclusive.
        reason: The one line that a supervisor reads first.
        metrics: Mean difference and bounds of each metric; empty without a baseline.
        findings: Each broken guard and margin, or what holds, or why nothing was decided.
    """

    decision: Decision
    reason: str
    metrics: tuple[MetricSummary, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Mean and one-sided bounds of the differences, in millionths, over the last axis of what was given."""

    mean: "NDArray[np.float64]"
    lower: "NDArray[np.float64]"
    upper: "NDArray[np.float64]"


@dataclass(frozen=True, slots=True)
class _Metric:
    """A gated metric: its name in scores, its name for people, its direction, its margin, its limits."""

    name: str
    label: str
    higher_is_better: bool
    margin: Decimal
    worst_drop: Decimal | None
    limit: Decimal

    def gain(self, score: ShotScore) -> Decimal:
        """How much better the candidate is than the current release; the latter must be there."""
        difference = Decimal(score.candidate) - Decimal(score.current or "NaN")
        return difference if self.higher_is_better else -difference


def judge(
    scores: Sequence[ShotScore],
    policy: GoldenPolicy,
    *,
    baseline: bool,
    names: Mapping[str, str] | None = None,
) -> Judgement:
    """Decide.

    Args:
        scores: One for each shot and metric, with the current release's value where `baseline`.
        policy: Margins, confidence, guards, and how many shots are enough.
        baseline: Whether a release is in use that the candidate is compared with.
        names: What to call a shot in texts (its alias), by its name; without one, the name.
    """
    called = names or {}
    metrics = _metrics(policy)
    missing = _missing(scores, metrics, baseline=baseline)
    if missing:
        return _inconclusive(missing, (), "check again; add a shot on which every metric is defined")
    summaries = tuple(_summary(metric, scores, policy) for metric in metrics) if baseline else ()
    broken = _broken_guards(scores, metrics, called, baseline=baseline)
    if broken:
        return _reject(broken, summaries, "guards")
    shots = min(len(_of(metric, scores)) for metric in metrics)
    if shots < policy.min_shots:
        few = f"golden shots scored: {shots}, the policy asks for {policy.min_shots}"
        return _inconclusive(few, summaries, "add golden shots to the set")
    return _by_margins(metrics, scores, summaries) if baseline else _accept_alone(metrics, scores, called)


def bounds(differences: "NDArray[np.float64]", confidence: float) -> Bounds:
    """Paired one-sided t bounds over the last axis.

    Args:
        differences: [..., shots] differences in millionths, positive is better; at least two shots.
        confidence: Of each bound by itself, such as 0.95.

    Returns:
        The mean, and the bounds rounded outwards to whole millionths. Equal differences have their own value as bounds.
    """
    import numpy as np  # The base installation has no numpy; it never judges.

    shots = differences.shape[-1]
    mean = differences.mean(axis=-1)
    reach = _quantile(confidence, shots - 1) * differences.std(axis=-1, ddof=1) / np.sqrt(shots)
    return Bounds(mean, np.floor(mean - reach), np.ceil(mean + reach))


@lru_cache(maxsize=64)
def _quantile(confidence: float, freedom: int) -> float:
    from scipy import special  # As numpy above; `stats` has the same quantile and takes a second to import.

    return float(special.stdtrit(freedom, confidence))


def _metrics(policy: GoldenPolicy) -> tuple[_Metric, ...]:
    guards, drop = policy.guards, Decimal(policy.guards.worst_shot)
    return (
        _Metric("jaccard", "Jaccard", True, Decimal(policy.margin_jaccard), drop, Decimal(guards.floor_jaccard)),
        _Metric(
            "boundary_f", "boundary F", True, Decimal(policy.margin_boundary_f), drop, Decimal(guards.floor_boundary_f)
        ),
        _Metric("mad", "MAD", False, Decimal(policy.margin_mad), None, Decimal(guards.ceiling_mad)),
    )


def _of(metric: _Metric, scores: Sequence[ShotScore]) -> list[ShotScore]:
    return [score for score in scores if score.metric == metric.name]


def _missing(scores: Sequence[ShotScore], metrics: Sequence[_Metric], *, baseline: bool) -> str:
    """What is not there and must be, as a sentence; empty if nothing is."""
    absent = [metric.label for metric in metrics if not _of(metric, scores)]
    if absent:
        return f"no golden shot has a score of {', '.join(absent)}"
    unpaired = [score.shot for score in scores if baseline and score.current is None]
    return f"shot {unpaired[0]} has no score of the current release" if unpaired else ""


def _broken_guards(
    scores: Sequence[ShotScore], metrics: Sequence[_Metric], called: Mapping[str, str], *, baseline: bool
) -> tuple[Refused, ...]:
    drops = [_drop(metric, score, called) for metric in metrics for score in _of(metric, scores) if baseline]
    limits = [_limit(metric, score, called) for metric in metrics for score in _of(metric, scores)]
    return tuple(finding for finding in (*drops, *limits) if finding is not None)


def _drop(metric: _Metric, score: ShotScore, called: Mapping[str, str]) -> Refused | None:
    loss = -metric.gain(score)
    if metric.worst_drop is None or loss <= metric.worst_drop:
        return None
    shot = called.get(score.shot, score.shot)
    return _refused(
        "worst shot",
        f"{metric.label} at most {metric.worst_drop} below the current release on every shot",
        f"shot {shot}: {metric.label} {_short(score.candidate)}, {_short(loss)} below {_short(score.current or '')}",
    )


def _limit(metric: _Metric, score: ShotScore, called: Mapping[str, str]) -> Refused | None:
    value = Decimal(score.candidate)
    within = value >= metric.limit if metric.higher_is_better else value <= metric.limit
    if within:
        return None
    shot, side = called.get(score.shot, score.shot), "at least" if metric.higher_is_better else "at most"
    rule = "floor" if metric.higher_is_better else "ceiling"
    return _refused(
        rule,
        f"{metric.label} {side} {metric.limit} on every shot",
        f"shot {shot}: {metric.label} {_short(score.candidate)}",
    )


def _summary(metric: _Metric, scores: Sequence[ShotScore], policy: GoldenPolicy) -> MetricSummary:
    import numpy as np  # As in `bounds`.

    gains = [float(metric.gain(score) * _MICRO) for score in _of(metric, scores)]
    lower = upper = None
    if len(gains) > 1:
        found = bounds(np.array(gains, np.float64), float(policy.confidence))
        lower, upper = _decimal(float(found.lower)), _decimal(float(found.upper))
    return MetricSummary(
        metric=metric.name,
        shots=len(gains),
        margin=str(metric.margin),
        mean=_decimal(sum(gains) / len(gains)),
        lower=lower,
        upper=upper,
    )


def _by_margins(
    metrics: Sequence[_Metric], scores: Sequence[ShotScore], summaries: tuple[MetricSummary, ...]
) -> Judgement:
    pairs = tuple(zip(metrics, summaries, strict=True))
    worse = tuple(_worse(metric, found) for metric, found in pairs if _upper(found) < -metric.margin)
    if worse:
        return _reject(worse, summaries, "margins")
    open_ones = [(metric, found) for metric, found in pairs if _lower(found) <= -metric.margin]
    if open_ones:
        listed = "; ".join(
            f"{metric.label} between {_signed(_lower(found))} and {_signed(_upper(found))} (margin {metric.margin})"
            for metric, found in open_ones
        )
        why = f"{summaries[0].shots} shots cannot tell whether it is worse than the margin: {listed}"
        return _inconclusive(why, summaries, "add golden shots to the set, or ask for a wider margin")
    gains = "; ".join(
        f"{metric.label} {_signed(Decimal(found.mean))}, at least {_signed(_lower(found))}" for metric, found in pairs
    )
    reason = f"no worse than the current release on {len(_of(metrics[0], scores))} shots: {gains}"
    return Judgement("accept", reason, summaries, (Passed(check="golden", detail=reason),))


def _accept_alone(metrics: Sequence[_Metric], scores: Sequence[ShotScore], called: Mapping[str, str]) -> Judgement:
    worst = "; ".join(_worst(metric, _of(metric, scores), called) for metric in metrics)
    reason = f"no baseline: floors and guards hold on {len(_of(metrics[0], scores))} shots; worst {worst}"
    absent = NotApplicable(check="golden", rule="no-baseline", detail="nothing is in use to compare with")
    return Judgement("accept", reason, (), (Passed(check="golden", detail=reason), absent))


def _worst(metric: _Metric, scores: Sequence[ShotScore], called: Mapping[str, str]) -> str:
    ordered = sorted(scores, key=lambda score: Decimal(score.candidate), reverse=not metric.higher_is_better)
    return f"{metric.label} {_short(ordered[0].candidate)} ({called.get(ordered[0].shot, ordered[0].shot)})"


def _worse(metric: _Metric, found: MetricSummary) -> Refused:
    return _refused(
        "margin",
        f"{metric.label} not worse than the current release by more than {metric.margin}",
        f"worse by at least {_short(-_upper(found))} over {found.shots} shots",
    )


def _refused(rule: str, expected: str, actual: str) -> Refused:
    return Refused(
        check="golden",
        rule=rule,
        expected=expected,
        actual=actual,
        remedy="keep the current release and tell the vendor; an override needs a name and a reason",
    )


def _reject(broken: tuple[Refused, ...], summaries: tuple[MetricSummary, ...], what: str) -> Judgement:
    more = f" ({len(broken) - 1} more {what} broken)" if len(broken) > 1 else ""
    reason = f"{broken[0].rule}: {broken[0].actual}, expected {broken[0].expected}{more}"
    return Judgement("reject", reason, summaries, broken)


def _inconclusive(why: str, summaries: tuple[MetricSummary, ...], remedy: str) -> Judgement:
    return Judgement("inconclusive", why, summaries, (NotRun(check="golden", why=why, remedy=remedy),))


def _lower(found: MetricSummary) -> Decimal:
    return Decimal(found.lower or "-Infinity")


def _upper(found: MetricSummary) -> Decimal:
    return Decimal(found.upper or "Infinity")


def _decimal(millionths: float) -> str:
    return f"{Decimal(round(millionths)) / _MICRO:.6f}"


def _short(value: Decimal | str) -> str:
    return f"{Decimal(value):.4f}"


def _signed(value: Decimal) -> str:
    return f"{value:+.4f}"
