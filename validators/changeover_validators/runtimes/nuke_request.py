"""What Nuke is asked to do with a ``.cat``: the request, the knobs that come of it, and the view that Nuke gets.

A ``.cat`` is a program. Nuke runs in bubblewrap, where it sees this machine's files read-only, no home, no share and no
/tmp of ours, and writes in one folder that is made for it and taken away; it keeps the network, for its licence is
asked for there. Without bubblewrap it is not run. Left out: running it (`nuke`).
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from changeover_registry.errors import UndecidedError
from changeover_registry.records.release import Contract, Port, Tile
from changeover_validators.runtimes.sandbox import Isolation

if TYPE_CHECKING:
    from changeover_validators.runtimes.geometry import Array

__all__ = [
    "TILE_SIZES",
    "NukeRequest",
    "check_request",
    "environment",
    "executable_of",
    "exr_name",
    "job_of",
    "licence_line",
    "no_licence",
    "output_channels",
    "wrap",
    "write_exr",
]

TILE_SIZES = (0, 1024, 2048, 4096)
"""The tiles that the node's knob offers; 0 is None."""

_HIDDEN = ("/home", "/root", "/tmp", "/mnt", "/media", "/srv", "/run/user")  # noqa: S108 - covered, never written to
"""What Nuke does not see: homes, other people's work, shares, and our temporary files."""

_KEPT = ("foundry_", "FOUNDRY_", "RLM_", "CUDA_", "OCIO", "LANG")
"""What Nuke's environment keeps of ours, by the beginning of the name: its licence, which GPU, which colours."""

_LICENCE = re.compile(r"\blicen[cs](e|es|ing)\b|\brlm\b")
_MISSING = re.compile(r"\b(no|not|fail\w*|error|invalid|expired|cannot|could not)\b")
_NAMES = {"r": "R", "red": "R", "g": "G", "green": "G", "b": "B", "blue": "B", "a": "A", "alpha": "A"}


@dataclass(frozen=True, slots=True)
class NukeRequest:
    """One ``.cat`` at one operating point in one Nuke.

    Attributes:
        nuke: The executable.
        script: ``plugins/nuke/score.py``.
        folder: The variant's folder.
        entry: The ``.cat`` in it.
        contract: How the model must be called.
        tile: The tiling, of those that the node's knob offers.
        half: The node's "Optimize for Speed and Memory".
        provider: ``cpu`` or ``cuda``.
        wall_seconds: The longest that one frame may take.
        start_seconds: The longest that Nuke may take to start.
        ram_mib: The most resident memory that Nuke may have.
        ports: The interface's inputs.
        outputs: The interface's outputs, whose channels the model writes.
        visible: Further folders that Nuke may read, such as those of a wrapper.
    """

    nuke: Path
    script: Path
    folder: Path
    entry: str
    contract: Contract
    tile: Tile
    half: bool
    provider: str
    wall_seconds: float
    start_seconds: float
    ram_mib: int
    ports: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    visible: tuple[Path, ...] = ()


def executable_of(path: str | None, line: str) -> Path | None:
    """The program that ``[[nukes]]`` in host.toml names: the file itself, or the one in an installation's folder."""
    if path is None:
        return None
    here = Path(path)
    candidates = (here, here / f"Nuke{line}", here / f"Nuke{line}.exe", here / "nuke")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def environment(outer: Mapping[str, str], work: Path) -> dict[str, str]:
    """Nuke's whole environment: of ours only where its licence is, which GPU to use and which colours it knows."""
    kept = {name: value for name, value in outer.items() if name.startswith(_KEPT)}
    places = {"HOME": str(work / "home"), "TMPDIR": str(work / "tmp"), "NUKE_TEMP_DIR": str(work / "tmp")}
    return {**kept, "PATH": "/usr/local/bin:/usr/bin:/bin", **places}


