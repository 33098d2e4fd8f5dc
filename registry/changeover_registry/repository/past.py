"""The choices of a scope one after the other, newest first, each verified by the digest that the one after it names.

A chain of a thousand choices of a hundred channels is 30 MB. Of each link the digest is compared and only number, scope
and the link to its predecessor are looked at; the record itself is read where somebody asks for it.

When a choice held: from the moment that its entry names or, where others had to sign it too, from the last signature's.
These moments are what the signers' clocks said, and signed; of two choices the later number holds, whatever they say.

`check_past` goes further than the digests: each choice's role file must have been signed to the threshold that
some version of the top-level role asked for. Keys that were revoked since vouched for what they signed in their time.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, Root, Targets

from changeover_registry._fs import read_bytes_retry
from changeover_registry.clock import parse_time
from changeover_registry.errors import ChangeoverError, TrustError
from changeover_registry.records.choice import Back, Choice, Pending
from changeover_registry.repository import backs
from changeover_registry.repository.backs import Effective
from changeover_registry.repository.reached import (
    Reached,
    anchor_bytes,
    check_is_repository,
    read_reached,
    read_role,
    read_target,
    walked_roots,
)
from changeover_registry.repository.scopes import check_place, choice_path, past_of, role_of

__all__ = ["Held", "Link", "changes_of", "check_past", "held_at", "links_of", "read_past"]


@dataclass(frozen=True, slots=True)
class Held:
    """What held of a scope at a moment: the choice with what its way back returned then, and since when it did."""

    scope: str
    since: str
    effective: Effective


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
    _body: Mapping[str, Any] = field(repr=False, compare=False)

    def about(self, model: str) -> str:
        """All that it says of a model, as text that two choices have in common where they say the same of it."""
        parts = (self._body.get(name) or () for name in _OF_MODELS)
        return json.dumps([[entry for entry in part if _model_of(entry) == model] for part in parts])

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


_OF_MODELS = ("channels", "pins", "shares", "overrides", "baselines", "client_approvals")
"""The parts of a choice that speak of models."""


_NOTHING = json.dumps([[] for _ in _OF_MODELS])


def _model_of(entry: Mapping[str, Any]) -> str:
    return str(entry.get("model") or entry["release"]["model"])


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


def read_past(folder: Path, root: bytes | None = None) -> Reached:
    """What the timestamp of a choice's folder reaches, verified from `root`, or from the folder's own first root.

    Raises:
        InvalidInputError: There is no repository in the folder.
        TrustError: Metadata was changed.
    """
    check_is_repository(folder)
    return read_reached(folder, root or anchor_bytes(folder / "metadata" / "1.root.json"))


def held_at(folder: Path, reached: Reached, scope: str, moment: datetime) -> Held | None:
    """What held of a scope at a moment; None where nothing had been chosen yet.

    Of the past no more is read than lies after that moment.

    Raises:
        TrustError: A file is missing, or is not what the next one names.
    """
    for link in links_of(folder, reached, scope):
        since = _decided(folder, link)
        if parse_time(since) <= moment:
            return _with_back(folder, reached, link, since, moment)
    return None


def changes_of(folder: Path, reached: Reached, scope: str, model: str) -> tuple[tuple[Choice | None, Choice], ...]:
    """The choices of a scope that changed what it says of a model, oldest first, each after the one before it.

    Raises:
        TrustError: A file is missing, or is not what the next one names.
    """
    found: list[tuple[Choice | None, Choice]] = []
    later: Link | None = None
    said = ""
    for link in links_of(folder, reached, scope):
        about = link.about(model)
        if later is not None and about != said:
            found.append((link.choice(), later.choice()))
        later, said = link, about
    if later is not None and said != _NOTHING:
        found.append((None, later.choice()))
    return tuple(reversed(found))


def check_past(folder: Path, reached: Reached, scope: str, root: bytes | None) -> int:
    """Check every choice of a scope: its digest in the next one, its number, its form, and its signatures.

    Args:
        folder: The choice's repository.
        reached: What its timestamp reaches.
        scope: Whose choices.
        root: The root that the reader was given; None where the folder follows another one's choice, and has of the
            past the choices and not the files that say who signed them.

    Returns:
        How many there are.

    Raises:
        TrustError: A file is missing, changed, or was never signed as its scope asked for.
        InvalidInputError: A choice is none that this build reads.
    """
    tops = None if root is None else _tops(folder, reached, walked_roots(folder, root))
    count = 0
    for link in links_of(folder, reached, scope):
        if tops is not None:
            _check_signed(folder, role_of(scope), link, tops)
        link.choice()
        count += 1
    return count


def _check_signed(folder: Path, role: str, link: Link, tops: Sequence[Targets]) -> None:
    path = folder / "metadata" / f"{link.number}.{role}.json"
    expected = f"choice {link.number} of {link.scope}, signed by as many keys as its scope then had to have"
    try:
        signed: Metadata[Any] = Metadata.from_bytes(read_bytes_retry(path))
    except FileNotFoundError as error:
        raise _unproved(path, expected, "no file") from error
    except Exception as error:
        raise _unproved(path, expected, "a file that is no metadata") from error
    named = (
        signed.signed.targets.get(choice_path(link.scope, link.number)) if isinstance(signed.signed, Targets) else None
    )
    if named is None or named.hashes.get("sha256") != link.digest:
        raise _unproved(path, expected, "a role that names another choice")
    if not any(_verifies(top, role, signed) for top in tops):
        who = ", ".join(keyid[:12] for keyid in signed.signatures) or "nobody"
        raise _unproved(path, expected, f"a signature by {who}, which no version of the scope's keys asked for")


def _verifies(top: Targets, role: str, signed: "Metadata[Any]") -> bool:
    named = (top.delegations.roles or {}) if top.delegations else {}
    if role not in named:
        return False
    return top.get_verification_result(role, signed.signed_bytes, signed.signatures).verified


def _tops(folder: Path, reached: Reached, roots: Sequence[Root]) -> list[Targets]:
    """Every version of the top-level role that one of the roots' keys signed, the newest first."""
    found = [reached.targets]
    for version in range(reached.version("targets") - 1, 0, -1):
        for root in reversed(roots):
            with contextlib.suppress(ChangeoverError):
                found.append(read_role(folder, "targets", version, root))
                break
    return found


