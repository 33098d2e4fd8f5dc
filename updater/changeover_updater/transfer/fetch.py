"""Fetch one file of a release: parallel parts, mirrors in their order, every 4 MiB block verified before it is written.

Rules: a block is checked against the signed record as it lands, and written at its place in ``<target>~partial``,
which therefore never holds a byte that was not verified. Two connections stream runs of blocks; a cut costs the block
that it met. A side that gives whole files only is read by one connection from the first missing block on. A wrong block
is asked for once more; wrong again, the mirror lied and the next one is asked. A mirror that brings too little for too
long is left for the next one, without waiting for its connections to end. No more than the file's size is taken in.
Left out: which files, in what order, and free space (`install`).
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from changeover_registry._fs import replace
from changeover_registry.errors import ChangeoverError, TrustError, UnreachableError
from changeover_registry.records.release import FileEntry
from changeover_registry.transport.interface import Transport
from changeover_updater.transfer.limits import Limits
from changeover_updater.transfer.mirror import From
from changeover_updater.transfer.partial import Partial

__all__ = ["fetch_file"]

Progress = Callable[[int], None]
_log = logging.getLogger(__name__)


def fetch_file(
    mirrors: Sequence[Transport],
    path: str,
    entry: FileEntry,
    target: Path,
    *,
    progress: Progress,
    reuse: Callable[[Partial], Iterator[int]] | None = None,
    limits: Limits | None = None,
) -> Sequence[Transport]:
    """Bring one file to `target`, whole and verified, or leave a partial that the next call goes on from.

    Args:
        mirrors: The ways to the repository, in the order in which they are tried; at least one.
        path: Where the file stands there, such as ``objects/ab/abcd...``.
        entry: Size and block digests from the verified release record.
        target: Where it goes; its folder must be there. A file of that name is replaced in one step.
        progress: Called with the number of bytes that were verified since the last call, kept ones included.
        reuse: Puts blocks that are here already into the partial, hashed, and yields the length of each.
        limits: What the transfer puts up with.

    Returns:
        The mirrors in the order in which a next file is best asked for: those that failed this one come last.

    Raises:
        TrustError: No mirror has the signed bytes, and at least one has others or fewer.
        UnreachableError: No mirror brings the whole file; what was verified stays in the partial.
        OSError: The disk is full, read-only or gone.
    """
    try:
        with Partial(target, entry) as partial:
            _count(partial.keep(), progress)
            if reuse is not None and partial.missing():
                _count(reuse(partial), progress)
            mirrors = _fetch(mirrors, path, partial, progress, limits or Limits())
            partial.sync()
    except TrustError:
        partial.path.unlink(missing_ok=True)
        raise
    replace(partial.path, target)
    return mirrors


def _count(lengths: Iterator[int], progress: Progress) -> None:
    for length in lengths:
        progress(length)


def _fetch(
    mirrors: Sequence[Transport], path: str, partial: Partial, progress: Progress, limits: Limits
) -> Sequence[Transport]:
    """Ask one mirror after the other for what is missing; say which one lied when another one has the bytes."""
    errors: list[ChangeoverError] = []
    for mirror in mirrors:
        if not partial.missing():
            break
        try:
            From(mirror, path, partial, progress, limits).fetch()
        except (TrustError, UnreachableError) as error:
            errors.append(error)
    if partial.missing():
        raise _all_failed(errors)
    for failed in errors:
        _log.warning("another mirror was taken: %s", failed)
    return [*mirrors[len(errors) :], *mirrors[: len(errors)]]


def _all_failed(errors: list[ChangeoverError]) -> ChangeoverError:
    """The one error that says what each mirror did; a lie weighs more than silence."""
    first = next((error for error in errors if isinstance(error, TrustError)), errors[0])
    others = [error for error in errors if error is not first]
    if not others:
        return first
    actual = "; ".join([first.actual, *(f"{error.actual} ({error.where})" for error in others)])
    return type(first)(first.rule, where=first.where, expected=first.expected, actual=actual, remedy=first.remedy)
