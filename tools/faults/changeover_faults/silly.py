"""Files that stay while somebody has them open, as on NFS: a store behind FUSE, read, written and collected there."""

import contextlib
import hashlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from changeover_faults import oracle
from changeover_faults.commands import run
from changeover_faults.pool import Pool
from changeover_faults.readers import reading
from changeover_faults.report import Report
from changeover_faults.scale import Scale
from changeover_faults.studio import MODELS, NEW, OLD, Studio, build, expected_digest, promote
from changeover_registry import _fs

__all__ = ["behind_fuse", "silly_names"]


def silly_names(pool: Pool, scale: Scale) -> Iterator[Report]:
    """All of a station's commands on a FUSE mount, and the removal of a release that a session has open there."""
    del scale
    report, started = Report("a store behind FUSE"), time.monotonic()
    root = pool.work / "fuse"
    root.mkdir()
    studio = build(root)
    studio.change_over()
    promote(studio, NEW)
    try:
        with behind_fuse(studio.store):
            _commands(studio, report)
            _open_file(studio, report)
    except PermissionError as error:
        report = Report(report.rig, skipped=str(error))
    shutil.rmtree(root)
    report.seconds = time.monotonic() - started
    yield report


@contextlib.contextmanager
def behind_fuse(folder: Path) -> Iterator[None]:
    """Have a folder be a FUSE view of what it holds for the length of a block.

    Raises:
        PermissionError: There is no bindfs here, or nothing can be mounted.
    """
    if shutil.which("bindfs") is None:
        message = "bindfs is not installed"
        raise PermissionError(message)
    back = folder.with_name(f"{folder.name}.back")
    folder.rename(back)
    folder.mkdir()
    done = subprocess.run(("bindfs", str(back), str(folder)), check=False, capture_output=True, text=True)
    try:
        if done.returncode:
            message = f"bindfs cannot mount here: {done.stderr.strip()}"
            raise PermissionError(message)
        yield
    finally:
        subprocess.run(("umount", "-l", str(folder)), check=False, capture_output=True)
        folder.rmdir()
        back.rename(folder)


def _commands(studio: Studio, report: Report) -> None:
    with reading(studio, 2) as found:
        for words, version in (
            (("update",), NEW),
            (("rollback", "--reason", "test"), OLD),
            (("unhold",), OLD),
            (("update",), NEW),
        ):
            ended = run(studio, *words)
            seen = oracle.look(studio)
            report.add(
                [
                    *([f"{words[0]}: exit {ended.code}: {ended.err.strip()[-300:]}"] if ended.code else []),
                    *(f"{words[0]}: {wrong}" for wrong in seen.wrong),
                    *([f"{words[0]}: a reader sees {seen.version}"] if seen.version != version else []),
                ]
            )
    report.violations += found


def _open_file(studio: Studio, report: Report) -> None:
    """A removed release goes but for the open file, whose reader still has every byte; then it goes whole."""
    model = MODELS[0]
    (release,) = (studio.store / "releases" / model).glob(f"{OLD}-*")
    (path,) = release.rglob("*.cat")
    with path.open("rb") as reader:
        beginning = reader.read(1000)
        gone = _fs.remove_tree(release)
        left = [name.name for name in release.rglob("*") if name.is_file()]
        digest = hashlib.sha256(beginning + reader.read()).hexdigest()
    report.notes["left while it was open"] = ", ".join(left) or "nothing: this FUSE removes open files"
    violations = []
    if digest != expected_digest(model, OLD):
        violations.append("the session that had the file open read other bytes")
    if gone != (not left):
        violations.append(f"remove_tree answered {gone} with {left} left")
    if not _fs.remove_tree(release) or release.exists():
        violations.append("what was left is still there after it was closed")
    report.add(violations)
