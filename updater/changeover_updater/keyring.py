"""Who signs at this studio: new keys, and which of them count for what.

A promoter's or back key is named by the top-level targets role, whose key is offline; a verdict key by a choice of the
site, which its promoters sign like any other. A key that is revoked signs nothing from then on: what it signed alone is
signed again by those that remain, or waits until they have done so.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from changeover_registry import signing
from changeover_registry._fs import write_new
from changeover_registry.errors import InvalidInputError, RefusedError
from changeover_registry.records.choice import Choice, Entry, VerdictKey
from changeover_updater import choose

if TYPE_CHECKING:
    from securesystemslib.signer import Key

    from changeover_registry.repository.enrolment import Anew, Held
    from changeover_registry.repository.pending import Written
    from changeover_registry.repository.rotation import Rotated
    from changeover_updater.cli._context import Invocation

__all__ = [
    "Enrolment",
    "NewKey",
    "Role",
    "enrol",
    "held",
    "new_key",
    "revoke",
    "rotate",
    "scope_named",
    "with_verdict_key",
    "without_verdict_key",
]

Role = Literal["promoter", "back", "verdict"]
_KEY_ID = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was made: its private file, its public file, its id; `there` if it was there already."""

    private: Path
    public: Path
    key_id: str
    there: bool


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A key that is to count: whose, for which scope, in which role, and how many must sign from then on."""

    public: Path
    scope: str
    role: Role
    owner: str
    threshold: int | None = None
    co_signers: tuple[Path, ...] = ()


def new_key(folder: Path, name: str, uri: str | None = None, public: Path | None = None) -> NewKey:
    """Make an Ed25519 key, mode 0600, and its public part beside it, to be given to whoever enrols it.

    With `uri` the private key is where that says, and a record of it stands in its place; the token or key store is
    asked for the public part, unless `public` has it.

    Raises:
        InvalidInputError: `name` is no file's name, something else stands in its place, or there is no such key.
        TrustError: The key store denies it.
        UnreachableError: Token or key store do not answer.
        OSError: The folder cannot be written.
    """
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) is None:
        raise InvalidInputError(
            "key",
            where=name,
            expected="a name of letters, digits, dots, dashes and underscores",
            actual=repr(name),
            remedy="give another name",
        )
    private = folder / f"{name}.{'key' if uri else 'pem'}"
    there = private.exists()
    if uri is None:
        signing.ensure_key(private)
    elif not there:
        signing.ensure_folder(folder)
        signing.new_key_elsewhere(private, uri, public)
    elif (known := signing.uri_of(private)) != uri:
        raise _other_key(private, f"the key that {uri} names", f"the one that {known} names")
    key, published = signing.load_signer(private).public_key, folder / f"{name}.pub"
    if not published.exists():
        write_new(published, signing.public_pem(private))
    elif (found := signing.read_public_key(published).keyid) != key.keyid:
        if not there:
            private.unlink()
        raise _other_key(published, f"the public part of {private.name}, key {key.keyid[:12]}", f"key {found[:12]}")
    return NewKey(private, published, key.keyid, there)


def _other_key(path: Path, expected: str, actual: str) -> InvalidInputError:
    return InvalidInputError(
        "key", where=str(path), expected=expected, actual=actual, remedy="give the new key another name, or folder"
    )


def scope_named(text: str) -> str:
    """The scope that a person names: ``site``, or ``show/NAME`` (``shows/NAME`` too).

    Raises:
        InvalidInputError: There can be no such scope.
    """
    from changeover_registry.repository.scopes import role_of

    scope = f"shows/{text.removeprefix('show/')}" if text.startswith("show/") else text
    role_of(scope)
    return scope


def enrol(call: "Invocation", new: Enrolment, reason: str) -> "Written | None":
    """Have a key count; one that counts already may come with another threshold or owner.

    Returns:
        The choice that enrols a verdict key, or that had to be signed again; where it waits for signatures, this is to
        be run again once it has them. None where nothing else had to be signed.

    Raises:
        InvalidInputError: There is no such key or scope, or the role has no place in that scope.
        RefusedError: There would be fewer keys than the threshold.
        TrustError: The targets key is not the repository's, or the repository was changed by somebody else.
        LostRaceError: Somebody else is writing, or another choice waits for signatures.
    """
    from changeover_registry.repository import choice, enrolment
    from changeover_registry.repository.enrolment import Rekeying
    from changeover_updater.signed import change_of, studio_keys

    key = enrolment.owned(signing.read_public_key(new.public), new.owner)
    if new.role == "verdict":
        return _enrol_verdict_key(call, key, new, reason)
    if new.role == "back" and new.threshold is not None:
        raise _no_threshold()
    call.key("targets")
    _check_threshold(call, key, new)
    folder, keys = call.site().choice, studio_keys(call)
    entry = change_of(call, reason).entry(f"enrol {new.role} key {key.keyid[:12]} of {new.owner} for {new.scope}")
    if new.role == "promoter" and new.scope != "site":
        # A show that is new has this key alone until others are enrolled.
        choice.enrol_scope(folder, keys, new.scope, call.now, promoters=(key,))
    what = Rekeying(promoters=(key,), entry=entry) if new.role == "promoter" else Rekeying(backs=(key,), entry=entry)
    anew = _anew(entry, new.co_signers)
    written = enrolment.rekey(folder, keys, new.scope, what, anew, call.now)
    if new.threshold is None or (written is not None and not written.chosen):
        return written
    # Once the key counts, it can be among those that sign for the new threshold.
    threshold = entry.model_copy(update={"what": f"{new.threshold} promoters must sign for {new.scope}"})
    what = Rekeying(threshold=new.threshold, entry=threshold)
    return enrolment.rekey(folder, keys, new.scope, what, _anew(threshold, new.co_signers), call.now)


def revoke(
    call: "Invocation", key_id: str, scope: str, reason: str, co_signers: tuple[Path, ...] = ()
) -> "tuple[str, Written | None]":
    """Have a key count no more in a scope, as promoter, for the way back, and (for the site) for verdicts.

    Returns:
        The key's whole id, and what was signed for it, as `enrol` says.

    Raises:
        InvalidInputError: No key of the scope has an id that begins so, or several have.
        RefusedError: There would be fewer keys than the threshold, or nobody could sign verdicts.
        TrustError: As `enrol`.
        LostRaceError: As `enrol`.
    """
    from changeover_registry.repository import enrolment
    from changeover_updater.signed import change_of, studio_keys

    found, is_verdict_key = _find(call, key_id, scope)
    entry = change_of(call, reason).entry(f"revoke key {found[:12]} for {scope}")
    if is_verdict_key:
        return found, _revoke_verdict_key(call, found, reason)
    call.key("targets")
    what = enrolment.Rekeying(revoked=frozenset({found}), entry=entry)
    anew = _anew(entry, co_signers)
    return found, enrolment.rekey(call.site().choice, studio_keys(call), scope, what, anew, call.now)


def held(call: "Invocation") -> "tuple[Held, ...]":
    """Every key that counts: of the top roles, the scopes, their ways back, and verdicts."""
    from changeover_registry.repository import choice, enrolment
    from changeover_registry.repository.enrolment import Held
    from changeover_updater.signed import studio_keys

    folder, keys = call.site().choice, studio_keys(call)
    chosen = choice.history(folder, "site", root=keys.anchor.read_bytes())[-1:]
    verdicts = [Held("site", "verdict", k.owner, k.key_id, 1, None) for c in chosen for k in c.verdict_keys]
    return (*enrolment.held_keys(folder, keys), *verdicts)


def rotate(
    call: "Invocation", which: Literal["root", "targets", "site"], reason: str, new: Path | None = None
) -> "Rotated":
    """Have a new key sign in the place of the site's online key, or of an offline one; the old one counts no more.

    Raises:
        InvalidInputError: The root key is not here, or the one to be replaced.
        TrustError: It is not the repository's.
        LostRaceError: Another process is writing.
    """
    from changeover_registry.repository import rotation
    from changeover_updater.signed import change_of, studio_keys

    call.key("root")
    folder, keys = call.site().choice, studio_keys(call)
    if which == "site":
        entry = change_of(call, reason).entry("a new online key")
        return rotation.rotate_online(folder, keys, entry, call.now, new=new)
    call.key(which)
    entry = change_of(call, reason).entry(f"a new {which} key")
    return rotation.rotate_offline(folder, keys, which, entry, call.now, new=new)


def with_verdict_key(last: Choice | None, key: VerdictKey, change: choose.Change) -> Choice:
    """The next choice of the site, with one verdict key more; one with the same id is replaced."""
    what = f"enrol verdict key {key.key_id[:12]} of {key.owner}"
    first = last or Choice(scope="site", number=1, entry=change.entry(what))
    kept = [old for old in first.verdict_keys if old.key_id != key.key_id]
    return first.model_copy(update={"verdict_keys": (*kept, key), "entry": change.entry(what)})


def without_verdict_key(last: Choice | None, key_id: str, change: choose.Change) -> Choice:
    """The next choice of the site without a verdict key; no verdict that it signed counts from then on.

    Raises:
        RefusedError: It is the last one.
    """
    kept = tuple(key for key in (last.verdict_keys if last else ()) if key.key_id != key_id)
    if last is None or not kept:
        raise RefusedError(
            "verdict keys",
            where="site",
            expected="at least one key that may sign verdicts",
            actual="none would remain",
            remedy="enrol another one first: changeover keys enrol KEY.pub --scope site --role verdict --owner NAME",
        )
    entry = change.entry(f"revoke verdict key {key_id[:12]}")
    return last.model_copy(update={"verdict_keys": kept, "entry": entry})


def _anew(entry: Entry, co_signers: tuple[Path, ...]) -> "Anew":
    from changeover_registry.repository.enrolment import Anew

    return Anew(lambda holds: holds.model_copy(update={"entry": entry}), co_signers)


def _enrol_verdict_key(call: "Invocation", key: "Key", new: Enrolment, reason: str) -> "Written":
    from changeover_updater.signed import change_of, write_choice

    if new.scope != "site" or new.threshold is not None:
        raise InvalidInputError(
            "role",
            where="--role verdict",
            expected="--scope site, and no --threshold: one signature makes a verdict",
            actual=f"--scope {new.scope}" + (f" --threshold {new.threshold}" if new.threshold else ""),
            remedy="enrol it for the site",
        )
    record, change = signing.key_record(key, new.owner), change_of(call, reason)
    return write_choice(call, call.site(), "site", lambda last: with_verdict_key(last, record, change))


def _revoke_verdict_key(call: "Invocation", key_id: str, reason: str) -> "Written":
    from changeover_updater.signed import change_of, write_choice

    change = change_of(call, reason)
    return write_choice(call, call.site(), "site", lambda last: without_verdict_key(last, key_id, change))


def _find(call: "Invocation", text: str, scope: str) -> tuple[str, bool]:
    """The key of a scope whose id begins so, and whether it signs verdicts alone."""
    mine = [one for one in held(call) if one.scope == scope]
    found = {one.key_id for one in mine if _KEY_ID.fullmatch(text) and one.key_id.startswith(text)}
    if len(found) != 1:
        raise InvalidInputError(
            "key",
            where=text,
            expected=f"the id of one key of {scope}: {', '.join(sorted({one.key_id[:12] for one in mine}))}",
            actual=f"{len(found)} of them",
            remedy="see them with: changeover keys list",
        )
    key_id = found.pop()
    return key_id, {one.role for one in mine if one.key_id == key_id} == {"verdict"}


def _check_threshold(call: "Invocation", key: "Key", new: Enrolment) -> None:
    """Refuse a threshold that cannot be before the key is enrolled, so that nothing is half done."""
    from changeover_registry.repository.enrolment import too_few

    have = {one.key_id for one in held(call) if (one.scope, one.role) == (new.scope, "promoter")} | {key.keyid}
    if new.threshold is not None and not 1 <= new.threshold <= len(have):
        raise too_few(new.scope, new.threshold, len(have))


def _no_threshold() -> InvalidInputError:
    return InvalidInputError(
        "threshold",
        where="--threshold",
        expected="none: one signature opens the way back",
        actual="one for --role back",
        remedy="leave --threshold out, or enrol a promoter's key",
    )
