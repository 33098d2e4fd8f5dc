"""The way back: one signature returns a channel to a release that its scope chose before, until the next choice.

Each scope has a second role, ``<scope>.back``, threshold 1, with its promoters' keys and any that were enrolled for it.
Version n has one target, ``<scope>/back/back-<n>.json``. It stands on one choice, by number and digest; any later
choice of the scope supersedes it, and whoever writes that one builds on the channels as the back returned them, so that
nothing goes forward again unasked.

A back chooses nothing: `effective` believes of it only what choices that were signed to threshold show, following the
digests of the past. What they do not show is left aside and told, never obeyed and never a reason to stop: whoever has
stolen a back key can neither put a release on a station nor keep a studio from working.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import Targets

from changeover_registry.errors import ChangeoverError, InvalidInputError, TrustError, UndecidedError
from changeover_registry.records.choice import Back, Choice, Pointer, Returned
from changeover_registry.repository import metadata
from changeover_registry.repository.keys import StudioKeys
from changeover_registry.repository.metadata import Change, RoleFile
from changeover_registry.repository.reached import (
    Reached,
    anchor_bytes,
    check_is_repository,
    read_reached,
    read_target,
)
from changeover_registry.repository.scopes import (
    back_role,
    check_enrolled,
    head_of,
    is_back,
    past_of,
    peek,
    role_of,
    scope_of,
    writing,
)
from changeover_registry.repository.scopes import lost as lost_race
from changeover_registry.signing import load_signer

__all__ = [
    "Effective",
    "back_path",
    "check_back_place",
    "effective",
    "history",
    "newest",
    "newest_first",
    "renew",
    "signed_back",
    "stand",
    "without_target",
    "write",
]

IGNORED = (TrustError, InvalidInputError, UndecidedError)
"""What makes a back be left aside and told: it is wrong. One that cannot be read at this moment is read again."""


@dataclass(frozen=True, slots=True)
class Effective:
    """A scope's choice as readers take it.

    `signed` is the choice itself, `choice` the same with what the way back returned in it; `back` is the one that
    stands, if there is one. `ignored` is what is wrong with it, or with parts of it.
    """

    signed: Choice
    choice: Choice
    back: Back | None = None
    ignored: tuple[ChangeoverError, ...] = ()


def effective(head: Choice, back: Back | None, past: Iterable[Choice], where: str) -> Effective:
    """What holds of a scope. Pure, but for the reading of `past`, of which no more is read than is needed.

    Args:
        head: The newest choice that was signed to the scope's threshold.
        back: The newest way back of that scope, if there is one.
        past: `head` and the choices before it, newest first, each under the digest that the one after it names.
        where: The file of `back`, for messages.

    Raises:
        TrustError: The past of the scope itself was changed.
    """
    if back is None or (back.scope == head.scope and back.stands_on < head.number):
        return Effective(head, head)
    if (back.scope, back.stands_on, back.stands_on_digest) != (head.scope, head.number, head.digest()):
        actual = f"choice {back.stands_on} of {back.scope}, sha256 {back.stands_on_digest[:12]}"
        return Effective(head, head, None, (_wrong(where, f"a back that stands on choice {head.number}", actual),))
    wanted = {returned.held_in for returned in back.channels}
    held: dict[int, Choice] = {}
    for choice in past if wanted else ():
        if choice.number in wanted:
            held[choice.number] = choice
        if choice.number <= min(wanted):
            break
    choice, ignored = head, []
    for returned in back.channels:
        pointer = _held(held.get(returned.held_in), returned)
        if pointer is None:
            ignored.append(_never_chosen(where, head.scope, returned))
        else:
            choice = _returned(choice, pointer)
    return Effective(head, choice, back, tuple(ignored))


def stand(folder: Path, reached: Reached, scope: str) -> Effective | None:
    """What holds of a scope, for a writer; None before its first choice.

    Raises:
        TrustError: A choice's file is missing, changed or of another place.
    """
    head = head_of(folder, reached, scope)
    if head is None:
        return None
    try:
        back, where = _newest(folder, reached, scope)
    except IGNORED as error:
        return Effective(head, head, None, (error,))
    return effective(head, back, past_of(folder, head), where)


def write(
    folder: Path, keys: StudioKeys, scope: str, change: Callable[[Effective, tuple[Choice, ...]], Back], now: datetime
) -> Back:
    """Write the next way back of a scope and return it as it stands.

    Args:
        folder: The choice's repository.
        keys: Of these `back` (or, where there is none, `promoter`) and `site` sign.
        scope: ``site`` or ``shows/<show>``.
        change: Given what holds of the scope, and all its choices, newest first: what is to hold. Number, `previous`
            and what it stands on are set here. It may raise; then nothing was written.
        now: The moment of signing.

    Raises:
        InvalidInputError: The scope has no choice, or no keys for its way back.
        TrustError: The key may not sign it; a release was never chosen; the repository was changed by somebody else.
        LostRaceError: Somebody else is writing.
        OSError: The folder cannot be written; what held before holds.
    """
    role = back_role(scope)
    with writing(folder, keys, scope, now) as reached:
        check_enrolled(reached, role_of(scope))
        holds = stand(folder, reached, scope)
        if holds is None:
            raise _nothing_chosen(scope)
        _check_has_keys(reached, role, scope)
        past = tuple(past_of(folder, holds.signed))
        new = _numbered(change(holds, past), holds.signed, newest(folder, reached, scope))
        checked = effective(holds.signed, new, past, back_path(scope, new.number))
        for problem in checked.ignored:
            raise problem
        data, file = signed_back(new, reached.targets, keys, now)
        try:
            metadata.write(folder, reached, Change(data, (file,)), load_signer(keys.site), now, exclusively=True)
        except FileExistsError as error:
            raise lost_race(folder, scope, peek(folder, scope), "is what somebody returned from first") from error
    return new


def renew(folder: Path, keys: StudioKeys, now: datetime) -> tuple[str, ...]:
    """Sign again each way back with less than half of its life left that a key here may sign for.

    Returns:
        The roles that were signed.

    Raises:
        LostRaceError: Another process is writing.
        TrustError: The repository was changed by somebody else.
        OSError: The folder cannot be written.
    """
    reached = read_reached(folder, anchor_bytes(keys.anchor))
    if not _due(reached, keys, now):
        return ()
    with writing(folder, keys, "site", now) as reached:
        files, data = [], {}
        for role in _due(reached, keys, now):
            old = newest(folder, reached, scope_of(role))
            if old is not None:
                link = {"number": old.number + 1, "previous": old.digest()}
                target, file = signed_back(old.model_copy(update=link), reached.targets, keys, now)
                files.append(file)
                data.update(target)
        metadata.write(folder, reached, Change(data, tuple(files)), load_signer(keys.site), now, exclusively=True)
    return tuple(file.role for file in files)


def history(folder: Path, scope: str, *, root: bytes | None = None) -> tuple[Back, ...]:
    """Every way back of a scope, oldest first, whether it stood on anything or not; none where nobody went back.

    Raises:
        InvalidInputError: There is no repository in the folder.
        TrustError: A file is missing, or is not what the next one names.
    """
    check_is_repository(folder)
    reached = read_reached(folder, root or anchor_bytes(folder / "metadata" / "1.root.json"))
    return tuple(reversed(tuple(newest_first(folder, reached, scope))))


def newest_first(folder: Path, reached: Reached, scope: str) -> Iterator[Back]:
    """Every way back of a scope, newest first, each read when it is asked for.

    Raises:
        TrustError: A file is missing, or is not what the next one names.
    """
    back = newest(folder, reached, scope)
    while back is not None:
        yield back
        back = _load(folder, scope, back.number - 1, back.previous) if back.previous else None


def newest(folder: Path, reached: Reached, scope: str) -> Back | None:
    """The newest way back of a scope, for its successor; where nobody can read it, one that returns nothing.

    Raises:
        TrustError: The scope's choice itself was changed.
    """
    try:
        return _newest(folder, reached, scope)[0]
    except IGNORED:
        role = reached.roles[back_role(scope)]
        head = head_of(folder, reached, scope)
        return None if head is None else _empty(head, role.version)


def signed_back(back: Back, delegator: Targets, keys: StudioKeys, now: datetime) -> tuple[dict[str, bytes], RoleFile]:
    """The target and the role file of a way back.

    Raises:
        TrustError: The key here may not sign it.
    """
    path, data, role = back_path(back.scope, back.number), back.to_bytes(), back_role(back.scope)
    signed = Targets(back.number, expires=metadata.expiry(role, now))
    signed.targets[path] = metadata.target_info(path, data)
    return {path: data}, metadata.role_file(role, signed, delegator, [load_signer(_key(keys))])


def back_path(scope: str, number: int) -> str:
    """The target's path of a way back."""
    return f"{scope}/back/back-{number}.json"


