"""What a station's generation holds: its releases as verified records, and the operating points that loaders get.

Both are what a change of the host may touch. What this leaves out: what such a change means (`checks.impact`).
"""

from collections.abc import Iterable, Mapping, Sequence

from changeover_registry.errors import UndecidedError
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release, ReleaseRef, Variant
from changeover_registry.records.station import Answer, Generation
from changeover_registry.records.verdict import OperatingPoint, PointReport
from changeover_updater.sign_off import holding
from changeover_updater.station import Station
from changeover_updater.studio import FiledVerdict, Studio
from changeover_validators.checks.hardware import providers_for, runtime_for
from changeover_validators.checks.twin import embedded_runtime
from changeover_validators.classes import golden_class_of

__all__ = ["points_in_use", "releases_in_use"]


def releases_in_use(station: Station, studio: Studio) -> tuple[Release, ...]:
    """Every release of the generation in use whose record this build can read, once each, in its order.

    Raises:
        InvalidInputError: The pointer was damaged.
        RefusedError: It names a generation that is not there.
    """
    generation = station.in_use()
    found = (studio.release(held.ref()) for held in generation.releases) if generation else ()
    return tuple(release for release in found if release is not None)


def points_in_use(
    generation: Generation | None,
    releases: Iterable[Release],
    verdicts: tuple[FiledVerdict, ...],
    hosts: Sequence[HostFacts],
    policy: Policy,
) -> Mapping[ReleaseRef, tuple[PointReport, ...]]:
    """The operating points that loaders get of each release, on the providers of `hosts`, with their memory.

    Args:
        generation: The one in use.
        releases: Its releases.
        verdicts: Signed verdicts, newest first; one of another golden class tells memory only where no other does.
        hosts: The facts to compare, those of now first.
        policy: The studio's.
    """
    by_ref, holds = {release.ref(): release for release in releases}, holding(verdicts, policy)
    found: dict[ReleaseRef, tuple[PointReport, ...]] = {}
    for held in generation.releases if generation else ():
        ref, release = held.ref(), by_ref.get(held.ref())
        if release is None:
            continue
        told = [report for filed in holds if filed.verdict.candidate == ref for report in filed.verdict.points]
        points: dict[OperatingPoint, PointReport] = {}
        for answer in held.answers:
            for point, golden_class in _points(release, answer, hosts, policy):
                points.setdefault(point, _report(told, point, golden_class))
        found[ref] = tuple(points.values())
    return found


def _points(
    release: Release, answer: Answer, hosts: Sequence[HostFacts], policy: Policy
) -> Iterable[tuple[OperatingPoint, str | None]]:
    """The operating points of an answer, each with its golden class."""
    variant = release.variant(answer.variant) if answer.variant and answer.path else None
    if variant is None:
        return
    tiles = [tile for tile in variant.contract.tiles if str(tile) in answer.tiles]
    for facts in hosts:
        for provider in providers_for(variant, facts, policy):
            golden_class = _class(variant, answer, facts, provider)
            for tile in tiles:
                point = OperatingPoint(variant=variant.id, precision=variant.precision, tile=tile, provider=provider)
                yield point, golden_class


def _class(variant: Variant, answer: Answer, facts: HostFacts, provider: str) -> str | None:
    nuke = next((nuke for nuke in facts.nukes if nuke.line == answer.nuke_line), None)
    runtime = embedded_runtime(nuke) if nuke else runtime_for(variant, facts)
    try:
        return golden_class_of(facts, runtime, provider, variant.precision) if runtime else None
    except UndecidedError:
        return None


def _report(told: Sequence[PointReport], point: OperatingPoint, golden_class: str | None) -> PointReport:
    """What verdicts tell of a point's memory: of its golden class, else of any; a bare point where none does."""
    found = [report for report in told if report.point == point and report.memory]
    same = [report for report in found if report.golden_class == golden_class]
    return (same or found or [PointReport(point=point)])[0]
