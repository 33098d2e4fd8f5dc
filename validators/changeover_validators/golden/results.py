"""Results of golden shots, filed by all that they depend on: an unchanged pair of releases is never scored twice.

``site/scores/<first two>/<key>/`` holds ``scores.json`` (byte-equal wherever it is made), ``times.json`` (what is not)
and the small pictures of the worst frame. A result is published by one rename, so a reader sees all of it or nothing;
of several writers the first one stands. What lies there is believed only if it is whole: the record is canonical, its
key is the one that was asked for, and record and pictures have the digests that were written with them. Else it is
scored again. Whoever may write the site could still write another number with another digest: a verdict therefore
names the digest of each record that it judged, and signs it. Left out: what is judged, and when it is thrown away.
"""

import errno
import io
import logging
import os
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

from changeover_registry import canonical
from changeover_registry._fs import fsync_tree, lock, make_dirs, read_bytes_retry, remove_tree, rename_dir
from changeover_registry.errors import ChangeoverError, InvalidInputError
from changeover_registry.records.golden import GoldenShot
from changeover_registry.records.memory import MemoryPlan
from changeover_registry.records.release import Variant
from changeover_registry.records.scores import Picture, ScoreKey, ShotScores, ShotTimes, SubjectKey
from changeover_registry.records.verdict import OperatingPoint, ScoresRef
from changeover_validators.golden.gates import BOUNDARY_F, JACCARD, MAD

__all__ = ["Bundle", "ResultStore", "is_isolated", "misfit", "score_key", "subject_key"]

SCORES, TIMES = "scores.json", "times.json"
_LIMIT_BYTES = 64 * 1024 * 1024
"""The most that a carried result may unpack to; a real one has a few MiB."""
_STALE_SECONDS = 24 * 3600
_LOCK_SECONDS = 30.0
_BEYOND = 10**12
"""What no metric comes to: a sum in thousands over the largest frame is a billionth of it."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
_LOG = logging.getLogger(__name__)


def subject_key(variant: Variant, point: OperatingPoint, plan: MemoryPlan | None = None) -> SubjectKey:
    """What the numbers of a variant at an operating point depend on: its files' bytes, its contract, the point.

    Of the memory plan only what may change a number counts, so a plan that holds memory in another way opens no score.
    """
    contract = canonical.digest(canonical.dumps(variant.contract.model_dump(mode="json", exclude_none=True)))
    files = tuple(file.sha256 for file in variant.files)
    return SubjectKey(files=files, contract=contract, point=point, plan=_numeric(plan))


def _numeric(plan: MemoryPlan | None) -> MemoryPlan | None:
    if plan is None:
        return None
    kept = MemoryPlan(freeze=plan.freeze, cudnn_search=plan.cudnn_search, cudnn_max_workspace=plan.cudnn_max_workspace)
    return None if kept == MemoryPlan() else kept


@dataclass(frozen=True, slots=True)
class Bundle:
    """What scoring one shot gave, in one piece: the numbers, the times, and the pictures by file name.

    A worker carries it home as bytes (`to_bytes`, `from_bytes`); only `ResultStore.put` files it.
    """

    scores: ShotScores
    times: ShotTimes
    pictures: tuple[tuple[str, bytes], ...] = ()

    def to_bytes(self) -> bytes:
        """A zip without compression or dates: equal bundles are equal bytes."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
            for name, data in self.files():
                archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
        return out.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str) -> "Bundle":
        """Read what `to_bytes` wrote.

        Args:
            data: The bytes.
            where: The file or worker that they came from, for the message.

        Raises:
            InvalidInputError: Cut, or a file is missing, too many, or not the one that the record names.
        """
        files = _unpack(data, where)
        scores = ShotScores.from_bytes(_take(files, SCORES, where), where=f"{where}: {SCORES}")
        times = ShotTimes.from_bytes(_take(files, TIMES, where), where=f"{where}: {TIMES}")
        order = [picture.file for picture in scores.pictures]
        rest = sorted(name for name in files if name not in order)
        bundle = cls(scores, times, tuple((name, files[name]) for name in (*order, *rest) if name in files))
        bundle.check(where)
        return bundle

    def files(self) -> tuple[tuple[str, bytes], ...]:
        """Every file by name, in a fixed order."""
        return ((SCORES, self.scores.to_bytes()), (TIMES, self.times.to_bytes()), *self.pictures)

    def check(self, where: str) -> None:
        """See that the pictures are those that the record names, and that the times belong to it.

        Raises:
            InvalidInputError: They are not.
        """
        for name, _ in self.pictures:
            if "/" in name or not name.endswith(".png"):
                raise _damaged(where, "pictures that are PNG files beside the record", name)
        named = {picture.file: picture.sha256 for picture in self.scores.pictures}
        there = {name: canonical.digest(data) for name, data in self.pictures}
        if named != there:
            wrong = min(named.items() ^ there.items())[0]
            raise _damaged(f"{where}: {wrong}", "the pictures that the record names", "another, one too many, or none")
        _check_curves(self.scores, f"{where}: {SCORES}")
        if self.times.scores != self.scores.digest():
            raise _damaged(f"{where}: {SCORES}", f"the record with digest {self.times.scores}", self.scores.digest())


