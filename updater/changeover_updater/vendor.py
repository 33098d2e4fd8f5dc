"""What a vendor does with a release: smoke, register, publish, withdraw, renew.

`register` puts the bytes into the vendor's MLflow; `publish` takes them back out, compares every digest with the record
and signs them into the repository. MLflow is not trusted in between: the home keeps the record that was registered from
it, and a byte that changed on the way is named and nothing is signed. Every step can be killed and run again.
"""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from changeover_registry import canonical
from changeover_registry._fs import lock, remove_tree, write_atomic
from changeover_registry.errors import (
    ChangeoverError,
    InvalidInputError,
    LostRaceError,
    RefusedError,
    TrustError,
    UndecidedError,
)
from changeover_registry.mlflow_adapter.registry import RECORD, Registered, Registration, Registry, artifact_path
from changeover_registry.records.release import FileEntry, Port, Release, Variant
from changeover_registry.repository import vendor as repository
from changeover_updater.lineage import check_parent
from changeover_updater.release_folder import (
    SMOKE,
    describe_file,
    read_draft,
    read_release,
    require_smoke,
    variant_folder,
)
from changeover_updater.vendor_documents import (
    forget_documents,
    keep_documents,
    kept_documents,
    make_documents,
    published_documents,
    write_beside,
)
from changeover_updater.vendor_home import VendorHome
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.process import ModelProcess

if TYPE_CHECKING:
    from changeover_validators.runtimes.smoke import Values

__all__ = ["Notice", "Published", "Smoked", "Step", "publish", "register", "renew", "smoke", "withdraw"]

Step = Callable[[str], None]
"""Told what is being done now, in a few words."""
Notice = Callable[[str], None]
"""Told what was left out, in one line."""

_SEED = 20260101
_WALL_SECONDS = 300.0
_LOCK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Smoked:
    """What became of one variant's smoke file; `detail` is the largest difference on running it again, or why not.

    `values` are those of the recorded mattes; None where nothing was run, or numpy is not installed here.
    """

    variant: str
    outcome: Literal["written", "kept", "skipped"]
    detail: str
    values: "Values | None" = None


@dataclass(frozen=True, slots=True)
class Published:
    """A published release; `new` is False where it was there already."""

    release: Release
    new: bool


def smoke(
    folder: Path,
    *,
    interpreter: str = sys.executable,
    again: bool = False,
    ram_mib: int = 8192,
    step: Step = lambda _: None,
) -> tuple[Smoked, ...]:
    """Record for each variant two inputs, their outputs and a tolerance, by running it isolated.

    A smoke file that is there is run and kept. A ``.cat`` is opaque outside Nuke and is skipped.

    Args:
        folder: The release folder.
        interpreter: A Python that holds Changeover and the runtimes.
        again: Record anew where a smoke file is there.
        ram_mib: The most memory that a model may take.
        step: Told what is being done.

    Raises:
        InvalidInputError: ``release.toml`` is not valid.
        RefusedError: A smoke file that is there does not hold, or a model file is of a kind that is refused.
        UndecidedError: Nothing isolates on this machine, or the runtime is not installed: not run.
        MeasurementError: A model crashed, hung or gave something that is not finite.
    """
    step(f"reading {folder}")
    release, draft = read_release(folder), read_draft(folder)
    done = []
    for variant in release.variants:
        step(f"running {variant.id}")
        place = variant_folder(folder, variant.id, draft)
        request = _request(place, variant, release.interface.inputs, interpreter, ram_mib)
        done.append(_smoke(request, variant, folder, again=again))
    return tuple(done)


