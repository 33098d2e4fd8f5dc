"""What the studio knows, verified: the choice, the vendors' releases, the policy and the verdicts.

Everything in here was checked by signature and digest when it was read; deciding starts from this value. A vendor whose
metadata does not verify (expired, altered) is kept with its error: what is installed goes on, nothing new comes.
"""

import base64
import json
import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from changeover_registry import canonical, clock, signing
from changeover_registry.errors import ChangeoverError, InvalidInputError, TrustError, UndecidedError, UnreachableError
from changeover_registry.names import Version, is_name
from changeover_registry.records.choice import Back, Choice, Entry, Override, VerdictKey
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release, ReleaseRef
from changeover_registry.records.repository import Index, TrustEntry
from changeover_registry.records.verdict import Verdict
from changeover_updater.clearance import judged_at
from changeover_updater.needed import ALL, Needed
from changeover_updater.site import Site, VendorFolder
from changeover_updater.station import Station
from changeover_updater.verdict_index import speaking_of

__all__ = [
    "LIMIT_BYTES",
    "FiledVerdict",
    "Studio",
    "VendorState",
    "choice_history",
    "choice_log",
    "find_verdict",
    "key_changes",
    "newest_choices",
    "read_accepted",
    "read_choices",
    "read_studio",
    "read_verdicts",
    "scopes",
    "unreadable_record",
]

LIMIT_BYTES = 64 * 1024 * 1024
"""What no verdict is larger than: one on a thousand shots has 3 MiB for each operating point."""


@dataclass(frozen=True, slots=True)
class FiledVerdict:
    """A verdict whose signature an enrolled key made, and the digest of its envelope."""

    digest: str
    verdict: Verdict
    signer: str


@dataclass(frozen=True, slots=True)
class VendorState:
    """One trusted vendor: its verified indexes and records, or the error that stands in their place."""

    entry: TrustEntry
    indexes: tuple[Index, ...] = ()
    releases: tuple[Release, ...] = ()
    error: ChangeoverError | None = None
    unreadable: tuple[tuple[str, UndecidedError], ...] = ()
    """Releases, by their keys, whose signed records this build cannot read; they are as if they were not there."""
    carried: bool = False
    """Whether bundles bring what it publishes, so that a sync finds nothing new."""

    def withdrawn(self, ref: ReleaseRef) -> str | None:
        """Why the vendor took the release back, if it did."""
        for index in self.indexes:
            entry = index.entry(ref.version)
            if f"{index.vendor}/{index.name}" == ref.model and entry and entry.withdrawn:
                return entry.withdrawn.why
        return None


