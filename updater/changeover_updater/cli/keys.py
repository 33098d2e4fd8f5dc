"""The commands for keys and approvals: keys new, enrol, revoke, list, rotate; approve."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from changeover_registry.errors import InvalidInputError
from changeover_updater.cli._context import JsonFlag, Reason, invocation, said, said_of
from changeover_updater.cli._output import emit, escape, mark, rows, say
from changeover_updater.cli._told import tell_promoted

if TYPE_CHECKING:
    from changeover_registry.repository.approval import Waiting
    from changeover_registry.repository.enrolment import Held
    from changeover_registry.repository.pending import Written

__all__ = ["app", "approve"]

app = typer.Typer(help="Who signs at this studio, and for what.", no_args_is_help=True)

ScopeOption = Annotated[str, typer.Option("--scope", help="site, or show/NAME.")]
CoSigners = Annotated[
    list[Path] | None,
    typer.Option("--with", help="A further promoter's private key, where a choice must be signed again; repeatable."),
]


@app.command("new")
def keys_new(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The key's name: NAME.pem is private, NAME.pub is to be enrolled.")],
    out: Annotated[Path | None, typer.Option(help="The folder; else keys/online beside host.toml.")] = None,
    uri: Annotated[
        str | None,
        typer.Option(help="Where the private key is: hsm:2?label=TOKEN, awskms:alias/NAME, gcpkms:, azurekms:, file:."),
    ] = None,
    public: Annotated[
        Path | None, typer.Option(help="With --uri: its public part as PEM, so that nobody is asked for it.")
    ] = None,
) -> None:
    """Make a key of your own, which stays on this machine; or take one of a token or a cloud's key store into use."""
    from changeover_updater.keyring import new_key

    call = invocation(context)
    folder = (out or call.settings.config.parent / "keys" / "online").absolute()
    made = new_key(folder, name, uri, public)
    say(f"{mark('skip' if made.there else 'ok')} {escape(str(made.private))}" + (" is there already" * made.there))
    say(f"  key {made.key_id[:12]}; give {escape(str(made.public))} to whoever has the targets key, who runs:")
    say(f"  changeover keys enrol {made.public.name} --scope site --role promoter --owner YOUR-NAME --reason ...")
    line = f'[keys] promoter = "{made.private}"'
    say(f"  in your host.toml: {escape(line)}")
    mine = call.settings.keys.promoter
    if mine is not None and Path(mine).absolute() != made.private:
        say(f"  until you set it you sign with {escape(str(mine))} as before; once you set it, with this key alone")


@app.command("enrol")
def keys_enrol(
    context: typer.Context,
    public: Annotated[Path, typer.Argument(help="The public key, NAME.pub.")],
    scope: ScopeOption,
    role: Annotated[
        Literal["promoter", "back", "verdict"],
        typer.Option(help="What it signs: choices, ways back alone, or verdicts (for the site)."),
    ],
    owner: Annotated[
        str, typer.Option(help="The person who has it; nobody approves what they signed themselves.", callback=said_of)
    ],
    reason: Reason,
    threshold: Annotated[int | None, typer.Option(help="How many promoters must sign from then on.")] = None,
    co_signers: CoSigners = None,
) -> None:
    """Have a key sign for a scope; with --threshold, have several sign each choice."""
    from changeover_updater.keyring import Enrolment, enrol, scope_named

    call = invocation(context)
    new = Enrolment(public, scope_named(scope), role, owner, threshold, tuple(co_signers or ()))
    written = enrol(call, new, reason)
    _tell(written, f"the key of {escape(owner)} signs for {escape(new.scope)} as {role}", "this")


@app.command("revoke")
def keys_revoke(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="The key's id, or its first 8 characters or more.")],
    scope: ScopeOption,
    reason: Reason,
    co_signers: CoSigners = None,
) -> None:
    """Have a key sign for a scope no more; what it signed alone is signed again by those that remain."""
    from changeover_updater.keyring import revoke, scope_named

    found, written = revoke(invocation(context), key, scope_named(scope), reason, tuple(co_signers or ()))
    _tell(written, f"key {found[:12]} signs for {escape(scope)} no more", f"the revocation of key {found[:12]}")


