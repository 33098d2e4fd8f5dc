"""From shot scores to a decision: accept, reject or inconclusive, with one line of reason. Pure.

The unit is the shot: frames of one shot resemble each other, so their number proves nothing. In this order:

1. A guard breaks on any one shot (`guards`): reject, however good the mean is. A run may stop at the first one.
2. What is needed is not there: no score of a gated metric, a score without its current one, a sum over pixels on shots
   of several sizes, a margin under five times this machine's noise: inconclusive.
3. Fewer shots than the policy asks for: inconclusive; the one case in which a named sign-off may stand in.
4. For each gated metric, a paired one-sided t interval on the shots' differences (positive is better), against the
   current release and against the best ever approved: reject if the upper bound of any lies below -margin.
5. No baseline (nothing is in use yet): the guards have held, accept, and the reason says so.
6. Accept if the lower bound of every one lies above -margin, else inconclusive, with how many shots would decide.

All guards and all metrics must hold, so no correction for their number is due (an intersection-union test). Bounds are
rounded outwards to six digits and compared as they are printed, so that a reader of the record comes to the same
decision. Left out: how a score came about (`pipeline`), what an override may pass over.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from changeover_registry.records.findings import Finding, NotApplicable, NotRun, Passed, Refused
from changeover_registry.records.policy import GoldenPolicy
from changeover_registry.records.verdict import Decision, MetricSummary, NoiseFloor, ShotScore
from changeover_validators.golden.gates import NOISE_FACTOR, Gate, below_noise, gates, mixed_sizes
from changeover_validators.golden.guards import broken_guards, refused, short
from changeover_validators.golden.power import MOST_SHOTS, quantile, shots_to_decide
from changeover_validators.golden.ratchet import Best, gains_by_release
from changeover_validators.golden.thresholds import limits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Bounds", "Judgement", "bounds", "broken_early", "judge"]

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
class _Paired:
    """One gated metric against one release, over the shots that both were scored on. Bounds are absent for one shot."""

    gate: Gate
    against: str
    shots: int
    mean: Decimal
    spread: Decimal
    lower: Decimal
    upper: Decimal

    def summary(self) -> MetricSummary:
        return MetricSummary(
            metric=self.gate.name,
            shots=self.shots,
            margin=str(self.gate.margin),
            mean=f"{self.mean:.6f}",
            lower=f"{self.lower:.6f}" if self.shots > 1 else None,
            upper=f"{self.upper:.6f}" if self.shots > 1 else None,
        )

    @property
    def worse(self) -> bool:
        """Surely worse by more than the margin."""
        return self.upper < -self.gate.margin

    @property
    def open(self) -> bool:
        """Not surely within the margin."""
        return self.lower <= -self.gate.margin


def judge(
    scores: Sequence[ShotScore],
    policy: GoldenPolicy,
    *,
    baseline: bool,
    names: Mapping[str, str] | None = None,
    best: Sequence[Best] = (),
    noise: Sequence[NoiseFloor] = (),
    sizes: Mapping[str, tuple[int, int]] | None = None,
) -> Judgement:
    """Decide.

    Args:
        scores: One for each shot and metric, with the current release's value where `baseline`.
        policy: Margins, confidence, guards, and how many shots are enough.
        baseline: Whether a release is in use that the candidate is compared with.
        names: What to call a shot in texts (its alias), by its name; without one, the name.
        best: Approved scores that these may be compared with (`ratchet.best_scores`).
        noise: By how much two runs of one model differ on this machine; empty where nobody measured.
        sizes: Width and height of each shot in pixels; needed only where a gated metric is a sum over pixels.

    Raises:
        InvalidInputError: The policy gates a metric that cannot be.
    """
    called = names or {}
    gated = gates(policy)
    against = tuple(_against_current(scores, policy, gated)) if baseline else ()
    summaries = tuple(paired.summary() for paired in against)
    broken = broken_guards(scores, limits(policy.guards), baseline=baseline, names=called, best=best)
    if broken:
        return _reject(broken, summaries, "guards")
    lacking = _lacking(scores, gated, called, baseline=baseline)
    if lacking is None and (baseline or best):
        lacking = _meaningless(scores, policy, noise, sizes)
    if lacking is not None:
        return Judgement("inconclusive", lacking.why, summaries, (lacking,))
    fewest = min(gated, key=lambda gate: len(_of(gate, scores)))
    if len(_of(fewest, scores)) < policy.min_shots:
        return _too_few(fewest, scores, policy, against)
    ever = tuple(_against_best(best, scores, policy, gated))
    return _by_bounds(against, ever, policy) if baseline else _alone(ever, gated, scores, called)


def broken_early(
    scores: Sequence[ShotScore],
    policy: GoldenPolicy,
    *,
    baseline: bool,
    best: Sequence[Best] = (),
) -> bool:
    """Whether a guard is broken already, which no later shot can mend: `judge` rejects, however the others come out."""
    return bool(broken_guards(scores, limits(policy.guards), baseline=baseline, names={}, best=best))


def bounds(differences: "NDArray[np.float64]", confidence: float) -> Bounds:
    """Paired one-sided t bounds over the last axis.

    Args:
        differences: [..., shots] differences in millionths, positive is better; at least two shots.
        confidence: Of each bound by itself, such as 0.95.

    Returns:
        The mean, and the bounds rounded outwards to whole millionths. Equal differences that are whole millionths have
        their own value as bounds.
    """
    import numpy as np  # The base installation has no numpy; it never judges.

    shots = differences.shape[-1]
    mean = differences.mean(axis=-1)
    reach = quantile(confidence, shots - 1) * differences.std(axis=-1, ddof=1) / np.sqrt(shots)
    return Bounds(mean, np.floor(mean - reach), np.ceil(mean + reach))


def _of(gate: Gate, scores: Sequence[ShotScore]) -> list[ShotScore]:
    return [score for score in scores if score.metric == gate.name]


def _against_current(scores: Sequence[ShotScore], policy: GoldenPolicy, gated: Iterable[Gate]) -> Iterable[_Paired]:
    for gate in gated:
        gains = [gate.gain(score) for score in _of(gate, scores) if score.current is not None]
        if gains:
            yield _paired(gate, "the current release", gains, policy)


def _against_best(
    best: Sequence[Best], scores: Sequence[ShotScore], policy: GoldenPolicy, gated: Iterable[Gate]
) -> Iterable[_Paired]:
    """Each metric against the approved release that lies farthest above the candidate, over the shots they share."""
    for gate in gated:
        found = gains_by_release(best, gate, scores, policy.min_shots)
        if found:
            release, gains = min(found.items(), key=lambda item: (sum(item[1]) / len(item[1]), str(item[0])))
            yield _paired(gate, f"{release.version}, the best ever approved,", gains, policy)


def _paired(gate: Gate, against: str, gains: Sequence[Decimal], policy: GoldenPolicy) -> _Paired:
    import numpy as np  # As in `bounds`.

    shots = len(gains)
    mean = Decimal(round(sum(gains, Decimal(0)) / shots * _MICRO)) / _MICRO
    if shots == 1:
        return _Paired(gate, against, 1, mean, Decimal(0), Decimal("-Infinity"), Decimal("Infinity"))
    millionths = np.array([float(gain * _MICRO) for gain in gains], np.float64)
    found = bounds(millionths, float(policy.confidence))
    spread = Decimal(float(millionths.std(ddof=1))) / _MICRO
    return _Paired(gate, against, shots, mean, spread, _decimal(found.lower), _decimal(found.upper))


def _decimal(millionths: "NDArray[np.float64]") -> Decimal:
    return Decimal(int(millionths)) / _MICRO


def _lacking(
    scores: Sequence[ShotScore], gated: Sequence[Gate], called: Mapping[str, str], *, baseline: bool
) -> NotRun | None:
    """What is not there and must be, or None."""
    absent = [gate.label for gate in gated if not _of(gate, scores)]
    if absent:
        why = f"no golden shot has a score of {', '.join(absent)}"
        return _not_run(why, "check again; add a shot on which every metric is defined")
    unpaired = [score.shot for gate in gated for score in _of(gate, scores) if baseline and score.current is None]
    if not unpaired:
        return None
    return _not_run(f"shot {called.get(unpaired[0], unpaired[0])} has no score of the current release", "check again")


def _meaningless(
    scores: Sequence[ShotScore],
    policy: GoldenPolicy,
    noise: Sequence[NoiseFloor],
    sizes: Mapping[str, tuple[int, int]] | None,
) -> NotRun | None:
    """Why a margin says nothing on these shots and this machine, or None."""
    mixed = mixed_sizes(policy, sizes, [score.shot for score in scores])
    if mixed:
        return _not_run(mixed, "gate a metric that is a mean, or keep shots of another size in a set of their own")
    fine = below_noise(policy, noise)
    if fine:
        why = f"policy margin below the noise of this machine: {'; '.join(map(str, fine))}"
        return _not_run(why, f"widen the margin in the policy to {NOISE_FACTOR} times the noise, and sign it")
    return None


def _not_run(why: str, remedy: str) -> NotRun:
    return NotRun(check="golden", why=why, remedy=remedy)


def _too_few(fewest: Gate, scores: Sequence[ShotScore], policy: GoldenPolicy, against: Sequence[_Paired]) -> Judgement:
    shots, everywhere = len(_of(fewest, scores)), len({score.shot for score in scores})
    of = "" if shots == everywhere else f" with a {fewest.label}"
    why = f"too few shots{of}: {shots} of {policy.min_shots}"
    worse = [f"{paired.gate.label} is worse by at least {short(-paired.upper)}" for paired in against if paired.worse]
    if worse:
        why += f"; on these shots {', '.join(worse)}"
    remedy = "add golden shots to the set"
    if policy.supervisor_review:
        why += "; every guard holds, and one named sign-off on the report would accept it"
        remedy += ", or: changeover verdict sign-off DIGEST --name NAME --note NOTE"
    finding = NotRun(check="golden", why=why, remedy=remedy, rule="few-shots")
    return Judgement("inconclusive", why, tuple(paired.summary() for paired in against), (finding,))


def _by_bounds(against: Sequence[_Paired], ever: Sequence[_Paired], policy: GoldenPolicy) -> Judgement:
    summaries = tuple(paired.summary() for paired in against)
    worse = tuple(_worse(paired, in_use=True) for paired in against if paired.worse) + _below_best(ever, in_use=True)
    if worse:
        return _reject(worse, summaries, "margins")
    undecided = [paired for paired in (*against, *ever) if paired.open]
    if undecided:
        return _undecided(undecided, summaries, policy)
    gains = "; ".join(f"{p.gate.label} {_signed(p.mean)}, at least {_signed(p.lower)}" for p in against)
    reason = f"no worse than the current release on {against[0].shots} shots: {gains}"
    return Judgement("accept", reason, summaries, (Passed(check="golden", detail=reason),))


def _alone(
    ever: Sequence[_Paired], gated: Sequence[Gate], scores: Sequence[ShotScore], called: Mapping[str, str]
) -> Judgement:
    """Without a baseline: what was approved before is still the bar where it is surely missed."""
    worse = _below_best(ever, in_use=False)
    if worse:
        return _reject(worse, (), "margins")
    worst = "; ".join(_worst(gate, _of(gate, scores), called) for gate in gated)
    reason = f"no baseline: floors and guards hold on {len(_of(gated[0], scores))} shots; worst {worst}"
    absent = NotApplicable(check="golden", rule="no-baseline", detail="nothing is in use to compare with")
    return Judgement("accept", reason, (), (Passed(check="golden", detail=reason), absent))


def _worst(gate: Gate, scores: Sequence[ShotScore], called: Mapping[str, str]) -> str:
    ordered = sorted(scores, key=lambda score: Decimal(score.candidate), reverse=not gate.higher_is_better)
    return f"{gate.label} {short(ordered[0].candidate)} ({called.get(ordered[0].shot, ordered[0].shot)})"


def _worse(paired: _Paired, *, in_use: bool) -> Refused:
    return refused(
        "margin",
        f"{paired.gate.label} not worse than {paired.against} by more than {paired.gate.margin}",
        f"worse by at least {short(-paired.upper)} over {paired.shots} shots",
        in_use=in_use,
    )


def _below_best(ever: Sequence[_Paired], *, in_use: bool) -> tuple[Refused, ...]:
    found = (_worse(paired, in_use=in_use) for paired in ever if paired.worse)
    return tuple(finding.model_copy(update={"rule": "ratchet"}) for finding in found)


def _undecided(undecided: Sequence[_Paired], summaries: tuple[MetricSummary, ...], policy: GoldenPolicy) -> Judgement:
    listed = "; ".join(
        f"{p.gate.label} between {_signed(p.lower)} and {_signed(p.upper)} of {p.against.rstrip(',')} "
        f"(margin {p.gate.margin})"
        for p in undecided
    )
    shots, enough = undecided[0].shots, _how_many(undecided, policy)
    why = f"{shots} shots cannot tell whether it is worse than the margin: {listed}; {enough}"
    finding = _not_run(why, "add golden shots to the set, or ask for a wider margin")
    return Judgement("inconclusive", why, summaries, (finding,))


def _how_many(undecided: Sequence[_Paired], policy: GoldenPolicy) -> str:
    """How many shots would decide, if further ones came out as these: the first to reject, or the last to accept."""
    worse = [paired for paired in undecided if paired.mean < -paired.gate.margin]
    needed = [_needed(paired, policy) for paired in worse or undecided]
    known = [number for number in needed if number is not None]
    if not known or (not worse and len(known) < len(needed)):
        return f"no number up to {MOST_SHOTS} would decide, since the loss is as large as the margin"
    return f"about {min(known) if worse else max(known)} would, if further ones came out as these did"


def _needed(paired: _Paired, policy: GoldenPolicy) -> int | None:
    figures = (float(paired.mean), float(paired.spread), float(paired.gate.margin))
    return shots_to_decide(*figures, float(policy.confidence), least=paired.shots + 1)


def _reject(broken: tuple[Refused, ...], summaries: tuple[MetricSummary, ...], what: str) -> Judgement:
    more = f" ({len(broken) - 1} more {what} broken)" if len(broken) > 1 else ""
    reason = f"{broken[0].rule}: {broken[0].actual}, expected {broken[0].expected}{more}"
    return Judgement("reject", reason, summaries, broken)


def _signed(value: Decimal) -> str:
    return f"{value:+.4f}"