@dataclass(frozen=True, slots=True)
class Studio:
    """All that a decision at this studio may rest on."""

    choices: tuple[Choice, ...]
    vendors: tuple[VendorState, ...]
    policy: Policy
    policy_digest: str

    def vendor(self, model: str) -> VendorState | None:
        """The vendor of a model, if it is trusted."""
        name = model.partition("/")[0]
        return next((vendor for vendor in self.vendors if vendor.entry.vendor == name), None)

    def vendor_of(self, release: Release) -> VendorState:
        """The vendor of a release that this studio knows."""
        return next(vendor for vendor in self.vendors if release in vendor.releases)

    def releases(self) -> tuple[Release, ...]:
        """Every release that a trusted vendor's valid metadata lists."""
        return tuple(release for vendor in self.vendors for release in vendor.releases)

    def release(self, ref: ReleaseRef) -> Release | None:
        """The verified record of a release."""
        named = (r for r in self.releases() if (r.model, r.version) == (ref.model, ref.version))
        # Digesting a record costs more than comparing two names, so the digest comes last.
        return next((release for release in named if release.ref() == ref), None)

    def unreadable(self, key: str) -> UndecidedError | None:
        """Why this build cannot read the signed record of a release, if that is so."""
        return next((error for vendor in self.vendors for of, error in vendor.unreadable if of == key), None)

    def overrides(self, ref: ReleaseRef, scope: str | None = None) -> tuple[Override, ...]:
        """Every override that names a release; only the site's and those of a scope, if one is given.

        Whoever may sign for one show passes over nothing for the site or for another show.
        """
        heard = [choice for choice in self.choices if scope is None or choice.scope in {"site", scope}]
        return tuple(o for choice in heard for o in choice.overrides if o.release == ref)

    def verdict_keys(self) -> tuple[VerdictKey, ...]:
        """The keys that may sign verdicts."""
        return tuple(key for choice in self.choices if choice.scope == "site" for key in choice.verdict_keys)

    def withdrawn(self) -> Mapping[str, str]:
        """Why its vendor took a release back, by the release's key, for every vendor that verifies."""
        return {
            str(ReleaseRef(model=f"{index.vendor}/{index.name}", version=entry.version, digest=entry.record)): (
                entry.withdrawn.why
            )
            for vendor in self.vendors
            for index in vendor.indexes
            for entry in index.releases
            if entry.withdrawn
        }

    def model(self, name: str) -> str:
        """The model of that name; the bare name is enough if it is unique.

        Raises:
            InvalidInputError: No release of such a model is known, or several vendors have one.
        """
        known = sorted({release.model for release in self.releases()})
        found = [model for model in known if name in {model, model.partition("/")[2]}]
        if not found:
            self._raise_vendor_error(name)
        if len(found) != 1:
            raise InvalidInputError(
                "model",
                where=name,
                expected=f"one of {', '.join(known)}" if known else "a synced model",
                actual="an unknown model" if not found else f"several: {', '.join(found)}",
                remedy="write vendor/name" if found else "run changeover sync, or correct the name",
            )
        return found[0]

    def several(self, name: str) -> bool:
        """Whether several vendors' indexes have a model of that bare name, whatever of it is known here."""
        return sum(index.name == name for vendor in self.vendors for index in vendor.indexes) > 1

    def _raise_vendor_error(self, name: str) -> None:
        """A model may be unknown because its vendor does not verify; then that is what must be said."""
        asked = name.partition("/")[0] if "/" in name else None
        for vendor in self.vendors:
            if vendor.error is not None and asked in {None, vendor.entry.vendor}:
                raise vendor.error

    def find(self, text: str) -> Release:
        """The release that ``MODEL@VERSION`` names.

        Raises:
            InvalidInputError: Not of that form, or no such release is known.
        """
        name, at, version = text.partition("@")
        if not at:
            raise InvalidInputError(
                "release", where=text, expected="MODEL@VERSION", actual=text, remedy="write the version after an @"
            )
        model = self.model(name)
        wanted = str(Version.parse(version, where=text))
        known = sorted((r for r in self.releases() if r.model == model), key=lambda r: Version.parse(r.version))
        for release in known:
            if release.version == wanted:
                return release
        raise InvalidInputError(
            "release",
            where=text,
            expected=f"one of the versions {', '.join(r.version for r in known)}",
            actual=wanted,
            remedy="run changeover sync, or correct the version",
        )


def read_choices(site: Site, station: Station) -> tuple[Choice, ...]:
    """The verified choice of every scope, against the root that this station was given.

    What its way back returned stands in it. A way back that is no such thing is left aside, and a warning tells of it.

    Raises:
        TrustError: A signature, an expiry or a version does not hold.
        UnreachableError: The choice cannot be read, or was not carried to this site yet, which follows another one's.
    """
    from changeover_registry.repository import choice

    if (site.follows / "root.json").is_file() and not (site.choice / "metadata").is_dir():
        raise _not_carried_yet(site)
    trust = station.folder / "trust" / "choice"
    root = (trust / "root.json").read_bytes()
    try:
        at = judged_at(site.follows, site.choice, clock.now())
        reading = choice.read_all(site.choice, trust / "state", root, at=at)
    except TrustError as error:
        if error.rule != "expiry":
            raise
        remedy = "run changeover sync where the studio's keys are, which signs it again; what is installed goes on"
        raise TrustError(
            error.rule, where=error.where, expected=error.expected, actual=error.actual, remedy=remedy
        ) from error
    for problem in reading.ignored:
        logging.getLogger(__name__).warning("%s", problem)
    return reading.choices


def _not_carried_yet(site: Site) -> UnreachableError:
    return UnreachableError(
        "choice",
        where=str(site.choice),
        expected="the choice of the site that this one follows",
        actual="none yet",
        remedy="bring it in with: changeover import BUNDLE, which changeover export --choice made there",
    )


