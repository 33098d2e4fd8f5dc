"""What stands in the choice's folder, from a writer's side: names of scopes and roles, the lock, each scope's newest.

A role file decides; a snapshot only says so. Whoever takes the lock first says what a killed writer decided and did not
say, or, without the site's key, builds on it all the same and leaves the saying to the next who has that key.
Left out: what is written (`choice`, `pending`, `backs`, `enrolment`), and readers elsewhere.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import Targets

from changeover_registry._fs import lock
from changeover_registry.errors import ChangeoverError, InvalidInputError, LostRaceError, TrustError
from changeover_registry.names import check_name
from changeover_registry.records.choice import Choice
from changeover_registry.repository import metadata
from changeover_registry.repository.keys import StudioKeys
from changeover_registry.repository.metadata import RoleFile
from changeover_registry.repository.reached import (
    Delegator,
    Reached,
    anchor_bytes,
    check_is_repository,
    read_reached,
    read_role,
    read_target,
)
from changeover_registry.signing import load_signer

__all__ = [
    "back_role",
    "check_enrolled",
    "check_place",
    "choice_path",
    "head_of",
    "is_back",
    "load_choice",
    "locked",
    "lost",
    "numbered",
    "past_of",
    "peek",
    "reach_unreached",
    "role_of",
    "scope_of",
    "winner",
    "writing",
]

_SITE_PARTS, _SHOW_PARTS = 1, 2
WAIT_SECONDS = 5.0
"""How long a writer waits for another, who needs a fraction of a second: then it can say who chose what."""


def role_of(scope: str) -> str:
    """The TUF role of a scope; a role's name is a file's name, so it has no slash.

    Raises:
        InvalidInputError: `scope` is no scope.
    """
    if scope != "site":
        prefix, _, show = scope.partition("/")
        check_name(show if prefix == "shows" else "", where=f"scope {scope}")
    return scope.replace("/", ".")


def back_role(scope: str) -> str:
    """The role of a scope's way back. A dot parts it, since a show's name may end in anything."""
    return f"{role_of(scope)}.back"


def is_back(role: str) -> bool:
    """Whether a role is a scope's way back; ``shows.back`` is the show of that name."""
    parts = role.split(".")
    return parts[-1] == "back" and len(parts) == (_SITE_PARTS if parts[0] == "site" else _SHOW_PARTS) + 1


def scope_of(role: str) -> str:
    """The scope of a role, or of the way back of one."""
    return (role.removesuffix(".back") if is_back(role) else role).replace(".", "/")


def choice_path(scope: str, number: int) -> str:
    """The target's path of a choice."""
    return f"{scope}/choice-{number}.json"


@contextlib.contextmanager
def writing(folder: Path, keys: StudioKeys, scope: str, now: datetime) -> Iterator[Reached]:
    """Hold the lock, finish what a killed writer left, and hand over what is then decided.

    Raises:
        InvalidInputError: There is no repository, or no trusted root.
        LostRaceError: Another process is writing.
        TrustError: A file there is not signed by the keys that the repository names.
    """
    anchor = anchor_bytes(keys.anchor)
    with locked(folder, scope):
        reached = read_reached(folder, anchor)
        files = _unreached(folder, reached)
        if files and keys.site.is_file():
            metadata.reach(folder, reached, files, load_signer(keys.site), now)
            reached = read_reached(folder, anchor)
        elif files:
            reached = _decided(folder, reached, files)
        yield reached


def reach_unreached(folder: Path, keys: StudioKeys, now: datetime) -> tuple[str, ...]:
    """Reach the role files that a killed writer left unreached, under the lock, and return their names.

    Raises:
        LostRaceError: Another process is writing.
        TrustError: A file there is not signed by the keys that the repository names.
        OSError: The folder cannot be written.
    """
    with locked(folder, "site"):
        reached = read_reached(folder, anchor_bytes(keys.anchor))
        files = _unreached(folder, reached)
        if files:
            metadata.reach(folder, reached, files, load_signer(keys.site), now)
        return tuple(file.path(folder).name for file in files)


@contextlib.contextmanager
def locked(folder: Path, scope: str) -> Iterator[None]:
    """Hold the choice's lock.

    Raises:
        InvalidInputError: There is no repository.
        LostRaceError: Another process is writing; the message names the newest choice and its author.
    """
    check_is_repository(folder)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(folder / "lock", what="the choice", wait_seconds=WAIT_SECONDS))
        except LostRaceError as error:
            raise lost(folder, scope, peek(folder, scope), "is the newest while somebody writes the next") from error
        yield


def head_of(folder: Path, reached: Reached, scope: str) -> Choice | None:
    """The newest choice of a scope, as its promoters signed it; None before the first.

    Raises:
        TrustError: Its file is missing, changed or of another place.
    """
    signed = reached.roles.get(role_of(scope))
    return _choice_of(folder, signed, scope) if signed else None


def past_of(folder: Path, head: Choice | None) -> Iterator[Choice]:
    """`head` and the choices before it, the newest first.

    Raises:
        TrustError: A file is missing, or is not what the next one names.
    """
    while head is not None:
        yield head
        head = load_choice(folder, head.scope, head.number - 1, head.previous) if head.previous else None


