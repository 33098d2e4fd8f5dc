"""Signing what a person decided: a verdict, and the next choice of a scope. The keys are named in host.toml."""

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from changeover_registry import signing
from changeover_registry.clock import format_time, parse_time
from changeover_registry.errors import ChangeoverError, InvalidInputError, TrustError
from changeover_registry.names import check_name
from changeover_registry.records.choice import Choice, ClientApproval, Override, Pin, Pointer, Share
from changeover_registry.records.findings import CHECKS, CheckName
from changeover_registry.records.release import Release
from changeover_registry.records.verdict import Verdict
from changeover_updater import choose
from changeover_updater.eligible import WITHDRAWAL
from changeover_updater.needed import ALL, Needed
from changeover_updater.permitted import case_of, earlier_of, permission_of
from changeover_updater.show_terms import without_their_own
from changeover_updater.site import Site
from changeover_updater.studio import LIMIT_BYTES, Studio, read_studio

if TYPE_CHECKING:
    from changeover_registry.repository.choice import StudioKeys
    from changeover_registry.repository.pending import Written
    from changeover_updater.cli._context import Invocation

__all__ = [
    "Agreed",
    "Part",
    "Scope",
    "approve_for_client",
    "change_of",
    "open_model",
    "open_release",
    "open_studio",
    "override",
    "pin",
    "promote",
    "promote_policy",
    "renew_choice",
    "sign_verdict",
    "steer",
    "studio_keys",
    "unapprove_for_client",
    "unpin",
    "write_choice",
]

