"""Checks 7 to 9 at one operating point on this machine: golden shots, speed and noise, smoke.

Golden shots come first, since what a model does wrong is to be said of a shot and a frame; then, in processes of their
own, the noise of a second run and the speed at the studio's plate sizes. What is decided is decided in
`changeover_validators`; this module brings it what it needs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from changeover_registry.errors import ChangeoverError, MeasurementError, UndecidedError
from changeover_registry.records.findings import CheckName, Finding, NotRun, Refused
from changeover_registry.records.golden import GoldenSet, GoldenShot
from changeover_registry.records.memory import MemoryPlan
from changeover_registry.records.release import Release
from changeover_registry.records.scores import ShotScores
from changeover_registry.records.verdict import NoiseFloor, OperatingPoint, PointReport, ShotScore, SpeedPoint
from changeover_updater.approved import approved_scores
from changeover_updater.bench import Bench, Models, variant_of
from changeover_updater.scoring import Decided, Plan, Results, Way, plan_scoring, score_all
from changeover_updater.studio import read_verdicts
from changeover_updater.tasks import Contest, golden_class_at
from changeover_updater.ways import OF_THE_SHOT
from changeover_validators.checks.golden import check_golden
from changeover_validators.checks.hardware import providers_for
from changeover_validators.checks.speed import SpeedReport, check_speeds

if TYPE_CHECKING:
    from changeover_validators.golden.judge import Judgement
    from changeover_validators.golden.pipeline import Subject
    from changeover_validators.golden.ratchet import Best

__all__ = ["Match", "Prepared", "measure", "prepare"]

_LISTED = 10
"""How many frame numbers a warning lists."""


@dataclass(frozen=True, slots=True)
class Match:
    """Candidate against the release in use, on the approved shots of a set; `full` scores all of them in any case."""

    candidate: Release
    baseline: Release | None
    golden: tuple[GoldenSet, tuple[GoldenShot, ...]] | None
    full: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """An operating point that can be scored: what to score, what it is compared with, and when it has decided."""

    report: PointReport
    plan: Plan
    best: "tuple[Best, ...]"
    decided: Decided


def prepare(bench: Bench, match: Match, report: PointReport) -> Prepared | PointReport:
    """What scoring a point takes; or its report, where nothing can be scored, with why."""
    point = report.point
    try:
        kind = bench.runtimes.evidence(match.candidate, variant_of(match.candidate, point)).kind
        golden_class = golden_class_at(bench, match.candidate, point)
    except UndecidedError as error:
        # A .cat without a twin, or a runtime that nobody named, was looked at, and not run.
        return _with(report, _open("speed", point, error), _open("golden", point, error))
    report = report.model_copy(update={"golden_class": golden_class, "evidence": kind})
    golden = match.golden
    if golden is None or not golden[1]:
        return _with(report, _no_shots(point, golden[0].name if golden else ""))
    try:
        plan = plan_scoring(bench, _contest(bench, match, report, golden_class), *golden)
    except UndecidedError as error:
        return _with(report, *check_golden(point, error))
    best = approved_scores(bench, match.candidate.model, plan.keys)
    return Prepared(report, plan, best, _decided(bench, match, best))


def measure(bench: Bench, match: Match, prepared: Prepared, way: Way, *, anew: bool = False) -> PointReport:
    """Score the shots of a point and judge them; then time it, if it could be scored.

    Args:
        bench: This machine.
        match: Who is judged.
        prepared: The point.
        way: Who scores what is not filed.
        anew: Some of what is filed was brought for this very check.

    Raises:
        ChangeoverError: The way of scoring does not work, or bytes are not the signed ones; what was scored is filed.
        OSError: The site cannot be written.
    """
    from changeover_validators.golden.results import ResultStore

    plan, point = prepared.plan, prepared.report.point

    def done(there: int, shots: int) -> None:
        bench.watch.step(f"{point}: {there} of {shots} shots")

    results = score_all(plan, ResultStore(bench.site.scores), way, prepared.decided, done)
    report = _scored(bench, match, prepared, results)
    if results.error is not None:
        return _with(report, *check_golden(point, results.error))
    with Models(bench) as models:
        try:
            noise = _noise(bench, models, plan, results, anew=anew or results.fresh > 0)
        except OF_THE_SHOT as error:
            return _with(report, *check_golden(point, error))
        report = _timed(bench, models, plan.contest, report)
    judgement = _judged(bench, match, prepared, report, noise)
    report = report.model_copy(update={"noise": noise, "metrics": judgement.metrics})
    return _with(report, *check_golden(point, judgement))


def _decided(bench: Bench, match: Match, best: "Sequence[Best]") -> Decided:
    """Whether a guard has broken that no later shot can mend; each guard looks at one shot, so the last one tells."""
    from changeover_validators.golden.judge import broken_early

    policy, baseline = bench.studio.policy.golden, match.baseline is not None

    def decided(results: Sequence[ShotScores]) -> bool:
        return broken_early(_shot_scores(bench, results[-1:]), policy, baseline=baseline, best=best)

    return (lambda _: False) if match.full else decided


def _contest(bench: Bench, match: Match, report: PointReport, golden_class: str) -> Contest:
    """The release in use on the same provider: the same variant with the same tile if it has them, else its first.

    Each runs under the memory plan that it is served with: the one chosen for the candidate, and the one that the
    verdict of the release in use holds.

    Raises:
        UndecidedError: The release in use does not run here on that provider.
    """
    baseline, point = match.baseline, report.point
    if baseline is None:
        return Contest(match.candidate, point, None, None, golden_class, report.memory_plan)
    usable = [v for v in baseline.variants if point.provider in providers_for(v, bench.own, bench.studio.policy)]
    if not usable:
        raise UndecidedError(
            "current release",
            where=str(baseline.ref()),
            expected=f"a variant that runs here on {point.provider}, to compare with",
            actual="none",
            remedy="check on a machine that runs the release in use",
        )
    variant = min(usable, key=lambda v: (v.id != point.variant, v.precision != point.precision))
    tile = point.tile if point.tile in variant.contract.tiles else variant.contract.tiles[0]
    other = point.model_copy(update={"variant": variant.id, "precision": variant.precision, "tile": tile})
    plan = _plan_in_use(bench, baseline, other)
    return Contest(match.candidate, point, baseline, other, golden_class, report.memory_plan, plan)


def _plan_in_use(bench: Bench, release: Release, point: OperatingPoint) -> MemoryPlan | None:
    """The memory plan in the newest verdict of a release that measured it here; None: the runtime's own settings."""
    golden_class = golden_class_at(bench, release, point)
    plans = (
        report.memory_plan
        for filed in read_verdicts(bench.site, bench.studio, release.digest())
        if filed.verdict.candidate == release.ref()
        for report in filed.verdict.points
        if (report.point, report.golden_class) == (point, golden_class)
    )
    return next(plans, None)