class ResultStore:
    """The results of a site. Readers need no right to write.

    Args:
        folder: ``site/scores``; it need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: ScoreKey) -> ShotScores | None:
        """The result of `key`, or None where there is none or a damaged one, which a warning names.

        Raises:
            OSError: The site cannot be read.
        """
        bundle = self.bundle(key)
        return bundle.scores if bundle else None

    def bundle(self, key: ScoreKey) -> Bundle | None:
        """As `get`, with times and pictures.

        Raises:
            OSError: The site cannot be read.
        """
        folder = self._place(key.digest())
        try:
            return _read(folder, key.digest())
        except FileNotFoundError:
            if folder.is_dir():
                _LOG.warning("a result is not whole and is scored again: %s", folder)
        except ChangeoverError as error:
            _LOG.warning("a result is damaged and is scored again: %s", error)
        return None

    def put(self, bundle: Bundle) -> ScoresRef:
        """File a result. Where another writer was first, theirs stands, and is what the answer names.

        Raises:
            InvalidInputError: The bundle's pictures are not those of its record.
            OSError: The disk is full, read-only or gone; nothing is left half written.
        """
        key = bundle.scores.key
        bundle.check(f"result {key.digest()}")
        target = self._place(key.digest())
        make_dirs(target.parent)
        with self._staged(bundle) as staged:
            if not _published(staged, target):
                self._settle(staged, target, bundle)
        stands = _read(target, key.digest()).scores
        if stands != bundle.scores:
            _LOG.warning("two runs in one golden class gave other numbers; the first one stands: %s", target)
        return ScoresRef(shot=stands.shot, key=key.digest(), digest=stands.digest())

    def picture(self, key_digest: str, picture: Picture) -> bytes:
        """The PNG of a result's picture.

        Raises:
            InvalidInputError: It is gone, or is not the one that the record names.
        """
        path = self._place(key_digest) / picture.file
        data = path.read_bytes() if path.is_file() else b""
        if canonical.digest(data) != picture.sha256:
            raise _damaged(str(path), f"the picture with sha256 {picture.sha256[:12]}", "another, or none")
        return data

    def _place(self, key_digest: str) -> Path:
        return self._folder / key_digest[:2] / key_digest

    @contextmanager
    def _staged(self, bundle: Bundle) -> Iterator[Path]:
        """The bundle's files on the disk, in a folder that nobody reads; it is gone afterwards."""
        staging = self._folder / ".staging"
        make_dirs(staging)
        staged = staging / uuid.uuid4().hex
        staged.mkdir()
        try:
            for name, data in bundle.files():
                (staged / name).write_bytes(data)
            fsync_tree(staged)
            _sweep(staging, staged)
            yield staged
        finally:
            remove_tree(staged)

    def _settle(self, staged: Path, target: Path, bundle: Bundle) -> None:
        """Somebody was first: replace only what is damaged, of another shot, or less isolated than ours."""
        with lock(self._folder / ".lock", what="the results", wait_seconds=_LOCK_SECONDS):
            there = self.get(bundle.scores.key)
            weaker = there is not None and not is_isolated(there) and is_isolated(bundle.scores)
            if there is not None and _shape(there) == _shape(bundle.scores) and not weaker:
                return
            aside = self._folder / ".staging" / uuid.uuid4().hex
            rename_dir(target, aside)
            rename_dir(staged, target)
            remove_tree(aside)


def _published(staged: Path, target: Path) -> bool:
    try:
        rename_dir(staged, target)
    except FileExistsError:
        return False
    return True


def _sweep(staging: Path, newest: Path) -> None:
    """Remove what killed writers left a day ago, by the file system's own clock."""
    now = newest.stat().st_mtime
    for folder in staging.iterdir():
        try:
            stale = now - folder.stat().st_mtime > _STALE_SECONDS
        except FileNotFoundError:
            continue
        if stale:
            remove_tree(folder)


def _read(folder: Path, key_digest: str) -> Bundle:
    """The bundle in `folder`.

    Raises:
        FileNotFoundError: A file is missing.
        ChangeoverError: One is damaged, or it is another key's.
    """
    scores = ShotScores.from_bytes(_plain(folder / SCORES), where=str(folder / SCORES))
    times = ShotTimes.from_bytes(_plain(folder / TIMES), where=str(folder / TIMES))
    pictures = tuple((picture.file, _plain(folder / picture.file)) for picture in scores.pictures)
    bundle = Bundle(scores, times, pictures)
    bundle.check(str(folder))
    if scores.key.digest() != key_digest:
        raise _damaged(str(folder / SCORES), f"the result of key {key_digest}", f"that of {scores.key.digest()}")
    return bundle


