"""Releases against host classes: what each class would use, or the one reason that limits it.

Hosts of one class get one answer, so each class is judged once. Hosts come from facts files; what is decided is decided
in `changeover_validators.fits`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from changeover_registry.errors import ChangeoverError, InvalidInputError
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.findings import NotRun, Refused
from changeover_updater.fits import Answered, not_counted, plan_note
from changeover_validators.checks.budget import Budget, mib
from changeover_validators.classes import host_class
from changeover_validators.fits import Judged, Outcome, codes
from changeover_validators.probe import forged_hosts

__all__ = [
    "Cell",
    "Fleet",
    "Row",
    "cell_of",
    "facts_of",
    "fleet_object",
    "fleet_of",
    "host_files",
    "named_apart",
]

Ask = Callable[[HostFacts], Sequence[Answered]]
"""The answers about each release on one host, in the order of the releases."""
Unread = Sequence[tuple[Path, ChangeoverError]]
"""Facts files that could not be read, each with why."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One release on one host class: the point that would be used, or the reason code that limits it, and the figures.

    `text` is one short line for a table; `why` is the whole reason; `notes` say what the figure leaves out.
    """

    outcome: Outcome
    point: str | None
    code: str | None
    need_bytes: int | None
    allowed_bytes: int | None
    text: str
    why: str
    notes: tuple[str, ...] = ()
    plan_note: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One host class: its digest, the hosts of it that were named, and a cell for each release.

    A facts file that could not be read is a row without a class, under the file's name.
    """

    host_class: str | None
    hosts: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Fleet:
    """The releases that were asked about, the plate, and a row for each host class."""

    releases: tuple[str, ...]
    plate: tuple[int, int]
    rows: tuple[Row, ...]


def fleet_of(
    hosts: Sequence[HostFacts],
    releases: tuple[str, ...],
    plate: tuple[int, int],
    ask: Ask,
    unread: Unread = (),
) -> Fleet:
    """Judge every release on every class of `hosts`; rows stand in the order of their hosts' names, `unread` last."""
    classes: dict[str, list[HostFacts]] = {}
    for facts in sorted(hosts, key=lambda facts: facts.host):
        classes.setdefault(host_class(facts), []).append(facts)
    rows = tuple(
        Row(digest, tuple(dict.fromkeys(facts.host for facts in found)), tuple(cell_of(one) for one in ask(found[0])))
        for digest, found in classes.items()
    )
    return Fleet(releases, plate, rows + tuple(_unread(path, error, len(releases)) for path, error in unread))


def _unread(path: Path, error: ChangeoverError, releases: int) -> Row:
    cell = Cell("unknown", None, "facts-unreadable", None, None, f"facts cannot be read: {error}", str(error))
    return Row(None, (str(path),), (cell,) * releases)


def cell_of(answered: Answered) -> Cell:
    """The one cell that an answer becomes: the point that is used, else what limits the point that comes nearest."""
    found, budget = answered.fits, answered.fits.budget
    allowed = budget.allowed_bytes if isinstance(budget, Budget) else None
    if found.chosen is not None:
        need = found.chosen.need.bytes if found.chosen.need else None
        text = f"{found.chosen.point}" + (f", {mib(need):,} of {mib(allowed):,} MiB" if need and allowed else "")
        notes = tuple(filter(None, (_fixed(answered), not_counted(answered))))
        return Cell("fits", str(found.chosen.point), None, need, allowed, text, text, notes, plan_note(answered))
    limiting = _limiting(answered)
    if limiting is None:
        return Cell(found.outcome, None, "no-variant", None, allowed, "no variant", "the release has no variant")
    code = next(iter(codes(limiting)), None)
    need = limiting.need.bytes if limiting.need else None
    why = next((_why(finding) for finding in limiting.findings if isinstance(finding, (Refused, NotRun))), "")
    text = f"{code}: {mib(need):,} of {mib(allowed):,} MiB" if need and allowed else _limit(limiting)
    return Cell(found.outcome, str(limiting.point), code, need, allowed, text, why)


