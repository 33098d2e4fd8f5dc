"""Judge a candidate here: all checks in their order, cheap ones first, into one verdict.

Checks 1 to 6 are decided on the facts that were given (this machine's, or another's from a file). Speed, golden shots
and smoke are measured for the operating points that fit, in the isolated child; the shots also on other machines, where
the caller says so (`Where`). A cheap refusal spares the measuring. What is decided is decided in
`changeover_validators`; this module brings it what it needs.
"""

import os
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from changeover_registry._fs import make_dirs
from changeover_registry.clock import format_time
from changeover_registry.inspect import inspect_variant
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.findings import Finding, Refused
from changeover_registry.records.golden import GoldenSet, GoldenShot
from changeover_registry.records.release import Release
from changeover_registry.records.scores import ScoreTask
from changeover_registry.records.verdict import GoldenSetRef, PointReport, Verdict
from changeover_updater import farm
from changeover_updater.bench import Bench, Watch, variant_of
from changeover_updater.eligible import release_findings
from changeover_updater.measuring import Match, Prepared, measure, prepare
from changeover_updater.points import check_fits, check_host, points_of, points_to_measure
from changeover_updater.scoring import Plan, Way, missing_tasks
from changeover_updater.site import Site
from changeover_updater.station import Station
from changeover_updater.studio import Studio, VendorState
from changeover_updater.ways import Collected, Here, OnDask
from changeover_validators.checks.format import check_files
from changeover_validators.classes import host_class
from changeover_validators.runtimes import sandbox
from changeover_validators.runtimes.interface import SandboxName
from changeover_validators.verdict import decide

if TYPE_CHECKING:
    from changeover_validators.golden.pipeline import Progress

__all__ = ["Case", "Where", "check"]


@dataclass(frozen=True, slots=True)
class Case:
    """What is judged: candidate against baseline for a channel, on `facts` (checks 1 to 6) and `own` (this machine)."""

    candidate: Release
    vendor: VendorState
    baseline: Release | None
    channel: str
    facts: HostFacts
    own: HostFacts
    set_name: str
    who: str
    now: datetime
    full: bool = False


@dataclass(frozen=True, slots=True)
class Where:
    """Where golden shots are scored: here, unless one of the others is named.

    Attributes:
        dask: The address of a Dask scheduler.
        tasks: A folder in which tasks are written for a render queue; there is no verdict then.
        collect: Such a folder, with the results that the queue brought.
        again: The command line of this check without these, for messages.
        notice: Where a warning goes.
        config: The host.toml that the lines of tasks name.
    """

    dask: str | None = None
    tasks: Path | None = None
    collect: Path | None = None
    again: str = "changeover check"
    notice: Callable[[str], None] = lambda _: None
    config: Path | None = None


def check(site: Site, station: Station, studio: Studio, case: Case, watch: Watch, where: Where = Where()) -> Verdict:
    """Judge the candidate.

    Raises:
        TrustError: A file's bytes are not the signed ones; there is no verdict on bytes that nobody signed.
        UnreachableError: The vendor's repository or the Dask cluster does not answer.
        InvalidInputError: There is no such golden set.
        RefusedError: The golden set is retired, or not for this channel.
        TasksWrittenError: Tasks were written for a render queue.
        UndecidedError: Results of such tasks are missing.
        OSError: The site cannot be written.
    """
    bench, policy = Bench(site, station, studio, case.own, watch), studio.policy
    golden = _golden_set(site, case)
    _check_writable(site)
    # A client agrees to what the report shows, so its approval is asked of the promotion and not of the verdict.
    show = case.channel.removeprefix("show/") if case.channel.startswith("show/") else None
    findings = list(release_findings(case.candidate, case.vendor, case.baseline, policy, show))
    bench.install(case.candidate, tuple(v for v in case.candidate.variants if v.runtime != "nuke-cat"))
    findings += _files(bench, case.candidate)
    findings += check_host(case.candidate, case.facts, policy)
    fitting: tuple[PointReport, ...] = ()
    if not _refused(findings):
        fitting = tuple(points_of(bench, case.candidate, case.facts, case.baseline))
        findings.append(check_fits(bench, case.candidate, case.facts, fitting))
    match = Match(case.candidate, case.baseline, golden, case.full)
    measured = _measured(bench, match, _own_points(bench, case, fitting), where) if not _refused(findings) else ()
    points = _joined(fitting, measured)
    decision, reason = decide(findings, measured or points)
    return Verdict(
        candidate=case.candidate.ref(),
        current=case.baseline.ref() if case.baseline else None,
        decision=decision,
        reason=reason,
        made_at=format_time(case.now),
        made_by=case.who,
        host=case.own.host,
        host_class=host_class(case.own),
        judged_host=case.facts.host if case.facts != case.own else None,
        facts=case.facts.digest(),
        policy=studio.policy_digest,
        sandbox=_sandbox_name(policy.sandbox),
        golden_set=GoldenSetRef(name=golden[0].name, version=golden[0].version, digest=golden[0].digest())
        if golden
        else None,
        findings=tuple(findings),
        points=points,
        full=case.full or None,
        channel=case.channel,
    )


def _refused(findings: Iterable[Finding]) -> bool:
    return any(isinstance(finding, Refused) for finding in findings)


