"""The rigs that put a fault at each call: kills, errors, power cuts, and power cuts of builds without one fsync."""

import time
from collections.abc import Iterator, Sequence
from itertools import product

from changeover_faults.action import ACTIONS
from changeover_faults.bench import FILE_SYSTEMS, can_mount
from changeover_faults.mutation import Chain
from changeover_faults.pool import Pool
from changeover_faults.report import Report
from changeover_faults.scale import Scale
from changeover_faults.strace import Fault, why_not
from changeover_faults.sweep import ERRORS, Case, after_fsyncs

__all__ = ["BOUNDED", "REDUNDANT", "errors", "kills", "mutations", "power_cuts", "why_kept"]

_CHANGEOVER = ("update", "rollback")
_CHEAP_FIRST = ("rollback", "update", "first", *(name for name in ("import", "gc") if name in ACTIONS))

BOUNDED: frozenset[Chain] = frozenset(
    {("_write_beside", "write_new", "append"), ("_write_beside", "write_atomic", "Station.point")}
)
"""What is taken out where there is no time for all: the bytes of an event, and those of a pointer."""

_ONE_JOURNAL = (
    "ext4 and XFS keep all names in one journal in order, which the next fsync of anything writes; "
    "it stays for file systems that do not (btrfs, network shares)"
)
_TWICE = "the same bytes are synced twice before anything names them; either alone is enough"
REDUNDANT: dict[Chain, str] = {
    ("Partial.sync",): _TWICE,
    ("fsync_file", "fsync_tree", "Store.place"): _TWICE,
    ("_write_beside", "write_new", "Station.add_generation"): _TWICE,
    ("_write_beside", "write_atomic", "report_status"): "a report that is passed over when damaged and written anew",
}
"""The fsyncs whose removal no power cut on ext4 and XFS need show, and why they stay."""


def why_kept(chain: Chain) -> str | None:
    """Why an fsync stays that no power cut here shows to be needed."""
    return REDUNDANT.get(chain) or (_ONE_JOURNAL if chain[0] == "fsync_dir" or chain[-1] == "Store.place" else None)


def kills(pool: Pool, scale: Scale) -> Iterator[Report]:
    """SIGKILL at each call."""
    if why := why_not():
        yield Report("kill", skipped=why)
        return
    for action in ACTIONS:
        calls = pool.record("folder", action)
        cases = [Case(action, None), *(Case(action, Fault(call)) for call in scale.some(calls, 11))]
        report = _report(pool, f"kill: {action}", "folder", cases)
        report.notes["calls that change the disk"] = len(calls)
        yield report


def errors(pool: Pool, scale: Scale) -> Iterator[Report]:
    """Each error of a failing disk at each call."""
    if why := why_not():
        yield Report("errors", skipped=why)
        return
    for action in ACTIONS:
        calls = pool.record("folder", action)
        every = [Fault(call, error) for call in calls for error in ERRORS]
        # One more than the number of errors is a stride that meets them all in turn.
        thin = 1 if scale.exhaustive or action in _CHANGEOVER else len(ERRORS) + 1
        cases = [Case(action, fault) for fault in scale.some(every[::thin], 11)]
        yield _report(pool, f"errors: {action}", "folder", cases)


def power_cuts(pool: Pool, scale: Scale) -> Iterator[Report]:
    """The power goes at each call that changes over, after each fsync of the other commands, and after the end."""
    for kind in FILE_SYSTEMS:
        if why := why_not() or can_mount(kind, pool.work):
            yield Report(f"power cut: {kind}", skipped=why)
            continue
        for action in ACTIONS:
            calls = pool.record(kind, action)
            chosen = calls if scale.full and action in _CHANGEOVER else scale.some(after_fsyncs(calls), 3)
            cases = [Case(action, None), *(Case(action, Fault(call)) for call in chosen)]
            yield _report(pool, f"power cut: {kind}: {action}", kind, cases)


def mutations(pool: Pool, scale: Scale) -> Iterator[Report]:
    """Power cuts of builds that lack one fsync: each must be found, or its redundancy be explained."""
    kinds = [kind for kind in FILE_SYSTEMS if not can_mount(kind, pool.work)]
    if why := why_not() or ("" if kinds else "no image can be mounted and cut here"):
        yield Report("one fsync removed", skipped=why)
        return
    report, started = Report("one fsync removed"), time.monotonic()
    places: dict[Chain, list[str]] = {}
    for action in _CHEAP_FIRST:
        for chain in pool.fsyncs(action):
            places.setdefault(chain, []).append(action)
    for chain, actions in places.items():
        if scale.full or chain in BOUNDED:
            _mutate(pool, report, kinds, actions, chain)
            pool.say(f"without {' < '.join(chain)}: {report.notes[' < '.join(chain)]}")
    report.seconds = time.monotonic() - started
    report.notes["places that call fsync"] = len(places)
    yield report


def _mutate(pool: Pool, report: Report, kinds: Sequence[str], actions: Sequence[str], chain: Chain) -> None:
    """Look for violations in the commands that pass this place, until one of them has some on one file system."""
    name = " < ".join(chain)
    for action, kind in product(actions, kinds):
        if found := _found(pool, report, kind, action, chain):
            report.notes[name] = f"{found} violations in {action} on {kind}"
            return
    why = why_kept(chain)
    report.notes[name] = f"no violation: {why or 'unexplained'}"
    if why is None:
        report.violations.append(f"{name}: no power cut shows that this fsync is needed")


def _found(pool: Pool, report: Report, kind: str, action: str, chain: Chain) -> int:
    """How many cuts of a build without this fsync left something wrong."""
    calls = after_fsyncs(pool.record(kind, action, chain))
    cases = [Case(action, None, chain), *(Case(action, Fault(call), chain) for call in calls)]
    results = pool.run(f"{kind}: {action} without {' < '.join(chain)}", kind, cases)
    report.cases += len(results)
    report.missed += sum(not result.met for result in results)
    return sum(bool(result.violations) for result in results)


def _report(pool: Pool, rig: str, kind: str, cases: Sequence[Case]) -> Report:
    report, started = Report(rig), time.monotonic()
    for result in pool.run(rig, kind, cases):
        report.add(f"{result.case}: {text}" for text in result.violations)
        report.missed += not result.met
    report.seconds = time.monotonic() - started
    return report
