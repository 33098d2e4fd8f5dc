"""What the child may see of this machine: a closed list, everything else is not there.

System libraries, the interpreter and the model's folder, read-only; an empty /tmp, which is also its home; a few
devices. No plate, key, site, store, home or network. With CUDA also the NVIDIA devices and sysfs, without which the
driver answers with error 304 or 100.
"""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = ["MODEL", "SCRATCH_BYTES", "View", "make_view", "nvidia_devices"]

MODEL = "/model"
"""Where the child finds the variant's folder."""

SCRATCH_BYTES = 64 * 1024 * 1024
"""The size of /tmp and /dev/shm inside: memory that is not resident memory of the child, so it is kept small."""

_SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store", "/run/opengl-driver",
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime",
)  # fmt: skip
_TOO_WIDE = ("/home", "/root", "/tmp", "/var", "/etc", "/mnt", "/media", "/srv", "/proc", "/dev")  # noqa: S108 - never bound
_CPU_FACTS = ("/sys/devices/system",)
"""onnxruntime reads here which CPU it is on."""


@dataclass(frozen=True, slots=True)
class View:
    """Read-only binds as (outside, inside), parents first, and device nodes."""

    read_only: tuple[tuple[str, str], ...]
    devices: tuple[str, ...]


def make_view(folder: Path, interpreter_folders: tuple[str, ...], devices: tuple[str, ...]) -> View:
    """The view of a child that runs the model in `folder`; `devices` are the NVIDIA nodes, empty for the CPU."""
    system = [*_SYSTEM, *(("/sys",) if devices else _CPU_FACTS)]
    narrow = [path for path in interpreter_folders if not _too_wide(path)]
    places = _without_children([path for path in [*system, *narrow] if Path(path).exists()])
    binds = [(os.path.realpath(place), place) for place in places]
    return View((*binds, (os.path.realpath(folder), MODEL)), devices)


def nvidia_devices() -> tuple[str, ...]:
    """The device nodes that CUDA needs, as this machine has them."""
    patterns = ("nvidia*", "dri/renderD*", "dxg")
    return tuple(sorted(str(node) for pattern in patterns for node in Path("/dev").glob(pattern)))


def _too_wide(place: str) -> bool:
    """Whether a place holds people's homes or other people's work, or lies above some; no interpreter needs it all."""
    wide = [*_TOO_WIDE, os.path.expanduser("~")]  # noqa: PTH111 - Path.home() raises where there is none
    return any(PurePosixPath(other).is_relative_to(place) for other in wide)


def _without_children(places: list[str]) -> list[str]:
    """Each place once, and none that lies in another, parents first."""
    kept: list[str] = []
    for place in sorted(dict.fromkeys(places), key=lambda text: (text.count("/"), text)):
        if not any(PurePosixPath(place).is_relative_to(other) for other in kept):
            kept.append(place)
    return kept