def _golden_set(site: Site, case: Case) -> tuple[GoldenSet, tuple[GoldenShot, ...]] | None:
    if not case.set_name:
        return None
    from changeover_validators.golden.readers import may_use
    from changeover_validators.golden.sets import load_set

    golden = load_set(site.golden, case.set_name)
    may_use(golden[0], case.channel)
    return golden


def _check_writable(site: Site) -> None:
    """See that results and the verdict can be filed, before hours are spent on them.

    Raises:
        OSError: They cannot.
    """
    for folder in (site.scores, site.verdicts):
        make_dirs(folder)
        probe = folder / f".{uuid.uuid4().hex}.tmp"
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        probe.unlink()


def _files(bench: Bench, candidate: Release) -> tuple[Finding, ...]:
    """Check 3 on the files themselves: what they need is what the record says."""
    found = {}
    for variant in candidate.variants:
        if variant.runtime != "nuke-cat":
            folder, paths = bench.folder(candidate, variant), tuple(file.path for file in variant.files)
            found[variant.id] = inspect_variant(folder, variant.runtime, variant.entry, paths)
    return check_files(candidate, found)


def _own_points(bench: Bench, case: Case, fitting: tuple[PointReport, ...]) -> tuple[PointReport, ...]:
    """The operating points to measure: those that fit this machine, whatever facts the other checks were given."""
    own = fitting
    if case.own != case.facts:
        own = tuple(points_of(bench, case.candidate, case.own, case.baseline))
    return points_to_measure(bench, own)


def _measured(bench: Bench, match: Match, reports: tuple[PointReport, ...], where: Where) -> tuple[PointReport, ...]:
    """Checks 7 to 9 of each operating point."""
    ready = [prepare(bench, match, report) for report in reports]
    plans = [one for one in ready if isinstance(one, Prepared)]
    if where.tasks is not None:
        _hand_out(bench, plans, where.tasks, where)
    anew = where.collect is not None and _bring_in(bench, plans, where.collect, where)
    done = [
        measure(bench, match, one, _way(bench, one.plan, where), anew=anew) if isinstance(one, Prepared) else one
        for one in ready
    ]
    return tuple(_with_smoke(bench, match.candidate, report) for report in done)


def _way(bench: Bench, plan: Plan, where: Where) -> Way:
    if where.dask is not None:
        return OnDask(where.dask, where.notice)
    if where.collect is not None:
        return Collected(where.collect)
    return Here(bench, lambda task, at: bench.watch.step(_line(plan, task, at)))


def _line(plan: Plan, task: ScoreTask, at: "Progress") -> str:
    """Where the work at one operating point stands, with the time that is left for it at this shot's pace."""
    names = [shot.shot for shot in plan.shots]
    place = names.index(task.shot)
    text = f"{task.candidate_point}: shot {place + 1} of {len(names)} ({task.shot}), frame {at.done} of {at.frames}"
    rest = at.frames - at.done
    if not rest:
        return text
    later = sum(len(shot.frames) for shot in plan.shots[place + 1 :])
    minutes, seconds = divmod(round(at.seconds_left * (rest + later) / rest), 60)
    return f"{text}, {minutes}:{seconds:02} left"


def _hand_out(bench: Bench, plans: Iterable[Prepared], folder: Path, where: Where) -> None:
    """Write what is still to be scored as tasks, and end with that; with nothing to score, go on."""
    tasks = _missing(bench, plans)
    if tasks:
        farm.write_tasks(folder, tasks, where.config)
        raise farm.tasks_are_written(folder, tasks, where.again)


def _bring_in(bench: Bench, plans: Iterable[Prepared], folder: Path, where: Where) -> bool:
    """File the results that a queue brought; end where one is missing and nothing says why. Whether any was new."""
    from changeover_validators.golden.results import ResultStore

    tasks = _missing(bench, plans)
    left = farm.collect(folder, tasks, ResultStore(bench.site.scores), where.notice)
    missing = [task for task in left if task in _missing(bench, plans) and farm.failed(folder, task) is None]
    if missing:
        raise farm.tasks_are_missing(folder, missing, where.again)
    return len(left) < len(tasks)


def _missing(bench: Bench, plans: Iterable[Prepared]) -> tuple[ScoreTask, ...]:
    from changeover_validators.golden.results import ResultStore

    store = ResultStore(bench.site.scores)
    return tuple(task for one in plans for task in missing_tasks(one.plan, store, one.decided))


def _with_smoke(bench: Bench, candidate: Release, report: PointReport) -> PointReport:
    variant = variant_of(candidate, report.point)
    smoke = bench.runtimes.smoke(candidate, variant, bench.folder(candidate, variant), report.memory_plan)
    return report.model_copy(update={"findings": (*report.findings, smoke)})


def _joined(fitting: tuple[PointReport, ...], measured: tuple[PointReport, ...]) -> tuple[PointReport, ...]:
    """Each operating point once: measured where it was, else with its memory alone."""
    done = {report.point for report in measured}
    return (*measured, *(report for report in fitting if report.point not in done))


def _sandbox_name(wanted: str) -> SandboxName:
    """What models run in here: a policy that asks for less gets less, whatever this machine could do."""
    return "limits-only" if wanted == "limits-only" else sandbox.available().name or "none"
