"""The first line of a report: what a supervisor would say of the verdict, from the report's own values. Pure.

The verdict's reason is exact and long, and stands below it.
"""

from collections.abc import Sequence
from decimal import Decimal

from changeover_registry.records.findings import Finding, NotRun, Refused
from changeover_registry.records.verdict import Decision
from changeover_validators.golden.report.model import Point, Score, Shot
from changeover_validators.golden.report.shots import known_metric

__all__ = ["headline", "worst_metric"]

_SAID = (
    ("Jaccard", "jaccard:davis2017"),
    ("boundary F", "boundary_f:davis2017"),
    ("MAD", "mad:rvm"),
    ("flicker", "flicker:mean-abs"),
    ("nothing found", "empty:threshold"),
)
"""How guards name the metrics, in the order in which people ask for them."""
_SHORT = 60
"""A finding of so many characters still fits in a headline."""
_MASKS = tuple(name for _, name in _SAID[:2])


def headline(decision: Decision, against: str | None, findings: Sequence[Finding], points: Sequence[Point]) -> str:
    """One plain sentence.

    Args:
        decision: The verdict's.
        against: The current release's version; None without a baseline.
        findings: Those of no operating point.
        points: The operating points, those that were measured first.
    """
    point = next((point for point in points if point.shots), None)
    told = [*findings, *(finding for one in points[:1] for finding in one.findings)]
    elsewhere = _elsewhere(decision, told)
    if elsewhere or point is None:
        return elsewhere or "No golden shot was scored"
    return _of_shots(decision, against, point)


def _elsewhere(decision: Decision, findings: Sequence[Finding]) -> str:
    """Which check decided, where it was not the golden shots."""
    kind = Refused if decision == "reject" else NotRun
    deciding = [finding for finding in findings if isinstance(finding, kind)]
    if decision == "accept" or not deciding or any(finding.check == "golden" for finding in deciding):
        return ""
    first = deciding[0]
    if isinstance(first, Refused):
        rule = "" if first.rule == first.check else f": {first.rule}"
        found = f", found {first.actual}" if len(first.actual) <= _SHORT else ""
        return f"Refused by the check {first.check}{rule}{found}"
    return f"The check {first.check} could not be {'measured' if first.error else 'run'}"


def _of_shots(decision: Decision, against: str | None, point: Point) -> str:
    shots = point.shots
    many = f"{len(shots)} shot{'s' if len(shots) > 1 else ''}"
    worst = f"; worst: {_said(shots[0])}"
    if against is None:
        below = sum(bool(shot.broken) for shot in shots)
        words = {
            "accept": f"Every floor and guard holds on {many}; nothing is in use to compare with",
            "reject": f"A floor or guard is broken on {below} of {many}" if below else f"Rejected on {many}",
        }
        return words.get(decision, f"Not decided over {many}; nothing is in use to compare with") + worst
    worse = sum(_is_worse(shot, point) for shot in shots)
    if {finding.rule for shot in shots for finding in shot.broken if isinstance(finding, Refused)} == {"ratchet"}:
        return f"Worse than the best ever approved on {sum(bool(shot.broken) for shot in shots)} of {many}{worst}"
    found = f"{'worse' if worse else 'not worse'} than {against} on {worse or len(shots)} of {many}"
    if decision == "accept":
        return f"No worse than {against} over {many}{worst}"
    return (found[0].upper() + found[1:] if decision == "reject" else f"Not decided: {found}") + worst


def _is_worse(shot: Shot, point: Point) -> bool:
    """Whether a guard broke, or a gated metric lost more than its margin; without gates, whether anything was lost."""
    margins = {gate.metric: gate.margin for gate in point.gates} or dict.fromkeys(
        (name for _, name in _SAID[:3]), Decimal(0)
    )
    gains = [(score.gain, margins[score.metric]) for score in shot.scores if score.metric in margins]
    return bool(shot.broken) or any(gain is not None and gain < -margin for gain, margin in gains)


def _said(shot: Shot) -> str:
    score = shot.score(worst_metric(shot))
    ratchet = {finding.rule for finding in shot.broken if isinstance(finding, Refused)} == {"ratchet"}
    return f"{shot.label}, {_value(score, ratchet=ratchet)}" if score else shot.label


def _value(score: Score, *, ratchet: bool) -> str:
    label = next((said for said, name in _SAID[:4] if name == known_metric(score.metric).name), score.label)
    label = label if label.isupper() or label == "Jaccard" else label[0].lower() + label[1:]
    digits = ".2f" if abs(score.candidate) >= Decimal("0.1") else ".3f"
    before = "" if score.current is None or ratchet else f" (was {score.current:{digits}})"
    return f"{label} {score.candidate:{digits}}{before}"


def worst_metric(shot: Shot) -> str:
    """The metric to look at first: of those that broke J or F, whichever lost more, before MAD and flicker."""
    text = "".join(f" {finding.actual}" for finding in shot.broken if isinstance(finding, Refused))
    broken = [name for said, name in _SAID if f" {said}" in text]
    there = {known_metric(score.metric).name: score for score in shot.scores}
    asked = [there[name] for name in broken or _MASKS if name in there]
    masks = [score for score in asked if known_metric(score.metric).name in _MASKS]
    if masks:
        return max(masks, key=lambda score: -(score.gain or Decimal(0))).metric
    return asked[0].metric if asked else next((score.metric for score in shot.scores), "")