def load_choice(folder: Path, scope: str, number: int, digest: str) -> Choice:
    """One choice, by the digest that something signed names.

    Raises:
        TrustError: Its file is missing, changed or of another place.
    """
    path = choice_path(scope, number)
    choice = Choice.from_bytes(read_target(folder, path, digest), where=path)
    check_place(choice, scope, number, str(folder / "targets" / path))
    return choice


def check_place(choice: Choice, scope: str, number: int, where: str) -> None:
    """Check that a choice is the one that its place says.

    Raises:
        TrustError: It is of another scope or number.
    """
    if (choice.scope, choice.number) != (scope, number):
        raise TrustError(
            "place of a choice",
            where=where,
            expected=f"choice {number} of {scope}",
            actual=f"choice {choice.number} of {choice.scope}",
            remedy="find out which promoter signed it",
        )


def numbered(choice: Choice, scope: str, head: Choice | None) -> Choice:
    """`choice` as the successor of `head`.

    Raises:
        InvalidInputError: It is of another scope, or no reader would take it.
    """
    if choice.scope != scope:
        raise InvalidInputError(
            "scope of a choice",
            where=f"the next choice of {scope}",
            expected=f"scope = {scope}",
            actual=f"scope = {choice.scope}",
            remedy="write it to its own scope",
        )
    link = {"number": 1, "previous": None} if head is None else {"number": head.number + 1, "previous": head.digest()}
    # A copy is not checked, and what is signed must be what a reader takes.
    return Choice.from_bytes(choice.model_copy(update=link).to_bytes(), where=f"the next choice of {scope}")


def check_enrolled(reached: Reached, role: str) -> None:
    """Check that a role is delegated.

    Raises:
        InvalidInputError: It is not.
    """
    if role not in reached.delegated():
        scopes = (scope_of(name) for name in reached.delegated() if not is_back(name))
        raise InvalidInputError(
            "scope",
            where=scope_of(role),
            expected=f"one of {', '.join(scopes)}",
            actual="a scope that is not enrolled",
            remedy="enrol it first, with the keys that may promote for it",
        )


def peek(folder: Path, scope: str) -> Choice | None:
    """The newest choice for the message to a loser; nothing is decided by it."""
    with contextlib.suppress(ChangeoverError, OSError):
        reached = read_reached(folder, anchor_bytes(folder / "metadata" / "1.root.json"))
        return head_of(folder, reached, scope)
    return None


def winner(folder: Path, reached: Reached, file: RoleFile) -> Choice | None:
    """The choice of somebody who was first, for the message to the loser."""
    with contextlib.suppress(ChangeoverError, OSError):
        signed = read_role(folder, file.role, file.version, reached.delegator(file.role))
        return _choice_of(folder, signed, scope_of(file.role))
    return None


def lost(folder: Path, scope: str, head: Choice | None, how: str) -> LostRaceError:
    """What a loser is told."""
    newest = f"choice {head.number} by {head.entry.who} at {head.entry.when} ({head.entry.what})" if head else "another"
    return LostRaceError(
        "choice",
        where=f"{folder}: {scope}",
        expected="nobody else writing",
        actual=f"{newest} {how}",
        remedy="look at what was chosen and run the command again; nothing was written",
    )


def _choice_of(folder: Path, signed: Targets, scope: str) -> Choice:
    info = signed.targets.get(choice_path(scope, signed.version))
    if info is None:
        raise TrustError(
            "target",
            where=f"{folder}: metadata/{signed.version}.{role_of(scope)}.json",
            expected=choice_path(scope, signed.version),
            actual=", ".join(sorted(signed.targets)[:3]) or "no target",
            remedy="find out which promoter signed it",
        )
    return load_choice(folder, scope, signed.version, info.hashes["sha256"])


def _unreached(folder: Path, reached: Reached) -> list[RoleFile]:
    """The role files that writers created and no snapshot names, verified, with their targets; in order."""
    files = _next_files(folder, reached, "targets", reached.root)
    targets = read_role(folder, "targets", files[-1].version, reached.root) if files else reached.targets
    roles = (targets.delegations.roles or {}) if targets.delegations else {}
    return files + [file for role in roles for file in _next_files(folder, reached, role, targets)]


def _next_files(folder: Path, reached: Reached, role: str, delegator: Delegator) -> list[RoleFile]:
    """Several, where nobody with the site's key has written since."""
    files: list[RoleFile] = []
    while (file := RoleFile(role, reached.version(role) + len(files) + 1, b"")).path(folder).exists():
        path = file.path(folder)
        if path.stat().st_size == 0:
            # Where the file system has no links, a writer killed between creating and filling leaves an empty file.
            path.unlink()
            break
        signed = read_role(folder, role, file.version, delegator)
        for name, info in signed.targets.items():
            read_target(folder, name, info.hashes["sha256"])
        if role != "targets" and not is_back(role):
            # Once it is reached, readers of every scope fail at a role that has no choice of its own.
            _choice_of(folder, signed, scope_of(role))
        files.append(replace(file, data=path.read_bytes()))
    return files


def _decided(folder: Path, reached: Reached, files: Sequence[RoleFile]) -> Reached:
    """`reached` as it will be once somebody with the site's key has said what these files decided."""
    roles = dict(reached.roles)
    for file in files:
        delegator = reached.root if file.role == "targets" else roles["targets"]
        roles[file.role] = read_role(folder, file.role, file.version, delegator)
    return replace(reached, roles=roles)
