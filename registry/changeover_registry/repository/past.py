"""The choices of a scope one after the other, newest first, each verified by the digest that the one after it names.

A chain of a thousand choices of a hundred channels is 30 MB. Of each link the digest is compared and only number, scope
and the link to its predecessor are looked at; the record itself is read where somebody asks for it. Left out: who may
sign (`choice`), and ways back (`backs`).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from changeover_registry.errors import TrustError
from changeover_registry.records.choice import Choice
from changeover_registry.repository.reached import Reached, read_target
from changeover_registry.repository.scopes import check_place, choice_path, role_of

__all__ = ["Link", "links_of"]


@dataclass(frozen=True, slots=True)
class Link:
    """One choice of the chain, as bytes that have the digest that something signed names.

    Attributes:
        scope: Whose choice it is.
        number: Which one.
        digest: The sha256 of `data`.
        when: When it was made, as its entry says (RFC 3339, UTC).
        data: The stored bytes.
    """

    scope: str
    number: int
    digest: str
    when: str
    data: bytes

    def choice(self) -> Choice:
        """The record itself.

        Raises:
            InvalidInputError: It is none that this build reads.
            TrustError: It is of another place.
        """
        path = choice_path(self.scope, self.number)
        choice = Choice.from_bytes(self.data, where=path)
        check_place(choice, self.scope, self.number, path)
        return choice


def links_of(folder: Path, reached: Reached, scope: str) -> Iterator[Link]:
    """The choices of a scope, the newest first, each read when it is asked for; none before the first.

    Raises:
        TrustError: A file is missing, is not what the next one names, or the newest role names no choice.
    """
    signed = reached.roles.get(role_of(scope))
    if signed is None:
        return
    number: int = signed.version
    info = signed.targets.get(choice_path(scope, number))
    if info is None:
        raise _no_link(folder, scope, number, ", ".join(sorted(signed.targets)[:3]) or "no target")
    digest: str | None = info.hashes["sha256"]
    while digest is not None:
        data = read_target(folder, choice_path(scope, number), digest)
        link, previous = _link(folder, scope, number, digest, data)
        yield link
        number, digest = number - 1, previous


def _link(folder: Path, scope: str, number: int, digest: str, data: bytes) -> tuple[Link, str | None]:
    try:
        body = json.loads(data)
        place, when, previous = (body["scope"], body["number"]), str(body["entry"]["when"]), body.get("previous")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _no_link(folder, scope, number, "other bytes") from error
    if place != (scope, number) or not isinstance(previous, str | None):
        raise _no_link(folder, scope, number, f"choice {place[1]} of {place[0]}")
    return Link(scope, number, digest, when, data), previous


def _no_link(folder: Path, scope: str, number: int, actual: str) -> TrustError:
    return TrustError(
        "place of a choice",
        where=str(folder / "targets" / choice_path(scope, number)),
        expected=f"choice {number} of {scope}",
        actual=actual,
        remedy="find out which promoter signed it",
    )