def wrap(isolation: Isolation, request: NukeRequest, work: Path, command: list[str]) -> list[str]:
    """The command line that runs Nuke in bubblewrap.

    Raises:
        UndecidedError: There is no bubblewrap here.
    """
    if isolation.name != "bubblewrap":
        raise UndecidedError(
            "isolation",
            where=str(request.folder / request.entry),
            expected="bubblewrap, so that a .cat in Nuke cannot harm this machine",
            actual=f"none, so it was not run ({isolation.reason})",
            remedy="install bubblewrap, or run the check on a machine that has it",
        )
    argv = [isolation.tool, "--unshare-all", "--share-net", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    argv += ["--ro-bind", "/", "/", "--dev-bind", "/dev", "/dev", "--proc", "/proc"]
    for place in dict.fromkeys((*_HIDDEN, os.path.expanduser("~"))):  # noqa: PTH111 - Path.home() raises without one
        if Path(place).is_dir() and not Path(place).is_symlink() and place != "/":
            argv += ["--tmpfs", place]
    seen = (request.nuke.parent, request.script.parent, request.folder, *request.visible)
    for folder in seen:
        argv += ["--ro-bind", str(folder.resolve()), str(folder)]
    return [*argv, "--bind", str(work), str(work), "--chdir", str(work), "--", *command]


def exr_name(channel: str) -> str:
    """A channel of Nuke as an EXR file names it: the four of ``rgba`` are R, G, B, A, all others keep their name."""
    layer, _, name = channel.rpartition(".")
    return _NAMES.get(name.lower(), channel) if layer in {"", "rgba"} else channel


def job_of(request: NukeRequest, work: Path) -> dict[str, object]:
    """What the script reads: where to work, and the node's knobs."""
    return {
        "folder": str(work),
        "idle_seconds": 3600,
        "modelFile": str(request.folder / request.entry).replace("\\", "/"),
        "useGPUIfAvailable": request.provider == "cuda",
        "halfPrecision": request.half,
        "tileSize": str(request.tile.size) if request.tile.size else "None",
        "tileOverlap": request.tile.overlap,
    }


def check_request(request: NukeRequest, where: str) -> None:
    """Nuke's node takes one tensor, keeps no states and has four sizes of tiles; anything else is not run."""
    contract = request.contract
    outputs = output_channels(request)
    for holds, expected, actual in (
        (len(contract.inputs) == 1, "one tensor in", f"{len(contract.inputs)}"),
        (not contract.states, "no states", f"{len(contract.states)}"),
        (request.tile.size in TILE_SIZES, f"a tile of {', '.join(map(str, TILE_SIZES))}", f"{request.tile.size}"),
        (contract.output.channel < len(outputs), "an output among the interface's channels", ", ".join(outputs)),
        (request.nuke.is_file(), "the program of that Nuke", f"nothing at {request.nuke}"),
        ((request.folder / request.entry).is_file(), "the .cat in its folder", f"nothing at {where}"),
    ):
        if not holds:
            raise UndecidedError(
                "Nuke",
                where=where,
                expected=f"{expected}, for the node Inference",
                actual=f"{actual}, so it was not run",
                remedy="ask the vendor for a .cat that the node can run, or correct [[nukes]] in host.toml",
            )


def output_channels(request: NukeRequest) -> tuple[str, ...]:
    """What the model writes: the channels of the interface's output, in order."""
    port = request.contract.output.port
    return next((known.channels for known in request.outputs if known.name == port), ("rgba.alpha",))


def write_exr(path: Path, channels: tuple[str, ...], tensor: "Array") -> None:
    """A tensor [C, H, W] as a float EXR, uncompressed, for it is read once."""
    import numpy as np
    import OpenEXR

    planes = {
        exr_name(name): np.ascontiguousarray(plane, np.float32) for name, plane in zip(channels, tensor, strict=True)
    }
    OpenEXR.File({"compression": OpenEXR.NO_COMPRESSION, "type": OpenEXR.scanlineimage}, planes).write(str(path))


def licence_line(text: str) -> str:
    """The first line that speaks of a licence as of something that is missing; a path that has the word is none."""
    for line in text.splitlines():
        words = " ".join(word for word in line.lower().split() if "/" not in word)
        if _LICENCE.search(words) and _MISSING.search(words):
            return line.strip()
    return ""


def no_licence(where: str, said: str) -> UndecidedError:
    """The error for a Nuke that has no licence here, which says nothing of the model."""
    return UndecidedError(
        "licence",
        where=where,
        expected="a licence for Nuke on this machine",
        actual=f"none: {said[:200]}",
        remedy="free a licence, or run the check where Nuke has one",
    )
