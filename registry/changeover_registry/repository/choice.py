"""The choice: the studio's own signed repository of channels, pins and overrides, one chain of versions a scope.

Each scope (``site``, ``shows/<show>``) has a delegated role (``site``, ``shows.<show>``) with its promoters' keys and
threshold. Version n of the role has one target, ``<scope>/choice-<n>.json``, which names the digest of choice n-1: the
files of the past stay, and `history` follows them. Snapshot and timestamp are signed by one online key, which can put
nothing past a role's threshold.

Order of `write`, under the lock: target, role file (created exclusively: that decides a race), snapshot, timestamp. A
writer that dies after the role file has decided and not yet said so; the next writer says it (`repair` too), before it
does anything else. Left out: who may promote what by policy, and entries that wait for signatures.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import Targets

from changeover_registry._fs import lock
from changeover_registry.client import Client
from changeover_registry.errors import ChangeoverError, InvalidInputError, LostRaceError, TrustError
from changeover_registry.names import check_name
from changeover_registry.records.choice import Choice
from changeover_registry.repository import metadata
from changeover_registry.repository.keys import StudioKeys, new_studio_keys
from changeover_registry.repository.metadata import Change, RoleFile
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
from changeover_registry.transport.folder import FolderTransport

__all__ = [
    "StudioKeys",
    "create",
    "due",
    "enrol_scope",
    "history",
    "new_studio_keys",
    "read",
    "renew",
    "repair",
    "write",
]

_LIMIT_BYTES = 8 * 1024 * 1024


def create(
    folder: Path, keys: StudioKeys, first: Choice, now: datetime, *, promoters: Sequence[Key] = (), threshold: int = 1
) -> bytes:
    """Make the choice's repository with the first choice of the scope ``site`` and return its root metadata.

    Args:
        folder: ``site/choice``; made if it is not there.
        keys: All of them.
        first: What the site chooses; its number becomes 1.
        now: The moment of signing.
        promoters: The public keys that may sign for the site; `keys.promoter` alone if there are none.
        threshold: How many of them must sign.

    Raises:
        InvalidInputError: `first` is of another scope, or a key is missing.
        RefusedError: The folder holds a repository, or something else.
        TrustError: `keys.promoter` is not among `promoters`, or does not reach the threshold.
        OSError: The folder cannot be written.
    """
    metadata.check_can_create(folder)
    root, online = load_signer(keys.root), load_signer(keys.site)
    top, promoter = load_signer(keys.targets), load_signer(keys.promoter)
    signed = metadata.new_root(now, root=root.public_key, targets=top.public_key, online=online.public_key)
    empty = Targets(expires=metadata.expiry("targets", now))
    keyring = promoters or (promoter.public_key,)
    targets = metadata.with_delegation(empty, "site", "site/*", keyring, threshold, now)
    targets.version = 1
    data, role = _signed(_numbered(first, "site", None), targets, [promoter], now)
    change = Change(data, (metadata.role_file("targets", targets, signed, [top]), role))
    return metadata.create(folder, keys.anchor, change, metadata.sign_root(signed, signed, root), online, now)


def enrol_scope(
    folder: Path, keys: StudioKeys, scope: str, now: datetime, *, promoters: Sequence[Key] = (), threshold: int = 1
) -> None:
    """Let a scope choose: delegate its role. It has no choice until its first `write`; enrolled again, nothing happens.

    Args:
        folder: The choice's repository.
        keys: Of these `targets` and `site` sign.
        scope: ``shows/<show>``.
        now: The moment of signing.
        promoters: The public keys that may sign for the scope; `keys.promoter` alone if there are none.
        threshold: How many of them must sign.

    Raises:
        InvalidInputError: `scope` is no scope, or a key is missing.
        TrustError: The repository was changed by somebody else, or a key is not the one that it names.
        LostRaceError: Another process is writing.
        OSError: The folder cannot be written.
    """
    role = _role(scope)
    with _writing(folder, keys, scope, now) as reached:
        if role in reached.delegated():
            return
        keyring = promoters or (load_signer(keys.promoter).public_key,)
        targets = metadata.with_delegation(reached.targets, role, f"{scope}/*", keyring, threshold, now)
        file = metadata.role_file("targets", targets, reached.root, [load_signer(keys.targets)])
        metadata.write(folder, reached, Change({}, (file,)), load_signer(keys.site), now, exclusively=True)


def write(
    folder: Path,
    keys: StudioKeys,
    scope: str,
    change: Callable[[Choice | None], Choice],
    now: datetime,
    *,
    co_signers: Sequence[Path] = (),
) -> Choice:
    """Write the next choice of a scope and return it as it stands.

    Args:
        folder: The choice's repository.
        keys: Of these `promoter` and `site` sign.
        scope: ``site`` or ``shows/<show>``.
        change: Given the scope's newest choice (None before the first), the next one. Its number and `previous` are
            set here. It may raise; then nothing was written.
        now: The moment of signing.
        co_signers: Private keys of further promoters, where the threshold is above 1.

    Raises:
        LostRaceError: Somebody else is writing or was first; the message names the newest choice and its author.
        InvalidInputError: The scope is not enrolled, or `change` answered with another scope's choice.
        TrustError: The keys do not reach the scope's threshold, or the repository was changed by somebody else.
        OSError: The folder cannot be written; the old choice holds.
    """
    role = _role(scope)
    with _writing(folder, keys, scope, now) as reached:
        head = _head(folder, reached, scope)
        _check_enrolled(reached, role)
        new = _numbered(change(head), scope, head)
        signers = [load_signer(path) for path in (keys.promoter, *co_signers)]
        data, file = _signed(new, reached.targets, signers, now)
        try:
            metadata.write(folder, reached, Change(data, (file,)), load_signer(keys.site), now, exclusively=True)
        except FileExistsError as error:
            raise _lost(folder, scope, _winner(folder, reached, file), "wrote it first") from error
    return new


def renew(folder: Path, keys: StudioKeys, now: datetime) -> tuple[str, ...]:
    """Sign again what has less than half of its life left; root and targets only where the key's file is there.

    A scope's role is renewed by its next choice alone, since only its promoters sign for it; `due` says which wait.

    Returns:
        The roles that were signed.

    Raises:
        LostRaceError: Another process is writing.
        TrustError: The repository was changed by somebody else, or a key is not the one that it names.
        OSError: The folder cannot be written.
    """
    with _writing(folder, keys, "site", now) as reached:
        root, files = metadata.renew_top(reached, keys.root, keys.targets, now)
        dates = {"snapshot": reached.snapshot.expires, "timestamp": reached.timestamp.expires}
        due = [role for role, expires in dates.items() if metadata.is_due(role, expires, now)]
        if not (root or files or due):
            return ()
        metadata.write(folder, reached, Change({}, tuple(files), root), load_signer(keys.site), now, exclusively=True)
        return (*(["root"] if root else []), *(file.role for file in files), "snapshot", "timestamp")


def due(folder: Path, keys: StudioKeys, now: datetime) -> tuple[str, ...]:
    """The scopes whose role has less than half of its life left and which `keys.promoter` may sign for alone.

    One scope that expires keeps every reader out of all of them, so whoever promotes anything renews these too.

    Raises:
        InvalidInputError: There is no repository, or no such key.
        TrustError: The repository was changed by somebody else.
    """
    reached = read_reached(folder, anchor_bytes(keys.anchor))
    mine = load_signer(keys.promoter).public_key.keyid
    named = {role: reached.targets.get_delegated_role(role) for role in reached.delegated() if role in reached.roles}
    alone = [role for role, by in named.items() if by.threshold == 1 and mine in by.keyids]
    late = [role for role in alone if metadata.is_due(role, reached.roles[role].expires, now)]
    return tuple(role.replace(".", "/") for role in late)


def repair(folder: Path, keys: StudioKeys, now: datetime) -> tuple[str, ...]:
    """Reach the role files that a killed writer left unreached, and return their names.

    Raises:
        LostRaceError: Another process is writing.
        TrustError: A file there is not signed by the keys that the repository names.
        OSError: The folder cannot be written.
    """
    with _locked(folder, "site"):
        reached = read_reached(folder, anchor_bytes(keys.anchor))
        files = _unreached(folder, reached)
        if files:
            metadata.reach(folder, reached, files, load_signer(keys.site), now)
        return tuple(file.path(folder).name for file in files)


def read(folder: Path, state: Path, root: bytes) -> tuple[Choice, ...]:
    """The newest choice of every scope, verified: ``site`` first, then shows in the order of their enrolment.

    Args:
        folder: The choice's repository.
        state: The reader's own folder of what it verified before.
        root: The root metadata that the reader was given by hand.

    Raises:
        TrustError: Something is expired, wrongly signed, older than before, or has another digest.
        UnreachableError: The folder cannot be read.
        LostRaceError: Another process has been using `state` for half a minute.
        OSError: `state` cannot be written.
    """
    client = Client(FolderTransport(folder), state, root)
    client.refresh()
    versions = client.versions()
    return tuple(_fetch(client, role, versions[role]) for role in client.delegated() if role in versions)


def history(folder: Path, scope: str, *, root: bytes | None = None) -> tuple[Choice, ...]:
    """Every choice of a scope, oldest first; none if it never chose.

    The chain is verified from `root` if it is given, else from the folder's own first root; expiry is left aside.

    Raises:
        InvalidInputError: There is no repository in the folder.
        TrustError: A file is missing, or is not what the next one names.
    """
    check_is_repository(folder)
    reached = read_reached(folder, root or anchor_bytes(folder / "metadata" / "1.root.json"))
    choices: list[Choice] = []
    choice = _head(folder, reached, scope)
    while choice is not None:
        choices.append(choice)
        number, digest = choice.number - 1, choice.previous
        choice = _load(folder, scope, number, digest) if digest else None
    return tuple(reversed(choices))


def _role(scope: str) -> str:
    """The TUF role of a scope; a role's name is a file's name, so it has no slash."""
    if scope != "site":
        prefix, _, show = scope.partition("/")
        check_name(show if prefix == "shows" else "", where=f"scope {scope}")
    return scope.replace("/", ".")


def _path(scope: str, number: int) -> str:
    return f"{scope}/choice-{number}.json"


def _numbered(choice: Choice, scope: str, head: Choice | None) -> Choice:
    """`choice` as the successor of `head`."""
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


def _signed(
    choice: Choice, targets: Targets, signers: Sequence[CryptoSigner], now: datetime
) -> tuple[dict[str, bytes], RoleFile]:
    """The target and the role file of a choice."""
    path, data = _path(choice.scope, choice.number), choice.to_bytes()
    role = _role(choice.scope)
    signed = Targets(choice.number, expires=metadata.expiry(role, now))
    signed.targets[path] = metadata.target_info(path, data)
    return {path: data}, metadata.role_file(role, signed, targets, signers)


@contextlib.contextmanager
def _writing(folder: Path, keys: StudioKeys, scope: str, now: datetime) -> Iterator[Reached]:
    """Hold the lock, finish what a killed writer left, and hand over what is then reached."""
    anchor = anchor_bytes(keys.anchor)
    with _locked(folder, scope):
        reached = read_reached(folder, anchor)
        files = _unreached(folder, reached)
        if files:
            metadata.reach(folder, reached, files, load_signer(keys.site), now)
            reached = read_reached(folder, anchor)
        yield reached


@contextlib.contextmanager
def _locked(folder: Path, scope: str) -> Iterator[None]:
    check_is_repository(folder)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(folder / "lock", what="the choice"))
        except LostRaceError as error:
            raise _lost(folder, scope, _peek(folder, scope), "is the newest while somebody writes the next") from error
        yield


def _unreached(folder: Path, reached: Reached) -> list[RoleFile]:
    """The role files that a killed writer created and no snapshot names, verified, with their targets."""
    files = _next_file(folder, reached, "targets", reached.root)
    targets = read_role(folder, "targets", files[0].version, reached.root) if files else reached.targets
    roles = (targets.delegations.roles or {}) if targets.delegations else {}
    return files + [file for role in roles for file in _next_file(folder, reached, role, targets)]


def _next_file(folder: Path, reached: Reached, role: str, delegator: Delegator) -> list[RoleFile]:
    file = RoleFile(role, reached.version(role) + 1, b"")
    path = file.path(folder)
    if not path.exists():
        return []
    if path.stat().st_size == 0:
        # Where the file system has no links, a writer killed between creating and filling leaves an empty file.
        path.unlink()
        return []
    signed = read_role(folder, role, file.version, delegator)
    for name, info in signed.targets.items():
        read_target(folder, name, info.hashes["sha256"])
    return [RoleFile(role, file.version, path.read_bytes())]


def _head(folder: Path, reached: Reached, scope: str) -> Choice | None:
    signed = reached.roles.get(_role(scope))
    return _choice_of(folder, signed, scope) if signed else None


def _choice_of(folder: Path, signed: Targets, scope: str) -> Choice:
    info = signed.targets[_path(scope, signed.version)]
    return _load(folder, scope, signed.version, info.hashes["sha256"])


def _load(folder: Path, scope: str, number: int, digest: str) -> Choice:
    path = _path(scope, number)
    choice = Choice.from_bytes(read_target(folder, path, digest), where=path)
    _check_place(choice, scope, number, str(folder / "targets" / path))
    return choice


def _fetch(client: Client, role: str, number: int) -> Choice:
    scope = role.replace(".", "/")
    path = _path(scope, number)
    choice = Choice.from_bytes(client.target(path, limit=_LIMIT_BYTES), where=path)
    _check_place(choice, scope, number, f"{client.transport.location}: {path}")
    return choice


def _check_place(choice: Choice, scope: str, number: int, where: str) -> None:
    if (choice.scope, choice.number) != (scope, number):
        raise TrustError(
            "place of a choice",
            where=where,
            expected=f"choice {number} of {scope}",
            actual=f"choice {choice.number} of {choice.scope}",
            remedy="find out which promoter signed it",
        )


def _check_enrolled(reached: Reached, role: str) -> None:
    if role not in reached.delegated():
        raise InvalidInputError(
            "scope",
            where=role.replace(".", "/"),
            expected=f"one of {', '.join(name.replace('.', '/') for name in reached.delegated())}",
            actual="a scope that is not enrolled",
            remedy="enrol it first, with the keys that may promote for it",
        )


def _peek(folder: Path, scope: str) -> Choice | None:
    """The newest choice for the message to a loser; nothing is decided by it."""
    with contextlib.suppress(ChangeoverError, OSError):
        choices = history(folder, scope)
        return choices[-1] if choices else None
    return None


def _winner(folder: Path, reached: Reached, file: RoleFile) -> Choice | None:
    with contextlib.suppress(ChangeoverError, OSError):
        signed = read_role(folder, file.role, file.version, reached.delegator(file.role))
        return _choice_of(folder, signed, file.role.replace(".", "/"))
    return None


def _lost(folder: Path, scope: str, head: Choice | None, how: str) -> LostRaceError:
    newest = f"choice {head.number} by {head.entry.who} at {head.entry.when} ({head.entry.what})" if head else "another"
    return LostRaceError(
        "choice",
        where=f"{folder}: {scope}",
        expected="nobody else writing",
        actual=f"{newest} {how}",
        remedy="look at what was chosen and run the command again; nothing was written",
    )