def choice_history(site: Site) -> tuple[Choice, ...]:
    """Every choice of every scope that the site holds, oldest first, for reading; decisions use `read_choices`."""
    from changeover_registry.repository import choice

    found = [entry for scope in scopes(site) for entry in choice.history(site.choice, scope)]
    return tuple(sorted(found, key=lambda entry: (entry.entry.when, entry.scope, entry.number)))


def newest_choices(site: Site) -> tuple[Choice, ...]:
    """The newest choice of every scope that the site holds, for reading; decisions use `read_choices`."""
    from changeover_registry.repository import past

    reached = past.read_past(site.choice)
    heads = (next(past.links_of(site.choice, reached, scope), None) for scope in scopes(site))
    return tuple(head.choice() for head in heads if head is not None)


def choice_log(site: Site) -> tuple[Choice | Back, ...]:
    """Every choice and every way back of every scope, oldest first, for reading."""
    from changeover_registry.repository import backs

    returned = (entry for scope in scopes(site) for entry in backs.history(site.choice, scope))
    found: list[Choice | Back] = [*choice_history(site), *returned]
    return tuple(sorted(found, key=lambda one: (one.entry.when, one.scope, isinstance(one, Back), one.number)))


def key_changes(site: Site) -> tuple[tuple[int, Entry], ...]:
    """Who enrolled or revoked a scope's keys, when and why, oldest first, for reading."""
    from changeover_registry.repository import enrolment

    return enrolment.key_entries(site.choice, (site.choice / "metadata" / "1.root.json").read_bytes())


def scopes(site: Site) -> tuple[str, ...]:
    """The site, and every show that a choice was ever made for; what cannot be a show's name is none."""
    shows = sorted(path.name for path in (site.choice / "targets" / "shows").glob("*"))
    return ("site", *(f"shows/{name}" for name in shows if is_name(name)))


def read_studio(site: Site, station: Station, needed: Needed = ALL) -> Studio:
    """Read and verify what the studio knows; of the vendors' releases no more than what is needed.

    Raises:
        TrustError: The choice or the policy does not hold.
    """
    choices = read_choices(site, station)
    signed = next((choice.policy for choice in choices if choice.scope == "site"), None)
    policy, digest = site.policy(signed)
    needed = needed.beside(choices)
    vendors = tuple(_vendor(folder, station, needed) for folder in site.vendors())
    return Studio(choices=choices, vendors=vendors, policy=policy, policy_digest=digest)


def read_verdicts(site: Site, studio: Studio, of: str | Collection[str] | None = None) -> tuple[FiledVerdict, ...]:
    """Every verdict that an enrolled key signed, newest first; of one release's digest or of several, if given.

    Files that do not verify are left out: an artist or a vendor may have put them there, and they count for nothing.
    """
    releases = None if of is None else frozenset((of,) if isinstance(of, str) else of)
    paths = site.verdicts.glob("*.json") if releases is None else speaking_of(site.verdicts, releases, LIMIT_BYTES)
    found: list[FiledVerdict] = []
    for path in paths:
        data = _small_file(path)
        if releases is None or _mentions(data, releases):
            found.extend(_verdict(path, data, studio.verdict_keys()))
    return tuple(sorted(found, key=lambda filed: (filed.verdict.made_at, filed.digest), reverse=True))


def find_verdict(verdicts: Iterable[FiledVerdict], digest: str) -> FiledVerdict:
    """The one verdict whose digest begins so.

    Raises:
        InvalidInputError: There is none, or there are several.
    """
    found = [filed for filed in verdicts if filed.digest.startswith(digest)]
    if len(found) != 1:
        raise InvalidInputError(
            "verdict",
            where=digest,
            expected="the first characters of exactly one signed verdict",
            actual=f"{len(found)} of them",
            remedy="see them with: changeover verdict list",
        )
    return found[0]


def read_accepted(site: Site, studio: Studio, candidates: frozenset[str]) -> tuple[FiledVerdict, ...]:
    """The signed verdicts that accept a release whose digest is among `candidates`, newest first.

    Of thousands of files only these are verified: canonical JSON says both in bytes that can be looked for.
    """
    heads = tuple(f'"candidate":{{"digest":"{digest}"'.encode() for digest in candidates)
    found: list[FiledVerdict] = []
    for path in site.verdicts.glob("*.json") if heads else ():
        payload = _payload(data := _small_file(path))
        if b'"decision":"accept"' in payload and any(head in payload for head in heads):
            found.extend(_verdict(path, data, studio.verdict_keys()))
    accepted = [filed for filed in found if filed.verdict.decision == "accept"]
    return tuple(sorted(accepted, key=lambda filed: (filed.verdict.made_at, filed.digest), reverse=True))


