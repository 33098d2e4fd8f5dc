"""The verifying reader of a repository: python-tuf's client over one of our transports.

Rules (those of the TUF specification, held by python-tuf): root is walked version by version from the bootstrap bytes;
timestamp, snapshot and roles need the signatures that their delegator names, must not be expired, must not be older
than what `state` has seen, and must have the length and digest that the level above names. Targets have the digest that
their role names. Ours on top: what was verified is kept on disk with fsync and without links; one process at a time
uses a state; foreign errors become one clear line; and a mirror is moved as a whole.

python-tuf reads the machine's clock for expiry, once a client; only a bundle that was cleared after its arrival is
judged at another moment. Left out: files outside the metadata (records, model files), which are pinned by digest and
fetched by `repository.vendor` and the downloader.
"""

import contextlib
import hashlib
import shutil
import weakref
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError
from tuf.api.metadata import Metadata, Snapshot, TargetFile, Targets
from tuf.ngclient import FetcherInterface, Updater

from changeover_registry._fs import lock, make_dirs, write_atomic
from changeover_registry._tuf_errors import Refusal, explain
from changeover_registry.clock import format_time
from changeover_registry.errors import TrustError
from changeover_registry.names import check_path
from changeover_registry.reader_state import private_copy
from changeover_registry.transport.interface import NotThereError, Transport

__all__ = ["Client", "Expiry", "NotNamedError"]

_LOCK_SECONDS = 30.0
_DIGESTS = frozenset({"sha256", "sha512"})


class NotNamedError(NotThereError):
    """No role that may name a target names it: that is signed, and asking again changes nothing."""


@dataclass(frozen=True, slots=True)
class Expiry:
    """Until when one role of a repository can be trusted."""

    role: str
    expires: datetime


