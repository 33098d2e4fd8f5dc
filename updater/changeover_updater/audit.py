"""Compare what lies on disk, in MLflow and in repositories with the signed digests, and name what differs.

A part (the site, the store, MLflow, a repository) says one after the other what it holds and what each thing must be;
the sweep hashes it in pieces and keeps nothing but what differs. With a journal a sweep that was stopped goes on where
it was: a local file that was written since is compared again, and what differed is found again, never remembered as
well. Left out: what the parts hold (`audit_site`, `audit_mlflow`, `audit_repository`), and mending (`doctor`).
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, Protocol

from changeover_registry.clock import format_time, parse_time
from changeover_registry.errors import ChangeoverError, TrustError
from changeover_registry.transport.interface import NotThereError

__all__ = [
    "KEPT",
    "Difference",
    "Item",
    "Journal",
    "Part",
    "Progress",
    "Report",
    "changed",
    "exit_code",
    "local_item",
    "sweep",
]

KEPT = 1000
"""How many differences of a part are told one by one; the others are counted."""
_PIECE_BYTES = 4 * 1024 * 1024
_HEAD = "changeover-audit 1 "
_JOURNAL_AGE = timedelta(days=7)
"""For how long a stopped sweep is gone on with; what was compared longer ago is compared again."""

Kind = Literal["altered", "missing", "unknown", "unreadable"]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that holds bytes: where it is, the sha256 that somebody signed, and how to read it in pieces.

    `mark` changes where a local file is written; it is empty for what lies elsewhere.
    """

    place: str
    expected: str
    pieces: Callable[[], Iterator[bytes]]
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was signed: ``unknown`` was signed by nobody, ``unreadable`` was not compared."""

    kind: Kind
    place: str
    expected: str
    actual: str


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a sweep by its name; `holds` says what is there, and may raise what keeps it from saying more."""

    name: str
    holds: Callable[[], Iterator[Item | Difference]]


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a part: how much was compared now and before it was stopped, what differs, what ended it early."""

    part: str
    compared: int
    known: int
    bytes: int
    differences: tuple[Difference, ...]
    more: int = 0
    trouble: ChangeoverError | None = None


class Progress(Protocol):
    """Told the place that is read and the bytes of it so far."""

    def __call__(self, place: str, done: int) -> None:
        """Tell."""
        ...


@dataclass(slots=True)
class Journal:
    """What a stopped sweep has compared already, as a file that is appended to; without a path it forgets.

    It is a help and no evidence: whoever may write it may as well not run the sweep.
    """

    path: Path | None = None
    _known: set[bytes] = field(default_factory=set)

    @classmethod
    def open(cls, path: Path, now: datetime) -> "Journal":
        """Go on with the journal at `path`, or begin one; an old one, or another file's first line, begins anew.

        Raises:
            OSError: It cannot be read or written.
        """
        if path.exists() and not path.is_file():
            # It is removed at the end, and a device is not ours to remove.
            raise FileExistsError(17, "this is no file; name another one for the journal", str(path))
        text = path.read_text(encoding="ascii", errors="replace") if path.is_file() else ""
        lines = text.split("\n")
        if _is_young(lines[0], now):
            # What follows the last line's end was cut off by a kill.
            return cls(path, {bytes.fromhex(line) for line in lines[1:-1] if _is_key(line)})
        if text and not text.startswith(_HEAD):
            raise FileExistsError(17, "this is no journal of an audit; name another file", str(path))
        path.write_text(f"{_HEAD}{format_time(now)}\n", encoding="ascii")
        return cls(path)

    def knows(self, part: str, item: Item) -> bool:
        """Whether this very thing was compared and was right."""
        return bool(self._known) and _key(part, item) in self._known

    def note(self, part: str, item: Item) -> None:
        """Remember that it was right.

        Raises:
            OSError: It cannot be written; it names the journal.
        """
        if self.path is not None:
            try:
                with self.path.open("a", encoding="ascii") as file:
                    file.write(_key(part, item).hex() + "\n")
            except OSError as error:
                # A full disk names no file by itself, and would be taken for the one that is compared.
                raise OSError(error.errno, error.strerror, str(self.path)) from error

    def close(self) -> None:
        """Remove it: the sweep has come to its end."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def sweep(part: Part, journal: Journal, progress: Progress) -> Report:
    """Compare all that a part holds. What cannot be reached ends the part and is told; a difference never does."""
    compared, known, size, more = 0, 0, 0, 0
    found: list[Difference] = []
    trouble: ChangeoverError | None = None
    try:
        for one in part.holds():
            if isinstance(one, Item) and journal.knows(part.name, one):
                known += 1
                continue
            difference, read = _compare(one, progress)
            compared, size = compared + isinstance(one, Item), size + read
            if difference is None and isinstance(one, Item):
                journal.note(part.name, one)
            elif difference is not None and len(found) < KEPT:
                found.append(difference)
            else:
                more += 1
    except TrustError as error:
        found.append(changed(error))
    except ChangeoverError as error:
        trouble = error
    except OSError as error:
        place = str(error.filename or part.name)
        found.append(Difference("unreadable", place, "a folder that can be read", _why(error)))
    return Report(part.name, compared, known, size, tuple(found), more, trouble)


