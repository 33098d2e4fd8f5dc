"""Which releases answer a search: words, licences, and whether some operating point satisfies all terms together. Pure.

Three answers: it fits, it does not (left out), or nobody knows, which is told with why and what would tell. Hardware is
judged by the very check that decides a plan, once a need; memory is what a signed verdict holds, and never inferred
from another release: without one the weights alone may already be too many, and else it is unknown.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from changeover_registry.errors import UndecidedError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts, NukeInstall
from changeover_registry.records.findings import NotRun, Passed, Refused
from changeover_registry.records.policy import LicencePolicy, Policy
from changeover_registry.records.release import Licences, Release, Variant
from changeover_updater.search_rows import MemoryRow, Row, VariantRow, variant_of_need
from changeover_updater.search_terms import Terms
from changeover_validators.checks.budget import MIB, Budget, budget, mib
from changeover_validators.checks.hardware import check_nuke
from changeover_validators.checks.licence import check_licence
from changeover_validators.fits import Judged, codes, judge_points
from changeover_validators.vram.footprint import Footprint, need_of

__all__ = ["Asked", "Found", "Judge", "has_words"]

_Fit = Literal["fits", "unknown", "no"]
_FREE = ("memory-unknown",)
"""The code of a point against which nothing speaks but that its memory is not known yet."""
_NOBODY = (
    "no signed verdict holds its memory on that device at that plate; changeover check --host NAME asks for a card"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for: the terms, the host that they name if any, the policy, and licences of weights to accept."""

    terms: Terms
    policy: Policy
    facts: HostFacts | None = None
    nuke: NukeInstall | None = None
    licences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Point:
    """An operating point of a need: tile and provider, and why nobody knows whether it runs, if so."""

    tile: tuple[int, int]
    provider: str | None
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A release that answers: how, with which variant and point, what it needs of memory in bytes, and why unknown."""

    row: Row
    fit: _Fit
    variant: str = ""
    tile: tuple[int, int] | None = None
    provider: str | None = None
    memory: int | None = None
    said_by: str = ""
    why: str = ""


@dataclass(slots=True)
class Judge:
    """Answers for one question, and remembers what it judged of needs and licences."""

    asked: Asked
    needs: Mapping[str, Mapping[str, Any]]
    memory: Mapping[str, tuple[tuple[str, MemoryRow], ...]]
    _points: dict[str, tuple[Point, ...]] = field(default_factory=dict)
    _licensed: dict[str, bool] = field(default_factory=dict)
    _budgets: dict[str, Budget | Unknown] = field(default_factory=dict)

    def judge(self, row: Row) -> Found | None:
        """How a release answers; None where it does not."""
        if not self._is_licensed(row.weights):
            return None
        variants = [one for one in row.variants if self._is_wanted(one)]
        if not variants:
            return None
        found = [self._variant(row, one) for one in variants]
        order: dict[str, int] = {"fits": 0, "unknown": 1, "no": 2}
        best = min(found, key=lambda one: (order[one.fit], one.memory or 0))
        return best if best.fit != "no" else None

    def _is_wanted(self, variant: VariantRow) -> bool:
        terms = self.asked.terms
        return (
            terms.loader in {None, *variant.loaders}
            and terms.runtime in {None, variant.runtime}
            and terms.precision in {None, variant.precision}
            and (terms.size is None or variant.size <= terms.size)
            and (terms.nuke is None or variant.runtime == "nuke-cat")
        )

    def _is_licensed(self, weights: str) -> bool:
        if not self.asked.licences:
            return True
        if weights not in self._licensed:
            policy = Policy(licence=LicencePolicy(weights=self.asked.licences, refuse_training_data=()))
            licences = Licences(code=weights, weights=weights, training_data="none")
            findings = check_licence(_only(licences=licences), policy)
            self._licensed[weights] = all(isinstance(finding, Passed) for finding in findings)
        return self._licensed[weights]

    def _variant(self, row: Row, variant: VariantRow) -> Found:
        """The best of a variant's points: one that fits before one that nobody knows of, the smaller before."""
        if variant.need not in self._points:
            self._points[variant.need] = tuple(self._points_of(variant_of_need(self.needs[variant.need])))
        found = [self._point(row, variant, point) for point in self._points[variant.need]]
        known = [one for one in found if one.fit == "fits"] or [one for one in found if one.fit == "unknown"]
        return min(known, key=lambda one: one.memory or 0, default=Found(row, "no"))

    def _points_of(self, shape: Variant) -> Iterable[Point]:
        """The points of a need against which nothing speaks."""
        facts, nuke = self.asked.facts, self.asked.nuke
        if facts is None:
            unknown = _loads(shape, nuke) if nuke is not None else ""
            if unknown is not None:
                yield from (Point((tile.size, tile.overlap), None, unknown) for tile in shape.contract.tiles)
            return
        for one in judge_points(_only(variants=(shape,)), facts, self.asked.policy, _silent).points:
            if one.outcome == "unknown":
                why = "" if codes(one) == _FREE else _why(one)
                yield Point((one.point.tile.size, one.point.tile.overlap), one.point.provider, why)

    def _point(self, row: Row, variant: VariantRow, point: Point) -> Found:
        fit: _Fit = "unknown" if point.unknown else "fits"
        plain = Found(row, fit, variant.id, point.tile, point.provider, why=point.unknown)
        limit = self._limit(point.provider)
        if limit is None:
            return plain
        if isinstance(limit, Unknown):
            return Found(row, "unknown", variant.id, point.tile, point.provider, why=limit.unknown)
        memory = self._memory(row.digest, variant.id, point)
        if memory is None:
            least = Footprint(0, variant.weights or 0)
            fit = "no" if need_of(least, self.asked.policy, None).bytes > limit else "unknown"
            return Found(row, fit, variant.id, point.tile, point.provider, why=point.unknown or _NOBODY)
        return self._against(plain, memory, limit)

    def _against(self, plain: Found, memory: MemoryRow, limit: int) -> Found:
        needed, least = self._need(memory, memory.bytes), self._need(memory, memory.least)
        fit, why = plain.fit, plain.why
        if least > limit or (needed > limit and memory.label != "modelled"):
            fit = "no"
        elif needed > limit:
            fit, why = "unknown", f"it takes {mib(least)} to {mib(needed)} MiB, and nobody measured it on such a card"
        said = memory.label + (f" for {memory.gpu}" if memory.gpu else "")
        return Found(plain.row, fit, plain.variant, plain.tile, plain.provider, needed, said, why)

    def _need(self, memory: MemoryRow, size: int) -> int:
        """What must fit at once: the context once, and each instance that the policy counts."""
        usual = self.asked.policy.vram.context_mib * MIB if memory.provider != "cpu" else 0
        context = min(usual if memory.context is None else memory.context, size)
        return need_of(Footprint(context, size - context), self.asked.policy, None).bytes

    def _limit(self, provider: str | None) -> int | Unknown | None:
        """The most bytes that an answer may take: of the host's budget and of ``vram<=``; None where nobody asked."""
        cap = self.asked.terms.vram
        if self.asked.facts is None or provider is None:
            return cap
        if provider not in self._budgets:
            self._budgets[provider] = budget(self.asked.facts, self.asked.policy, provider)
        allowed = self._budgets[provider]
        if isinstance(allowed, Unknown):
            return allowed
        return allowed.allowed_bytes if cap is None else min(cap, allowed.allowed_bytes)

    def _memory(self, release: str, variant: str, point: Point) -> MemoryRow | None:
        """What is known of a point at the policy's plate: for the card that is asked about first, the newest first."""
        plate, card = self.asked.policy.vram.plate, self._card(point.provider)
        found = [
            (row.gpu == card, made_at, row.bytes, row)
            for made_at, row in self.memory.get(release, ())
            if (row.variant, row.tile, row.plate) == (variant, point.tile, plate)
            and (row.provider == point.provider if point.provider else row.provider != "cpu")
        ]
        return max(found, key=lambda one: one[:3])[3] if found else None

    def _card(self, provider: str | None) -> str:
        allowed = self._budgets.get(provider or "")
        return (allowed.gpu or "") if isinstance(allowed, Budget) else ""


