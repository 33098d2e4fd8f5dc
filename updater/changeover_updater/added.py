"""Releases that a station serves though no channel of its own names them now: what a farm job was locked with.

They come by the rules of every update: chosen by promoters in some signed choice, past or present, verified, judged by
this host's facts and verdicts, smoked before anything points at them. What is added answers stamps and farm locks
alone; no channel and no pin moves. Left out: pointing at the generation (`update`).
"""

import uuid
from collections.abc import Callable, Mapping

from changeover_registry.clock import format_time
from changeover_registry.errors import ChangeoverError, RefusedError, TrustError, UndecidedError
from changeover_registry.records.choice import Choice, Pin, Pointer, Share
from changeover_registry.records.findings import Finding, NotRun, Refused
from changeover_registry.records.policy import FarmPolicy, Policy
from changeover_registry.records.release import ReleaseRef, Variant
from changeover_registry.records.station import Generation, GenerationRelease, Quarantine
from changeover_updater.adopted import is_adopted
from changeover_updater.eligible import Candidate, Eligible, blocking, describe, judge_release
from changeover_updater.events import EventMaker
from changeover_updater.install import install_variants
from changeover_updater.plan import Known, with_withdrawal
from changeover_updater.site import Site
from changeover_updater.station import Station
from changeover_updater.studio import scopes
from changeover_updater.update import Tools
from changeover_validators.classes import host_class

__all__ = ["ever_chosen", "not_known", "prove", "with_releases"]


def prove(
    refs: tuple[ReleaseRef, ...], site: Site, station: Station, known: Known, tools: Tools
) -> tuple[GenerationRelease, ...]:
    """Releases as a generation may hold them: judged, installed and smoked, unless the one in use serves them.

    What the station rolled back from, or what another digest of the same beginning names, is not served.

    Raises:
        RefusedError: One was never chosen, failed here before, or is refused by a check or its smoke test.
        UndecidedError: One is not known here, or nobody can say whether this host may run it.
        TrustError: Its vendor, the choice or a file's bytes do not verify.
        OSError: The disk is full or read-only.
    """
    served = {release.ref(): release for release in (known.current.releases if known.current else ())}
    new = [ref for ref in refs if ref not in served]
    chosen = ever_chosen(site, station) if new else {}
    judged = [_judged(ref, chosen, known) for ref in new]
    for eligible in judged:
        tools.trying(str(eligible.ref))
        tools.step(f"install {eligible.ref}")
        vendor = site.vendor_of(eligible.ref.model)
        install_variants(station.store, vendor, eligible.release, eligible.chosen(), tools.progress)
        _smoke(eligible, station, known, tools)
    kept = tuple(served[ref] for ref in refs if ref in served)
    return (*kept, *(_held(eligible) for eligible in judged))


def _held(eligible: Eligible) -> GenerationRelease:
    ref = eligible.ref
    return GenerationRelease(
        key=str(ref),
        model=ref.model,
        version=ref.version,
        digest=ref.digest,
        adopted=(eligible.release.adopted is not None) or None,
        answers=eligible.answers,
    )


def ever_chosen(site: Site, station: Station) -> Mapping[ReleaseRef, Mapping[str, str | None]]:
    """Every release that a signed choice named at some time: the scopes that did, with the verdict named last there.

    Raises:
        TrustError: The chain of a scope's choices does not hold, from the root that this station was given.
    """
    from changeover_registry.repository import choice

    root = (station.folder / "trust" / "choice" / "root.json").read_bytes()
    found: dict[ReleaseRef, dict[str, str | None]] = {}
    for entry in (entry for scope in scopes(site) for entry in choice.history(site.choice, scope, root=root)):
        for named in _named(entry):
            by = found.setdefault(named.release, {})
            by[entry.scope] = named.verdict or by.get(entry.scope)
    return found


def _named(entry: Choice) -> tuple[Pointer | Pin | Share, ...]:
    return (*entry.channels, *entry.pins, *entry.shares)


def _judged(ref: ReleaseRef, chosen: Mapping[ReleaseRef, Mapping[str, str | None]], known: Known) -> Eligible:
    """A release that may be served here, by the rules of every update, for one of the scopes that chose it."""
    if ref not in chosen:
        raise RefusedError(
            "farm lock",
            where=str(ref),
            expected="a release that promoters of this studio chose at some time",
            actual="one that no signed choice names",
            remedy="promote it, or lock the script again",
        )
    found = [_judge(ref, scope, verdict, known) for scope, verdict in chosen[ref].items()]
    eligible = next((one for one in found if one.accepted), found[0])
    for stopped in known.quarantined:
        if stopped.release == ref and stopped.check not in eligible.overridden:
            raise _quarantined(stopped)
    if not eligible.accepted:
        raise _refused(eligible)
    return eligible