def exit_code(reports: tuple[Report, ...]) -> int:
    """5 where something is not as it was signed, else why a part ended early, else 9 where something was not read."""
    kinds = {difference.kind for report in reports for difference in report.differences}
    if kinds - {"unreadable"}:
        return 5
    troubles = [report.trouble.exit_code for report in reports if report.trouble]
    return max(troubles, default=9 if kinds else 0)


def changed(error: TrustError) -> Difference:
    """What a reader refused, as a difference."""
    return Difference("altered", error.where, error.expected, error.actual)


def local_item(path: Path, place: str, expected: str) -> Item:
    """A local file; a link in its place is none of its bytes."""
    try:
        status = path.lstat()
        mark = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
    except OSError:
        mark = "gone"
    return Item(place, expected, lambda: _pieces(path), mark)


def _compare(one: Item | Difference, progress: Progress) -> tuple[Difference | None, int]:
    if isinstance(one, Difference):
        return one, 0
    whole, size = hashlib.sha256(), 0
    try:
        for piece in one.pieces():
            whole.update(piece)
            size += len(piece)
            progress(one.place, size)
    except (FileNotFoundError, NotThereError):
        return Difference("missing", one.place, f"sha256 {one.expected}", "no such file"), size
    except TrustError as error:
        return Difference("altered", one.place, f"sha256 {one.expected}", error.actual), size
    except OSError as error:
        return Difference("unreadable", one.place, f"sha256 {one.expected}", _why(error)), size
    actual = whole.hexdigest()
    if actual == one.expected:
        return None, size
    return Difference("altered", one.place, f"sha256 {one.expected}", f"sha256 {actual}"), size


def _pieces(path: Path) -> Iterator[bytes]:
    """The bytes of a regular file, without its access time telling of it: `gc` takes that for somebody's use."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if not stat.S_ISREG(path.lstat().st_mode):
        raise TrustError("file", where=str(path), expected="a file", actual="a link, a folder or a device", remedy="")
    try:
        handle = os.open(path, flags | getattr(os, "O_NOATIME", 0))
    except PermissionError:
        handle = os.open(path, flags)
    try:
        while piece := os.read(handle, _PIECE_BYTES):
            yield piece
    finally:
        os.close(handle)


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _key(part: str, item: Item) -> bytes:
    text = f"{part}\0{item.place}\0{item.expected}\0{item.mark}"
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()


def _is_key(line: str) -> bool:
    return len(line) == 32 and all(c in "0123456789abcdef" for c in line)


def _is_young(head: str, now: datetime) -> bool:
    try:
        begun = parse_time(head.removeprefix(_HEAD))
    except ChangeoverError:
        return False
    return head.startswith(_HEAD) and timedelta() <= now - begun < _JOURNAL_AGE
