"""The shots of a report: means, curves and the worst frame of each, the worst shot first. Pure.

Means come from the verdict, which signs them; curves, pictures and the worst pixel from the filed scores that it names.
A verdict of before has means alone, under the metrics' old names, and is shown as far as it goes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.findings import Finding, Refused
from changeover_registry.records.golden import Approval, GoldenShot
from changeover_registry.records.scores import ShotScores
from changeover_registry.records.verdict import PointReport, ShotScore
from changeover_validators.golden.catalogue import Metric, metric
from changeover_validators.golden.report.aliases import Aliases
from changeover_validators.golden.report.model import Curve, Line, Score, Shot

__all__ = ["Kept", "gain_of", "known_metric", "shots_of", "unit_of"]

_BEFORE = {"jaccard": "jaccard:davis2017", "boundary_f": "boundary_f:davis2017", "mad": "mad:rvm"}
"""The names that verdicts used before metrics carried their variant."""
_UNITS = {"1": "", "matte": "of the matte's range 0 to 1", "thousand": "thousands"}
_NO_ERROR = ("flicker", "empty")
"""Metrics that are no distance from the truth: one artist's flicker is no measure for another's."""
_NINE = Decimal("1e-9")
_BROKEN = Decimal(1000)
"""What a broken guard adds to a shot's badness: it goes before every shot whose guards hold."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of shots beside the verdict, by name: their scores, their records, who approved them."""

    scores: Mapping[str, ShotScores]
    shots: Mapping[str, GoldenShot]
    approvals: Mapping[str, Approval]
    window_frames: int | None = None


def known_metric(name: str) -> Metric:
    """The metric of that name; one that this version does not know goes by its name, and lower is better."""
    try:
        return metric(_BEFORE.get(name, name))
    except InvalidInputError:
        return Metric(name, name, False, "", frozenset(), False, "", "")


def unit_of(known: Metric) -> str:
    """A unit as people read it; empty for a plain ratio."""
    return _UNITS.get(known.unit, known.unit)


def shots_of(report: PointReport, kept: Kept, aliases: Aliases) -> tuple[Shot, ...]:
    """The shots of one operating point, worst first."""
    names = dict.fromkeys(score.shot for score in report.scores)
    shots = [_shot(name, report, kept, aliases) for name in names]
    return tuple(sorted(shots, key=lambda shot: (-shot.badness, shot.label)))


def _shot(name: str, report: PointReport, kept: Kept, aliases: Aliases) -> Shot:
    scores, record = kept.scores.get(name), kept.shots.get(name)
    means = [score for score in report.scores if score.shot == name]
    broken = tuple(_about(report.findings, {name, aliases.alias(name)}, aliases))
    plain = Shot(
        label=aliases.label(name),
        alias=aliases.alias(name),
        badness=_badness(means, report) + (_BROKEN if broken else 0),
        scores=tuple(_score(mean, scores) for mean in means),
        broken=broken,
        version=record.version if record else None,
        level=record.level if record else None,
        colour=record.colour if record else "",
        approval=_approval(kept.approvals.get(name), aliases),
        window_frames=kept.window_frames,
    )
    return _with_frames(plain, scores) if scores else plain


def _with_frames(shot: Shot, scores: ShotScores) -> Shot:
    return replace(
        shot,
        width=scores.width,
        height=scores.height,
        frames=scores.frames,
        curves=tuple(_curves(scores)),
        worst=scores.worst,
        pictures=scores.pictures,
        replaced=scores.replaced,
        key=scores.key.digest(),
    )


def _about(findings: Iterable[Finding], names: set[str], aliases: Aliases) -> Iterable[Finding]:
    """The refusals that name one shot, as this reader may see them."""
    # A name that begins with "shot-" stands without the word before it.
    words = (("(?:shot )?" if name.startswith("shot-") else "shot ") + re.escape(name) for name in sorted(names))
    called = re.compile(rf"(?<![A-Za-z0-9-])(?:{'|'.join(words)})(?![A-Za-z0-9-])")
    for finding in findings:
        if isinstance(finding, Refused) and (finding.subject in names or called.search(finding.actual)):
            yield finding.model_copy(
                update={key: aliases.text(getattr(finding, key)) for key in ("subject", "expected", "actual", "remedy")}
            )


def _approval(approval: Approval | None, aliases: Aliases) -> Approval | None:
    if approval is None or approval.note is None:
        return approval
    return approval.model_copy(update={"note": aliases.text(approval.note)})


def _badness(means: Sequence[ShotScore], report: PointReport) -> Decimal:
    """The worst loss of a gated metric as a multiple of its margin; without a current release, one minus J."""
    margins = {summary.metric: Decimal(summary.margin) for summary in report.metrics}
    losses = [
        -gain / margins[mean.metric]
        for mean in means
        if mean.metric in margins and margins[mean.metric] and (gain := gain_of(mean)) is not None
    ]
    if losses:
        return max(losses).quantize(_NINE)
    return max((_error(known_metric(m.metric), Decimal(m.candidate)) for m in means if _is_j(m)), default=Decimal(0))


def _is_j(mean: ShotScore) -> bool:
    return known_metric(mean.metric).name == "jaccard:davis2017"


def gain_of(mean: ShotScore) -> Decimal | None:
    """By how much the candidate is better than the current release, which it may have none of."""
    if mean.current is None:
        return None
    difference = Decimal(mean.candidate) - Decimal(mean.current)
    return difference if known_metric(mean.metric).higher_is_better else -difference


def _score(mean: ShotScore, scores: ShotScores | None) -> Score:
    known = known_metric(mean.metric)
    second = _second(known, scores)
    return Score(
        metric=mean.metric,
        label=known.label,
        unit=unit_of(known),
        higher_is_better=known.higher_is_better,
        candidate=Decimal(mean.candidate),
        current=None if mean.current is None else Decimal(mean.current),
        gain=gain_of(mean),
        window_loss=None if mean.window_loss is None else Decimal(mean.window_loss),
        window_first=mean.window_first,
        band_px=mean.band_px,
        second=second,
        multiple=_multiple(known, Decimal(mean.candidate), second),
    )


def _second(known: Metric, scores: ShotScores | None) -> Decimal | None:
    """The mean of another artist's matte against the truth, if one was kept."""
    found = (c for c in (scores.curves if scores else ()) if (c.metric, c.subject) == (known.name, "second"))
    values = [Decimal(value) for curve in found for value in curve.values if value is not None]
    return (sum(values, Decimal(0)) / len(values)).quantize(_NINE) if values else None


def _multiple(known: Metric, candidate: Decimal, second: Decimal | None) -> Decimal | None:
    """The candidate's error over the other artist's; None where the artists agree, or the metric is no error at all."""
    if known.name.startswith(_NO_ERROR):
        return None
    apart = _error(known, second) if second is not None else Decimal(0)
    return (_error(known, candidate) / apart).quantize(Decimal("0.001")) if apart > 0 else None


def _error(known: Metric, value: Decimal) -> Decimal:
    return 1 - value if known.higher_is_better else value


def _curves(scores: ShotScores) -> Iterable[Curve]:
    for name in dict.fromkeys(curve.metric for curve in scores.curves):
        known = known_metric(name)
        lines = tuple(
            Line(curve.subject, tuple(None if v is None else Decimal(v) for v in curve.values), curve.why or "")
            for curve in scores.curves
            if curve.metric == name
        )
        yield Curve(name, known.label, unit_of(known), known.higher_is_better, lines)
