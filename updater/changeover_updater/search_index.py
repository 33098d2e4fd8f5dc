"""The search index: one file in the site that holds a row for every release record and every filed verdict.

``search.index`` has a line a row, each by the digest of the bytes that it follows from. Which releases there are is
read from the vendors' signed indexes at every search, and which verdicts from the folder; the file only spares reading
them. What it lacks is read, hashed, verified and added; where it is damaged (its first line has the digest of all the
others), or of another format, it is made anew, and where it cannot be written all that is lost is time. It decides
nothing: whoever acts on what was found is held to the signed record again.
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from changeover_registry import _fs, canonical, signing
from changeover_registry.errors import ChangeoverError
from changeover_registry.records.choice import VerdictKey
from changeover_registry.records.release import Release
from changeover_registry.records.verdict import Verdict
from changeover_updater.search_rows import MemoryRow, Row, VariantRow, VerdictRow, needs_of, row_of, verdict_row
from changeover_updater.site import Site
from changeover_updater.studio import LIMIT_BYTES

__all__ = ["NAME", "Listed", "SearchIndex", "read_index"]

NAME = "search.index"
_HEAD = "changeover.search-index/2"

Step = Callable[[str, int], None]
"""Told what is being read that the index lacks, and how many so far."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A release that a vendor's signed index names: its digest, and where its record lies in the site."""

    digest: str
    record: Path


@dataclass(slots=True)
class SearchIndex:
    """What is known: releases by digest, needs by key, verdicts by the digest of their envelope."""

    rows: dict[str, Row] = field(default_factory=dict)
    needs: dict[str, dict[str, Any]] = field(default_factory=dict)
    verdicts: dict[str, VerdictRow] = field(default_factory=dict)

    def memory(self, keys: Iterable[str]) -> Mapping[str, tuple[tuple[str, MemoryRow], ...]]:
        """What verdicts that these keys signed say of memory, by release, each with when it was made."""
        allowed = frozenset(keys)
        found: dict[str, list[tuple[str, MemoryRow]]] = {}
        for row in self.verdicts.values():
            if row.key in allowed:
                found.setdefault(row.release, []).extend((row.made_at, memory) for memory in row.memory)
        return {release: tuple(rows) for release, rows in found.items()}


def read_index(
    site: Site, listed: Iterable[Listed], keys: tuple[VerdictKey, ...], step: Step = lambda _what, _count: None
) -> SearchIndex:
    """The index of all that is listed, completed where it lacks something and kept where that is allowed.

    Args:
        site: The site.
        listed: Every release that the vendors' signed indexes name.
        keys: The keys that may sign verdicts; what another one signed is not in it.
        step: Told how far it is.
    """
    path = site.root / NAME
    index, wanted = _read(path), {one.digest: one.record for one in listed}
    before = (len(index.rows), len(index.verdicts))
    index.rows = {digest: row for digest, row in index.rows.items() if digest in wanted}
    new = _add_releases(index, wanted, step) + _add_verdicts(index, site.verdicts, keys, step)
    if new or before != (len(index.rows), len(index.verdicts)):
        _write(path, index)
    return index


def _add_releases(index: SearchIndex, wanted: Mapping[str, Path], step: Step) -> int:
    lacking = [(digest, record) for digest, record in wanted.items() if digest not in index.rows]
    added = 0
    for digest, record in lacking:
        # A record that is not here, not the signed one, or of a newer Changeover, is told of by status and sync.
        with contextlib.suppress(ChangeoverError, OSError):
            data = record.read_bytes()
            if canonical.digest(data) == digest:
                release = Release.from_bytes(data, where=str(record))
                index.rows[digest] = row_of(release)
                index.needs |= needs_of(release)
                added += 1
        step("releases", added)
    return added


def _add_verdicts(index: SearchIndex, folder: Path, keys: tuple[VerdictKey, ...], step: Step) -> int:
    there = {path.stem: path for path in folder.glob("*.json")}
    index.verdicts = {digest: row for digest, row in index.verdicts.items() if digest in there}
    added = 0
    for digest, path in there.items():
        if digest not in index.verdicts:
            # What nobody signed counts for nothing, wherever it lies.
            with contextlib.suppress(ChangeoverError, OSError):
                # A pipe would be waited for, and a device has no end.
                data = path.read_bytes() if path.is_file() and path.stat().st_size <= LIMIT_BYTES else b""
                payload, key = signing.open_envelope(data, "verdict", keys, where=str(path))
                if canonical.digest(data) == digest:
                    verdict = Verdict.from_bytes(payload, where=str(path))
                    index.verdicts[digest] = verdict_row(digest, key.key_id, verdict)
                    added += 1
            step("verdicts", added)
    return added


def _read(path: Path) -> SearchIndex:
    """What the file holds; nothing where it is damaged, cut off, or of another format."""
    index = SearchIndex()
    try:
        head, _, body_bytes = path.read_bytes().partition(b"\n")
        if head != _head(body_bytes):
            return SearchIndex()
        for line in body_bytes.decode("utf-8").split("\n")[:-1]:
            kind, body = line[0], json.loads(line[1:])
            if kind == "r":
                variants = tuple(VariantRow(**{**one, "loaders": tuple(one["loaders"])}) for one in body["variants"])
                index.rows[body["digest"]] = Row(**{**body, "variants": variants})
            elif kind == "n":
                index.needs[body["key"]] = body["need"]
            else:
                memory = tuple(_memory(one) for one in body["memory"])
                index.verdicts[body["digest"]] = VerdictRow(**{**body, "memory": memory})
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        return SearchIndex()
    if any(variant.need not in index.needs for row in index.rows.values() for variant in row.variants):
        return SearchIndex()
    return index


def _memory(body: dict[str, Any]) -> MemoryRow:
    return MemoryRow(**{**body, "tile": tuple(body["tile"]), "plate": tuple(body["plate"])})


def _write(path: Path, index: SearchIndex) -> None:
    """Put it in place whole; two who do it at once leave one of both, and what that lacks is added by the next."""
    used = {variant.need for row in index.rows.values() for variant in row.variants}
    index.needs = {key: need for key, need in index.needs.items() if key in used}
    with contextlib.suppress(OSError):
        rows = "".join(f"{line}\n" for line in _lines(index)).encode()
        _fs.write_atomic(path, _head(rows) + b"\n" + rows)


def _head(rows: bytes) -> bytes:
    """The first line, by which rows that were changed or cut off are known."""
    return f"{_HEAD} {canonical.digest(rows)}".encode()


def _lines(index: SearchIndex) -> Iterator[str]:
    for key, need in sorted(index.needs.items()):
        yield "n" + _compact({"key": key, "need": need})
    for _, row in sorted(index.rows.items()):
        yield "r" + _compact(asdict(row))
    for _, verdict in sorted(index.verdicts.items()):
        yield "v" + _compact(asdict(verdict))


def _compact(body: Mapping[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))
