"""Which keys sign a vendor's repository, until when what they signed holds, and which changes wait for signatures.

The repository's own rules are `repository.vendor_keys`; here is what a person is told: where a key is, how near its end
something is, and who has to do what. Left out: carrying what was signed to the places that studios read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from changeover_registry import signing
from changeover_registry.errors import InvalidInputError
from changeover_registry.repository import vendor_draft, vendor_keys, vendor_terms, vendor_waiting
from changeover_registry.repository.keys import VendorKeys
from changeover_registry.repository.reached import anchor_bytes, read_reached
from changeover_registry.repository.vendor_draft import Draft
from changeover_updater.expiries import Expires, Stage, stage
from changeover_updater.vendor_home import VendorHome

__all__ = ["Held", "Waiting", "exit_code", "held", "sign", "waiting", "with_keys"]

_SOON: frozenset[Stage] = frozenset({"7 days", "1 day"})


@dataclass(frozen=True, slots=True)
class Held:
    """One key of one role: how many of the role's keys must sign, until when, where it is here, how near the end is."""

    role: str
    key_id: str
    threshold: int
    expires: datetime
    here: str | None
    near: Stage | None

    def remedy(self, now: datetime) -> str:
        """One sentence on what ends when, and which command renews it."""
        left = self.expires - now
        days = -(-left // timedelta(days=1))
        when = "expired: studios refuse what is new" if left <= timedelta() else f"ends in {days} days"
        key = {"root": "the root key is", "targets": "the targets key is", "timestamp": "the online key is"}
        where = key.get("timestamp" if self.role == "snapshot" else self.role, "the release key is")
        return f"what signs {self.role} {when}; run changeover vendor renew where {where}"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A change that waits for signatures: its file, what it would bring about, and what is missing."""

    path: Path
    draft: Draft
    missing: tuple[str, ...]


def with_keys(home: VendorHome, more: Sequence[Path]) -> VendorKeys:
    """The home's keys and further ones, which are here for this command."""
    return replace(home.keys, more=tuple(more))


def held(home: VendorHome, now: datetime) -> tuple[Held, ...]:
    """Every key that signs something in the repository of a home.

    Raises:
        InvalidInputError: There is no repository, or no trusted root.
        TrustError: The repository was changed by somebody else.
    """
    here = _here(home.keys)
    return tuple(
        Held(
            role=one.role,
            key_id=one.key_id,
            threshold=one.threshold,
            expires=one.expires,
            here=here.get(one.key_id),
            near=stage(Expires(home.vendor, one.role, one.expires), now),
        )
        for one in vendor_keys.held_keys(home.repository, home.keys)
    )


def exit_code(found: Sequence[Held]) -> Literal[0, 4, 5]:
    """How a command ends that shows keys: 5 where something has expired, 4 where it will within a week, else 0."""
    stages = {one.near for one in found}
    if "expired" in stages:
        return 5
    return 4 if stages & _SOON else 0


def waiting(home: VendorHome) -> tuple[Waiting, ...]:
    """Every change that waits for signatures in a home.

    Raises:
        InvalidInputError: A file there is none.
        TrustError: The repository was changed by somebody else.
    """
    reached = read_reached(home.repository, anchor_bytes(home.keys.anchor))
    found = []
    for path in vendor_waiting.waiting(home.repository):
        draft = vendor_waiting.read_draft(path)
        missing = tuple(short.said() for short in vendor_draft.short_of(draft, reached))
        found.append(Waiting(path, draft, missing))
    return tuple(found)


def sign(home: VendorHome | None, change: Path, keys: Sequence[Path], now: datetime) -> tuple[str, ...] | None:
    """Sign a change: in a home, where it is written once it is complete, or as a copy to be carried back.

    Args:
        home: The vendor's home; None for a key holder who has none.
        change: Its file, or the name under which it waits in the home.
        keys: Private keys, beside those of the home.
        now: The moment of signing.

    Returns:
        Without a home, the roles that were signed in the copy; None where the change is written.

    Raises:
        InvalidInputError: It is no such file, or without a home no key is named or none may sign.
        WaitsError: It still lacks signatures; those that were added are kept.
        LostRaceError: The repository has moved since.
        TrustError: It bears no valid signature.
    """
    if home is not None:
        known = change if change.is_file() else vendor_waiting.path_of(home.repository, str(change))
        vendor_keys.sign(home.repository, with_keys(home, keys), known, now)
        return None
    roles = vendor_waiting.sign_copy(change, [signing.load_signer(path) for path in keys])
    if not roles:
        raise InvalidInputError(
            "key",
            where=", ".join(map(str, keys)) or "--key",
            expected="a private key that may sign this change and has not signed it",
            actual="none",
            remedy="name yours with --key, or the vendor's home with --home",
        )
    return roles


def _here(keys: VendorKeys) -> dict[str, str]:
    """By key id, where a key that is at hand stands."""
    found = {}
    for role in vendor_terms.ROLES:
        place: Path = getattr(keys, role)
        if signing.at_hand(place):
            found[signing.load_signer(place).public_key.keyid] = str(place)
    return found