def _small_file(path: Path) -> bytes:
    """The bytes of a file; none where it is larger than any verdict, cannot be read, or is no file."""
    try:
        return path.read_bytes() if path.is_file() and path.stat().st_size <= LIMIT_BYTES else b""
    except OSError:
        return b""


def _verdict(path: Path, data: bytes, keys: tuple[VerdictKey, ...]) -> tuple[FiledVerdict, ...]:
    try:
        payload, key = signing.open_envelope(data, "verdict", keys, where=str(path))
        verdict = Verdict.from_bytes(payload, where=str(path))
    except ChangeoverError:
        return ()
    digest = canonical.digest(data)
    return (FiledVerdict(digest=digest, verdict=verdict, signer=key.owner),) if path.stem == digest else ()


def _mentions(envelope: bytes, releases: Collection[str]) -> bool:
    """Whether an envelope's payload names one of these digests: a cheap look before the signature is verified."""
    payload = _payload(envelope)
    return any(release.encode() in payload for release in releases)


def _payload(envelope: bytes) -> bytes:
    """What an envelope holds, unverified; nothing where it is no envelope."""
    try:
        return base64.b64decode(json.loads(envelope)["payload"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return b""


def _vendor(folder: VendorFolder, station: Station, needed: Needed) -> VendorState:
    from changeover_registry.client import Client
    from changeover_registry.repository.vendor import open_vendor
    from changeover_registry.transport import open_transport

    entry, carried = folder.entry(), folder.carried()
    if not folder.mirror.is_dir():
        return VendorState(entry=entry, carried=carried)
    state = station.folder / "trust" / "vendors" / folder.vendor
    try:
        at = judged_at(folder.root, folder.mirror, clock.now())
        client = Client(open_transport(str(folder.mirror)), state, folder.pinned_root(), at=at)
        view = open_vendor(client, folder.vendor, needed.models_of(folder.vendor, entry.models))
        indexes = tuple(view.indexes[name] for name in sorted(view.indexes))
        unreadable: list[tuple[str, UndecidedError]] = []
        releases = _records(folder, indexes, unreadable, needed)
        return VendorState(
            entry=entry, indexes=indexes, releases=releases, unreadable=tuple(unreadable), carried=carried
        )
    except ChangeoverError as error:
        return VendorState(entry=entry, error=error, carried=carried)


def unreadable_record(key: str, error: ChangeoverError) -> UndecidedError:
    """What is said of a release whose record is as it was signed and cannot be read by this build."""
    return UndecidedError(
        "release record", where=key, expected=error.expected, actual=error.actual, remedy=error.remedy
    )


def _records(
    folder: VendorFolder,
    indexes: tuple[Index, ...],
    unreadable: list[tuple[str, UndecidedError]],
    needed: Needed = ALL,
) -> tuple[Release, ...]:
    """The records that this build can read; one that it cannot, though its bytes are the signed ones, is named."""
    releases = []
    for index in indexes:
        for entry in index.releases:
            path = folder.record_path(entry.record)
            if not (needed.takes(f"{index.vendor}/{index.name}", entry) and path.is_file()):
                continue
            data = path.read_bytes()
            if canonical.digest(data) != entry.record:
                raise TrustError(
                    "release record",
                    where=str(path),
                    expected=f"sha256 {entry.record}",
                    actual=canonical.digest(data),
                    remedy="remove the file and run changeover sync; find out who changed it",
                )
            bound = (f"{index.vendor}/{index.name}", entry.version)
            try:
                release = Release.from_bytes(data, where=str(path))
            except (InvalidInputError, UndecidedError) as error:
                key = str(ReleaseRef(model=bound[0], version=bound[1], digest=entry.record))
                unreadable.append((key, unreadable_record(key, error)))
                continue
            actual = (release.model, release.version)
            if actual != bound:
                raise TrustError(
                    "release record",
                    where=str(path),
                    expected="@".join(bound),
                    actual="@".join(actual),
                    remedy="do not use it; ask the vendor why its index gives a release another name",
                )
            releases.append(release)
    return tuple(releases)
