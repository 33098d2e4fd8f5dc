"""The guards: limits that hold on each shot by itself, whatever the mean says. One that breaks rejects. Pure.

With a current release: the worst shot and the worst window of neighbouring frames, of Jaccard and boundary F. Always:
floors of both and a ceiling of MAD; frames on which the candidate finds nothing where the truth has something (as many
as the current release has are let through); flicker, which may be the policy's ratio times the current release's or the
truth's own, whichever is larger; and the ratchet against the best ever approved on that shot. A metric that is not
defined on a shot (flicker of a single frame) guards nothing there. Of broken guards the worst comes first: the one that
is the most times over its limit. A run that stops at the first broken shot may thus name another than one that goes on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from changeover_registry.records.findings import Refused
from changeover_registry.records.verdict import ShotScore
from changeover_validators.golden.gates import BOUNDARY_F, EMPTY, FLICKER, JACCARD, MAD, TRUTH_FLICKER
from changeover_validators.golden.ratchet import Best, best_of, by_shot
from changeover_validators.golden.thresholds import Limits

__all__ = ["broken_guards", "refused", "short"]

_Broken: TypeAlias = tuple[Decimal, Refused]
"""How many times over its limit a guard is, and what is said of it."""
_MASKS = ((JACCARD, "Jaccard"), (BOUNDARY_F, "boundary F"))
_TINY = Decimal("1e-9")
"""Stands in for a limit of nothing, so that the larger of two losses is still the worse one."""


@dataclass(frozen=True, slots=True)
class _Shot:
    """One shot: what to call it, its scores by metric, and the limits that it must keep."""

    name: str
    called: str
    scores: Mapping[str, ShotScore]
    limits: Limits
    best: Mapping[tuple[str, str], tuple[Best, ...]]
    baseline: bool

    def broken(self) -> Iterator[_Broken]:
        """Each broken guard."""
        if self.baseline:
            yield from self._worst_shot()
            yield from self._worst_window()
        yield from self._limits()
        yield from self._empty()
        yield from self._flicker()
        yield from self._ratchet()

    def _masks(self) -> Iterator[tuple[str, ShotScore]]:
        return ((label, self.scores[name]) for name, label in _MASKS if name in self.scores)

    def _worst_shot(self) -> Iterator[_Broken]:
        limit = self.limits.worst_shot
        for label, score in self._masks():
            loss = Decimal(score.current or score.candidate) - Decimal(score.candidate)
            if loss > limit:
                yield self._over(
                    loss / (limit or _TINY),
                    "worst shot",
                    f"{label} at most {limit} below the current release on every shot",
                    f"{label} {short(score.candidate)}, {short(loss)} below {short(score.current or '')}",
                )

    def _worst_window(self) -> Iterator[_Broken]:
        limit, most = self.limits.worst_window, self.limits.window_frames
        for label, score in self._masks():
            loss = Decimal(score.window_loss or 0)
            if loss > limit:
                yield self._over(
                    loss / (limit or _TINY),
                    "worst window",
                    f"{label} at most {limit} below the current release over any {most} frames",
                    f"{label} {short(loss)} below it from frame {score.window_first} on",
                )

    def _limits(self) -> Iterator[_Broken]:
        floors = (self.limits.floor_jaccard, self.limits.floor_boundary_f)
        for (name, label), floor in zip(_MASKS, floors, strict=True):
            score = self.scores.get(name)
            if score is not None and Decimal(score.candidate) < floor:
                over = 2 - Decimal(score.candidate) / floor
                yield self._beyond(over, "floor", f"{label} at least {floor}", label, score)
        mad = self.scores.get(MAD)
        if mad is not None and Decimal(mad.candidate) > self.limits.ceiling_mad:
            over = Decimal(mad.candidate) / (self.limits.ceiling_mad or _TINY)
            yield self._beyond(over, "ceiling", f"MAD at most {self.limits.ceiling_mad}", "MAD", mad)

    def _beyond(self, over: Decimal, rule: str, limit: str, label: str, score: ShotScore) -> _Broken:
        return self._over(over, rule, f"{limit} on every shot", f"{label} {short(score.candidate)}")

    def _over(self, over: Decimal, rule: str, expected: str, actual: str) -> _Broken:
        """A guard that is broken on this shot; an alias that says itself that it is a shot's is not told twice."""
        called = self.called if self.called.startswith("shot-") else f"shot {self.called}"
        return over, refused(rule, expected, f"{called}: {actual}", in_use=self.baseline)

    def _empty(self) -> Iterator[_Broken]:
        score = self.scores.get(EMPTY)
        if score is None:
            return
        found, before = _frames(score, score.candidate), _frames(score, score.current or "0")
        allowed = max(self.limits.empty_frames, before if self.baseline else 0)
        if found > allowed:
            yield self._over(
                Decimal(found) / (allowed or 1),
                "not empty",
                f"something found on all but {allowed} frames of every shot where the truth has something",
                f"nothing found on {found} of {score.frames} frames",
            )

    def _flicker(self) -> Iterator[_Broken]:
        current = self.scores[FLICKER].current if self.baseline and FLICKER in self.scores else None
        yield from self._boils("flicker", "the current release", current)

    def _boils(self, rule: str, whose: str, other: str | None) -> Iterator[_Broken]:
        """Flicker beyond the ratio times the larger of another's and the truth's."""
        if FLICKER not in self.scores:
            return
        truth = self.scores[TRUTH_FLICKER].candidate if TRUTH_FLICKER in self.scores else "0"
        allowed, of = max(
            (self.limits.flicker_floor, "what nobody sees"), (Decimal(truth), "the truth"), (Decimal(other or 0), whose)
        )
        found = Decimal(self.scores[FLICKER].candidate)
        if found > self.limits.flicker_ratio * allowed:
            yield self._over(
                found / (self.limits.flicker_ratio * allowed or _TINY),
                rule,
                f"flicker at most {self.limits.flicker_ratio} times that of {of}, {allowed:.6f}, on every shot",
                f"flicker {found:.6f}" + (f", {found / allowed:.2f} times as much" if allowed else ""),
            )

    def _ratchet(self) -> Iterator[_Broken]:
        limit = self.limits.ratchet
        for label, score in self._masks():
            best = best_of(self.best.get((self.name, score.metric), ()), higher=True)
            loss = Decimal(best.value) - Decimal(score.candidate) if best else Decimal(0)
            if best and loss > limit:
                yield self._over(
                    loss / (limit or _TINY),
                    "ratchet",
                    f"{label} at most {limit} below the best ever approved on every shot",
                    f"{label} {short(score.candidate)}, {short(loss)} below {short(best.value)} "
                    f"of {best.release.version}",
                )
        calmest = best_of(self.best.get((self.name, FLICKER), ()), higher=False)
        if calmest:
            yield from self._boils("ratchet", f"{calmest.release.version}, the calmest ever approved", calmest.value)