def register(
    home: VendorHome,
    folder: Path,
    now: datetime,
    *,
    interpreter: str = sys.executable,
    ram_mib: int = 8192,
    model_signing: Path | None = None,
    step: Step = lambda _: None,
    notice: Notice = lambda _: None,
) -> tuple[Release, Registration]:
    """Put a release folder into the vendor's MLflow, and write ``release.json`` and the documents of it beside it.

    Each smoke file is run first, as `smoke` runs it: a version number is spent once, and every studio runs the same
    file. Where nothing can run it on this machine, `notice` is told.

    Args:
        home: The vendor's home.
        folder: The release folder.
        now: The moment, for the bill of materials.
        interpreter: A Python that holds Changeover and the runtimes.
        ram_mib: The most memory that a model may take.
        model_signing: The private key of an OpenSSF signature beside the release; None for none.
        step: Told what is being done.
        notice: Told of each smoke file that was not run, and of each document that stays as it was.

    Raises:
        InvalidInputError: ``release.toml``, a file or a smoke file is not as it must be; nothing was changed.
        RefusedError: This version is registered with other content, a model file is of a kind that is refused, or a
            model does not give what its smoke file holds.
        MeasurementError: A model crashed, hung or gave something that is not finite.
        UnreachableError: MLflow does not answer.
        LostRaceError: Another registration is under way, or was faster.
    """
    step(f"reading {folder}")
    release = read_release(folder, progress=_counting(step, f"reading {folder}"))
    _check_own(release, home, folder)
    if open_question := check_parent(release, _published(home, release), where=str(folder / "release.toml")):
        notice(open_question)
    draft = read_draft(folder)
    places = {variant.id: variant_folder(folder, variant.id, draft) for variant in release.variants}
    for variant in release.variants:
        require_smoke(places[variant.id], variant)
        step(f"running {variant.id}")
        request = _request(places[variant.id], variant, release.interface.inputs, interpreter, ram_mib)
        _hold_smoke(request, variant, folder, notice)
    files = {artifact_path(v, file.path): places[v.id] / file.path for v in release.variants for file in v.files}
    with lock(home.lock, what=f"the home of {home.vendor}", wait_seconds=_LOCK_SECONDS):
        step("making the documents")
        documents = make_documents(home, folder, release, files, now, key=model_signing, notice=notice)
        # Before MLflow shows the release, or a publish after a kill would leave out what is only here.
        new = documents.keys() - kept_documents(home, release).keys()
        keep_documents(home, release, documents)
        sending = _counting(step, "sending to MLflow")
        try:
            made = home.registry().register_release(release, files, documents, progress=sending)
        except (RefusedError, LostRaceError):
            # What was kept before may be published, whatever MLflow says of it by now.
            forget_documents(home, release, new)
            raise
        own = home.own_record(release.model, release.version)
        own.parent.mkdir(parents=True, exist_ok=True)
        for path in (own, folder / RECORD):
            write_atomic(path, release.to_bytes())
        write_beside(folder, documents)
    return release, made


def publish(
    home: VendorHome,
    model: str,
    version: str,
    now: datetime,
    *,
    record: bytes | None = None,
    step: Step = lambda _: None,
) -> Published:
    """Take a registered release out of MLflow, compare every file with its record, and sign it into the repository.

    Args:
        home: The vendor's home.
        model: ``vendor/name``.
        version: The version.
        now: The moment of signing.
        record: The ``release.json`` that was registered, brought from where that was, for a home that did not do it.
        step: Told what is being done.

    Raises:
        InvalidInputError: It is not registered.
        TrustError: A file or the record is not what was registered, or MLflow alone says what was; nothing was signed.
        RefusedError: This version was published with other content.
        UnreachableError: MLflow does not answer.
        LostRaceError: Another process is publishing.
    """
    registry = home.registry()
    known = _need(registry, model, version)
    with _workplace(home) as folder:
        release = _take_record(home, registry, known, folder, record)
        files = {}
        for variant in release.variants:
            for file in variant.files:
                step(f"taking {artifact_path(variant, file.path)} out of MLflow")
                files[file.sha256] = _take_file(registry, known, variant, file, folder)
        documents = published_documents(home, release, now)
        step("signing")
        before = _head(home)
        repository.publish(home.repository, home.keys, release.to_bytes(), files, now, documents)
        return Published(release, new=_head(home) != before)


