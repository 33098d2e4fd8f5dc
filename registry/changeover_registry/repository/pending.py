"""A choice that waits for signatures: ``pending/<role>/<n>.json``, one for each next choice of a scope.

Nothing in it is believed. It holds the choice and when its role file would expire; the bytes that are signed are made
from these two, so that an entry can name nothing but a choice. A signature counts if the key is one of the scope's and
the signature is right; one that is wrong has the whole entry refused. Links, other names and files larger than any
choice are refused unread. Left out: who may sign and why (`choice`), and whether a release may be chosen.
"""

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import Key, Signature, Signer
from tuf.api.metadata import SPECIFICATION_VERSION, Metadata, Targets

from changeover_registry._fs import fsync_dir, make_dirs, write_atomic, write_new
from changeover_registry.clock import format_time, parse_time
from changeover_registry.errors import ChangeoverError, InvalidInputError, LostRaceError, TrustError
from changeover_registry.records.choice import Approval, Choice, Entry, Pending
from changeover_registry.repository import metadata
from changeover_registry.repository.metadata import RoleFile
from changeover_registry.repository.scopes import choice_path, role_of

__all__ = [
    "LIMIT_BYTES",
    "OWNER",
    "Tally",
    "Written",
    "add_signature",
    "discard",
    "entry_name",
    "file",
    "load",
    "names",
    "owner_of",
    "propose",
    "publishable",
    "settle",
    "tally",
]