def _fixed(answered: Answered) -> str | None:
    fixed = answered.subject.fixed
    return f"the file takes {fixed[0]}x{fixed[1]} only" if fixed else None


def _limit(limiting: Judged) -> str:
    """What limits a point, in a few words."""
    found = next(finding for finding in limiting.findings if isinstance(finding, (Refused, NotRun)))
    return f"{found.rule}: {found.actual}" if isinstance(found, Refused) else found.why


def _limiting(answered: Answered) -> Judged | None:
    """The point that comes nearest: of those that share the outcome, the one that needs least, else the preferred."""
    same = [one for one in answered.fits.points if one.outcome == answered.fits.outcome]
    known = [one for one in same if one.need is not None]
    return min(known, key=lambda one: one.need.bytes if one.need else 0) if known else next(iter(same), None)


def _why(finding: Refused | NotRun) -> str:
    if isinstance(finding, Refused):
        return f"{finding.rule}: expected {finding.expected}, found {finding.actual}; {finding.remedy}"
    return f"{finding.why}; {finding.remedy}" if finding.remedy else finding.why


def host_files(given: Sequence[Path]) -> tuple[Path, ...]:
    """Files and shipped names as they are; of a folder, the JSON files in it.

    Raises:
        InvalidInputError: A folder holds none.
    """
    found: list[Path] = []
    for path in given:
        if not path.is_dir() or str(path) in forged_hosts():
            found.append(path)
            continue
        inside = sorted(path.glob("*.json"))
        if not inside:
            raise InvalidInputError(
                "host facts",
                where=str(path),
                expected="files made by changeover facts --json",
                actual="no .json file in that folder",
                remedy="name another folder, or files",
            )
        found += inside
    return tuple(dict.fromkeys(found))


def facts_of(
    files: Sequence[Path], read: Callable[[Path], HostFacts]
) -> tuple[tuple[tuple[Path, HostFacts], ...], Unread]:
    """The facts of `files`, and the files that hold none, each with why: one of them keeps no other from its answer.

    Raises:
        ChangeoverError: None of them could be read.
    """
    found, unread = [], []
    for path in files:
        try:
            found.append((path, read(path)))
        except ChangeoverError as error:
            unread.append((path, error))
        except OSError as error:
            remedy = "make it readable, or name another"
            why = InvalidInputError(
                "host facts", where=str(path), expected="a file to read", actual=str(error.strerror), remedy=remedy
            )
            unread.append((path, why))
    if unread and not found:
        raise unread[0][1]
    return tuple(found), tuple(unread)


def named_apart(hosts: Sequence[tuple[Path, HostFacts]]) -> tuple[HostFacts, ...]:
    """The facts of several files; where files say one host name, each is called by its file's name as well."""
    counts = Counter(facts.host for _, facts in hosts)
    return tuple(
        facts if counts[facts.host] == 1 else facts.model_copy(update={"host": f"{facts.host} ({path.name})"})
        for path, facts in hosts
    )


def fleet_object(fleet: Fleet) -> dict[str, Any]:
    """For ``--json``."""
    return {
        "plate": list(fleet.plate),
        "releases": list(fleet.releases),
        "classes": [
            {
                "host_class": row.host_class,
                "hosts": list(row.hosts),
                "cells": [
                    {
                        "release": release,
                        "answer": cell.outcome,
                        "point": cell.point,
                        "code": cell.code,
                        "need_bytes": cell.need_bytes,
                        "allowed_bytes": cell.allowed_bytes,
                        "why": cell.why,
                        "notes": list(cell.notes),
                        "plan_note": cell.plan_note,
                    }
                    for release, cell in zip(fleet.releases, row.cells, strict=True)
                ],
            }
            for row in fleet.rows
        ],
    }
