"""Writing a change of a vendor's repository once it has its signatures, or having it wait for those of other holders.

One rule makes it safe at every instant: what is written holds before and after. Each file that a change of keys touches
is signed so that the keys before and those after verify it, snapshot and timestamp included; the new root, which ends
the old keys, comes last. A reader who stops in between sees the old keys over files that hold. Only where an old key is
gone, so that nothing it should sign can be signed, does the root come first.

Left out: which keys a role shall have (`vendor_terms`), what a change lacks (`vendor_draft`), what is published
(`vendor`).
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Signer
from tuf.api.metadata import Root

from changeover_registry.errors import InvalidInputError, LostRaceError, TrustError, UndecidedError
from changeover_registry.repository import metadata
from changeover_registry.repository.metadata import Change, RoleFile, RootFile
from changeover_registry.repository.reached import Reached
from changeover_registry.repository.vendor_draft import (
    Draft,
    alike,
    delegated_by,
    merged,
    required,
    same,
    short_of,
    signed_by,
    trimmed,
)
from changeover_registry.repository.vendor_waiting import file, path_of, read_draft, remove

__all__ = ["WaitsError", "finish", "prepare", "write"]


class WaitsError(UndecidedError):
    """A change is signed and lacks further signatures: exit code 4. Nothing that studios read has changed."""


def prepare(folder: Path, reached: Reached, draft: Draft, signers: Sequence[Signer]) -> Draft:
    """`draft` with the signatures of the keys here; where the same change waits already, that one with them.

    Nothing is written.

    Raises:
        InvalidInputError: It changes a role that there is none of.
        TrustError: No key here may sign a file of it, or it would replace a target by one that it does not hold.
        LostRaceError: It builds on what is not the newest state any more.
        ChangeoverError: A key is elsewhere and does not sign.
    """
    path = path_of(folder, draft.name)
    if path.is_file():
        other = read_draft(path)
        if same(other, draft):
            draft = merged(other, draft)
        elif alike(other, draft):
            draft = other
    _check_contents(draft, reached)
    signed = signed_by(draft, reached, signers, {})
    _check_next(signed, reached)
    for short in short_of(signed, reached):
        _check_some(signed, reached, short.role)
    return signed


def finish(
    folder: Path,
    reached: Reached,
    draft: Draft,
    online: Sequence[Signer],
    now: datetime,
    *,
    also: Sequence[RoleFile] = (),
) -> None:
    """Write a change that is complete, else put it where changes wait; the caller holds the repository's lock.

    Raises:
        WaitsError: It lacks signatures; the message names its file and the command that adds one.
        LostRaceError: Another change waits under its name.
        TrustError: The online key of the repository is not here.
        OSError: The folder cannot be written.
    """
    if short := short_of(draft, reached):
        path = file(folder, reached, draft)
        raise WaitsError(
            "signatures",
            where=draft.what,
            expected="the signatures that the repository asks for",
            actual=f"a change that waits for more: {'; '.join(one.said() for one in short)}",
            remedy=f"have another key holder sign {path}: changeover vendor keys sign FILE --key PRIVATE",
        )
    write(folder, reached, draft, online, now, also=also)
    remove(folder, draft.name)


def write(
    folder: Path,
    reached: Reached,
    draft: Draft,
    online: Sequence[Signer],
    now: datetime,
    *,
    also: Sequence[RoleFile] = (),
) -> None:
    """Write a change that has all its signatures; the caller holds the repository's lock.

    Args:
        folder: The repository.
        reached: What the change builds on; its snapshot names what it does not change.
        draft: The change.
        online: The keys of snapshot and timestamp that are here: those before, those after, or both.
        now: The moment of signing.
        also: Role files, there already, that the snapshot is to name as well.

    Raises:
        TrustError: The online key of the repository is not here; nothing was written.
        OSError: The folder cannot be written; what was there before holds, or this is to be run again.
    """
    after = draft.root
    _check_online(after or reached.root, online)
    files = [RoleFile(r, m.signed.version, trimmed(draft, reached, r)) for r, m in draft.files.items() if r != "root"]
    metadata.write(folder, reached, Change(draft.targets, tuple(files)), None, now)
    named = (*also, *files)
    if after is None:
        metadata.reach(folder, reached, named, online, now)
        return
    root = RootFile(after, trimmed(draft, reached, "root"))
    if _holds_before(draft, reached, online):
        metadata.reach(folder, reached, named, online, now, until=after)
        metadata.write_root(folder, root)
    else:
        metadata.write_root(folder, root)
        metadata.reach(folder, replace(reached, root=after), named, online, now)


def _check_contents(draft: Draft, reached: Reached) -> None:
    """What a change leaves out of its file is to stay as it stands, or its signers would not see what they sign."""
    for role, held in draft.files.items():
        if not any(role in delegated_by(one) for one in required(draft, reached, role)):
            raise InvalidInputError(
                "change",
                where=f"{draft.name}: {role}",
                expected=f"a model of this vendor: {', '.join(reached.delegated()) or 'there is none'}",
                actual="none of them",
                remedy="ask whoever made the file; nothing was signed",
            )
        before = reached.roles[role].targets if role in reached.roles else {}
        for path, info in () if role == "root" else held.signed.targets.items():
            if path not in draft.targets and info != before.get(path):
                raise TrustError(
                    "change",
                    where=f"{draft.name}: {path}",
                    expected="the target as it stands, or its new bytes in the file",
                    actual="another target, whose bytes nobody has seen",
                    remedy="ask whoever made the file; nothing was signed",
                )


def _check_next(draft: Draft, reached: Reached) -> None:
    for role, held in draft.files.items():
        expected = 1 + (reached.root.version if role == "root" else reached.version(role))
        if held.signed.version != expected:
            raise LostRaceError(
                "change",
                where=f"{draft.name}: {role}",
                expected=f"version {expected}, which comes next",
                actual=f"version {held.signed.version}",
                remedy="the repository has moved since; take it back "
                f"(changeover vendor keys sign {draft.name} --reject) and make the change again",
            )


def _check_some(draft: Draft, reached: Reached, role: str) -> None:
    """A change waits for others once somebody here has signed it: with the wrong key it is refused."""
    held = draft.files[role]
    delegators = required(draft, reached, role)
    results = [one.get_verification_result(role, held.signed_bytes, held.signatures) for one in delegators]
    if not any(result.signed for result in results):
        keys = {key: None for result in results for key in result.unsigned}
        raise TrustError(
            "signing key",
            where=f"role {role}",
            expected=f"{results[0].threshold} of the keys {', '.join(key[:12] for key in keys)}",
            actual=", ".join(key[:12] for key in held.signatures) or "no key",
            remedy="give the key (or keys) that the repository names for this role; nothing was written",
        )


def _check_online(root: Root, online: Sequence[Signer]) -> None:
    named = root.roles["timestamp"].keyids
    if not {signer.public_key.keyid for signer in online} & set(named):
        raise TrustError(
            "signing key",
            where="role timestamp",
            expected=f"1 of the keys {', '.join(key[:12] for key in named)}",
            actual=", ".join(signer.public_key.keyid[:12] for signer in online) or "no key",
            remedy="run this where the vendor's online key is; nothing was written",
        )


def _holds_before(draft: Draft, reached: Reached, online: Sequence[Signer]) -> bool:
    """Whether every file of the change, with snapshot and timestamp, also holds under the root to be replaced."""
    held = draft.files.get("targets")
    if held is not None:
        result = reached.root.get_verification_result("targets", held.signed_bytes, held.signatures)
        if not result.verified:
            return False
    here = {signer.public_key.keyid for signer in online}
    return bool(here & set(reached.root.roles["timestamp"].keyids) & set(reached.root.roles["snapshot"].keyids))
