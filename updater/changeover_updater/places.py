"""The places that a vendor's studios read: carry the home's repository to each of them, and say how each stands.

``publish`` in ``vendor.toml`` names them. One that cannot be filled keeps nobody from the others: what became of each
is a value, and the gravest error is for the caller to raise once all were tried. One process at a time carries from a
home; what was signed meanwhile is carried in the same go.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from changeover_registry._fs import lock
from changeover_registry.errors import ChangeoverError, InvalidInputError, LostRaceError, RefusedError, TrustError
from changeover_registry.repository.carrying import Carried, Looked, carry, look, verify
from changeover_registry.repository.outlet import TIMESTAMP
from changeover_registry.repository.reached import anchor_bytes
from changeover_registry.transport.writing import Place, open_place
from changeover_updater.vendor_home import VendorHome

__all__ = ["PlaceState", "Went", "carry_all", "gravest", "locations", "look_all", "place_at"]

Step = Callable[[str], None]

_LOCK_SECONDS = 60.0
_ROUNDS = 5
"""How often what was signed meanwhile is carried after the rest; whoever signs more waits for the lock."""
_GRAVITY: tuple[type[ChangeoverError], ...] = (TrustError, LostRaceError, RefusedError)


@dataclass(frozen=True, slots=True)
class Went:
    """What carrying to one place came to: what was put there, or why not."""

    location: str
    carried: Carried | None
    error: ChangeoverError | None


@dataclass(frozen=True, slots=True)
class PlaceState:
    """How one place stands, or why nobody can tell; `wrong` names each file that is damaged there, if it was read."""

    location: str
    looked: Looked | None
    error: ChangeoverError | None
    wrong: tuple[str, ...] | None = None

    def days_left(self, now: datetime) -> int | None:
        """For how many whole days studios go on trusting what it serves; None where it serves nothing known."""
        if self.looked is None or self.looked.expires is None:
            return None
        return (self.looked.expires - now).days


def locations(home: VendorHome, only: Sequence[str] = ()) -> tuple[str, ...]:
    """The places of a home, all or those named.

    Raises:
        InvalidInputError: One of `only` is none of them.
    """
    for location in only:
        if location not in home.publish:
            raise InvalidInputError(
                "place",
                where=location,
                expected=f"one of {', '.join(home.publish)}" if home.publish else "a place that vendor.toml names",
                actual="none of them",
                remedy=f'add it to publish = ["..."] in {home.folder / "vendor.toml"}',
            )
    return tuple(only) or home.publish


def carry_all(
    home: VendorHome, *, only: Sequence[str] = (), whole: bool = False, step: Step = lambda _: None
) -> tuple[Went, ...]:
    """Carry the home's repository to its places, one after the other; see `carrying.carry`.

    Args:
        home: The vendor's home.
        only: The places, as vendor.toml writes them; all where none is named.
        whole: Read every file there, and put back what is missing or damaged.
        step: Told what is being done.

    Raises:
        InvalidInputError: One of `only` is no place of this home, or there is no repository.
    """
    wanted = locations(home, only)
    anchor = anchor_bytes(home.keys.anchor)
    try:
        with lock(home.folder / "carrying", what=f"the places of {home.vendor}", wait_seconds=_LOCK_SECONDS):
            for _ in range(_ROUNDS):
                head = _head(home)
                went = tuple(_carry(home, anchor, location, whole=whole, step=step) for location in wanted)
                if _head(home) == head:
                    break
            return went
    except LostRaceError as error:
        # It carries what was signed here too, or says what it could not.
        return tuple(Went(location, None, error) for location in wanted)


def look_all(
    home: VendorHome, *, only: Sequence[str] = (), read: bool = False, step: Step = lambda _: None
) -> tuple[PlaceState, ...]:
    """How each place stands; with `read`, every file that it serves is read and compared. Writes nothing.

    Raises:
        InvalidInputError: One of `only` is no place of this home, or there is no repository.
    """
    anchor = anchor_bytes(home.keys.anchor)
    return tuple(_look(home, anchor, location, read=read, step=step) for location in locations(home, only))


def gravest(errors: Sequence[ChangeoverError]) -> ChangeoverError | None:
    """Of several errors the one to end with: trust, then a newer state, then a refusal, then the rest."""
    for kind in _GRAVITY:
        for error in errors:
            if isinstance(error, kind):
                return error
    return errors[0] if errors else None


def place_at(home: VendorHome, location: str) -> Place:
    """The place at an address of vendor.toml, where a folder may be relative to the home.

    Raises:
        InvalidInputError: It is no address of a place.
    """
    if "://" in location:
        return open_place(location)
    return open_place(str(home.folder / Path(os.path.expandvars(location)).expanduser()))


def _carry(home: VendorHome, anchor: bytes, location: str, *, whole: bool, step: Step) -> Went:
    try:
        return Went(location, carry(home.repository, anchor, place_at(home, location), whole=whole, step=step), None)
    except ChangeoverError as error:
        return Went(location, None, error)


def _look(home: VendorHome, anchor: bytes, location: str, *, read: bool, step: Step) -> PlaceState:
    step(f"asking {location}")
    try:
        place = place_at(home, location)
        looked = look(home.repository, anchor, place)
        wrong = verify(home.repository, anchor, place, step=step) if read else None
    except ChangeoverError as error:
        return PlaceState(location, None, error)
    return PlaceState(location, looked, None, wrong)


def _head(home: VendorHome) -> bytes:
    return (home.repository / TIMESTAMP).read_bytes()
