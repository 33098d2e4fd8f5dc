"""The vendor's keys: keys list, rotate, add, remove, threshold, sign."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from changeover_updater.cli._context import JsonFlag, invocation
from changeover_updater.cli._output import emit, escape, mark, notice, rows, say

if TYPE_CHECKING:
    from changeover_updater.vendor_home import VendorHome
    from changeover_updater.vendor_signing import Held, Waiting

__all__ = ["app"]

app = typer.Typer(
    help="Which keys sign the repository, new ones in their place, and how many must sign.", no_args_is_help=True
)

HomeFlag = Annotated[
    Path | None, typer.Option("--home", help="The vendor's home; else CHANGEOVER_VENDOR_HOME or the current folder.")
]
Role = Annotated[
    Literal["root", "targets", "release", "online"],
    typer.Argument(help="root; targets (new models); release (releases); online (dates)."),
]
With = Annotated[
    list[Path] | None, typer.Option("--with", help="A further private key that signs this change; repeatable.")
]
Models = Annotated[list[str] | None, typer.Option("--model", help="Of release: for this model alone; repeatable.")]


@app.command("list")
def keys_list(context: typer.Context, home: HomeFlag = None, as_json: JsonFlag = False) -> None:
    """Show which keys sign what, how many it takes, until when, and what waits; exit code 4 or 5 near the end."""
    from changeover_registry.clock import format_time
    from changeover_updater.vendor_signing import exit_code, held, waiting

    call, found = invocation(context), _home(home)
    held_now = held(found, call.now)
    answer = [
        {
            "role": one.role,
            "key": one.key_id,
            "threshold": one.threshold,
            "expires": format_time(one.expires),
            "here": one.here,
            "near": one.near,
        }
        for one in held_now
    ]
    changes = waiting(found)

    def show() -> None:
        columns = ("role", "key", "must sign", "signed until", "here")
        lines = [(o.role, o.key_id[:12], str(o.threshold), format_time(o.expires), _here(o)) for o in held_now]
        rows("keys", columns, lines)
        for text in dict.fromkeys(one.remedy(call.now) for one in held_now if one.near):
            notice(text)
        for change in changes:
            _show(change)

    emit(answer, as_json=as_json, show=show)
    if code := exit_code(held_now):
        raise typer.Exit(code)


@app.command("rotate")
def keys_rotate(
    context: typer.Context,
    role: Role,
    to: Annotated[
        Path | None, typer.Option("--to", help="A key file of changeover keys new, such as one in a token; else made.")
    ] = None,
    more: With = None,
    home: HomeFlag = None,
) -> None:
    """Put a new key in the place of the one here; root signs for all but releases, targets for those."""
    from changeover_registry.repository.vendor_keys import rotate
    from changeover_updater.vendor_signing import with_keys

    call, found = invocation(context), _home(home)
    key = rotate(found.repository, with_keys(found, more or ()), role, call.now, new=to)
    what = {"release": "releases", "online": "dates"}.get(role, role)
    _carry(found, f"{mark('ok')} key {key[:12]} signs {what} now; studios follow by sync")


@app.command("add")
def keys_add(
    context: typer.Context,
    role: Role,
    public: Annotated[Path, typer.Argument(help="The public key, NAME.pub, of another holder.")],
    models: Models = None,
    more: With = None,
    home: HomeFlag = None,
) -> None:
    """Have another holder's key sign a role as well."""
    from changeover_registry.repository.vendor_keys import add
    from changeover_registry.signing import read_public_key
    from changeover_updater.vendor_signing import with_keys

    call, found, key = invocation(context), _home(home), read_public_key(public)
    new = add(found.repository, with_keys(found, more or ()), role, key, call.now, models)
    _changed(found, f"key {key.keyid[:12]} signs {role} as well", new=new)


@app.command("remove")
def keys_remove(
    context: typer.Context,
    role: Role,
    key: Annotated[str, typer.Argument(help="The key's id, or its first characters.")],
    models: Models = None,
    more: With = None,
    home: HomeFlag = None,
) -> None:
    """Have a key sign a role no more; what it signed alone is signed again by the others."""
    from changeover_registry.repository.vendor_keys import remove
    from changeover_updater.vendor_signing import with_keys

    call, found = invocation(context), _home(home)
    new = remove(found.repository, with_keys(found, more or ()), role, key, call.now, models)
    _changed(found, f"key {escape(key)} signs {role} no more", new=new)


