"""Where private keys are: a vendor's four and a studio's five, offline ones apart from online ones.

The files themselves are `signing`'s. Beside the online key stands the root that its owner trusts, from which every
write is verified. Left out: what the keys sign (`vendor`, `choice`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from changeover_registry.signing import ensure_key

__all__ = ["StudioKeys", "VendorKeys", "new_studio_keys", "new_vendor_keys"]


@dataclass(frozen=True, slots=True)
class VendorKeys:
    """Where a vendor's private keys are.

    `root` and `targets` sign seldom (a new model, a new key) and belong on another disk; `release` signs releases;
    `online` signs snapshot and timestamp. Beside `online` stands ``root.json``, the root that this vendor trusts.
    """

    root: Path
    targets: Path
    release: Path
    online: Path

    @classmethod
    def in_folder(cls, folder: Path) -> Self:
        """The places that `new_vendor_keys` uses: ``offline/`` and ``online/``."""
        offline, online = folder / "offline", folder / "online"
        return cls(offline / "root.pem", offline / "targets.pem", online / "release.pem", online / "online.pem")

    @property
    def anchor(self) -> Path:
        """The trusted root beside the online key."""
        return self.online.with_name("root.json")


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
