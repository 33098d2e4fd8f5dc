"""The ratchet: what was approved once on a shot is the bar for what comes after, however small each step down is. Pure.

A release counts as approved where a verdict that an enrolled key signed accepted it, and it was promoted. Its scores
are those of the operating points that were accepted, and those that it got later as the current release, whatever
became of the candidate: so a new shot has a bar as soon as it was scored once. A score is compared only with one of
the same shot (the digest of its record: version, truth, region and set), the same metric and its version, the same
threshold and the same golden class. The value is the signed verdict's own; what lies unsigned in the site only says
what it depended on, and must have the digest that was signed.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from changeover_registry.records.release import ReleaseRef
from changeover_registry.records.scores import ScoreKey
from changeover_registry.records.verdict import PointReport, ShotScore, Verdict
from changeover_validators.golden.gates import Gate
from changeover_validators.verdict import point_decision

__all__ = ["Best", "Filed", "best_of", "best_scores", "by_shot", "gains_by_release"]


@dataclass(frozen=True, slots=True)
class Best:
    """An approved score of one shot: the metric's mean, of which release, by which verdict's digest."""

    shot: str
    metric: str
    value: str
    release: ReleaseRef
    verdict: str


class Filed(Protocol):
    """A verdict whose signature was verified, and the digest that it is filed under."""

    @property
    def digest(self) -> str:
        """The digest of the envelope."""
        ...

    @property
    def verdict(self) -> Verdict:
        """What was signed."""
        ...


def best_scores(
    filed: Sequence[Filed],
    promoted: Collection[str],
    keys: Mapping[str, ScoreKey],
    lookup: Callable[[str], ScoreKey | None],
) -> tuple[Best, ...]:
    """Every approved score that today's may be compared with, in the order of the verdicts.

    Args:
        filed: Verdicts that an enrolled key signed, of any release of the model.
        promoted: Digests of the releases that any scope's signed choice ever held, as channel or pin.
        keys: What today's scores depend on, by shot.
        lookup: What a filed score depended on, by the digest of that key; None where nobody knows any more.
    """
    accepted = {one.verdict.candidate.digest for one in filed if one.verdict.decision == "accept"}
    return tuple(best for one in filed for best in _of_verdict(one, accepted & set(promoted), keys, lookup))


def _of_verdict(
    one: Filed, approved: Collection[str], keys: Mapping[str, ScoreKey], lookup: Callable[[str], ScoreKey | None]
) -> Iterator[Best]:
    candidate, current = one.verdict.candidate, one.verdict.current
    holds = one.verdict.decision == "accept" and candidate.digest in approved
    for report in one.verdict.points:
        of_candidate = holds and point_decision(report.findings) == "accept"
        for score in _comparable(report, keys, lookup):
            if of_candidate:
                yield Best(score.shot, score.metric, score.candidate, candidate, one.digest)
            if current is not None and current.digest in approved and score.current is not None:
                yield Best(score.shot, score.metric, score.current, current, one.digest)


def _comparable(
    report: PointReport, keys: Mapping[str, ScoreKey], lookup: Callable[[str], ScoreKey | None]
) -> tuple[ShotScore, ...]:
    """The scores of a report that depended on the same as today's, candidate and current apart."""
    shots = {
        ref.shot for ref in report.scored or () if ref.shot in keys and _same(keys[ref.shot], ref.key, lookup(ref.key))
    }
    return tuple(score for score in report.scores if score.shot in shots)


def _same(today: ScoreKey, signed: str, then: ScoreKey | None) -> bool:
    if then is None or then.digest() != signed:
        return False
    mine = (today.shot, today.metrics, Decimal(today.threshold), today.golden_class)
    return mine == (then.shot, then.metrics, Decimal(then.threshold), then.golden_class)


def by_shot(best: Iterable[Best]) -> Mapping[tuple[str, str], tuple[Best, ...]]:
    """Approved scores by shot and metric."""
    found: dict[tuple[str, str], list[Best]] = {}
    for one in best:
        found.setdefault((one.shot, one.metric), []).append(one)
    return {key: tuple(scores) for key, scores in found.items()}


def best_of(scores: Iterable[Best], *, higher: bool) -> Best | None:
    """The best of the approved scores of one shot and metric; of equal ones the first."""
    sign = 1 if higher else -1
    return max(scores, key=lambda one: sign * Decimal(one.value), default=None)


def gains_by_release(
    best: Iterable[Best], gate: Gate, scores: Sequence[ShotScore], least: int
) -> Mapping[ReleaseRef, tuple[Decimal, ...]]:
    """How much better the candidate is than each approved release, shot by shot, where they share enough of them.

    Args:
        best: Approved scores; of a release that has several of one shot, its best.
        gate: The metric.
        scores: The candidate's, of this metric.
        least: How many shots must be shared.
    """
    gains: dict[ReleaseRef, list[Decimal]] = {}
    approved = by_shot(one for one in best if one.metric == gate.name)
    for score in scores:
        of_shot: dict[ReleaseRef, list[Best]] = {}
        for one in approved.get((score.shot, score.metric), ()):
            of_shot.setdefault(one.release, []).append(one)
        for release, found in of_shot.items():
            top = best_of(found, higher=gate.higher_is_better)
            if top is not None:
                gains.setdefault(release, []).append(gate.better(score.candidate, top.value))
    return {release: tuple(found) for release, found in gains.items() if len(found) >= least}