class Client:
    """Reads one repository and believes what is signed.

    Args:
        transport: The way to the repository.
        state: The folder of what was verified before; made if it is not there. Keep it: it is what shows a rollback.
            Where this user may only read it, what is verified now is forgotten with this object.
        root: The bytes of the root metadata that this reader was given by hand.
        mirror: A folder that becomes a repository itself: after each `refresh` it holds all metadata and targets
            verbatim, so that another client with the same root can verify from it.
        mirrored: The delegated roles that the mirror needs to hold; None for all.
        at: The moment at which expiry is judged, such as the arrival of a bundle that was cleared later; None for now.
    """

    def __init__(
        self,
        transport: Transport,
        state: Path,
        root: bytes,
        *,
        mirror: Path | None = None,
        mirrored: Collection[str] | None = None,
        at: datetime | None = None,
    ) -> None:
        self._transport = transport
        self._state = state
        self._root = root
        self._mirror = mirror
        self._mirrored = mirrored
        self._at = at
        self._fetcher = _Fetcher(transport)
        self._updater: _Updater | None = None
        self._consistent = True
        self._snapshot = Snapshot(meta={})
        self._targets = Targets()

    @property
    def transport(self) -> Transport:
        """The way to the repository, for what is pinned by digest."""
        return self._transport

    def refresh(self) -> None:
        """Verify the newest metadata of the repository and, where there is a mirror, bring it up to date.

        Raises:
            TrustError: Something is expired, wrongly signed, older than before, or has another digest.
            UnreachableError: The repository does not answer, or lacks a file.
            LostRaceError: Another process has been using this state for half a minute.
            OSError: The state or the mirror cannot be written.
        """
        with self._exclusively():
            updater = _Updater(
                str(self._state), "metadata/", fetcher=self._fetcher, target_base_url="targets/", bootstrap=self._root
            )
            updater.judge_at(self._at)
            updater.refresh()
            self._snapshot = _load(self._state / "snapshot.json").signed
            self._targets = _load(self._state / "targets.json").signed
            self._consistent = updater.consistent
            if self._mirror is not None:
                self._check_consistent()
                self._fill(self._mirror, updater)
            self._updater = updater

    def target(self, path: str, *, limit: int, kept: Path | None = None) -> bytes:
        """The verified bytes of the target `path`, at most `limit` of them; refreshes first if nobody did.

        Args:
            path: What the roles call it.
            limit: The most bytes that the caller can take.
            kept: A file that may hold these bytes already; they are not fetched again then.

        Raises:
            NotNamedError: No role that may name `path` names it.
            TrustError: As `refresh`, or the target is longer than `limit` or has another digest.
            UnreachableError: As `refresh`.
            LostRaceError: As `refresh`.
            OSError: As `refresh`.
        """
        if self._updater is None:
            self.refresh()
        with self._exclusively():
            return self._bytes(self._info(path), limit, kept)

    def versions(self) -> dict[str, int]:
        """The version of each targets role as the snapshot of the last `refresh` names it; none before."""
        return {name.removesuffix(".json"): file.version for name, file in self._snapshot.meta.items()}

    def delegated(self) -> tuple[str, ...]:
        """The roles that the top-level targets of the last `refresh` delegate to, in their order; none before."""
        return tuple(role for role, _ in _delegations(self._targets))

    def expiries(self) -> tuple[Expiry, ...]:
        """Until when each role in `state` can be trusted, the next to expire first; reads the disk alone."""
        files = [path for path in self._state.glob("*.json") if path.name != "root.json"]
        roles = [Expiry(path.name.removesuffix(".json"), _load(path).signed.expires) for path in files]
        roles += [Expiry("root", _load(path).signed.expires) for path in self._roots()[-1:]]
        return tuple(sorted(roles, key=lambda role: (role.expires, role.role)))

    def _keep_apart(self) -> None:
        """Work on a private copy of a state that this user may only read; it is removed with this client."""
        copy = private_copy(self._state)
        if copy is not None:
            weakref.finalize(self, shutil.rmtree, copy, ignore_errors=True)
            self._state = copy

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """One process at a time, as python-tuf asks for; its errors leave as ours."""
        self._keep_apart()
        with lock(self._state / "lock", what="this trusted state", wait_seconds=_LOCK_SECONDS):
            try:
                yield
            except DownloadHTTPError as error:
                raise (error.__cause__ or error) from None
            except (RepositoryError, DownloadError) as error:
                raise self._distrusted(explain(error, self._fetcher.last)) from error

    def _distrusted(self, refusal: Refusal) -> TrustError:
        actual = refusal.actual
        if refusal.rule == "expiry":
            actual = self._expired_when(refusal.file)
        where = f"{self._transport.location}: metadata/{refusal.file}"
        return TrustError(refusal.rule, where=where, expected=refusal.expected, actual=actual, remedy=refusal.remedy)

    def _expired_when(self, file: str) -> str:
        data = self._fetcher.received.get(file)
        for path in (self._state / file, *self._roots()[-1:]):
            if data is None and path.is_file():
                data = path.read_bytes()
        if data is None:
            return "an expired one"
        signed: Any = Metadata.from_bytes(data).signed
        return f"expired at {format_time(signed.expires)}"

    def _roots(self) -> list[Path]:
        """The verified roots on disk, by version."""
        return sorted((self._state / "root_history").glob("*.root.json"), key=lambda path: int(path.name.split(".")[0]))

    def _info(self, path: str) -> TargetFile:
        info = self._updater.get_targetinfo(path) if self._updater else None
        # Any name may be asked for; one that no disk of ours could hold is not fetched.
        check_path(path, where=self._transport.location)
        if info is None:
            raise NotNamedError(
                "target",
                where=f"{self._transport.location}: {path}",
                expected="a target that the repository's roles name",
                actual="no such target",
                remedy="ask whoever keeps the repository whether it was published",
            )
        return info

    def _bytes(self, info: TargetFile, limit: int, kept: Path | None = None) -> bytes:
        """The target's bytes, from this disk where they stand here already."""
        stored = self._stored_path(info)
        where = f"{self._transport.location}: {stored}"
        if not info.hashes.keys() <= _DIGESTS:
            raise _distrust("digest", where, " or ".join(sorted(_DIGESTS)), ", ".join(info.hashes))
        if info.length > limit:
            raise _distrust("length", where, f"at most {limit} bytes", f"{info.length} bytes")
        for path in filter(None, (kept, self._mirror and self._mirror / stored)):
            data = path.read_bytes() if path.is_file() else b""
            if len(data) == info.length and _digests(info, data) == info.hashes:
                return data
        data = self._transport.read(stored, limit=info.length)
        if (found := _digests(info, data)) != info.hashes:
            raise _distrust("digest", where, _listed(info.hashes), _listed(found))
        return data

    def _stored_path(self, info: TargetFile) -> str:
        """Where the repository keeps a target: with consistent snapshots, its digest before the file's name."""
        check_path(info.path, where="a target's path")
        if not self._consistent:
            return f"targets/{info.path}"
        folder, slash, name = info.path.rpartition("/")
        digest = info.hashes.get("sha256") or next(iter(info.hashes.values()))
        return f"targets/{folder}{slash}{digest}.{name}"

    def _check_consistent(self) -> None:
        """A mirror is put in place file by file, which is safe where no name ever stands for other bytes."""
        if not self._consistent:
            where = f"{self._transport.location}: metadata/root.json"
            raise _distrust("consistent snapshots", where, "consistent_snapshot = true", "false")

    def _fill(self, mirror: Path, updater: Updater) -> None:
        """Copy targets, then roots and roles, then the timestamp: a reader sees the old repository or the new one."""
        roles = self._load_roles(updater)
        for role in roles:
            for info in _load(self._state / f"{role}.json").signed.targets.values():
                _put(mirror / self._stored_path(info), self._bytes(info, info.length))
        for path in self._roots():
            _put(mirror / "metadata" / path.name, path.read_bytes())
        for role in (*roles, "snapshot"):
            path = self._state / f"{role}.json"
            _put(mirror / "metadata" / f"{_load(path).signed.version}.{role}.json", path.read_bytes())
        _put(mirror / "metadata" / "timestamp.json", (self._state / "timestamp.json").read_bytes())

    def _load_roles(self, updater: Updater) -> list[str]:
        """Have python-tuf fetch and verify each delegated role to be mirrored; the names of all targets roles."""
        roles = ["targets"]
        for role, pattern in _delegations(self._targets):
            if role in self.versions() and (self._mirrored is None or role in self._mirrored):
                # Nobody names a target like this; asking for it makes python-tuf load the role.
                updater.get_targetinfo(pattern.replace("*", "-"))
                roles.append(role)
        return roles


