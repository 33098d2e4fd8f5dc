"""Where private keys are: a vendor's four and a studio's five, offline ones apart from online ones.

The files themselves are `signing`'s. Beside the online key stands the root that its owner trusts, from which every
write is verified. Left out: what the keys sign (`vendor`, `choice`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from changeover_registry._fs import write_atomic
from changeover_registry.errors import RefusedError
from changeover_registry.signing import at_hand, ensure_key, load_signer

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

__all__ = ["StudioKeys", "VendorKeys", "made_beside", "new_studio_keys", "new_vendor_keys", "next_place"]


@dataclass(frozen=True, slots=True)
class VendorKeys:
    """Where a vendor's private keys are.

    `root` and `targets` sign seldom (a new model, a new key) and belong on another disk; `release` signs releases;
    `online` signs snapshot and timestamp. Beside `online` stands ``root.json``, the root that this vendor trusts.
    `more` are further keys that are here for once; each signs where the repository names it.
    """

    root: Path
    targets: Path
    release: Path
    online: Path
    more: tuple[Path, ...] = ()

    @classmethod
    def in_folder(cls, folder: Path) -> Self:
        """The places that `new_vendor_keys` uses: ``offline/`` and ``online/``."""
        offline, online = folder / "offline", folder / "online"
        return cls(offline / "root.pem", offline / "targets.pem", online / "release.pem", online / "online.pem")

    @property
    def anchor(self) -> Path:
        """The trusted root beside the online key."""
        return self.online.with_name("root.json")

    def signers(self, *places: Path) -> "list[Signer]":
        """The keys at these places, and all further ones.

        Raises:
            InvalidInputError: There is no key at one of them.
        """
        return [load_signer(place) for place in (*places, *self.more)]

    def at_hand(self) -> "list[Signer]":
        """Every key that is here, those that are about to replace another among them.

        Raises:
            InvalidInputError: In a key's place is something else.
        """
        own = (self.root, self.targets, self.release, self.online)
        places = [place for path in own for place in (path, next_place(path))]
        return [load_signer(place) for place in (*places, *self.more) if at_hand(place)]

    def online_signers(self) -> "list[Signer]":
        """The keys that are here and may sign the dates: the online key, the one that is to follow it, further ones.

        Raises:
            InvalidInputError: There is none.
        """
        places = [place for place in (self.online, next_place(self.online), *self.more) if at_hand(place)]
        return [load_signer(place) for place in places or [self.online]]


def next_place(path: Path) -> Path:
    """Where a new key stands until it takes the place of the one at `path`."""
    return path.with_name(f"{path.stem}.next.pem")


def made_beside(place: Path, new: Path | None) -> "Signer":
    """The key that is to follow the one at `place`: `new`, else one made here; what a killed rotation left goes on.

    Raises:
        RefusedError: A rotation to another key than `new` is under way.
        InvalidInputError: `new` is no key.
        OSError: The key's place cannot be written.
    """
    beside = next_place(place)
    if new is not None:
        wanted = load_signer(new).public_key.keyid
        if not beside.exists():
            write_atomic(beside, new.read_bytes(), mode=0o600)
        elif (begun := load_signer(beside).public_key.keyid) != wanted:
            raise RefusedError(
                "new key",
                where=str(beside),
                expected=f"{wanted[:12]}, as --to says",
                actual=f"{begun[:12]}, with which a rotation was begun that is not done",
                remedy="finish that first: run the command without --to, then once more with it; nothing was changed",
            )
    ensure_key(beside)
    return load_signer(beside)


@dataclass(frozen=True, slots=True)
class StudioKeys:
    """Where a studio's private keys are.

    `root` and `targets` sign seldom (a new scope, a new key) and belong on another disk; `site` signs snapshot and
    timestamp; `promoter` signs choices; `verdict` signs verdicts; `back` ways back, where that is not the promoter's.
    Beside `site` stands ``root.json``, the trusted root; `trusted` is another place of it.
    """

    root: Path
    targets: Path
    site: Path
    promoter: Path
    verdict: Path
    back: Path | None = None
    trusted: Path | None = None

    @classmethod
    def in_folder(cls, folder: Path) -> Self:
        """The places that `new_studio_keys` uses: ``offline/`` and ``online/``."""
        offline, online = folder / "offline", folder / "online"
        return cls(
            root=offline / "root.pem",
            targets=offline / "targets.pem",
            site=online / "site.pem",
            promoter=online / "promoter.pem",
            verdict=online / "verdict.pem",
        )

    @property
    def anchor(self) -> Path:
        """The trusted root: beside the online key, unless it is elsewhere."""
        return self.trusted or self.site.with_name("root.json")


def new_vendor_keys(folder: Path) -> VendorKeys:
    """Make the vendor's keys under `folder`; keys that are there already are kept.

    Raises:
        InvalidInputError: A file in a key's place is no key.
        OSError: The folder cannot be written.
    """
    keys = VendorKeys.in_folder(folder)
    for path in (keys.root, keys.targets, keys.release, keys.online):
        ensure_key(path)
    return keys


def new_studio_keys(folder: Path) -> StudioKeys:
    """Make a studio's keys under `folder`; keys that are there already are kept.

    Raises:
        InvalidInputError: A file in a key's place is no key.
        OSError: The folder cannot be written.
    """
    keys = StudioKeys.in_folder(folder)
    for path in (keys.root, keys.targets, keys.site, keys.promoter, keys.verdict):
        ensure_key(path)
    return keys
