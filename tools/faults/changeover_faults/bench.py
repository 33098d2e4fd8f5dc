"""Where a studio is broken: a folder, or a file system of its own whose power can be cut; made anew for each case.

A bench keeps one copy of the studio for each action. The power is cut by the file system's own shutdown call, which
throws away what was not yet in its journal or on its disk: nothing is written any more, and the next mount recovers as
after a real cut.
"""

import contextlib
import fcntl
import gc
import os
import shutil
import struct
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from changeover_faults.action import Action
from changeover_faults.studio import PARTS, Studio, build

__all__ = ["FILE_SYSTEMS", "Bench", "FolderBench", "ImageBench", "can_mount", "mounted", "open_bench"]

FILE_SYSTEMS = {
    "ext4": ("192M", ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0")),
    "xfs": ("320M", ("mkfs.xfs", "-q", "-f")),
}
"""For each file system whose power can be cut: how large its image is, and how it is made."""

_SHUTDOWN, _NO_LOG_FLUSH = 0x8004587D, 2


@dataclass(frozen=True, slots=True)
class Bench:
    """A worker's own place."""

    work: Path

    @property
    def studio(self) -> Studio:
        """The studio that is broken, always at the same place."""
        return Studio(self.work / "studio")

    @property
    def log(self) -> Path:
        """Where the tracer writes."""
        return self.work / "log"

    def prepare(self) -> None:
        """Make the studio."""
        raise NotImplementedError

    def at(self, action: Action) -> contextlib.AbstractContextManager[Studio]:
        """The studio as `action` finds it, for the length of a block."""
        raise NotImplementedError

    def cut(self) -> None:
        """What happens between the command's end and the look at what it left."""


class FolderBench(Bench):
    """A studio in a plain folder; a command's death is all that happens."""

    __slots__ = ()

    def prepare(self) -> None:
        """Build it once."""
        self.studio.root.mkdir(parents=True)
        build(self.studio.root)
        self._copy(self.studio.root, self.work / "begin")

    @contextlib.contextmanager
    def at(self, action: Action) -> Iterator[Studio]:
        """Take store and site back to what `action` starts from."""
        kept = self.work / action.name
        if not kept.exists():
            self._copy(self.work / "begin", self.studio.root)
            action.ready(self.studio)
            self._copy(self.studio.root, kept)
        self._copy(kept, self.studio.root)
        yield self.studio

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        for name in PARTS:
            shutil.rmtree(target / name, ignore_errors=True)
            shutil.copytree(source / name, target / name)


class ImageBench(Bench):
    """A studio on a file system of its own, the whole of it in one file, whose power is cut after each command."""

    __slots__ = ()

    def prepare(self) -> None:
        """Build it once, on a fresh file system."""
        size, make = FILE_SYSTEMS[self.work.name.partition("-")[0]]
        self.studio.root.mkdir(parents=True)
        begin = self._image("begin")
        with begin.open("wb") as file:
            file.truncate(_bytes(size))
        _run(*make, str(begin))
        with mounted(begin, self.studio.root):
            build(self.studio.root)

    @contextlib.contextmanager
    def at(self, action: Action) -> Iterator[Studio]:
        """Mount a copy of the image that `action` starts from."""
        kept = self._image(action.name)
        if not kept.exists():
            _copy_image(self._image("begin"), kept)
            with mounted(kept, self.studio.root):
                action.ready(self.studio)
        # A name of its own: the kernel may still hold the image of the case before for a moment.
        case = self._image(f"case-{uuid.uuid4().hex[:8]}")
        _copy_image(kept, case)
        try:
            with mounted(case, self.studio.root):
                yield self.studio
        finally:
            case.unlink()

    def cut(self) -> None:
        """Cut the power, and switch on again."""
        (case,) = self.work.glob("case-*.img")
        cut_power(self.studio.root)
        _unmount(self.studio.root)
        _mount_anew(case, self.studio.root)

    def _image(self, name: str) -> Path:
        return self.work / f"{name}.img"


def open_bench(kind: str, work: Path) -> Bench:
    """A prepared bench of a kind: ``folder``, or one of `FILE_SYSTEMS`."""
    folder = work / f"{kind}-{os.getpid()}"
    bench = FolderBench(folder) if kind == "folder" else ImageBench(folder)
    bench.prepare()
    return bench


def can_mount(kind: str, work: Path) -> str:
    """Why no image of this kind can be made, mounted and cut here; empty if it can."""
    size, make = FILE_SYSTEMS[kind]
    if shutil.which(make[0]) is None:
        return f"{make[0]} is not installed"
    image, folder = work / f"probe-{kind}.img", work / f"probe-{kind}"
    folder.mkdir(parents=True, exist_ok=True)
    with image.open("wb") as file:
        file.truncate(_bytes(size))
    try:
        _run(*make, str(image))
        with mounted(image, folder):
            cut_power(folder)
    except OSError as error:
        return f"an image of {kind} cannot be mounted and cut here: {error}"
    finally:
        image.unlink()
    return ""


@contextlib.contextmanager
def mounted(image: Path, folder: Path) -> Iterator[None]:
    """Have an image mounted for the length of a block."""
    _mount(image, folder)
    try:
        yield
    finally:
        _unmount(folder)


def cut_power(folder: Path) -> None:
    """Shut the file system down at once, without flushing its log."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(handle, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
    finally:
        os.close(handle)


def _mount(image: Path, folder: Path) -> None:
    # XFS refuses a copy of an image that it still knows, by its number, unless it is told that this is meant.
    options = "loop,nouuid" if _is_xfs(image) else "loop"
    _run("mount", "-o", options, str(image), str(folder))


def _mount_anew(image: Path, folder: Path) -> None:
    """Mount what was shut down.

    A sandbox that began meanwhile has the old mount in its own namespace as long as it lives, and until then the kernel
    hands out the file system that was shut down.
    """
    for _ in range(100):
        _mount(image, folder)
        with contextlib.suppress(OSError):
            list(folder.iterdir())
            return
        _unmount(folder)
        time.sleep(0.05)
    _mount(image, folder)


def _is_xfs(image: Path) -> bool:
    with image.open("rb") as file:
        return file.read(4) == b"XFSB"


def _unmount(folder: Path) -> None:
    # What an error of the retry still holds open is let go.
    gc.collect()
    for _ in range(100):
        if subprocess.run(("umount", str(folder)), check=False, capture_output=True).returncode == 0:
            return
        time.sleep(0.05)
    _run("umount", "-l", str(folder))


def _copy_image(source: Path, target: Path) -> None:
    _run("cp", "--sparse=always", str(source), str(target))


def _bytes(size: str) -> int:
    return int(size.removesuffix("M")) * 1024 * 1024


def _run(*words: str) -> None:
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        message = f"{' '.join(words)}: {done.stderr.strip() or done.returncode}"
        raise OSError(message)