def _judge(ref: ReleaseRef, scope: str, verdict: str | None, known: Known) -> Eligible:
    """A release as one scope chose it: an override of one show passes over nothing for the site or another show."""
    release, vendor = known.studio.release(ref), known.studio.vendor(ref.model)
    if release is None or vendor is None:
        raise not_known(ref, known)
    return judge_release(
        Candidate(
            release=release,
            vendor=vendor,
            baseline=None,
            verdicts=known.verdicts,
            overrides=known.studio.overrides(ref, scope),
            facts=known.facts,
            policy=known.studio.policy,
            now=known.now,
            named=verdict,
        )
    )


def _quarantined(stopped: Quarantine) -> RefusedError:
    return RefusedError(
        "quarantine",
        where=str(stopped.release),
        expected="a release that has not failed on hosts of this class",
        actual=stopped.why,
        remedy="see: changeover quarantine list",
    )


def _refused(eligible: Eligible) -> ChangeoverError:
    reasons = eligible.reasons()
    kind = RefusedError if eligible.refused else UndecidedError
    return kind(
        "farm lock",
        where=str(eligible.ref),
        expected="a release that this host may run",
        actual=describe(reasons[0]) if reasons else "no variant of it is for any loader of this host",
        remedy="send the job to hosts that may, or see: changeover plan",
    )


def _smoke(eligible: Eligible, station: Station, known: Known, tools: Tools) -> None:
    if "smoke" in eligible.overridden or is_adopted(eligible.release):
        return
    smoke = tools.smoke(known.studio.policy)
    for variant in eligible.chosen():
        tools.step(f"smoke {eligible.ref} {variant.id}")
        found = _finding(smoke, eligible, variant, station)
        for finding in blocking((found,)):
            _quarantine(finding, eligible.ref, station, known, tools.who)
            kind = RefusedError if isinstance(finding, Refused) else UndecidedError
            raise kind(
                "smoke",
                where=f"{eligible.ref} {variant.id}",
                expected="the outputs that its vendor gives",
                actual=describe(finding),
                remedy="the release is not served here; see: changeover plan",
            )


def _finding(smoke: Callable[..., Finding], eligible: Eligible, variant: Variant, station: Station) -> Finding:
    folder = station.store.variant_folder(eligible.ref, variant.id)
    return smoke(eligible.release, variant, folder, eligible.memory_plan(variant.id))


def _quarantine(finding: Finding, ref: ReleaseRef, station: Station, known: Known, who: str) -> None:
    """Note what ran and failed, so that no task after this one tries it again here."""
    if not (isinstance(finding, Refused) or (isinstance(finding, NotRun) and finding.error)):
        return
    when, why, number = format_time(known.now), describe(finding), known.current.number if known.current else None
    entry = Quarantine(release=ref, host_class=host_class(known.facts), check="smoke", why=why, since=when)
    event = EventMaker(uuid.uuid4().hex[:12], "quarantine", who, when, f"{ref}: {why}", number, number)
    with station.lock():
        station.quarantine(entry)
        station.record(event.event("done"))


def with_releases(known: Known, added: tuple[GenerationRelease, ...], why: str) -> Generation:
    """The generation in use and these releases; on a station that has none, one without channels and pins."""
    held = {**known.held(), **{release.key: release for release in added}}
    names = ", ".join(sorted(release.key for release in added))
    fields = {
        "number": known.next_number,
        "made_at": format_time(known.now),
        "why": f"{why}: {names}"[:4000],
        "previous": known.current.number if known.current else None,
        "releases": tuple(with_withdrawal(known, held[key]) for key in sorted(held)),
    }
    return (known.current or _first(known, known.studio.policy)).model_copy(update=fields)


def _first(known: Known, policy: Policy) -> Generation:
    return Generation(
        number=known.next_number,
        station=known.station,
        made_at=format_time(known.now),
        why="a farm lock",
        site=known.site,
        channel=policy.channel,
        scope=policy.scope,
        follow=policy.follow,
        farm_device=(policy.farm or FarmPolicy()).device,
        nuke_lines=tuple(sorted({nuke.line for nuke in known.facts.nukes})),
    )


def not_known(ref: ReleaseRef, known: Known) -> ChangeoverError:
    """Why the record of a release cannot be had."""
    vendor = known.studio.vendor(ref.model)
    if vendor is not None and vendor.error is not None:
        return vendor.error
    if vendor is None:
        return TrustError(
            "farm lock",
            where=str(ref),
            expected="a release of a trusted vendor",
            actual=f"{ref.model.partition('/')[0]}, which is not trusted here",
            remedy="see: changeover trust list",
        )
    return known.studio.unreadable(str(ref)) or UndecidedError(
        "farm lock",
        where=str(ref),
        expected="a release that this studio knows",
        actual="one that it does not",
        remedy="run: changeover sync",
    )