def check_back_place(back: Back, scope: str, number: int, where: str) -> None:
    """Check that a way back is the one that its place says.

    Raises:
        TrustError: It is of another scope or number.
    """
    if (back.scope, back.number) != (scope, number):
        actual = f"back {back.number} of {back.scope}"
        raise _wrong(where, f"back {number} of {scope}", actual)


def without_target(where: str) -> TrustError:
    """What is wrong with a way back whose role names no such target."""
    return _wrong(where, "the target that has this number", "a role that names no such target")


def _key(keys: StudioKeys) -> Path:
    return keys.back if keys.back and keys.back.is_file() else keys.promoter


def _due(reached: Reached, keys: StudioKeys, now: datetime) -> list[str]:
    if not _key(keys).is_file():
        return []
    mine = load_signer(_key(keys)).public_key.keyid
    backs = [role for role in reached.delegated() if is_back(role) and role in reached.roles]
    late = [role for role in backs if metadata.is_due(role, reached.roles[role].expires, now)]
    return [role for role in late if mine in reached.targets.get_delegated_role(role).keyids]


def _numbered(back: Back, head: Choice, last: Back | None) -> Back:
    link = {
        "number": last.number + 1 if last else 1,
        "previous": last.digest() if last else None,
        "stands_on": head.number,
        "stands_on_digest": head.digest(),
    }
    return Back.from_bytes(back.model_copy(update=link).to_bytes(), where=f"the way back of {head.scope}")


