"""A change of a vendor's repository: its files with the signatures so far, and what is missing; values in, values out.

A root is signed by its predecessor's keys and its own; every other file by those that the change itself, or else what
stands, names for it. Left out: where a change waits (`vendor_waiting`), and writing it (`vendor_change`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Metadata, Root, Targets

from changeover_registry import canonical
from changeover_registry.clock import format_time
from changeover_registry.records.repository import Index, IndexEntry
from changeover_registry.repository import metadata
from changeover_registry.repository.metadata import RoleFile
from changeover_registry.repository.reached import Delegator, Reached

__all__ = [
    "Draft",
    "Short",
    "alike",
    "delegated_by",
    "merged",
    "named_for",
    "rekeyed",
    "required",
    "same",
    "short_of",
    "signed_by",
    "summary",
    "trimmed",
    "unsigned",
]


@dataclass(frozen=True, slots=True)
class Draft:
    """One change: its metadata with the signatures so far, by role (``root`` among them), and its targets by path."""

    what: str
    when: datetime
    files: Mapping[str, Metadata[Any]]
    targets: Mapping[str, bytes]

    @property
    def root(self) -> Root | None:
        """The next root, if it changes."""
        return self.files["root"].signed if "root" in self.files else None

    @property
    def top(self) -> Targets | None:
        """The next top-level targets role, if it changes."""
        return self.files["targets"].signed if "targets" in self.files else None

    @property
    def name(self) -> str:
        """Under which it waits: the number and the role of what it changes furthest up."""
        role = next((role for role in ("root", "targets") if role in self.files), next(iter(self.files)))
        return f"{self.files[role].signed.version}.{role}"


@dataclass(frozen=True, slots=True)
class Short:
    """What one file of a change lacks: `count` more signatures by some of the keys `by`."""

    role: str
    count: int
    by: tuple[str, ...]

    def said(self) -> str:
        """In a few words."""
        keys = ", ".join(key[:12] for key in self.by) or "nobody who is enrolled"
        return f"{self.role}: {self.count} more by {keys}"


def unsigned(
    what: str,
    when: datetime,
    roles: Mapping[str, Targets],
    targets: Mapping[str, bytes],
    root: Root | None = None,
) -> Draft:
    """A change without signatures yet."""
    files: dict[str, Metadata[Any]] = {**({"root": Metadata(root)} if root else {})}
    return Draft(what, when, {**files, **{role: Metadata(signed) for role, signed in roles.items()}}, targets)


def rekeyed(
    what: str, reached: Reached, root: Root | None, targets: Targets | None, now: datetime, folder: Path
) -> Draft:
    """A change of keys as a draft: the new root or targets, and each role whose signatures would not hold after it."""
    files: dict[str, Metadata[Any]] = {}
    if root is not None:
        files["root"] = Metadata(root)
        if not _still_signed(folder, reached, "targets", root):
            targets = targets or metadata.renewed(reached.targets, "targets", now)
    if targets is not None:
        files["targets"] = Metadata(targets)
        for role, signed in reached.roles.items():
            if role != "targets" and not _still_signed(folder, reached, role, targets):
                files[role] = Metadata(metadata.renewed(signed, role, now))
    return Draft(what, now, files, {})


def signed_by(
    draft: Draft, reached: Reached | None, signers: Sequence[Signer], wanted: Mapping[str, Sequence[str]]
) -> Draft:
    """`draft` with the signature of every signer on every file that asks for it and has none of theirs yet.

    Args:
        draft: The change.
        reached: What it builds on; None where that is not at hand, as with a key holder who has no home.
        signers: The keys here.
        wanted: By role, further ids of keys that may sign, as the waiting file says.

    Raises:
        ChangeoverError: A key is elsewhere and does not sign.
    """
    files = {}
    for role, held in draft.files.items():
        named = {*wanted.get(role, ()), *(key for keys in named_for(draft, reached, role) for key in keys)}
        again = Metadata(held.signed, dict(held.signatures))
        for signer in signers:
            if signer.public_key.keyid in named and not _has_signed(again, signer.public_key):
                metadata.sign(again, signer)
        files[role] = again
    return replace(draft, files=files)


def short_of(draft: Draft, reached: Reached) -> tuple[Short, ...]:
    """What must still be signed before the change can be written: a root by its predecessor's keys and its own."""
    found = []
    for role, held in draft.files.items():
        for delegator in required(draft, reached, role):
            if role not in delegated_by(delegator):
                found.append(Short(role, 1, ()))
                continue
            result = delegator.get_verification_result(role, held.signed_bytes, held.signatures)
            if not result.verified:
                count = result.threshold - len(result.signed)
                found.append(Short(role, count, tuple(result.unsigned)))
    return tuple(dict.fromkeys(found))


