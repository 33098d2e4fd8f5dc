"""The choice: the studio's own signed repository of channels, pins and overrides, one chain of versions a scope.

Each scope (``site``, ``shows/<show>``) has a delegated role (``site``, ``shows.<show>``) with its promoters' keys and
threshold. Version n of the role has one target, ``<scope>/choice-<n>.json``, which names the digest of choice n-1: the
files of the past stay, and `history` follows them. Snapshot and timestamp are signed by one online key, which can put
nothing past a role's threshold. A choice short of signatures waits (`pending`) until `approve` adds the last.

Order of `write`, under the lock: target, role file (created exclusively: that decides a race), snapshot, timestamp. A
writer that dies after the role file has decided and not yet said so; the next writer says it (`repair` too), before it
does anything else. Left out: who may promote what by policy, and keys that come and go (`enrolment`, `rotation`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Targets

from changeover_registry.client import Client, NotNamedError
from changeover_registry.errors import ChangeoverError
from changeover_registry.records.choice import Back, Choice
from changeover_registry.repository import backs, metadata, past, pending
from changeover_registry.repository.approval import publish, signers_of, tidy
from changeover_registry.repository.backs import Effective
from changeover_registry.repository.enrolment import delegated, enrol_scope, owned
from changeover_registry.repository.keys import StudioKeys, new_studio_keys
from changeover_registry.repository.metadata import Change
from changeover_registry.repository.pending import Written
from changeover_registry.repository.reached import (
    anchor_bytes,
    check_is_repository,
    read_reached,
)
from changeover_registry.repository.scopes import (
    back_role,
    check_enrolled,
    check_place,
    choice_path,
    is_back,
    numbered,
    past_of,
    reach_unreached,
    role_of,
    scope_of,
    writing,
)
from changeover_registry.signing import load_signer
from changeover_registry.transport.folder import FolderTransport

__all__ = [
    "Reading",
    "StudioKeys",
    "create",
    "due",
    "enrol_scope",
    "history",
    "new_studio_keys",
    "read",
    "read_all",
    "renew",
    "repair",
    "write",
]

_LIMIT_BYTES = pending.LIMIT_BYTES


@dataclass(frozen=True, slots=True)
class Reading:
    """What holds of every scope, verified: ``site`` first, then shows in the order of their enrolment."""

    scopes: tuple[Effective, ...]

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Each scope's choice, with what its way back returned."""
        return tuple(scope.choice for scope in self.scopes)

    @property
    def ignored(self) -> tuple[ChangeoverError, ...]:
        """What is wrong with ways back; it is left aside and must be told."""
        return tuple(error for scope in self.scopes for error in scope.ignored)


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
    targets = delegated(empty, "site", [owned(key, first.entry.who) for key in keyring], threshold, now)
    targets.version = 1
    data, role = _signed(numbered(first, "site", None), targets, [promoter], now)
    change = Change(data, (metadata.role_file("targets", targets, signed, [top]), role))
    return metadata.create(folder, keys.anchor, change, metadata.sign_root(signed, signed, root), online, now)


def write(
    folder: Path,
    keys: StudioKeys,
    scope: str,
    change: Callable[[Choice | None], Choice],
    now: datetime,
    *,
    co_signers: Sequence[Path] = (),
    wants: int | None = None,
    without: Sequence[str] = (),
) -> Written:
    """Write the next choice of a scope; where signatures are missing, file it so that others may sign it.

    Args:
        folder: The choice's repository.
        keys: Of these `promoter` signs and, where the choice is complete, `site`.
        scope: ``site`` or ``shows/<show>``.
        change: Given what holds of the scope (its newest choice, with what its way back returned; None before the
            first), the next choice. Its number and `previous` are set here. It may raise; then nothing was written.
        now: The moment of signing.
        co_signers: Private keys of further promoters, where the threshold is above 1.
        wants: How many signatures it needs, where that is more than the threshold.
        without: The ids of keys whose signatures do not count for it.

    Raises:
        LostRaceError: Somebody else is writing or was first; the message names the newest choice and its author.
        InvalidInputError: The scope is not enrolled, or `change` answered with another scope's choice.
        TrustError: A key may not sign for the scope, or the repository was changed by somebody else.
        OSError: The folder cannot be written; the old choice holds.
    """
    role = role_of(scope)
    with writing(folder, keys, scope, now) as reached:
        check_enrolled(reached, role)
        holds = backs.stand(folder, reached, scope)
        if holds:
            tidy(folder, holds.signed)
        new = numbered(change(holds.choice if holds else None), scope, holds.signed if holds else None)
        signers = signers_of(reached, role, (keys.promoter, *co_signers))
        stands = holds.back.number if holds and holds.back else None
        proposed = pending.propose(new, signers, now, back=stands, wants=wants, without=without)
        tally = pending.tally(proposed, reached.targets)
        if not tally.complete:
            pending.file(folder, proposed)
            return Written(new, pending.entry_name(new), tally.missing)
        load_signer(keys.site)
        publish(folder, keys, reached, proposed, now)
    return Written(new)


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
    with writing(folder, keys, "site", now) as reached:
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
    have = [role for role in reached.delegated() if role in reached.roles and not is_back(role)]
    named = {role: reached.targets.get_delegated_role(role) for role in have}
    alone = [role for role, by in named.items() if by.threshold == 1 and mine in by.keyids]
    late = [role for role in alone if metadata.is_due(role, reached.roles[role].expires, now)]
    return tuple(scope_of(role) for role in late)