def withdraw(home: VendorHome, model: str, version: str, why: str, now: datetime) -> bool:
    """Mark a published release as withdrawn, with the reason that studios will read.

    Returns:
        Whether that changed anything.

    Raises:
        InvalidInputError: It is not published.
        TrustError: The repository or a key is not this vendor's.
        LostRaceError: Another process is publishing.
    """
    before = _head(home)
    repository.withdraw(home.repository, home.keys, model.partition("/")[2], version, why, now)
    return _head(home) != before


def renew(home: VendorHome, now: datetime) -> tuple[str, ...]:
    """Sign anew what expires, so that studios go on trusting what is published; the names of the roles.

    Raises:
        TrustError: The repository or a key is not this vendor's.
        LostRaceError: Another process is publishing.
    """
    return repository.renew(home.repository, home.keys, now)


def _request(place: Path, variant: Variant, ports: tuple[Port, ...], interpreter: str, ram_mib: int) -> RunRequest:
    return RunRequest(
        interpreter=interpreter,
        folder=place.absolute(),
        entry=variant.entry,
        runtime=variant.runtime,
        contract=variant.contract,
        tile=variant.contract.tiles[0],
        provider="cpu",
        sandbox="required",
        wall_seconds=_WALL_SECONDS,
        ram_mib=ram_mib,
        ports=ports,
    )


def _hold_smoke(request: RunRequest, variant: Variant, folder: Path, notice: Notice) -> None:
    """Run the smoke file that is there; a machine that cannot run it is no reason against a release."""
    try:
        _smoke(request, variant, folder, again=False)
    except UndecidedError as error:
        notice(f"smoke of {variant.id} was not run here, so a stale smoke file would not be found: {error}")


def _smoke(request: RunRequest, variant: Variant, release: Path, *, again: bool) -> Smoked:
    if variant.runtime == "nuke-cat":
        return Smoked(variant.id, "skipped", "a .cat is opaque outside Nuke; it is smoked only there")
    path = request.folder / SMOKE
    kept = path.exists() and not again
    with _as_vendor(), ModelProcess(request) as model:
        if not kept:
            write_atomic(path, model.make_smoke(_SEED))
        result = model.smoke()
    if not result.passed:
        raise RefusedError(
            "smoke",
            where=str(path),
            expected=f"the recorded outputs within {result.tolerance:g}",
            actual=f"a difference of {result.worst:g}",
            remedy="if the model or its contract was changed on purpose, record it anew with: "
            f"changeover vendor smoke {shlex.quote(str(release))} --again",
        )
    detail = f"differs {result.worst:g}, limit {result.tolerance:g}"
    return Smoked(variant.id, "kept" if kept else "written", detail, _values(request))


@contextmanager
def _as_vendor() -> Iterator[None]:
    """The runtimes speak to studios; whoever runs this is the vendor that they would be sent to."""
    try:
        yield
    except ChangeoverError as error:
        if "tell the vendor" not in error.remedy:
            raise
        remedy = "correct the model file or its contract in release.toml; a file of one fixed size needs resize"
        found = {"where": error.where, "expected": error.expected, "actual": error.actual}
        raise type(error)(error.rule, **found, remedy=remedy) from error


def _values(request: RunRequest) -> "Values | None":
    try:
        from changeover_validators.runtimes.smoke import read_smoke, values_of
    except ImportError:
        return None
    return values_of(read_smoke(request.folder, request.contract))


def _check_own(release: Release, home: VendorHome, folder: Path) -> None:
    vendor = release.model.partition("/")[0]
    if vendor != home.vendor:
        raise InvalidInputError(
            "vendor",
            where=f"{folder / 'release.toml'}: model",
            expected=f"a model of {home.vendor}, whose home {home.folder} is",
            actual=release.model,
            remedy="correct the model's name, or name another home with --home",
        )