@app.command("threshold")
def keys_threshold(
    context: typer.Context,
    role: Role,
    count: Annotated[int, typer.Argument(help="How many of the role's keys must sign.")],
    models: Models = None,
    more: With = None,
    home: HomeFlag = None,
) -> None:
    """Say how many keys must sign a role; a change with fewer signatures waits for the others."""
    from changeover_registry.repository.vendor_keys import set_threshold
    from changeover_updater.vendor_signing import with_keys

    call, found = invocation(context), _home(home)
    new = set_threshold(found.repository, with_keys(found, more or ()), role, count, call.now, models)
    _changed(found, f"{count} must sign {role}", new=new)


@app.command("sign")
def keys_sign(
    context: typer.Context,
    change: Annotated[
        Path | None, typer.Argument(help="The change's file, or its name; none: show what waits.")
    ] = None,
    keys: Annotated[list[Path] | None, typer.Option("--key", help="A private key to sign with; repeatable.")] = None,
    reject: Annotated[bool, typer.Option("--reject", help="Take the change back, so that nobody signs it.")] = False,
    home: HomeFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Sign a change that waits for further holders; with --key and no home, a copy to be carried back."""
    from changeover_registry.repository import vendor_waiting
    from changeover_updater.vendor_signing import sign, waiting

    call = invocation(context)
    copy = change is not None and not reject and (bool(keys) or change.is_file())
    found = _maybe_home() if home is None and copy else _home(home)
    if change is None:
        _show_waiting(waiting(_need(found)), as_json=as_json)
        return
    if reject:
        taken = vendor_waiting.remove(_need(found).repository, change.stem if change.is_file() else str(change))
        say(f"{mark('ok' if taken else 'skip')} {escape(str(change))} " + ("taken back" if taken else "does not wait"))
        return
    _show_contents(found, change)
    roles = sign(found, change, keys or (), call.now)
    if roles is None:
        _carry(_need(found), f"{mark('ok')} signed, and written: studios follow by sync")
        return
    say(f"{mark('ok')} signed {escape(', '.join(roles))}; carry {escape(str(change))} back to the vendor's home")
    say("  there: changeover vendor keys sign FILE")


def _changed(home: "VendorHome", what: str, *, new: bool) -> None:
    _carry(home, f"{mark('ok' if new else 'skip')} {what}" + ("; studios follow by sync" if new else " already"))


def _carry(home: "VendorHome", line: str) -> None:
    from changeover_updater.cli._places import carried, raise_failed, show_carried

    went = carried(home)
    say(line)
    show_carried(went)
    raise_failed(went)


def _show_contents(home: "VendorHome | None", change: Path) -> None:
    """What is about to be signed, before it is."""
    from changeover_registry.repository.vendor_draft import summary
    from changeover_registry.repository.vendor_waiting import path_of, read_draft

    path = change if home is None or change.is_file() else path_of(home.repository, str(change))
    for line in summary(read_draft(path)):
        say(f"  {escape(line)}")


def _show_waiting(found: "tuple[Waiting, ...]", *, as_json: bool) -> None:
    from changeover_registry.repository.vendor_draft import summary

    answer = [
        {
            "change": one.draft.name,
            "file": str(one.path),
            "contents": list(summary(one.draft)),
            "missing": list(one.missing),
        }
        for one in found
    ]

    def show() -> None:
        for one in found:
            _show(one)
        if not found:
            say("nothing waits for signatures")

    emit(answer, as_json=as_json, show=show)


def _show(one: "Waiting") -> None:
    say(f"{mark('open')} {escape(one.draft.name)} waits: {escape('; '.join(one.missing) or 'complete, to be written')}")
    from changeover_registry.repository.vendor_draft import summary

    for line in summary(one.draft):
        say(f"    {escape(line)}")
    say(f"    another holder signs a copy of {escape(str(one.path))}: changeover vendor keys sign FILE --key PRIVATE")


def _here(one: "Held") -> str:
    return Path(one.here).name if one.here else "elsewhere"


def _need(home: "VendorHome | None") -> "VendorHome":
    return home if home is not None else _home(None)


def _maybe_home() -> "VendorHome | None":
    """The vendor's home of the environment or the current folder, where there is one."""
    from changeover_registry.errors import InvalidInputError
    from changeover_updater.vendor_home import find_home, open_home

    try:
        return open_home(find_home(None, os.environ, Path.cwd()))
    except InvalidInputError:
        return None


def _home(flag: Path | None) -> "VendorHome":
    from changeover_updater.vendor_home import find_home, open_home

    return open_home(find_home(flag, os.environ, Path.cwd()))
