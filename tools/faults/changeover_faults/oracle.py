"""Slow and obvious: what a reader finds in a store, whether every byte is right, and whether the record agrees.

The reader is the plug-in's own code for opening and resolving; the right bytes are those that `studio` made.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from changeover_faults.studio import FILE_BYTES, LOADER, MODELS, NUKE_LINE, STATION, Studio, expected_digest
from changeover_registry import chain
from changeover_registry.errors import ChangeoverError
from changeover_updater.events import replay
from changeover_updater.plugin import plugin_folder
from changeover_updater.status import reported_head

sys.path.insert(0, str(plugin_folder()))

import changeover_nuke_answers as answers
import changeover_nuke_store as plugin

StoreError = plugin.StoreError
"""What the plug-in raises where it cannot open the store."""

__all__ = ["Seen", "StoreError", "litter", "look", "served"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What stands on the disk: the version that a reader gets, and everything that is wrong."""

    version: str | None
    generation: int | None
    wrong: tuple[str, ...]


def served(store: Path, station: str = STATION, *, hashed: bool = True) -> str:
    """The version that a session of this station gets, the same for each model.

    Raises:
        AssertionError: A model has no answer, two models are of two versions, or a file's bytes are not that release's.
        StoreError: The plug-in cannot open the store.
    """
    opened = plugin.open_generation({"CHANGEOVER_STORE": str(store), "CHANGEOVER_STATION": station})
    if opened.lease:
        Path(opened.lease).unlink(missing_ok=True)
    found: set[str] = set()
    for model in MODELS:
        answer = answers.resolve(opened.frozen, answers.Question(model, LOADER, NUKE_LINE), None)
        if answer.path is None or answer.release is None:
            raise AssertionError(f"{model}: {answer.unavailable}")
        found.add(answer.release.version)
        _check_file(Path(answer.path), model, answer.release.version, hashed=hashed)
    if len(found) != 1:
        raise AssertionError(f"models of different versions in one generation: {sorted(found)}")
    return found.pop()


def look(studio: Studio, station: str = STATION) -> Seen:
    """Read the store as a session does, then hash every installed file, and hold the record against the pointer."""
    wrong: list[str] = []
    version = number = None
    try:
        # Before the first changeover there is no pointer, and the plug-in says so in a sentence of its own.
        version = served(studio.store, station) if (studio.station(station).folder / "current").exists() else None
    except (AssertionError, StoreError, OSError) as error:
        wrong.append(f"reader: {error}")
    wrong += _wrong_files(studio.store)
    try:
        number = studio.station(station).current()
        wrong += _record(studio, station, number)
        wrong += _generation(studio, station, number)
    except (ChangeoverError, OSError, ValueError) as error:
        wrong.append(f"record: {error}")
    return Seen(version, number, tuple(wrong))


def litter(studio: Studio) -> tuple[str, ...]:
    """Names that only an unfinished command leaves: staging, temporary files, partial downloads, trash."""
    found = []
    for root in (studio.store, studio.site):
        for folder, folders, files in os.walk(root):
            inside = Path(folder).relative_to(root)
            found += [str(inside / name) for name in (*folders, *files) if _is_litter(inside, name)]
    return tuple(found)


def _is_litter(folder: Path, name: str) -> bool:
    parts = folder.parts
    if name.endswith((".tmp", "~partial", ".new")) or ".fuse_hidden" in name or name.startswith(".nfs"):
        return True
    return parts in {("staging",), ("staging", "trash")} and (*parts, name) != ("staging", "trash")


def _record(studio: Studio, station: str, number: int | None) -> Iterator[str]:
    here = studio.station(station)
    events = here.events()
    chain.verify(events, reported_head(studio.site, station))
    replayed = replay(events)
    if number not in replayed.may_be():
        yield f"record: events say {replayed.generation} (open: {replayed.open is not None}), current says {number}"


def _generation(studio: Studio, station: str, number: int | None) -> Iterator[str]:
    """Each file of the generation in use is whole, and what Nuke's own menu is offered leads to a file."""
    folder = studio.station(station).folder / "generations" / str(number)
    for path in (path for path in folder.rglob("*") if number is not None and path.is_file()):
        if not path.stat().st_size:
            yield f"generation: {path} is empty"
        elif path.name == "cat.json":
            for cat in json.loads(path.read_bytes())["cats"]:
                if not (path.parent / cat["filepath"]).is_file():
                    yield f"generation: {path} leads nowhere"


def _wrong_files(store: Path) -> Iterator[str]:
    """Every file under ``releases`` must be one that was made: a release folder is there whole, or not at all."""
    for folder, _, files in os.walk(store / "releases"):
        parts = Path(folder).relative_to(store / "releases").parts
        for name in files:
            try:
                _check_file(Path(folder, name), "/".join(parts[:2]), parts[2].partition("-")[0], hashed=True)
            except (AssertionError, IndexError) as error:
                yield f"installed: {error}"
        if len(parts) == 4 and not files:
            yield f"installed: {folder} is empty"


def _check_file(path: Path, model: str, version: str, *, hashed: bool) -> None:
    size = path.stat().st_size
    if not hashed:
        if size != FILE_BYTES:
            raise AssertionError(f"{path}: {size} bytes of {FILE_BYTES}")
        return
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected_digest(model, version):
        raise AssertionError(f"{path}: {size} bytes, not those of {model} {version}")