def _scored(bench: Bench, match: Match, prepared: Prepared, results: Results) -> PointReport:
    first = results.scores[0] if results.scores else None
    said = (*_warnings(match, prepared.plan, results), *_of_the_set(bench, match, prepared))
    return prepared.report.model_copy(
        update={
            "scores": _shot_scores(bench, results.scores),
            "scored": results.refs,
            "provider_ran": first and first.provider_ran,
            "runtime_version": first and first.runtime_version,
            "warnings": said or None,
        }
    )


def _shot_scores(bench: Bench, results: Sequence[ShotScores]) -> tuple[ShotScore, ...]:
    from changeover_validators.golden.summary import shot_scores
    from changeover_validators.golden.thresholds import limits

    return shot_scores(results, limits(bench.studio.policy.golden.guards).window_frames)


def _judged(
    bench: Bench, match: Match, prepared: Prepared, report: PointReport, noise: tuple[NoiseFloor, ...]
) -> "Judgement":
    from changeover_validators.golden.judge import judge

    shots = prepared.plan.shots
    return judge(
        report.scores,
        bench.studio.policy.golden,
        baseline=match.baseline is not None,
        names={shot.shot: shot.alias for shot in shots},
        best=prepared.best,
        noise=noise,
        sizes={shot.shot: (shot.width, shot.height) for shot in shots},
    )


def _noise(bench: Bench, models: Models, plan: Plan, results: Results, *, anew: bool) -> tuple[NoiseFloor, ...]:
    """What is known of this golden class, after a second run of the candidate where something was scored anew.

    Raises:
        ChangeoverError: The second run failed, where the first did not.
    """
    from changeover_validators.golden.noise import add_noise, beginning, floors, read_noise, shortest
    from changeover_validators.golden.pipeline import ShotJob, score_shot
    from changeover_validators.golden.sets import shot_folder

    folder, contest = bench.site.scores / "noise", plan.contest
    known = read_noise(folder, contest.golden_class)
    if known is not None and not anew:
        return known.floors
    filed = {scores.shot: scores for scores in results.scores}
    shot = shortest([shot for shot in plan.shots if shot.shot in filed])
    bench.watch.step(f"{contest.point}: shot {shot.shot} once more, for the noise of this machine")
    subject = models.subject(contest.candidate, contest.point, contest.plan)
    part = beginning(shot)
    job = ShotJob(part, shot_folder(bench.site.golden, shot), plan.keys[shot.shot], subject, None, bench.own.host)
    return add_noise(folder, contest.golden_class, floors(filed[shot.shot], score_shot(job).scores)).floors


def _timed(bench: Bench, models: Models, contest: Contest, report: PointReport) -> PointReport:
    """Speed, first load and RAM of candidate and current, by turns; a failure is a finding."""
    baseline = contest.current is not None
    try:
        ours = models.subject(contest.candidate, contest.point, contest.plan)
        theirs = None
        if contest.current is not None and contest.current_point is not None:
            theirs = models.subject(contest.current, contest.current_point, contest.current_plan)
        bench.watch.step(f"{contest.point}: seconds a frame")
        speeds = _speeds(bench, ours, theirs, contest.point)
    except OF_THE_SHOT as error:
        return _with(report, _open("speed", contest.point, error))
    report = _with_times(report, models, contest, speeds)
    timed = SpeedReport(speeds, report.load_us, report.peak_ram_bytes)
    return _with(report, *check_speeds(timed, bench.studio.policy.speed, contest.point, baseline=baseline))