def _plain(path: Path) -> bytes:
    """The bytes of a plain file; a pipe in its place, which would never end, is as good as no file.

    Raises:
        FileNotFoundError: There is none.
    """
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return read_bytes_retry(path)


def _check_curves(scores: ShotScores, where: str) -> None:
    """See that each curve is there once, with a value for each frame that is a number of a metric's size."""
    names = [(curve.metric, curve.subject) for curve in scores.curves]
    if len(set(names)) != len(names):
        raise _damaged(where, "each curve once", f"{len(names)} curves of {len(set(names))} names")
    if any(later <= earlier for earlier, later in pairwise(scores.frames)):
        raise _damaged(where, "each frame once, in order", "others")
    for curve in scores.curves:
        if len(curve.values) != len(scores.frames):
            found = f"{len(curve.values)} values of {curve.metric}"
            raise _damaged(where, f"a value for each of {len(scores.frames)} frames", found)
        if any(value is not None and abs(Decimal(value)) >= _BEYOND for value in curve.values):
            raise _damaged(where, f"values under {_BEYOND}", f"a larger one of {curve.metric}")


def _subject(scores: ShotScores) -> tuple[str, str, int, tuple[int, ...]]:
    return scores.set, scores.shot, scores.version, scores.frames


def _shape(scores: ShotScores) -> tuple[object, ...]:
    """What two results of one key have in common, whatever the numbers: it depends on the truth alone."""
    curves = ((curve.metric, curve.subject, tuple(value is None for value in curve.values)) for curve in scores.curves)
    return (*_subject(scores), frozenset(curves))


def is_isolated(scores: ShotScores) -> bool:
    """Whether the models ran where they could neither see nor change the machine, let alone the truth."""
    return scores.sandbox in {"bubblewrap", "namespaces"}


def misfit(scores: ShotScores, shot: GoldenShot) -> str | None:
    """Why a result cannot be that of a shot, although it is filed under its key; None where it can.

    The key binds the shot's record; the name, the frames and the curves in the result are what the judge goes by. What
    is always gated is defined on every frame, so a result that lacks it would take its shot out of the judgement.
    """
    frames = tuple(frame.number for frame in shot.frames if frame.scored)
    if _subject(scores) != (shot.set, shot.shot, shot.version, frames):
        return f"a result of {scores.set}/{scores.shot} version {scores.version}, {len(scores.frames)} frames"
    if scores.provider_ran != scores.key.candidate.point.provider:
        return f"a result of provider {scores.provider_ran}"
    subjects = ("candidate",) if scores.key.current is None else ("candidate", "current")
    whole = {(curve.metric, curve.subject) for curve in scores.curves if None not in curve.values}
    lacking = [(name, subject) for name in (JACCARD, BOUNDARY_F, MAD) for subject in subjects]
    return next((f"no {name} of the {subject}" for name, subject in lacking if (name, subject) not in whole), None)


def _unpack(data: bytes, where: str) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _check_entries(entries, where)
            return {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OverflowError, RuntimeError, ValueError) as error:
        raise _damaged(where, "a whole result", str(error)) from error


def _check_entries(entries: Sequence[zipfile.ZipInfo], where: str) -> None:
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        raise _damaged(where, "each file once", f"{len(names)} files of {len(set(names))} names")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise _damaged(where, "files without compression", "compressed ones")
    total = sum(entry.file_size for entry in entries)
    if total > _LIMIT_BYTES:
        raise _damaged(where, f"at most {_LIMIT_BYTES} bytes", f"{total} bytes")


def _take(files: dict[str, bytes], name: str, where: str) -> bytes:
    if name not in files:
        raise _damaged(where, f"a result with {name}", "none")
    return files.pop(name)


def _damaged(where: str, expected: str, actual: str) -> InvalidInputError:
    return InvalidInputError(
        "golden result", where=where, expected=expected, actual=actual, remedy="run the check again; it scores it anew"
    )


def score_key(
    shot: GoldenShot,
    candidate: SubjectKey,
    current: SubjectKey | None,
    *,
    threshold: str,
    golden_class: str,
) -> ScoreKey:
    """All that a shot's numbers depend on, with the metrics' version of this installation."""
    from changeover_validators.golden.catalogue import VERSION

    return ScoreKey(
        shot=shot.digest(),
        candidate=candidate,
        current=current,
        threshold=threshold,
        metrics=VERSION,
        golden_class=golden_class,
    )
