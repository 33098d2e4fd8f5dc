"""A vendor's claims of what a variant needs, held against what its files show: more is taken, less is refused."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.release import Requires
from changeover_validators.checks.evidence import with_evidence

__all__ = ["plain", "raise_claims"]

_NOTHING: Mapping[str, str] = MappingProxyType({})


def raise_claims(
    derived: Requires, claimed: Requires, *, where: str, evidence: Mapping[str, str] = _NOTHING
) -> Requires:
    """What a variant requires: what its files show, raised to what the vendor claims.

    Args:
        derived: What the files show.
        claimed: What the vendor wrote.
        where: The place in ``release.toml``.
        evidence: By the name of a requirement, what in the files shows it.

    Raises:
        InvalidInputError: A claim asks for less than the files show.
    """
    raised: dict[str, object] = {}
    for field in Requires.model_fields:
        claim, shown = getattr(claimed, field), getattr(derived, field)
        if claim is None or claim == ():
            continue
        if not _asks_for_as_much(claim, shown):
            raise _asks_for_less(f"{where}.{field}", claim, with_evidence(plain(shown), field, evidence))
        raised[field] = tuple(sorted(claim)) if isinstance(claim, tuple) else claim
    return derived.model_copy(update=raised)


def _asks_for_as_much(claim: Any, shown: Any) -> bool:  # noqa: ANN401 - fields of a record have many types
    if shown is None:
        return True
    if isinstance(claim, tuple):
        return set(claim) >= set(shown)
    if isinstance(claim, str):
        return _numbers(claim) >= _numbers(shown)
    return bool(claim >= shown)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def _asks_for_less(where: str, claim: object, shown: str) -> InvalidInputError:
    return InvalidInputError(
        "claim",
        where=where,
        expected=f"at least what the files show, {shown}",
        actual=plain(claim),
        remedy="leave the field out (it is derived) or ask for more",
    )


def plain(value: object) -> str:
    """A value as a message shows it."""
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