@app.command("list")
def keys_list(
    context: typer.Context,
    scope: Annotated[str | None, typer.Option(help="site, or show/NAME; else all.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show which keys sign for what, whose they are, how many it takes, and until when."""
    from changeover_updater.keyring import held, scope_named

    wanted = scope_named(scope) if scope else None
    found = [one for one in held(invocation(context)) if wanted in {None, one.scope}]
    lines = [(one.scope, one.role, escape(one.owner), one.key_id[:12], str(one.threshold), _date(one)) for one in found]
    answer = [
        {
            "scope": one.scope,
            "role": one.role,
            "owner": one.owner,
            "key": one.key_id,
            "threshold": one.threshold,
            "expires": _date(one) if one.expires else None,
        }
        for one in found
    ]
    columns = ("scope", "role", "owner", "key", "of them sign", "signed until")
    emit(answer, as_json=as_json, show=lambda: rows("keys", columns, lines))


@app.command("rotate")
def keys_rotate(
    context: typer.Context,
    which: Annotated[
        Literal["site", "targets", "root"],
        typer.Argument(help="site: the online key of snapshot and timestamp; targets and root: the offline ones."),
    ],
    reason: Reason,
    to: Annotated[
        Path | None, typer.Option("--to", help="A key file of keys new, such as one in a token; else one is made.")
    ] = None,
) -> None:
    """Replace the site's online key or an offline one, with the root key; the old one signs nothing from then on."""
    from changeover_updater.keyring import rotate

    done = rotate(invocation(context), which, reason, to)
    what = "snapshot and timestamp" if which == "site" else which
    say(f"{mark('ok')} key {done.key_id[:12]} signs {what} now (root {done.root})")
    if which != "site":
        say("  put the new key on its disk in place of the old one; stations follow by themselves")
        return
    stand = ", ".join(f"{scope} {number}" for scope, number in done.heads)
    say(f"  the choices stand at {escape(stand)}: compare with what you know")
    for name in done.forged:
        say(f"{mark('no')} {escape(name)} is not signed by its role's keys; find out who wrote it, and remove it")
    say("  copy the new key to every host that promotes; stations follow by themselves")


def approve(
    context: typer.Context,
    entry: Annotated[str | None, typer.Argument(help="The entry, such as site/8; none: show what waits.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why; kept with your signature.")] = None,
    reject: Annotated[bool, typer.Option("--reject", help="Take the entry back, so that nobody signs it.")] = False,
    as_list: Annotated[bool, typer.Option("--list", help="Show what waits for signatures.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Sign a choice that waits for signatures; without ENTRY, show what waits."""
    from changeover_updater import approvals
    from changeover_updater.cli._show_waiting import show_waiting, waiting_object

    call = invocation(context)
    if reason is not None:
        said(reason)
    if entry is None or as_list:
        found = approvals.waiting(call)
        emit([waiting_object(one) for one in found], as_json=as_json, show=lambda: _show_all(found))
        return
    if reject:
        _reject(context, entry, reason)
        return
    shown = approvals.find(call, entry)
    if not as_json:
        show_waiting(shown)
    done = approvals.approve(call, shown, reason)
    answer = {"entry": entry, "chosen": done.chosen, "missing": done.missing, "reached": done.reached}
    emit(answer, as_json=as_json, show=lambda: _show_approved(done, entry))
    tell_promoted(call, done)
    tell_promoted(call, done)


def _reject(context: typer.Context, entry: str, reason: str | None) -> None:
    from changeover_updater.approvals import reject

    if reason is None:
        raise InvalidInputError(
            "usage",
            where="approve --reject",
            expected="--reason",
            actual="none",
            remedy=f'write: changeover approve {entry} --reject --reason "..."',
        )
    taken = reject(invocation(context), entry, reason)
    what = escape(taken.choice.entry.what) if taken else "what stood there, which was no entry"
    say(f"{mark('ok')} taken back: {what}" + ("; it is kept in the site below choice/settled" if taken else ""))


def _show_all(found: "tuple[Waiting, ...]") -> None:
    from changeover_updater.cli._show_waiting import show_waiting

    if not found:
        say("nothing waits for signatures")
    for one in found:
        show_waiting(one)


def _show_approved(done: "Written", entry: str) -> None:
    if not done.chosen:
        say(f"{mark('open')} signed; {entry} still waits for {escape(done.missing)}")
        return
    number = f"choice {done.choice.scope} {done.choice.number}"
    say(f"{mark('ok')} signed, and chosen: {escape(done.choice.entry.what)} ({number})")
    if done.reached:
        say("  stations change over with: changeover update")
    else:
        say("  the site's key is not here: stations see it after the next promote, sync or doctor --repair where it is")


def _tell(written: "Written | None", done: str, what: str) -> None:
    """What became of a change of keys: exit code 4 where it waits for signatures first."""
    if written is not None and not written.chosen:
        say(f"{mark('open')} {what} waits: the choice must be signed again first; missing: {escape(written.missing)}")
        say(f"  another promoter signs with: changeover approve {written.entry}; then run this command again")
        raise typer.Exit(4)
    again = f"; choice {written.choice.scope} {written.choice.number} was signed for it" if written else ""
    say(f"{mark('ok')} {done}{again}")


def _date(held: "Held") -> str:
    from changeover_registry.clock import format_time

    return format_time(held.expires) if held.expires else "-"