def _with_back(folder: Path, reached: Reached, link: Link, since: str, moment: datetime) -> Held:
    """The choice of a link, with the way back that stood on it at that moment."""
    head = link.choice()
    back = next(_backs_on(folder, reached, link, moment), None)
    where = str(folder / "targets" / choice_path(link.scope, link.number))
    found = backs.effective(head, back, past_of(folder, head), where)
    return Held(link.scope, back.entry.when if back else since, found)


def _backs_on(folder: Path, reached: Reached, link: Link, moment: datetime) -> Iterator[Back]:
    for back in backs.newest_first(folder, reached, link.scope):
        if back.stands_on < link.number:
            return
        if back.stands_on == link.number and parse_time(back.entry.when) <= moment:
            yield back


def _decided(folder: Path, link: Link) -> str:
    """When the last signature made it the scope's choice: as its entry says, or as was noted when others had signed."""
    place = folder / "settled" / role_of(link.scope) / f"{link.number}-{link.digest[:12]}.json"
    if not place.is_file():
        return link.when
    try:
        entry = Pending.from_bytes(read_bytes_retry(place), where=str(place))
    except (ChangeoverError, OSError):
        return link.when
    signed = entry.choice.digest() == link.digest and entry.outcome == "chosen"
    return max(link.when, *(approval.when for approval in entry.signatures)) if signed else link.when


def _link(folder: Path, scope: str, number: int, digest: str, data: bytes) -> tuple[Link, str | None]:
    try:
        body = json.loads(data)
        place, when, previous = (body["scope"], body["number"]), str(body["entry"]["when"]), body.get("previous")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _no_link(folder, scope, number, "other bytes") from error
    if place != (scope, number) or not isinstance(previous, str | None):
        raise _no_link(folder, scope, number, f"choice {place[1]} of {place[0]}")
    return Link(scope, number, digest, when, data, body), previous


def _unproved(path: Path, expected: str, actual: str) -> TrustError:
    remedy = "take the file back from a backup; who chose this can no longer be proved"
    return TrustError("past of a choice", where=str(path), expected=expected, actual=actual, remedy=remedy)


def _no_link(folder: Path, scope: str, number: int, actual: str) -> TrustError:
    return TrustError(
        "place of a choice",
        where=str(folder / "targets" / choice_path(scope, number)),
        expected=f"choice {number} of {scope}",
        actual=actual,
        remedy="find out which promoter signed it",
    )
