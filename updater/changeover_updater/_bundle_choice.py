"""The choice in a bundle: for a second site, which follows what the first one chose and chooses nothing itself.

Such a site was made with ``init --choice-root``: ``follows/root.json`` holds the root of the first site's choice, given
by hand, and ``follows/state`` what was seen of it. A newer choice replaces the older one as a whole; an older one is
refused. Verdicts count by the keys that the choice names, the policy by the digest that it signs. A site that makes its
own choice takes releases out of such a bundle, and leaves the choice in it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from changeover_registry import _fs, canonical, signing
from changeover_registry.bundle_file import BundleFile
from changeover_registry.errors import TrustError
from changeover_registry.records.choice import Choice, VerdictKey
from changeover_registry.records.verdict import Verdict
from changeover_registry.transport.bundle import BundleTransport
from changeover_updater._bundle_parts import Repository, read_repository
from changeover_updater._bundle_vendor import copy_state
from changeover_updater.site import Site

__all__ = ["ChoicePart", "follows", "verify_choice"]


@dataclass(frozen=True, slots=True)
class ChoicePart:
    """What a bundle brings of a choice, verified: the staged mirror with all that was ever chosen, verdicts, policy."""

    site: Site
    stage: Path
    root: bytes
    past: tuple[str, ...]
    verdicts: Mapping[str, bytes]
    policy: bytes

    def is_news(self) -> bool:
        """Whether the site lacks any of it."""
        mine = self.site.choice / "metadata/timestamp.json"
        return (
            not mine.is_file()
            or mine.read_bytes() != self.timestamp()
            or self.policy != self.site.policy_bytes()
            or any(not (self.site.verdicts / f"{digest}.json").is_file() for digest in self.verdicts)
        )

    def timestamp(self) -> bytes:
        """The staged timestamp."""
        return (self.stage / "mirror/metadata/timestamp.json").read_bytes()

    def place(self, at: datetime) -> None:
        """Put verdicts, what was chosen before, the policy and the choice in place, the choice's timestamp last.

        Raises:
            TrustError: Somebody brought a newer choice meanwhile.
            OSError: The site cannot be written; run again, it goes on.
        """
        from changeover_registry.client import Client
        from changeover_registry.transport.folder import FolderTransport

        for envelope in self.verdicts.values():
            self.site.file_verdict(envelope)
        for path in self.past:
            _put(self.site.choice / path, (self.stage / "mirror" / path).read_bytes())
        if self.policy != self.site.policy_bytes():
            _fs.write_atomic(self.site.root / "policy.toml", self.policy)
        state, transport = self.site.follows / "state", FolderTransport(self.stage / "mirror")
        Client(transport, state, self.root, mirror=self.site.choice, at=at).refresh()


def follows(site: Site) -> bool:
    """Whether this site follows another one's choice."""
    return (site.follows / "root.json").is_file()


def verify_choice(bundle: BundleFile, site: Site, stage: Path, at: datetime) -> ChoicePart:
    """Verify the choice in a bundle from the root that this site was given, in a copy of its state below `stage`.

    Raises:
        TrustError: Something is expired at `at`, wrongly signed, older than what was seen here, or missing;
            a verdict is by no key that the choice names; the policy is not the signed one.
        UnreachableError: The bundle lacks a file.
    """
    from changeover_registry.client import Client

    root = (site.follows / "root.json").read_bytes()
    copy_state(site.follows / "state", stage / "state")
    Client(BundleTransport(bundle, "choice"), stage / "state", root, mirror=stage / "mirror", at=at).refresh()
    past = tuple(_past(bundle))
    for path in past:
        _put(stage / "mirror" / path, b"".join(bundle.stream(f"choice/{path}")))
    read = read_repository(stage / "mirror", root)
    _check_history(stage / "mirror", root, read)
    bodies = [json.loads(data) for data in read.targets.values()]
    # A way back of the site has its scope and channels too, and neither keys nor a policy.
    of_site: Mapping[str, Any] = next(
        (body for body in bodies if (body.get("schema"), body.get("scope")) == (Choice.schema_id(), "site")), {}
    )
    return ChoicePart(site, stage, root, past, dict(_verdicts(bundle, of_site)), _policy(bundle, of_site))


def _past(bundle: BundleFile) -> Iterator[str]:
    """The targets of a choice's repository in the bundle, whose names begin with their digests."""
    for path in bundle.under("choice/targets"):
        named, actual = path.rpartition("/")[2].partition(".")[0], bundle.members[path].sha256
        if named != actual:
            raise _distrust(bundle, path, f"sha256 {named}, as its name says", f"sha256 {actual}")
        yield path.removeprefix("choice/")


def _check_history(mirror: Path, root: bytes, read: Repository) -> None:
    """Every choice names the one before; without the whole chain nobody could say what a scope held before."""
    from changeover_registry.repository import choice

    parents = {path.removeprefix("targets/").rpartition("/")[0] for path in read.targets}
    for scope in sorted(parent for parent in parents if not parent.endswith("/back")):
        choice.history(mirror, scope, root=root)


def _verdicts(bundle: BundleFile, of_site: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    keys = tuple(VerdictKey.model_validate(key) for key in of_site.get("verdict_keys", ()))
    for path in bundle.under("verdicts"):
        data = b"".join(bundle.stream(path))
        payload, _ = signing.open_envelope(data, "verdict", keys, where=f"{bundle.path}: {path}")
        Verdict.from_bytes(payload, where=f"{bundle.path}: {path}")
        digest = canonical.digest(data)
        if path != f"verdicts/{digest}.json":
            raise _distrust(bundle, path, "the verdict of that digest", f"sha256 {digest}")
        yield digest, data


def _policy(bundle: BundleFile, of_site: Mapping[str, Any]) -> bytes:
    data = b"".join(bundle.stream("policy.toml")) if "policy.toml" in bundle.members else b""
    if canonical.digest(data) != of_site.get("policy"):
        signed = of_site.get("policy")
        raise _distrust(
            bundle, "policy.toml", f"the signed policy, sha256 {signed}", f"sha256 {canonical.digest(data)}"
        )
    return data


def _put(path: Path, data: bytes) -> None:
    if not path.is_file() or path.read_bytes() != data:
        _fs.make_dirs(path.parent)
        _fs.write_atomic(path, data)


def _distrust(bundle: BundleFile, path: str, expected: str, actual: str) -> TrustError:
    remedy = "have the bundle made again; nothing was changed here"
    return TrustError(
        "member of a bundle", where=f"{bundle.path}: {path}", expected=expected, actual=actual, remedy=remedy
    )