def broken_guards(
    scores: Sequence[ShotScore],
    limits: Limits,
    *,
    baseline: bool,
    names: Mapping[str, str],
    best: Sequence[Best] = (),
) -> tuple[Refused, ...]:
    """Every broken guard of every shot, the worst first; of equal ones, in the shots' order.

    Args:
        scores: One for each shot and metric.
        limits: What must hold.
        baseline: Whether to compare with the scores of a current release.
        names: What to call a shot in texts, by its name.
        best: Approved scores that today's may be compared with.
    """
    shots: dict[str, dict[str, ShotScore]] = {}
    for score in scores:
        shots.setdefault(score.shot, {})[score.metric] = score
    approved = by_shot(best)
    broken = [
        each
        for name, found in shots.items()
        for each in _Shot(name, names.get(name, name), found, limits, approved, baseline).broken()
    ]
    return tuple(finding for _, finding in sorted(broken, key=lambda each: -each[0]))


def refused(rule: str, expected: str, actual: str, *, in_use: bool) -> Refused:
    """A refusal of the check golden; `in_use` says whether there is a release to go on with."""
    instead = "keep the current release" if in_use else "do not promote it"
    return Refused(
        check="golden",
        rule=rule,
        expected=expected,
        actual=actual,
        remedy=f"{instead}, and tell the vendor; an override needs a name and a reason",
    )


def short(value: Decimal | str) -> str:
    """A score or a difference as a person reads it."""
    return f"{Decimal(value):.4f}"


def _frames(score: ShotScore, share: str) -> int:
    """How many of a score's frames a mean of zeros and ones stands for."""
    return round(Decimal(share) * score.frames)
