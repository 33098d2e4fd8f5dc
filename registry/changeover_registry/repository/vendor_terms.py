"""Which keys sign a role of a vendor's repository, how many of them, and how that is changed; values in, values out.

Four names: ``root``; ``targets`` (new models, and whose key signs a model's releases); ``release`` (each model's
role); ``online`` (snapshot and timestamp, which one key signs, since nobody is asked at night). Left out: signing what
comes of it, and writing (`vendor_change`).
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, TypeAlias, get_args

from securesystemslib.signer import Key
from tuf.api.metadata import Root, Targets

from changeover_registry.errors import InvalidInputError, RefusedError
from changeover_registry.repository import metadata
from changeover_registry.repository.reached import Reached

__all__ = [
    "ROLES",
    "Edit",
    "KeyRole",
    "Terms",
    "edited",
    "for_new_model",
    "standing",
    "with_key",
    "with_threshold",
    "without_key",
]

KeyRole = Literal["root", "targets", "release", "online"]
ROLES: tuple[KeyRole, ...] = get_args(KeyRole)
_SIGNED_AT_NIGHT = ("snapshot", "timestamp")


@dataclass(frozen=True, slots=True)
class Terms:
    """Who signs a role: `name` as people know it, the keys, and how many of them it takes."""

    name: str
    keys: tuple[Key, ...]
    threshold: int

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The ids of the keys."""
        return tuple(key.keyid for key in self.keys)


Edit: TypeAlias = Callable[[Terms], Terms]


def standing(reached: Reached, role: KeyRole, models: Collection[str] | None = None) -> tuple[Terms, ...]:
    """Who signs a role now; of ``release`` for each model, or for those that are named."""
    if role == "release":
        wanted = [name for name in reached.delegated() if models is None or name in models]
        return tuple(_terms(reached.targets, name, name) for name in wanted)
    return (_terms(reached.root, _SIGNED_AT_NIGHT[-1] if role == "online" else role, role),)


def edited(
    reached: Reached, role: KeyRole, edit: Edit, now: datetime, models: Collection[str] | None = None
) -> tuple[Root | None, Targets | None]:
    """The next root, or the next targets role, in which `edit` has changed who signs `role`.

    Raises:
        InvalidInputError: `models` names one that there is none of.
        RefusedError: What `edit` raises, or the dates would take more than one key.
    """
    unknown = sorted(set(models or ()) - set(reached.delegated()))
    if unknown:
        raise InvalidInputError(
            "model",
            where="--model",
            expected=f"one of {', '.join(reached.delegated()) or 'no models yet'}",
            actual=", ".join(unknown),
            remedy="correct the name, or publish its first release",
        )
    before = standing(reached, role, models)
    after = [edit(terms) for terms in before]
    if list(before) == after:
        return None, None
    if role == "release":
        targets = metadata.renewed(reached.targets, "targets", now)
        for terms in after:
            metadata.delegate(targets, terms.name, f"{terms.name}/*", terms.keys, terms.threshold)
        return None, targets
    root: Root = metadata.renewed(reached.root, "root", now)
    for name in _SIGNED_AT_NIGHT if role == "online" else (role,):
        _give(root, name, after[0])
    return root, None


def with_key(key: Key) -> Edit:
    """One key more; one that is there already is there once."""

    def edit(terms: Terms) -> Terms:
        return terms if key.keyid in terms.key_ids else replace(terms, keys=(*terms.keys, key))

    return edit


def without_key(key_id: str, instead: Key | None = None) -> Edit:
    """One key less, or another in its place; where it does not sign, nothing changes.

    Raises:
        RefusedError: Fewer keys would be left than must sign.
    """

    def edit(terms: Terms) -> Terms:
        if key_id not in terms.key_ids:
            return terms
        keys = tuple(key for key in (instead if k.keyid == key_id else k for k in terms.keys) if key is not None)
        # The new key may have been there as well.
        return _checked(replace(terms, keys=tuple({key.keyid: key for key in keys}.values())))

    return edit


def with_threshold(threshold: int) -> Edit:
    """So many keys must sign.

    Raises:
        RefusedError: There are fewer, or it is none, or the role is signed unattended.
    """

    def edit(terms: Terms) -> Terms:
        if terms.name == "online" and threshold != 1:
            raise RefusedError(
                "threshold",
                where="online",
                expected="1: dates are signed each night, and nobody is asked",
                actual=str(threshold),
                remedy="have several keys sign releases instead: changeover vendor keys threshold release N",
            )
        return _checked(replace(terms, threshold=threshold))

    return edit


def for_new_model(reached: Reached, own: Key) -> Terms:
    """Who signs a model that is new: those who sign the other models that `own` signs, the strictest of them."""
    others = [terms for terms in standing(reached, "release") if own.keyid in terms.key_ids]
    return max(others, key=lambda terms: (terms.threshold, len(terms.keys)), default=Terms("release", (own,), 1))


def _terms(delegator: Root | Targets, role: str, name: str) -> Terms:
    named = delegator.get_delegated_role(role)
    return Terms(name, tuple(_known(delegator, named.keyids)), named.threshold)


def _known(delegator: Root | Targets, key_ids: Iterable[str]) -> Sequence[Key]:
    return [delegator.get_key(key_id) for key_id in key_ids]


def _give(root: Root, role: str, terms: Terms) -> None:
    for key_id in tuple(root.roles[role].keyids):
        root.revoke_key(key_id, role)
    for key in terms.keys:
        root.add_key(key, role)
    root.roles[role].threshold = terms.threshold


def _checked(terms: Terms) -> Terms:
    if not 1 <= terms.threshold <= len(terms.keys):
        raise RefusedError(
            "threshold",
            where=terms.name,
            expected=f"at least {max(terms.threshold, 1)} keys, as many as must sign",
            actual=f"{len(terms.keys)}" if terms.threshold > 0 else f"a threshold of {terms.threshold}",
            remedy="add another key first (changeover vendor keys add), or lower the threshold",
        )
    return terms