def has_words(row: Row, words: Iterable[str], channels: Iterable[str] = ()) -> bool:
    """Whether every word is in a release's name, version, summary, changes or channels, without case."""
    text = "\n".join((row.model, row.version, row.summary, row.changes, *channels)).casefold()
    return all(word.casefold() in text for word in words)


def _only(**fields: Any) -> Release:  # noqa: ANN401 - fields of a release
    """A release of which a check reads these fields alone."""
    made: Release = Release.model_construct(**fields)
    return made


def _loads(shape: Variant, nuke: NukeInstall) -> str | None:
    """Why nobody knows whether a Nuke loads it, empty where it does, None where it does not."""
    findings = check_nuke(shape, nuke)
    if any(isinstance(finding, Refused) for finding in findings):
        return None
    return "; ".join(finding.why for finding in findings if isinstance(finding, NotRun))


def _silent(variant: Variant, point: object) -> Any:  # noqa: ANN401 - it never answers
    """Nothing is predicted in a search."""
    raise UndecidedError(
        "memory prediction", where=variant.id, expected="a verdict", actual="none", remedy=f"changeover check {point}"
    )


def _why(one: Judged) -> str:
    return "; ".join(dict.fromkeys(finding.why for finding in one.findings if isinstance(finding, NotRun)))