LIMIT_BYTES = 8 * 1024 * 1024
"""What no choice is larger than."""
OWNER = "x-changeover-owner"
"""Under what a key of the choice's roles names the person who has it; signed with the rest of the delegation."""
_ENTRY = re.compile(r"(site|shows\.[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?)/([1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class Written:
    """The next choice of a scope as somebody wrote it: chosen, or waiting for signatures.

    `entry` is None where it is chosen; else the name under which it waits, for ``approve``. `missing` says then, in a
    few words, what it waits for. `reached` is false where it is chosen and readers do not see it yet, since this host
    has no site key: whoever writes next, or ``doctor --repair``, lets them.
    """

    choice: Choice
    entry: str | None = None
    missing: str = ""
    reached: bool = True

    @property
    def chosen(self) -> bool:
        """Whether nothing is waited for any more."""
        return self.entry is None


@dataclass(frozen=True, slots=True)
class Tally:
    """Who has signed an entry with a key of the scope, whose signatures are missing, and how many."""

    signed: Mapping[str, Key]
    unsigned: Mapping[str, Key]
    needed: int

    @property
    def complete(self) -> bool:
        """Whether there are as many as it takes."""
        return len(self.signed) >= self.needed

    @property
    def missing(self) -> str:
        """In a few words, what is missing; nothing where it is complete."""
        count = self.needed - len(self.signed)
        if count <= 0:
            return ""
        of = ", ".join(f"{owner_of(key)} ({key.keyid[:12]})" for key in self.unsigned.values())
        more = "one more signature" if count == 1 else f"{count} more signatures"
        return f"{more} of {self.needed}, by {of or 'nobody who is enrolled'}"


def owner_of(key: Key) -> str:
    """Whose key it is, as it was enrolled."""
    return str(key.unrecognized_fields.get(OWNER, "-"))


def propose(
    choice: Choice,
    signers: Sequence[Signer],
    now: datetime,
    *,
    back: int | None = None,
    wants: int | None = None,
    without: Sequence[str] = (),
) -> Pending:
    """A choice with its first signatures, by whoever its entry names."""
    expires = format_time(metadata.expiry(role_of(choice.scope), now))
    specification = ".".join(SPECIFICATION_VERSION)
    data = _role(choice, expires, specification).signed_bytes
    said = {"who": choice.entry.who, "when": choice.entry.when, "why": choice.entry.why}
    signatures = tuple(_approval(signer, data, said) for signer in signers)
    return Pending(
        choice=choice,
        expires=expires,
        specification=specification,
        signatures=signatures,
        back=back,
        wants=wants,
        without=tuple(without),
    )


def add_signature(pending: Pending, signer: Signer, who: str, why: str | None, now: datetime) -> Pending:
    """`pending` with one signature more, over the same bytes."""
    data = _role(pending.choice, pending.expires, pending.specification).signed_bytes
    new = _approval(signer, data, {"who": who, "when": format_time(now), "why": why})
    return pending.model_copy(update={"signatures": (*pending.signatures, new)})


def tally(pending: Pending, targets: Targets) -> Tally:
    """Whose signatures an entry has, by the keys that `targets` names for its scope.

    Raises:
        TrustError: A signature is wrong, or by a key that may not sign for the scope.
    """
    role = role_of(pending.choice.scope)
    signed = _metadata(pending)
    result = targets.get_verification_result(role, signed.signed_bytes, signed.signatures)
    strays = [approval for approval in pending.signatures if approval.key_id not in result.signed]
    if strays:
        known = ", ".join(
            f"{owner_of(k)} ({k.keyid[:12]})" for k in (*result.signed.values(), *result.unsigned.values())
        )
        name = entry_name(pending.choice)
        raise TrustError(
            "signature of an entry",
            where=f"pending/{name}",
            expected=f"valid signatures by keys that may sign for {pending.choice.scope} now: {known}",
            actual=f"one in the name of {strays[0].who} by key {strays[0].key_id[:12]}, which is not",
            remedy=f"find out who filed it; then: changeover approve {name} --reject --reason ...",
        )
    counted = {keyid: key for keyid, key in result.signed.items() if keyid not in pending.without}
    others = {keyid: key for keyid, key in result.unsigned.items() if keyid not in pending.without}
    return Tally(counted, others, max(result.threshold, pending.wants or 1))


def publishable(pending: Pending) -> tuple[dict[str, bytes], RoleFile]:
    """The target and the role file of an entry that is complete."""
    choice = pending.choice
    data = {choice_path(choice.scope, choice.number): choice.to_bytes()}
    return data, RoleFile(role_of(choice.scope), choice.number, _metadata(pending).to_bytes())


def entry_name(choice: Choice) -> str:
    """The name under which a choice waits: ``site/8``, ``shows.atlas/3``."""
    return f"{role_of(choice.scope)}/{choice.number}"


def names(folder: Path) -> tuple[str, ...]:
    """The names of all entries that wait; files of other names are none."""
    root = folder / "pending"
    found = [
        f"{role.name}/{path.stem}"
        for role in _listed(root)
        for path in _listed(role)
        if path.suffix == ".json" and _ENTRY.fullmatch(f"{role.name}/{path.stem}")
    ]
    return tuple(sorted(found, key=lambda name: (name.partition("/")[0], int(name.partition("/")[2]))))


def load(folder: Path, name: str) -> Pending:
    """The entry of that name; nothing that it says is verified but its form and its place.

    Raises:
        InvalidInputError: There is no such entry, or it is none in form.
        TrustError: A link or something else stands in its place, or it is of another place.
    """
    path = _path(folder, name)
    pending = Pending.from_bytes(_small_file(path, name), where=str(path))
    if entry_name(pending.choice) != name or pending.outcome is not None:
        actual = f"the entry {entry_name(pending.choice)}" + (f", {pending.outcome}" if pending.outcome else "")
        raise _refused(path, name, f"the entry {name}, which waits", actual)
    return pending


def file(folder: Path, pending: Pending, *, again: bool = False) -> None:
    """Put an entry in place: a new one where none waits, or (`again`) one with a signature more.

    Raises:
        LostRaceError: Another one waits under its name.
        OSError: The folder cannot be written.
    """
    path = _path(folder, entry_name(pending.choice))
    make_dirs(path.parent)
    try:
        (write_atomic if again else write_new)(path, pending.to_bytes())
    except FileExistsError as error:
        raise _taken(folder, pending) from error


def settle(folder: Path, pending: Pending, outcome: str, entry: Entry) -> None:
    """Put an entry that no longer waits below ``settled/``, and take it away from those that do.

    Raises:
        OSError: The folder cannot be written.
    """
    name = entry_name(pending.choice)
    done = pending.model_copy(update={"outcome": outcome, "settled": entry})
    place = folder / "settled" / f"{name}-{pending.choice.digest()[:12]}.json"
    make_dirs(place.parent)
    write_atomic(place, done.to_bytes())
    discard(folder, name)


def discard(folder: Path, name: str) -> bool:
    """Take away whatever stands under an entry's name, a link itself and not what it names; whether there was anything.

    Raises:
        InvalidInputError: There can be no entry of that name.
        OSError: It is a folder, or cannot be removed.
    """
    path = _path(folder, name)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    fsync_dir(path.parent)
    return True


def _role(choice: Choice, expires: str, specification: str) -> Metadata[Any]:
    path = choice_path(choice.scope, choice.number)
    signed = Targets(choice.number, specification, parse_time(expires))
    signed.targets[path] = metadata.target_info(path, choice.to_bytes())
    return Metadata(signed)


def _metadata(pending: Pending) -> Metadata[Any]:
    made = _role(pending.choice, pending.expires, pending.specification)
    for approval in pending.signatures:
        made.signatures[approval.key_id] = Signature(approval.key_id, approval.signature)
    return made


def _approval(signer: Signer, data: bytes, said: Mapping[str, str | None]) -> Approval:
    signature = signer.sign(data)
    return Approval.model_validate({"key_id": signature.keyid, "signature": signature.signature, **said})


def _path(folder: Path, name: str) -> Path:
    match = _ENTRY.fullmatch(name)
    if match is None:
        raise InvalidInputError(
            "entry",
            where=name,
            expected="the name of an entry that waits, such as site/8 or shows.atlas/3",
            actual=repr(name),
            remedy="see them with: changeover approve",
        )
    return folder / "pending" / match[1] / f"{match[2]}.json"


def _listed(folder: Path) -> Sequence[Path]:
    return () if folder.is_symlink() or not folder.is_dir() else sorted(folder.iterdir())


def _small_file(path: Path, name: str) -> bytes:
    """The bytes of a plain file that is no larger than an entry can be; the folders above it are no links."""
    for folder in (path.parent.parent, path.parent):
        if folder.is_symlink():
            raise _refused(path, name, "folders of the choice's own", f"a link at {folder.name}")
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError as error:
        raise InvalidInputError(
            "entry",
            where=name,
            expected="an entry that waits",
            actual="none of that name: it was chosen or rejected, or never filed",
            remedy="see what waits with: changeover approve",
        ) from error
    except OSError as error:
        raise _refused(path, name, "a file", error.strerror or str(error)) from error
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise _refused(path, name, "a file", "something else")
        data = stream.read(LIMIT_BYTES + 1)
    if len(data) > LIMIT_BYTES:
        raise _refused(path, name, f"at most {LIMIT_BYTES} bytes", "a larger file")
    return data


def _refused(path: Path, name: str, expected: str, actual: str) -> TrustError:
    remedy = f"find out who put it there; then: changeover approve {name} --reject --reason ..."
    return TrustError("entry", where=str(path), expected=expected, actual=actual, remedy=remedy)


def _taken(folder: Path, pending: Pending) -> LostRaceError:
    name = entry_name(pending.choice)
    try:
        other = load(folder, name).choice.entry
        actual = f"one by {other.who} at {other.when} ({other.what}), which waits for signatures"
    except (ChangeoverError, OSError) as error:
        actual = f"one that cannot be read ({error})"
    return LostRaceError(
        "entry",
        where=f"pending/{name}",
        expected="no other choice of that number",
        actual=actual,
        remedy=f"sign it with changeover approve {name}, or take it back with changeover approve {name} --reject",
    )