def _held(choice: Choice | None, returned: Returned) -> Pointer | None:
    pointer = choice.pointer(returned.channel, returned.release.model) if choice else None
    return pointer if pointer and pointer.release == returned.release else None


def _returned(choice: Choice, pointer: Pointer) -> Choice:
    """`choice` with the pointer as it was; what was on its way into that channel is no longer."""
    name = (pointer.channel, pointer.release.model)
    channels = [p for p in choice.channels if (p.channel, p.release.model) != name]
    channels = sorted([*channels, pointer], key=lambda p: (p.channel, p.release.model))
    shares = tuple(s for s in choice.shares if (s.channel, s.release.model) != name)
    return choice.model_copy(update={"channels": tuple(channels), "shares": shares})


def _newest(folder: Path, reached: Reached, scope: str) -> tuple[Back | None, str]:
    role = reached.roles.get(back_role(scope))
    if role is None:
        return None, ""
    path = back_path(scope, role.version)
    info = role.targets.get(path)
    if info is None:
        raise _wrong(f"{folder}: {back_role(scope)}", path, ", ".join(sorted(role.targets)[:3]) or "no target")
    return _load(folder, scope, role.version, info.hashes["sha256"]), str(folder / "targets" / path)


def _empty(head: Choice, number: int) -> Back:
    """What stands in for a way back that nobody can read, so that the next has the next number."""
    return Back(scope=head.scope, number=number, entry=head.entry, stands_on=1, stands_on_digest=head.digest())


def _load(folder: Path, scope: str, number: int, digest: str) -> Back:
    path = back_path(scope, number)
    back = Back.from_bytes(read_target(folder, path, digest), where=path)
    check_back_place(back, scope, number, str(folder / "targets" / path))
    return back


def _check_has_keys(reached: Reached, role: str, scope: str) -> None:
    if role not in reached.delegated():
        raise InvalidInputError(
            "way back",
            where=scope,
            expected="keys that may sign this scope's way back",
            actual="a scope that was enrolled before there was one",
            remedy=f"where the targets key is: changeover keys enrol KEY.pub --scope {scope} --role back --owner NAME",
        )


def _nothing_chosen(scope: str) -> InvalidInputError:
    return InvalidInputError(
        "way back", where=scope, expected="a scope that has chosen", actual="no choice", remedy="promote a release"
    )


def _never_chosen(where: str, scope: str, returned: Returned) -> TrustError:
    return TrustError(
        "way back",
        where=where,
        expected=f"a release that choice {returned.held_in} of {scope} held on {returned.channel}",
        actual=f"{returned.release}, which it did not: a stolen back key, or a mistake",
        remedy=f"it is left aside; find out who signed it, and revoke the key: changeover keys list --scope {scope}",
    )


def _wrong(where: str, expected: str, actual: str) -> TrustError:
    return TrustError(
        "way back",
        where=where,
        expected=expected,
        actual=f"{actual}: a stolen back key, or a mistake",
        remedy="it is left aside; find out who signed it, and revoke the key: changeover keys list",
    )
