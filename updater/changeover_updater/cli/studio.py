"""The studio's commands: init, trust, sync, check, verdict, promote, pin, unpin, override."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changeover_registry.errors import ChangeoverError, InvalidInputError
from changeover_updater.cli._context import Invocation, JsonFlag, Reason, invocation, said
from changeover_updater.cli._output import count, emit, escape, mark, notice, once, progress, rows, say
from changeover_updater.cli._show import show_written
from changeover_updater.cli._told import tell_aliases, tell_promoted
from changeover_updater.cli.check import Release, check
from changeover_updater.cli.signoff import verdict_sign_off
from changeover_updater.cli.station import moment

if TYPE_CHECKING:
    from changeover_updater.vendors import Synced

__all__ = ["add_to"]

trust = typer.Typer(help="The vendors that this studio trusts.", no_args_is_help=True)
verdicts = typer.Typer(help="What was found of candidates, signed.", no_args_is_help=True)
overrides = typer.Typer(
    help="Named, reasoned, expiring permissions to pass over a check; never over trust.", no_args_is_help=True
)

_LINE = 100
"""How many characters of a release's changes `sync` shows."""
_NEXT_UPDATE = "stations change over with: changeover update"
ScopeShow = Annotated[str | None, typer.Option("--show", help="The show.")]
ScopeSequence = Annotated[str | None, typer.Option("--sequence", help="The sequence, within --show.")]
ScopeShot = Annotated[str | None, typer.Option("--shot", help="The shot, within --sequence.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the root command."""
    for command in (init, sync, check, promote, pin, unpin):
        app.command()(command)
    app.add_typer(trust, name="trust")
    verdicts.command("sign-off")(verdict_sign_off)
    app.add_typer(verdicts, name="verdict")
    app.add_typer(overrides, name="override")


def init(
    context: typer.Context,
    site: Annotated[Path | None, typer.Option(help="The site's folder, shared by the studio.")] = None,
    store: Annotated[Path | None, typer.Option(help="The store's folder, on this machine.")] = None,
    keys: Annotated[Path | None, typer.Option(help="Where new private keys go; else beside host.toml.")] = None,
    mode: Annotated[
        str, typer.Option(help="local: the store is this machine's own; share: several hosts read it.")
    ] = "local",
    host: Annotated[
        list[str] | None, typer.Option(help="With share: a host that has this station; several with commas.")
    ] = None,
    nuke_json: Annotated[
        str | None, typer.Option(help="Where Nuke is told of the store; 'none' leaves it out.")
    ] = None,
    choice_root: Annotated[
        Path | None, typer.Option(help="Follow another site's choice: its root (1.root.json), brought by hand.")
    ] = None,
) -> None:
    """Make a site, a store, a station and the studio's keys."""
    from changeover_updater.initialise import Request, initialise, system_nuke_json

    call = invocation(context)
    hosts = _hosts(call, mode, host or [])
    nuke = system_nuke_json() if nuke_json is None else None if nuke_json == "none" else Path(nuke_json)
    request = Request(
        site=_named(site or call.settings.site, "--site"),
        store=_named(store or call.settings.store, "--store"),
        station=call.settings.station,
        keys=keys or call.settings.config.parent / "keys",
        config=call.settings.config,
        nuke_json=nuke,
        who=call.settings.who,
        now=call.now,
        choice_root=_root_bytes(choice_root) if choice_root else None,
        share=mode == "share",
        hosts=hosts,
    )
    initialise(request, notice)
    say(f"{mark('ok')} site {escape(str(request.site))}")
    say(f"{mark('ok')} store {escape(str(request.store))}, station {escape(request.station)}")
    say(f"  settings in {escape(str(request.config))}")
    if request.choice_root is not None:
        say("  it follows another site's choice and makes no keys")
        say("  next: changeover trust add VENDOR BUNDLE --root ROOT.json, then: changeover import BUNDLE")
        return
    if not request.keys.is_dir():
        say("  no keys are made for a site that is there already; next: changeover plan, then changeover update")
        return
    say(f"  keys in {escape(str(request.keys))}; move offline/ to a safe place")
    say("  next: read policy.toml in the site, then: changeover trust add VENDOR LOCATION --root ROOT.json")


def _hosts(call: Invocation, mode: str, texts: list[str]) -> tuple[str, ...]:
    """The hosts that are named for the station of a share.

    Raises:
        InvalidInputError: There is no such mode, hosts are named for a local station, or a share's station is not.
    """
    from changeover_updater.share import hosts_named

    if mode not in {"local", "share"}:
        raise InvalidInputError(
            "mode", where="--mode", expected="local or share", actual=mode, remedy="choose one of the two"
        )
    if mode == "local" and texts:
        raise InvalidInputError(
            "mode", where="--host", expected="--mode share with it", actual="local", remedy="add --mode share"
        )
    if mode == "share" and dict(call.settings.origins)["station"] == "host":
        raise InvalidInputError(
            "station",
            where="--station",
            expected="the name of a host class, such as linux-a4000",
            actual="none named",
            remedy="write it before the command: changeover --station NAME init --mode share ...",
        )
    return hosts_named(texts)


def _root_bytes(root: Path) -> bytes:
    """The bytes of a root that somebody brought by hand."""
    if not root.is_file():
        actual = "a folder" if root.is_dir() else "no such file"
        raise InvalidInputError(
            "root metadata",
            where=str(root),
            expected="a file",
            actual=actual,
            remedy="ask for root.json whoever signs with that root",
        )
    return root.read_bytes()


def _named(path: Path | None, flag: str) -> Path:
    if path is None:
        raise InvalidInputError(
            "usage", where=flag, expected="a folder", actual="none named", remedy=f"give {flag} DIR"
        )
    return path.absolute()


@trust.command("add")
def trust_add(  # noqa: PLR0917 - each is one flag
    context: typer.Context,
    vendor: Annotated[str, typer.Argument(help="The vendor's name: the first part of its models' names.")],
    location: Annotated[
        str, typer.Argument(help="Its repository: a folder, a bundle, an HTTP(S) address, s3://BUCKET/PREFIX.")
    ],
    root: Annotated[Path, typer.Option(help="The root metadata (root.json) that the vendor gave you in person.")],
    allow_executable: Annotated[bool, typer.Option(help="Let it send TorchScript and .cat, which are code.")] = False,
    model: Annotated[
        list[str] | None, typer.Option(help="Follow this model alone; may be given again. Without it, all.")
    ] = None,
    mirror: Annotated[
        list[str] | None,
        typer.Option(help="A further place of the same repository, asked when the first fails; may be given again."),
    ] = None,
    model_signing_key: Annotated[
        Path | None,
        typer.Option(metavar="KEY.pub", help="Take only releases with an OpenSSF signature by this public key."),
    ] = None,
    own: Annotated[
        bool, typer.Option("--own", help="It is this studio itself, at another site: take what it adopted there too.")
    ] = False,
) -> None:
    """Trust a vendor."""
    from changeover_registry.openssf import read_public_pem
    from changeover_updater.vendors import add_trust, trust_own

    call = invocation(context)
    site = call.site()
    if not root.is_file():
        actual = "a folder" if root.is_dir() else "no such file"
        raise InvalidInputError(
            "root metadata", where=str(root), expected="a file", actual=actual, remedy="ask the vendor for root.json"
        )
    if own:
        _check_alone(model, mirror, model_signing_key)
        entry = trust_own(site, vendor, location, root.read_bytes(), who=call.settings.who, now=call.now)
    else:
        entry = add_trust(
            site,
            vendor,
            (location, *(mirror or ())),
            root.read_bytes(),
            allow_executable=allow_executable,
            who=call.settings.who,
            now=call.now,
            models=tuple(name.removeprefix(f"{vendor}/") for name in model or ()),
            model_signing=read_public_pem(model_signing_key) if model_signing_key else None,
        )
    formats = ", executable formats allowed" if entry.allow_executable else ""
    say(f"{mark('ok')} {vendor} is trusted{formats}")
    say(f"  compare with the vendor: sha256 {entry.root}")
    say(f"  next: changeover {f'import {escape(location)}' if Path(location).is_file() else 'sync'}")


def _check_alone(*others: object) -> None:
    """Refuse what says less of the studio itself than that it is the studio itself."""
    if any(others):
        raise InvalidInputError(
            "usage",
            where="trust add --own",
            expected="--own, without --model, --mirror and --model-signing-key",
            actual="one of them too",
            remedy="leave it out",
        )


@trust.command("list")
def trust_list(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Show the trusted vendors."""
    entries = [folder.entry() for folder in invocation(context).site().vendors()]
    lines = [
        (
            f"{e.vendor} (this studio)" if e.local else e.vendor,
            escape("\n".join(e.locations())),
            e.root[:12],
            ", ".join(e.models) if e.models else "all",
            "yes" if e.allow_executable else "no",
            e.added_at,
            escape(e.added_by),
        )
        for e in entries
    ]
    columns = ("vendor", "location", "root", "models", "executable formats", "since", "by")
    emit([e.model_dump(mode="json") for e in entries], as_json=as_json, show=lambda: rows("vendors", columns, lines))


@trust.command("remove")
def trust_remove(context: typer.Context, vendor: Annotated[str, typer.Argument(help="The vendor.")]) -> None:
    """Stop trusting a vendor: nothing new of it comes; what is installed stays."""
    from changeover_updater.vendors import remove_trust

    remove_trust(invocation(context).site(), vendor)
    say(f"{mark('ok')} {escape(vendor)} is no longer trusted; releases in use stay until another is promoted")


def sync(
    context: typer.Context,
    vendor: Annotated[str | None, typer.Argument(help="One vendor; else all.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Bring the vendors' newest releases to the studio, verified."""
    from changeover_updater.own_vendor import renew_own
    from changeover_updater.records import know_releases, tell_withdrawn
    from changeover_updater.signed import renew_choice
    from changeover_updater.vendors import sync_vendor

    call = invocation(context)
    site = call.site()
    renew_own(call, site, notice)
    folders = (site.vendor(vendor),) if vendor else site.vendors()
    done: list[Synced] = []
    failed: list[ChangeoverError] = []
    with progress() as line:
        for folder in folders:
            line.step(f"sync {folder.vendor}")
            try:
                if folder.waits_for_a_bundle():
                    notice(f"{folder.vendor} comes by bundles: changeover import BUNDLE")
                    continue
                done.append(sync_vendor(folder))
                failed += done[-1].refused
            except ChangeoverError as error:
                failed.append(error)
        line.step("tell MLflow")
        tell = once(notice)
        know_releases(site, tuple(release for synced in done for release in synced.releases), tell)
        tell_withdrawn(site, dict(one for synced in done for one in synced.withdrawn), tell)
    renew_choice(call, notice)
    tell_aliases(call, tell)
    for unread in (unread for synced in done for unread in synced.unreadable):
        notice(f"left out, the other releases are here: {unread}")
    _remember(call, done)
    _show_synced(done, as_json=as_json, trusted=bool(folders))
    if failed:
        for earlier in failed[:-1]:
            notice(str(earlier))
        raise failed[-1]


def _remember(call: Invocation, done: "list[Synced]") -> None:
    """Tell the station of this host, if it has one, what was withdrawn; other stations hear it at their next plan."""
    with contextlib.suppress(ChangeoverError):
        call.station().remember_withdrawn({str(ref): why for synced in done for ref, why in synced.withdrawn})


def _show_synced(done: "list[Synced]", *, as_json: bool, trusted: bool) -> None:
    answer = [
        {
            "vendor": synced.vendor,
            "releases": [str(r.ref()) for r in synced.releases],
            "new": [str(r.ref()) for r in synced.new],
            "withdrawn": [f"{ref}: {why}" for ref, why in synced.withdrawn],
        }
        for synced in done
    ]

    def show() -> None:
        if not trusted:
            say("no vendor is trusted yet: changeover trust add VENDOR LOCATION --root ROOT.json")
        for synced in done:
            said_of = f"{count(len(synced.releases), 'release')}, {len(synced.new)} new"
            say(f"{mark('ok')} {escape(synced.vendor)}: {said_of}")
            for release in synced.new:
                parent = release.provenance.parent_release
                said_from = f"; descends from {parent}" if parent else ""
                say(f"    new: [bold]{escape(str(release.ref()))}[/]  {escape(_line(release.changes) + said_from)}")
            for ref, why in synced.withdrawn:
                say(f"    {mark('no')} withdrawn: {escape(f'{ref}: {why}')}")

    emit(answer, as_json=as_json, show=show)


def _line(text: str) -> str:
    """What a vendor wrote, as one line of a list."""
    words = " ".join(text.split())
    return words if len(words) <= _LINE else f"{words[: _LINE - 3].rstrip()}..."


@verdicts.command("list")
def verdict_list(
    context: typer.Context,
    release: Annotated[str | None, typer.Argument(help="MODEL@VERSION; else all.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the verdicts, newest first."""
    from changeover_updater.studio import read_studio, read_verdicts

    call = invocation(context)
    site = call.site()
    studio = read_studio(site, call.station())
    found = read_verdicts(site, studio, studio.find(release).digest() if release else None)
    if release:
        wanted = studio.find(release).ref()
        found = tuple(filed for filed in found if filed.verdict.candidate == wanted)
    lines = [
        (
            f.digest[:12],
            f.verdict.made_at,
            f.verdict.decision,
            escape(str(f.verdict.candidate)),
            escape(f.verdict.reason),
        )
        for f in found
    ]
    answer = [
        {"verdict": f.digest, "signer": f.signer, **f.verdict.model_dump(mode="json", exclude_none=True)} for f in found
    ]
    columns = ("verdict", "made", "decision", "candidate", "reason")
    emit(answer, as_json=as_json, show=lambda: rows("verdicts", columns, lines))


@verdicts.command("show")
def verdict_show(
    context: typer.Context,
    digest: Annotated[str, typer.Argument(help="The verdict's digest, or its first characters.")],
    as_json: JsonFlag = False,
) -> None:
    """Show one verdict whole."""
    from changeover_updater.cli._show_plan import show_verdict
    from changeover_updater.reports import shot_aliases
    from changeover_updater.studio import find_verdict, read_studio, read_verdicts

    call = invocation(context)
    site = call.site()
    studio = read_studio(site, call.station())
    filed = find_verdict(read_verdicts(site, studio), digest)
    answer = {
        "verdict": filed.digest,
        "signer": filed.signer,
        **filed.verdict.model_dump(mode="json", exclude_none=True),
    }
    aliases = shot_aliases(site, filed.verdict)
    emit(answer, as_json=as_json, show=lambda: show_verdict(filed.digest, filed.verdict, aliases, whole=True))


def promote(
    context: typer.Context,
    release: Annotated[str | None, typer.Argument(help="MODEL@VERSION.")] = None,
    channel: Annotated[str | None, typer.Option(help="stable, beta or show/NAME; else the policy's channel.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded for ever.")] = "",
    policy: Annotated[bool, typer.Option("--policy", help="Sign the policy.toml of the site as it stands.")] = False,
    share: Annotated[
        str | None, typer.Option(help="Let only this part of the stations have it for now, such as 10%.")
    ] = None,
    cohort: Annotated[
        list[str] | None,
        typer.Option(help="Only stations of this name, such as 'render-*', or class:HOSTCLASS. May repeat."),
    ] = None,
    expect: Annotated[
        int | None,
        typer.Option(help="Only if this is the newest choice of the channel's scope (changeover log).", min=0),
    ] = None,
) -> None:
    """Let a channel have a release that was accepted, or a part of its stations first; or sign a changed policy."""
    from changeover_updater import signed
    from changeover_updater.cli.rollout import part_of

    call = invocation(context)
    what = "--policy" if policy else "MODEL@VERSION --channel stable"
    part = part_of(share, tuple(cohort or ()))
    if not reason or (release is None) != policy or (policy and (part or expect is not None)):
        raise InvalidInputError(
            "usage",
            where="promote",
            expected="MODEL@VERSION or --policy, with --reason",
            actual="neither" if release is None and not policy else "both" if reason else "no --reason",
            remedy=f'write: changeover promote {what} --reason "..."',
        )
    said(reason)
    if release is None:
        done = signed.promote_policy(call, reason)
    else:
        done = signed.promote(call, release, channel, reason, part, expect=expect, notice=notice)
    show_written(done, "verdicts of the policy before no longer promote; check again" if policy else _NEXT_UPDATE)
    tell_promoted(call, done)


def pin(
    context: typer.Context,
    release: Release,
    reason: Reason,
    show: ScopeShow = None,
    sequence: ScopeSequence = None,
    shot: ScopeShot = None,
) -> None:
    """Pin an exact release for the site, a show, a sequence or a shot."""
    from changeover_updater import signed

    done = signed.pin(invocation(context), release, signed.Scope(show, sequence, shot), reason)
    show_written(done)


def unpin(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="The model.")],
    reason: Reason = "unpinned by hand",
    show: ScopeShow = None,
    sequence: ScopeSequence = None,
    shot: ScopeShot = None,
) -> None:
    """Take a pin away."""
    from changeover_updater import signed

    done = signed.unpin(invocation(context), model, signed.Scope(show, sequence, shot), reason)
    show_written(done)


@overrides.command("add")
def override_add(
    context: typer.Context,
    release: Release,
    check_name: Annotated[list[str], typer.Option("--check", help="A check to pass over; repeatable.")],
    reason: Reason,
    until: Annotated[str, typer.Option(help="When it ends: 2026-12-24, a UTC time, or days such as 14d.")],
    show: ScopeShow = None,
) -> None:
    """Pass over checks for one release, until a date; never over trust."""
    from changeover_updater import signed

    call = invocation(context)
    done = signed.override(call, release, tuple(check_name), reason, moment(until, call), show)
    show_written(done)


@overrides.command("list")
def override_list(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Show the overrides and whether they hold."""
    from changeover_registry.clock import parse_time
    from changeover_updater.studio import read_studio

    call = invocation(context)
    studio = read_studio(call.site(), call.station())
    found = [(choice.scope, override) for choice in studio.choices for override in choice.overrides]
    lines = [
        (
            scope,
            escape(str(o.release)),
            ", ".join(o.checks),
            "holds" if call.now < parse_time(o.until) else "expired",
            o.until,
            escape(o.by),
            escape(o.reason),
        )
        for scope, o in found
    ]
    answer = [{"scope": scope, **o.model_dump(mode="json")} for scope, o in found]
    columns = ("scope", "release", "checks", "state", "until", "by", "reason")
    emit(answer, as_json=as_json, show=lambda: rows("overrides", columns, lines))