def _speeds(bench: Bench, ours: "Subject", theirs: "Subject | None", point: OperatingPoint) -> tuple[SpeedPoint, ...]:
    """Seconds a frame; what would be refused is measured twice, so that no busy moment refuses anybody."""
    from changeover_validators.speed import measure as measure_speed
    from changeover_validators.speed import steadier

    policy = bench.studio.policy
    plates = policy.speed.plates or (policy.vram.plate,)
    speeds = measure_speed(ours, theirs, plates)
    found = check_speeds(SpeedReport(speeds), policy.speed, point, baseline=theirs is not None)
    if theirs is None or not any(isinstance(finding, Refused) for finding in found):
        return speeds
    return steadier(speeds, measure_speed(ours, theirs, plates))


def _with_times(report: PointReport, models: Models, contest: Contest, speeds: tuple[SpeedPoint, ...]) -> PointReport:
    mine = models.cost(contest.candidate, contest.point, contest.plan)
    changes: dict[str, object] = {
        "speeds": speeds,
        "frame_us": speeds[0].candidate_us,
        "current_frame_us": speeds[0].current_us,
        "load_us": mine.load_us,
        "peak_ram_bytes": mine.peak_rss_bytes or None,
    }
    if contest.current is not None and contest.current_point is not None:
        theirs = models.cost(contest.current, contest.current_point, contest.current_plan)
        changes |= {"current_load_us": theirs.load_us, "current_peak_ram_bytes": theirs.peak_rss_bytes or None}
    return report.model_copy(update=changes)


def _warnings(match: Match, plan: Plan, results: Results) -> list[str]:
    shots = {shot.shot: shot for shot in plan.shots}
    found = [
        f"{shots[one.shot].alias}: {one.replaced} values of its plates were NaN or infinite and were replaced"
        for one in results.scores
        if one.replaced
    ]
    found += [
        f"{shot.alias}: {_listed(shot.missing)} missing, as somebody allowed" for shot in plan.shots if shot.missing
    ]
    left = len(plan.shots) - len(results.scores)
    if left and results.error is None:
        found.append(f"{left} of {len(plan.shots)} shots were not needed: a guard broke before; --full scores them too")
    pending = match.golden[0].pending if match.golden else None
    if pending:
        found.append(f"{len(pending)} shots of the set wait for an approval and were not scored")
    return found


def _of_the_set(bench: Bench, match: Match, prepared: Prepared) -> Iterator[str]:
    """What makes a verdict on this set weigh less: shots that count twice, that were changed, that have no bar."""
    from changeover_validators.golden.set_warnings import repeated_shots, without_bar

    shots = prepared.plan.shots
    yield from repeated_shots(shots)
    if match.golden is not None:
        yield from _changed_set(bench, match, match.golden[0])
    bare = without_bar(shots, {one.shot for one in prepared.best})
    if match.baseline is not None and bare:
        yield bare


def _changed_set(bench: Bench, match: Match, golden_set: GoldenSet) -> Iterator[str]:
    """That candidate or current was judged on other shots of the set: a retired shot undoes no reject unseen."""
    from changeover_validators.golden.set_warnings import changes_since
    from changeover_validators.golden.sets import read_set

    for release in filter(None, (match.candidate, match.baseline)):
        for filed in read_verdicts(bench.site, bench.studio, release.digest()):
            verdict, used = filed.verdict, filed.verdict.golden_set
            if verdict.candidate != release.ref() or used is None or used.name != golden_set.name:
                continue
            try:
                changes = changes_since(read_set(bench.site.golden, used.name, version=used.version), golden_set)
            except ChangeoverError:
                changes = f"version {used.version} is gone"
            if changes:
                told = f"verdict {filed.digest[:12]} on {release.version} ({verdict.decision})"
                yield f"since {told} the set has changed: {changes}"
                return


def _listed(frames: Sequence[int]) -> str:
    """Frame numbers as the subject of a sentence; of many the first ones, since a record holds no longer texts."""
    more = f" and {len(frames) - _LISTED} more" if len(frames) > _LISTED else ""
    return f"frames {', '.join(map(str, frames[:_LISTED]))}{more} are"


def _no_shots(point: OperatingPoint, set_name: str) -> NotRun:
    if not set_name:
        why, remedy = "no golden set is named", "name one with --set, or in policy.toml"
    else:
        why = f"the golden set {set_name} has no approved shot"
        remedy = f"approve one: changeover golden approve {set_name} SHOT --name NAME"
    return NotRun(check="golden", subject=str(point), why=why, remedy=remedy)


def _open(check: CheckName, point: OperatingPoint, error: ChangeoverError) -> NotRun:
    broke = isinstance(error, MeasurementError)
    return NotRun(check=check, subject=str(point), why=str(error), remedy=error.remedy, error=broke)


def _with(report: PointReport, *findings: Finding) -> PointReport:
    return report.model_copy(update={"findings": (*report.findings, *findings)})