def repair(folder: Path, keys: StudioKeys, now: datetime) -> tuple[str, ...]:
    """Reach the role files that a killed writer, or one without the site's key, left unreached; their names.

    Raises:
        LostRaceError: Another process is writing.
        TrustError: A file there is not signed by the keys that the repository names.
        OSError: The folder cannot be written.
    """
    return reach_unreached(folder, keys, now)


def read(folder: Path, state: Path, root: bytes, *, at: datetime | None = None) -> tuple[Choice, ...]:
    """The choices of `read_all` alone."""
    return read_all(folder, state, root, at=at).choices


def read_all(folder: Path, state: Path, root: bytes, *, at: datetime | None = None) -> Reading:
    """What holds of every scope, verified.

    Args:
        folder: The choice's repository.
        state: The reader's own folder of what it verified before.
        root: The root metadata that the reader was given by hand.
        at: The moment at which expiry is judged, such as the arrival of a bundle that was cleared later; None for now.

    Raises:
        TrustError: Something is expired, wrongly signed, older than before, or has another digest. A way back that is
            no such thing is not among it: it is left aside.
        UnreachableError: The folder cannot be read.
        LostRaceError: Another process has been using `state` for half a minute.
        OSError: `state` cannot be written.
    """
    client = Client(FolderTransport(folder), state, root, at=at)
    client.refresh()
    versions = client.versions()
    scopes = [role for role in client.delegated() if role in versions and not is_back(role)]
    return Reading(tuple(_fetch_scope(folder, client, scope_of(role), versions) for role in scopes))


def history(folder: Path, scope: str, *, root: bytes | None = None, naming: str | None = None) -> tuple[Choice, ...]:
    """Every choice of a scope, oldest first; none if it never chose. With `naming`, those with that text in them.

    The chain is verified from `root` if it is given, else from the folder's own first root; expiry is left aside.

    Raises:
        InvalidInputError: There is no repository in the folder.
        TrustError: A file is missing, or is not what the next one names.
    """
    check_is_repository(folder)
    reached = read_reached(folder, root or anchor_bytes(folder / "metadata" / "1.root.json"))
    links = past.links_of(folder, reached, scope)
    wanted = (link for link in links if naming is None or naming.encode() in link.data)
    return tuple(reversed([link.choice() for link in wanted]))


def _signed(
    choice: Choice, targets: Targets, signers: Sequence[Signer], now: datetime
) -> tuple[dict[str, bytes], metadata.RoleFile]:
    """The target and the role file of a choice that is complete at once."""
    proposed = pending.propose(choice, signers, now)
    data, file = pending.publishable(proposed)
    return data, metadata.check_signed(file, targets)


def _fetch_scope(folder: Path, client: Client, scope: str, versions: dict[str, int]) -> Effective:
    head, role = _fetch(client, scope, versions[role_of(scope)]), back_role(scope)
    if role not in versions or role not in client.delegated():
        return Effective(head, head)
    where = f"{client.transport.location}: {backs.back_path(scope, versions[role])}"
    try:
        back = _fetch_back(client, scope, versions[role], where)
    except backs.IGNORED as error:
        return Effective(head, head, None, (error,))
    return backs.effective(head, back, past_of(folder, head), where)


def _fetch(client: Client, scope: str, number: int) -> Choice:
    path = choice_path(scope, number)
    choice = Choice.from_bytes(client.target(path, limit=_LIMIT_BYTES), where=path)
    check_place(choice, scope, number, f"{client.transport.location}: {path}")
    return choice


def _fetch_back(client: Client, scope: str, number: int, where: str) -> Back:
    try:
        data = client.target(backs.back_path(scope, number), limit=_LIMIT_BYTES)
    except NotNamedError as error:
        raise backs.without_target(where) from error
    back = Back.from_bytes(data, where=where)
    backs.check_back_place(back, scope, number, where)
    return back