_PART = re.compile(r"[^\s/\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a pin holds; absent parts are wider.

    Raises:
        InvalidInputError: A shot without its sequence, a sequence without its show, or a part that is no name.
    """

    show: str | None
    sequence: str | None
    shot: str | None

    def __post_init__(self) -> None:
        """Refuse a scope with a hole in it, and an empty part: a variable that is not set must not mean the site."""
        for part in (self.show, self.sequence, self.shot):
            if part is not None and not _PART.fullmatch(part):
                raise InvalidInputError(
                    "scope",
                    where="--show, --sequence, --shot",
                    expected="the name of a show, sequence or shot, without spaces and slashes",
                    actual=repr(part),
                    remedy="correct the name; is the variable set that it came from?",
                )
        if (self.shot and not self.sequence) or (self.sequence and not self.show):
            raise InvalidInputError(
                "scope",
                where="/".join(part or "?" for part in (self.show, self.sequence, self.shot)),
                expected="--show, --show and --sequence, or all three",
                actual="a narrower part without its wider one",
                remedy="name the wider part too",
            )


def sign_verdict(call: "Invocation", site: Site, verdict: Verdict) -> str:
    """Sign a verdict with this host's key and file it; returns the envelope's digest.

    Raises:
        InvalidInputError: Nobody could read it again; it is not filed.
    """
    signer = signing.load_signer(call.key("verdict"))
    payload = verdict.to_bytes()
    Verdict.from_bytes(payload, where="the verdict as it would be filed")
    envelope = signing.sign_envelope(payload, "verdict", signer)
    if len(envelope) > LIMIT_BYTES:
        raise InvalidInputError(
            "verdict",
            where=str(verdict.candidate),
            expected=f"at most {LIMIT_BYTES} bytes, signed",
            actual=f"{len(envelope)} bytes",
            remedy="name a set with fewer shots, or fewer operating points",
        )
    return site.file_verdict(envelope)


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of the stations gets a release first: `percent` of those whose name and host class match."""

    percent: int
    names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


def promote(
    call: "Invocation",
    text: str,
    channel: str | None,
    reason: str,
    part: Part | None = None,
    *,
    expect: int | None = None,
    notice: Callable[[str], None] = lambda _: None,
) -> "Written":
    """Point a channel at a release that may be promoted; with `part`, let so many stations have it first.

    With `expect`, only where the newest choice of the channel's scope has that number (0: none yet). Shows that ask for
    their client's approval, and would get this release without it, are told to `notice`.

    Raises:
        RefusedError: The newest verdict rejects, or a rule says no.
        UndecidedError: No verdict holds.
        TrustError: The release is withdrawn, or a key or signature does not hold.
        LostRaceError: Somebody else changed the choice meanwhile.
    """
    site, studio, release = open_release(call, text)
    name = studio.policy.channel if channel is None else channel
    scope = choose.channel_scope(name)
    case = case_of(call, site, studio, release, scope, name)

    def earlier() -> tuple[Pointer, ...]:
        held = earlier_of(call, site, release, scope)
        return tuple(entry for entry in held if isinstance(entry, Pointer) and entry.channel == name)

    verdict = permission_of(case, earlier)
    new = None if part is None else _share_of(release, name, part, verdict)
    made = change_of(call, reason)

    def change(last: Choice | None) -> Choice:
        if expect is not None:
            choose.check_expected(last, scope, expect)
        if new is not None:
            return choose.share(last, new, made)
        return choose.promote(last, name, release.ref(), verdict, made)

    written = write_choice(call, site, scope, change, studio)
    unasked = without_their_own(studio.choices, studio.policy, release.model) if name == studio.policy.channel else ()
    for show in unasked:
        notice(_gets_it_too(show, name, release.model))
    return written


def _share_of(release: Release, channel: str, part: Part, verdict: str | None) -> Share:
    return Share(
        channel=channel,
        release=release.ref(),
        percent=part.percent,
        names=part.names,
        classes=part.classes,
        verdict=verdict,
    )


def _gets_it_too(show: str, channel: str, model: str) -> str:
    return (
        f"show {show} asks for its client's approval and has no {model} of its own, so it gets what {channel} has; "
        f"give it one: changeover promote {model}@VERSION --channel show/{show}"
    )


def steer(
    call: "Invocation", model: str, channel: str | None, state: Literal["running", "paused", "stopped"], reason: str
) -> "Written":
    """Pause, resume or stop a rollout."""
    site, studio, full = open_model(call, model)
    name = studio.policy.channel if channel is None else channel
    scope = choose.channel_scope(name)
    return write_choice(call, site, scope, lambda last: choose.steer(last, name, full, state, change_of(call, reason)))


def promote_policy(call: "Invocation", reason: str) -> "Written":
    """Sign the site's policy.toml as it stands.

    Raises:
        InvalidInputError: The file is not a policy.
        RefusedError: A margin is finer than the noise that was measured at this site.
    """
    from changeover_registry import canonical
    from changeover_validators.golden.gates import check_noise
    from changeover_validators.golden.noise import all_noise

    site = call.site()
    data = site.policy_bytes()
    policy = site.read_policy(data)
    check_noise(policy.golden, all_noise(site.scores / "noise"), where=str(site.root / "policy.toml"))
    digest = canonical.digest(data)
    _renew_what_is_due(call, site)
    return write_choice(call, site, "site", lambda last: choose.sign_policy(last, digest, change_of(call, reason)))


def pin(call: "Invocation", text: str, scope: Scope, reason: str) -> "Written":
    """Pin a release that may be promoted."""
    site, studio, release = open_release(call, text)
    where = choose.pin_scope(scope.show)
    case = case_of(call, site, studio, release, where, None)
    verdict = permission_of(case, partial(earlier_of, call, site, release, "site", where))
    new = Pin(
        release=release.ref(),
        show=scope.show,
        sequence=scope.sequence,
        shot=scope.shot,
        reason=reason,
        verdict=verdict,
    )
    return write_choice(call, site, where, lambda last: choose.pin(last, new, change_of(call, reason)), studio)


def unpin(call: "Invocation", model: str, scope: Scope, reason: str) -> "Written":
    """Take a pin away."""
    site, _, name = open_model(call, model)
    return write_choice(
        call,
        site,
        choose.pin_scope(scope.show),
        lambda last: choose.unpin(last, name, scope.show, scope.sequence, scope.shot, change_of(call, reason)),
    )


def override(
    call: "Invocation", text: str, checks: tuple[str, ...], reason: str, until: str, show: str | None
) -> "Written":
    """Add an override to the scope's choice.

    Raises:
        InvalidInputError: A check's name is unknown, or the end lies in the past.
        TrustError: Trust is among the checks.
    """
    site, _, release = open_release(call, text)
    if parse_time(until) <= call.now:
        raise InvalidInputError(
            "override", where="--until", expected="a moment to come", actual=until, remedy="give a later date"
        )
    new = Override(release=release.ref(), checks=_checks(checks), reason=reason, by=call.settings.who, until=until)
    scope = choose.pin_scope(Scope(show, None, None).show)
    return write_choice(call, site, scope, lambda last: choose.add_override(last, scope, new, change_of(call, reason)))


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a show's client agreed to: who of the client, and where the studio finds it again."""

    by: str
    evidence: str


def approve_for_client(
    call: "Invocation", show: str, text: str, agreed: Agreed, reason: str
) -> tuple["Written", Release]:
    """Write into a show's choice that its client agreed to a release, and say which one that is.

    Raises:
        InvalidInputError: There can be no such show, or no such release is known.
        LostRaceError: Somebody else changed the choice meanwhile.
    """
    scope = _show_scope(show)
    site, _, release = open_release(call, text)
    when = format_time(call.now)
    approval = ClientApproval(release=release.ref(), by=agreed.by, when=when, evidence=agreed.evidence)
    change = change_of(call, reason)
    done = write_choice(call, site, scope, lambda last: choose.approve_for_client(last, show, approval, change))
    return done, release


def unapprove_for_client(call: "Invocation", show: str, text: str, reason: str) -> "Written":
    """Take a client's agreement back; what the show has stays, and nobody gets it anew.

    Raises:
        InvalidInputError: No such agreement stands, or no such release is known.
        LostRaceError: Somebody else changed the choice meanwhile.
    """
    scope = _show_scope(show)
    site, _, release = open_release(call, text)
    change = change_of(call, reason)
    return write_choice(call, site, scope, lambda last: choose.unapprove_for_client(last, show, release.ref(), change))


def _show_scope(show: str) -> str:
    """The scope of a show that a person named."""
    return choose.channel_scope(f"show/{check_name(show, where='show')}")


def renew_choice(call: "Invocation", notice: Callable[[str], None]) -> None:
    """Sign timestamp and snapshot of the choice again where this host has the site's key."""
    from changeover_registry.repository import choice

    path = call.settings.keys.site
    if path is None or not Path(path).is_file():
        return
    try:
        choice.renew(call.site().choice, studio_keys(call), call.now)
    except ChangeoverError as error:
        notice(f"the choice was not renewed: {error}")


def studio_keys(call: "Invocation") -> "StudioKeys":
    """The paths of the studio's keys as host.toml names them; one that is not named does not exist."""
    from changeover_registry.repository.choice import StudioKeys

    named, beside = call.settings.keys, call.settings.config.parent / "keys"
    return StudioKeys(
        root=Path(named.root or beside / "offline" / "root.pem"),
        targets=Path(named.targets or beside / "offline" / "targets.pem"),
        site=Path(named.site or beside / "online" / "site.pem"),
        promoter=Path(named.promoter or beside / "online" / "promoter.pem"),
        verdict=Path(named.verdict or beside / "online" / "verdict.pem"),
        back=Path(named.back) if named.back else None,
        trusted=_trusted_root(call, Path(named.site or beside / "online" / "site.pem")),
    )


def _trusted_root(call: "Invocation", site_key: Path) -> Path | None:
    """Where a host without the site's key has the root that it trusts: its station was given one."""
    if not site_key.with_name("root.json").is_file():
        with contextlib.suppress(ChangeoverError):
            return call.station().folder / "trust" / "choice" / "root.json"
    return None


def _renew_what_is_due(call: "Invocation", site: Site) -> None:
    """Whoever may promote here first renews what expires, or has: else one forgotten show would lock the site."""
    from changeover_registry.repository import backs, choice

    keys = studio_keys(call)
    if not (keys.promoter.is_file() and keys.site.is_file()):
        return
    choice.renew(site.choice, keys, call.now)
    change = change_of(call, "less than half of its life was left")
    backs.renew(site.choice, keys, call.now)
    for scope in choice.due(site.choice, keys, call.now):
        choice.write(site.choice, keys, scope, partial(choose.renew, scope=scope, change=change), call.now)


def open_studio(call: "Invocation", needed: Needed = ALL) -> tuple[Site, Studio]:
    """The site, and what the studio knows of what is needed, after what expires here was signed again."""
    site = call.site()
    _renew_what_is_due(call, site)
    return site, read_studio(site, call.station(), needed)


def open_release(call: "Invocation", text: str) -> tuple[Site, Studio, Release]:
    """The site, the release that ``MODEL@VERSION`` names, and of what the studio knows what a decision on it needs.

    Raises:
        InvalidInputError: Not of that form, or no such release is known.
        TrustError: The choice, the policy or its vendor does not hold.
    """
    site, studio = open_studio(call, Needed.of(text))
    if not studio.several(text.partition("@")[0]):
        with contextlib.suppress(InvalidInputError):
            return site, studio, studio.find(text)
    # What else there is stands in the message, and only this needs to know of all of it.
    studio = read_studio(site, call.station())
    return site, studio, studio.find(text)


def open_model(call: "Invocation", name: str) -> tuple[Site, Studio, str]:
    """The site, of what the studio knows what concerns a model that is chosen, and the model's whole name.

    Raises:
        InvalidInputError: No such model is known, or several are.
        TrustError: The choice, the policy or its vendor does not hold.
    """
    site, studio = open_studio(call, Needed.of(name))
    if not studio.several(name):
        with contextlib.suppress(InvalidInputError):
            return site, studio, studio.model(name)
    studio = read_studio(site, call.station())
    return site, studio, studio.model(name)


def change_of(call: "Invocation", reason: str) -> choose.Change:
    """Who does this, now, and why."""
    return choose.Change(who=call.settings.who, when=format_time(call.now), why=reason)


def write_choice(
    call: "Invocation",
    site: Site,
    scope: str,
    change: Callable[[Choice | None], Choice],
    seen: Studio | None = None,
) -> "Written":
    """Write the next choice of a scope with this host's keys; a show is enrolled where the targets key is here.

    With `seen`, on which the change was decided, nothing is written where the scope has moved since. Without the
    site's key that is not asked: such a host builds on what others decided and readers do not see yet.

    Raises:
        LostRaceError: Somebody else is writing, was first, or chose in between.
    """
    from changeover_registry.repository import choice

    call.key("promoter")
    keys = studio_keys(call)
    if scope != "site" and keys.targets.is_file():
        choice.enrol_scope(site.choice, keys, scope, call.now)
    if seen is None or not keys.site.is_file():
        return choice.write(site.choice, keys, scope, change, call.now)
    known = next((one for one in seen.choices if one.scope == scope), None)

    def unmoved(last: Choice | None) -> Choice:
        choose.check_unmoved(last, scope, known)
        return change(last)

    return choice.write(site.choice, keys, scope, unmoved, call.now)


def _checks(names: tuple[str, ...]) -> tuple[CheckName, ...]:
    known: dict[str, CheckName] = {check: check for check in (*CHECKS, WITHDRAWAL)}
    for name in names:
        if name not in known:
            raise InvalidInputError(
                "check", where="--check", expected=", ".join(known), actual=name, remedy="correct the name"
            )
    if "trust" in names:
        raise TrustError(
            "override",
            where="--check",
            expected="checks other than trust",
            actual="trust among them",
            remedy="no override passes over trust; have the vendor publish the release again",
        )
    return tuple(known[name] for name in names if name in known)
