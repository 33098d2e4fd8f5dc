"""What Nuke reads of one generation: the Cattery tree of its own menu, and beside it the index of the plug-in.

One root for each Nuke line, ``nuke/<line>/Cattery/<name>-<version>-<digest12>/cat.json``; the plug-in puts the root of
its line on Nuke's plug-in path. Rules of the reader that shape it (`nukescripts.cattery`, learn.foundry.com):

* packages are found by walking real folders, links are not followed: every package is a real folder;
* one ``cat.json`` that does not parse stops every package at start-up: the tree is complete before it is renamed;
* ``minimum_nuke_version_required`` is compared as a float, where 15.10 is 15.1: the line has its own tree, so the
  file asks for no more than the line's major;
* ``filepath`` is joined to the package's folder: it climbs to the one copy under ``releases`` of the same store;
* the node's name is pasted unquoted and a menu entry of the same name replaces another: names are made of letters,
  digits and ``_``, and differ.

Left out: gizmos, icons, and whether a release may be served at all, which the generation says.
"""

import json
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from changeover_registry.errors import InvalidInputError
from changeover_registry.names import digest12, release_folder
from changeover_registry.records.station import Answer, Generation, GenerationRelease
from changeover_updater.writers.nuke_index import INDEX_NAME, nuke_index

__all__ = ["cattery_files", "write_cattery"]

CATEGORY = "Changeover"
"""The submenu of Nuke's Cattery menu under which our releases stand."""

_NOT_IN_A_NODE_NAME = re.compile(r"[^A-Za-z0-9_]")
_Served = tuple[GenerationRelease, str]


def write_cattery(generation: Generation, folder: Path, store: Path) -> None:
    """Write trees and index of a generation that is not yet in place; the caller syncs the folder and renames it.

    Args:
        generation: What the station serves; every Nuke line in it gets a tree, also an empty one.
        folder: The generation's folder, wherever it is being made.
        store: The store's root, under which the files are.

    Raises:
        InvalidInputError: A release has a file for Nuke's own node that is no ``.cat``, or that is not in the store.
    """
    for release, path in (served for line in generation.nuke_lines for served in _served(generation, line)):
        if not (store / path).is_file():
            raise _not_installed(release, path)
    for line in generation.nuke_lines:
        (folder / "nuke" / line / "Cattery").mkdir(parents=True, exist_ok=True)
    for name, content in cattery_files(generation).items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    (folder / INDEX_NAME).write_bytes(nuke_index(generation))


def cattery_files(generation: Generation) -> Mapping[str, bytes]:
    """Every file of the trees: path relative to the generation's folder, and content.

    Raises:
        InvalidInputError: A release has a file for Nuke's own node that is no ``.cat``.
    """
    return {
        f"{package}/cat.json": _cat_json(release, name, line, _climb(generation, package, path))
        for line in generation.nuke_lines
        for release, path, name in _named(_served(generation, line))
        for package in [_package(release, line)]
    }


def _served(generation: Generation, line: str) -> tuple[_Served, ...]:
    """The releases that Nuke's own node can load in a line, each with its file relative to the store."""
    found = ((release, _path(release, line)) for release in generation.releases)
    return tuple((release, path) for release, path in found if path is not None)


def _path(release: GenerationRelease, line: str) -> str | None:
    answer = next((answer for answer in release.answers if _is_for(answer, line)), None)
    if answer is None or answer.path is None:
        return None
    if not answer.path.endswith(".cat"):
        raise InvalidInputError(
            "Nuke's own node",
            where=f"{release.key} in Nuke {line}",
            expected="a .cat file, which is all that the Inference node loads",
            actual=answer.path,
            remedy="offer that variant to another loader",
        )
    return answer.path


def _is_for(answer: Answer, line: str) -> bool:
    return answer.loader == "nuke-inference" and answer.nuke_line == line


def _package(release: GenerationRelease, line: str) -> str:
    name = release.model.partition("/")[2]
    return f"nuke/{line}/Cattery/{name}-{release_folder(release.version, release.digest)}"


def _climb(generation: Generation, package: str, path: str) -> str:
    """The way from a package's folder, where it will stand, to a file of the store."""
    home = PurePosixPath("/stations", generation.station, "generations", str(generation.number), package)
    return posixpath.relpath(f"/{path}", start=str(home))


def _named(served: Iterable[_Served]) -> tuple[tuple[GenerationRelease, str, str], ...]:
    """Give each release the name of its node and menu entry; the digest joins in where two would be alike."""
    releases = tuple(served)
    names = [_node_name(f"{release.model}_{release.version}") for release, _ in releases]
    often = Counter(names)
    return tuple(
        (release, path, f"{name}_{digest12(release.digest)}" if often[name] > 1 else name)
        for (release, path), name in zip(releases, names, strict=True)
    )


def _node_name(text: str) -> str:
    name = _NOT_IN_A_NODE_NAME.sub("_", text)
    return f"_{name}" if name[0].isdigit() else name


def _cat_json(release: GenerationRelease, name: str, line: str, filepath: str) -> bytes:
    body = {
        "minimum_nuke_version_required": float(line.partition(".")[0]),
        "version": 1,
        "category": CATEGORY,
        "description": f"{release.model} {release.version} sha256 {release.digest}",
        "cats": [{"filepath": filepath, "name": name, "icon": ""}],
    }
    return json.dumps(body, indent=1, sort_keys=True).encode() + b"\n"


def _not_installed(release: GenerationRelease, path: str) -> InvalidInputError:
    return InvalidInputError(
        "generation",
        where=release.key,
        expected=f"the file {path} in the store",
        actual="no such file",
        remedy="run changeover update again",
    )