def _published(home: VendorHome, release: Release) -> tuple[tuple[str, str], ...]:
    """Model and version of what this vendor published of the model that a release says it descends from."""
    model = (release.provenance.parent_release or "").partition("@")[0]
    vendor, _, name = model.partition("/")
    found = repository.versions(home.repository, home.keys, name) if vendor == home.vendor else ()
    return tuple((model, version) for version in found)


def _need(registry: Registry, model: str, version: str) -> Registered:
    known = registry.versions(model)
    for entry in known:
        if entry.version == version:
            return entry
    raise InvalidInputError(
        "registered release",
        where=f"{model}@{version} in {registry.location}",
        expected=f"one of {', '.join(entry.version for entry in known)}" if known else "a registered release",
        actual="nothing of that name",
        remedy="register it first with: changeover vendor register RELEASE_DIR",
    )


def _take_record(
    home: VendorHome, registry: Registry, known: Registered, folder: Path, record: bytes | None
) -> Release:
    """The record out of MLflow, held against its digest there and against what was registered, which is kept here."""
    where = f"{known.model}@{known.version} in {registry.location}: {RECORD}"
    expected = _registered_digest(home, known, where, record)
    data = registry.fetch(known, RECORD, folder).read_bytes()
    for found in (canonical.digest(data), known.digest):
        if found != expected:
            raise _changed(where, expected, found)
    release = Release.from_bytes(data, where=where)
    if (release.model, release.version) != (known.model, known.version):
        raise _changed(where, f"{known.model} {known.version}", f"{release.model} {release.version}")
    own = home.own_record(known.model, known.version)
    if not own.is_file():
        own.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(own, data)
    return release


def _registered_digest(home: VendorHome, known: Registered, where: str, record: bytes | None) -> str:
    """What was registered, by this home or by the record that was brought here; what MLflow says of it is no word."""
    own = home.own_record(known.model, known.version)
    kept = [canonical.digest(own.read_bytes())] if own.is_file() else []
    brought = [canonical.digest(record)] if record is not None else []
    if kept and brought and kept != brought:
        raise _changed(
            where, f"{kept[0]}, which was registered from this home", f"{brought[0]}, which was brought here"
        )
    if not kept and not brought:
        raise TrustError(
            "registered record",
            where=where,
            expected="a record that was kept by whoever registered it",
            actual=f"MLflow's word alone, for sha256 {known.digest}",
            remedy="bring release.json from where it was registered: "
            f"changeover vendor publish {known.model}@{known.version} --record release.json; nothing was signed",
        )
    return (kept or brought)[0]


def _take_file(registry: Registry, known: Registered, variant: Variant, file: FileEntry, folder: Path) -> Path:
    path = artifact_path(variant, file.path)
    local = registry.fetch(known, path, folder)
    found = describe_file(local, file.path)
    if found != file:
        where = f"{known.model}@{known.version} in {registry.location}: {path}"
        raise _changed(where, f"sha256 {file.sha256}, {file.size} bytes", f"sha256 {found.sha256}, {found.size} bytes")
    return local


def _changed(where: str, expected: str, actual: str) -> TrustError:
    return TrustError(
        "wrong digest",
        where=where,
        expected=expected,
        actual=actual,
        remedy="it was changed since it was registered; nothing was signed; register the release under a new version",
    )


def _head(home: VendorHome) -> bytes:
    path = home.repository / "metadata" / "timestamp.json"
    return path.read_bytes() if path.is_file() else b""


@contextmanager
def _workplace(home: VendorHome) -> Iterator[Path]:
    """An empty folder on the home's own disk for the length of the block; what a killed one left is removed first."""
    folder = home.folder / ".publishing"
    with lock(home.lock, what=f"the home of {home.vendor}", wait_seconds=_LOCK_SECONDS):
        if folder.exists():
            remove_tree(folder)
        folder.mkdir()
        try:
            yield folder
        finally:
            remove_tree(folder)


def _counting(step: Step, what: str) -> Callable[[int], None]:
    """A counter of bytes that tells how far it is."""
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        step(f"{what}: {done / 1e6:.1f} MB")

    return count
