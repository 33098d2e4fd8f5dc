"""The ratchet: what was approved once on a shot is the bar for what comes after, however small each step down is. Pure.

A score counts as approved where a verdict that an enrolled key signed accepted the release at an operating point, and
the release was promoted. It is compared only with a score of the same shot (the digest of its record: version, truth,
region and set), the same metric and its version, the same threshold and the same golden class. The value is the signed
verdict's own; what lies unsigned in the site only says of which shot it was, and must have the digest that was signed.
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

__all__ = ["Best", "Filed", "best_on", "best_scores", "gains_by_release"]


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
    filed: Iterable[Filed],
    promoted: Collection[str],
    keys: Mapping[str, ScoreKey],
    lookup: Callable[[str], ScoreKey | None],
) -> tuple[Best, ...]:
    """Every approved score that today's may be compared with, newest verdict first as given.

    Args:
        filed: Verdicts that an enrolled key signed, of any release of the model.
        promoted: Digests of the releases that any scope's signed choice ever held, as channel or pin.
        keys: What today's scores depend on, by shot.
        lookup: What a filed score depended on, by the digest of that key; None where nobody knows any more.
    """
    return tuple(
        best
        for one in filed
        if one.verdict.decision == "accept" and one.verdict.candidate.digest in promoted
        for report in one.verdict.points
        if point_decision(report.findings) == "accept"
        for best in _approved(one, report, keys, lookup)
    )


def _approved(
    one: Filed, report: PointReport, keys: Mapping[str, ScoreKey], lookup: Callable[[str], ScoreKey | None]
) -> Iterator[Best]:
    comparable = {
        ref.shot for ref in report.scored or () if ref.shot in keys and _same(keys[ref.shot], ref.key, lookup(ref.key))
    }
    for score in report.scores:
        if score.shot in comparable:
            yield Best(score.shot, score.metric, score.candidate, one.verdict.candidate, one.digest)


def _same(today: ScoreKey, signed: str, then: ScoreKey | None) -> bool:
    if then is None or then.digest() != signed:
        return False
    mine = (today.shot, today.metrics, Decimal(today.threshold), today.golden_class)
    return mine == (then.shot, then.metrics, Decimal(then.threshold), then.golden_class)


def best_on(best: Iterable[Best], shot: str, metric: str, *, higher: bool) -> Best | None:
    """The best approved score of a shot; of equal ones the first given."""
    found = [one for one in best if (one.shot, one.metric) == (shot, metric)]
    sign = 1 if higher else -1
    return max(found, key=lambda one: sign * Decimal(one.value), default=None)


def gains_by_release(
    best: Sequence[Best], gate: Gate, scores: Sequence[ShotScore], least: int
) -> Mapping[ReleaseRef, tuple[Decimal, ...]]:
    """How much better the candidate is than each approved release, shot by shot, where they share enough of them.

    Args:
        best: Approved scores; of a release that has several of one shot, its best.
        gate: The metric.
        scores: The candidate's, of this metric.
        least: How many shots must be shared.
    """
    releases = dict.fromkeys(one.release for one in best)
    gains = {release: _gains([one for one in best if one.release == release], gate, scores) for release in releases}
    return {release: found for release, found in gains.items() if len(found) >= least}


def _gains(of_release: Sequence[Best], gate: Gate, scores: Sequence[ShotScore]) -> tuple[Decimal, ...]:
    pairs = [
        (score, best_on(of_release, score.shot, gate.name, higher=gate.higher_is_better))
        for score in scores
        if score.metric == gate.name
    ]
    return tuple(gate.better(score.candidate, best.value) for score, best in pairs if best is not None)