class _Fetcher(FetcherInterface):
    """Brings metadata over a transport, and remembers it for the message of a refusal."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.last = ""
        self.received: dict[str, bytes] = {}

    def _fetch(self, url: str) -> Iterator[bytes]:
        return self._transport.stream(url)

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Collect in memory; python-tuf's own way needs a temporary folder."""
        try:
            data = self._transport.read(url, limit=max_length)
        except NotThereError as error:
            # python-tuf takes this status as "there is no newer root"; elsewhere the cause comes out again.
            raise DownloadHTTPError(str(error), 404) from error
        self.last = url.removeprefix("metadata/")
        version, _, name = self.last.partition(".")
        self.received[name if version.isdecimal() else self.last] = data
        return data


class _Updater(Updater):
    """python-tuf's client, keeping its files as we keep ours: fsync before rename, and no symbolic link."""

    def judge_at(self, moment: datetime | None) -> None:
        """Judge expiry at a moment other than now; python-tuf has one reference time for the whole of an update."""
        if moment is not None:
            self._trusted_set.reference_time = moment

    def _persist_file(self, filename: str, data: bytes) -> None:
        _put(Path(filename), data)

    @property
    def consistent(self) -> bool:
        """Whether the repository names its files by version and digest."""
        return bool(self._trusted_set.root.consistent_snapshot)

    def _update_root_symlink(self) -> None:
        """No link: it would serve readers without a bootstrap root, and file shares may refuse it."""


def _put(path: Path, data: bytes) -> None:
    """Write `data` to `path` unless it is there already."""
    if not path.is_file() or path.read_bytes() != data:
        make_dirs(path.parent)
        write_atomic(path, data)


def _load(path: Path) -> Metadata[Any]:
    return Metadata.from_bytes(path.read_bytes())


def _digests(info: TargetFile, data: bytes) -> dict[str, str]:
    """The digests of `data`, by each algorithm with which a role names the target."""
    return {algorithm: hashlib.new(algorithm, data).hexdigest() for algorithm in info.hashes}


def _listed(digests: dict[str, str]) -> str:
    return ", ".join(f"{algorithm} {digest}" for algorithm, digest in digests.items())


def _delegations(targets: Targets) -> list[tuple[str, str]]:
    """Each delegated role with its first path pattern."""
    roles = (targets.delegations.roles or {}) if targets.delegations else {}
    for name in roles:
        check_path(name, where="a delegated role's name")
    return [(name, role.paths[0]) for name, role in roles.items() if role.paths]


def _distrust(rule: str, where: str, expected: str, actual: str) -> TrustError:
    remedy = "ask whoever keeps the repository; the file was damaged or replaced after it was signed"
    return TrustError(rule, where=where, expected=expected, actual=actual, remedy=remedy)