def same(one: Draft, other: Draft) -> bool:
    """Whether two drafts are one change: the same bytes to be signed."""
    return {role: m.signed_bytes for role, m in one.files.items()} == {
        r: m.signed_bytes for r, m in other.files.items()
    }


def alike(one: Draft, other: Draft) -> bool:
    """Whether two drafts mean the same, though they were made at two moments."""
    numbers = [{role: held.signed.version for role, held in draft.files.items()} for draft in (one, other)]
    return (one.what, one.targets, numbers[0]) == (other.what, other.targets, numbers[1])


def merged(one: Draft, other: Draft) -> Draft:
    """The signatures of two copies of one change together."""
    files = {
        role: Metadata(held.signed, {**other.files[role].signatures, **held.signatures})
        for role, held in one.files.items()
    }
    return replace(one, files=files)


def trimmed(draft: Draft, reached: Reached, role: str) -> bytes:
    """A file without signatures that nobody asks for or that are wrong, so that each one served is right."""
    held = draft.files[role]
    keys: dict[str, Key] = {}
    for delegator in (
        *required(draft, reached, role),
        *((reached.root,) if role == "targets" else (reached.targets,)),
    ):
        if role in delegated_by(delegator):
            keys |= delegator.get_verification_result(role, held.signed_bytes, held.signatures).signed
    return Metadata(held.signed, {k: s for k, s in held.signatures.items() if k in keys}).to_bytes()


def required(draft: Draft, reached: Reached, role: str) -> tuple[Delegator, ...]:
    """Whose word decides whether a file of the change is signed."""
    if role == "root":
        assert draft.root is not None  # noqa: S101 - it is one of the draft's files
        return (reached.root, draft.root)
    return (draft.root or reached.root,) if role == "targets" else (draft.top or reached.targets,)


def named_for(draft: Draft, reached: Reached | None, role: str) -> list[Sequence[str]]:
    """The ids of all keys that may sign a file of the change, those before and those after."""
    after: Delegator | None = draft.root if role in {"root", "targets"} else draft.top
    before: Delegator | None = None
    if reached is not None:
        before = reached.root if role in {"root", "targets"} else reached.targets
    return [
        delegator.get_delegated_role(role).keyids
        for delegator in (before, after)
        if delegator is not None and role in delegated_by(delegator)
    ]


def _has_signed(held: Metadata[Any], key: Key) -> bool:
    """Whether a key's signature is there and right; a wrong one under its id does not keep its holder from signing."""
    if key.keyid not in held.signatures:
        return False
    try:
        key.verify_signature(held.signatures[key.keyid], held.signed_bytes)
    except UnverifiedSignatureError:
        return False
    return True


def delegated_by(delegator: Delegator) -> Sequence[str]:
    """The roles whose keys a root, or a targets role, names."""
    if isinstance(delegator, Root):
        return ("root", "targets")
    return tuple((delegator.delegations.roles or {}) if delegator.delegations else ())


def _still_signed(folder: Path, reached: Reached, role: str, delegator: Delegator) -> bool:
    """Whether the file of a role that is reached has the signatures that `delegator` asks for."""
    path = RoleFile(role, reached.version(role), b"").path(folder)
    held = Metadata[Targets].from_bytes(path.read_bytes())
    return delegator.get_verification_result(role, held.signed_bytes, held.signatures).verified


def summary(draft: Draft) -> tuple[str, ...]:
    """What stands once a change is written, in one line for each thing that somebody signs for; nothing is believed."""
    lines = [f"{draft.what} (as its author calls it)"]
    if draft.root is not None:
        lines += [f"{role}: {_terms(named.threshold, named.keyids)}" for role, named in draft.root.roles.items()]
    if draft.top is not None:
        models = {role: draft.top.get_delegated_role(role) for role in delegated_by(draft.top)}
        lines += [f"releases of {role}: {_terms(by.threshold, by.keyids)}" for role, by in models.items()]
    for role, held in draft.files.items():
        lines += [f"{role}: version {held.signed.version}, holds until {format_time(held.signed.expires)}"]
        lines += [
            f"{path}: sha256 {info.hashes.get('sha256', 'none')}, not in this file: it must be what stands now"
            for path, info in getattr(held.signed, "targets", {}).items()
            if path not in draft.targets
        ]
    for path, data in draft.targets.items():
        lines.append(f"{path}: sha256 {canonical.digest(data)}")
        if path.endswith("/index.json"):
            index = Index.from_bytes(data, where=path)
            lines += [f"{index.name} {entry.version}: {_entry(entry)}" for entry in index.releases]
    return tuple(lines)


def _terms(threshold: int, key_ids: Sequence[str]) -> str:
    return f"{threshold} of the keys {', '.join(key[:12] for key in key_ids)}"


def _entry(entry: IndexEntry) -> str:
    taken = f", withdrawn: {entry.withdrawn.why}" if entry.withdrawn else ""
    return f"record sha256 {entry.record}{taken}"
