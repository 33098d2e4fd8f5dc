"""How plans and verdicts are shown to a person, and plans as plain objects for ``--json``."""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from changeover_registry.records.findings import Finding, Refused
from changeover_registry.records.release import ReleaseRef
from changeover_registry.records.verdict import PointReport, ShotScore, Verdict
from changeover_updater.cli._output import escape, mark, rows, say
from changeover_updater.cli._show import way_from_withdrawn
from changeover_updater.eligible import PassedOver, blocking, describe
from changeover_updater.plan import Plan
from changeover_validators.golden.catalogue import METRICS, SUMMARIES
from changeover_validators.golden.gates import EMPTY, FLICKER
from changeover_validators.runtimes.memory_plan import CHOSEN, described, predicted

__all__ = ["SIGNS", "plan_object", "promote_line", "show_plan", "show_verdict"]

SIGNS = {"accept": "ok", "reject": "no", "inconclusive": "open", "error": "open"}
"""The sign before a verdict's line."""

_SHOTS = 12
"""How many shots `check` shows; a verdict shown whole shows all."""
_SHOWN = 3
_FLOORED = ("jaccard:davis2017", "boundary_f:davis2017", "mad:rvm")
_COLOURS = {"accept": "green", "reject": "red", "inconclusive": "yellow", "error": "magenta"}
_ABOUT = re.compile(r"(?:shot )?(?P<shot>\S+): (?P<what>Jaccard|boundary F|MAD|flicker|nothing found)\b")
"""What a broken guard says of which shot (`golden.guards`)."""
_OUTCOMES = {"take": "ok", "same": "skip", "keep": "no"}


def plan_object(plan: Plan) -> dict[str, Any]:
    """A plan for ``--json``."""
    return {
        "changes": plan.generation is not None,
        "hold": plan.hold.why if plan.hold else None,
        "wait": plan.wait,
        "moves": [
            {
                "where": m.where,
                "model": m.model,
                "before": m.before,
                "wanted": m.wanted,
                "outcome": m.outcome,
                "why": m.why,
                "withdrawn": m.withdrawn,
            }
            for m in plan.moves
        ],
        "answers": [
            {"release": str(e.ref), **answer.model_dump(mode="json", exclude_none=True)}
            for e in plan.judged
            for answer in e.answers
        ],
        "passed_over": [
            {
                "release": str(e.ref),
                "loader": p.loader,
                "nuke_line": p.nuke_line,
                "variant": p.variant,
                "why": [describe(f) for f in blocking(p.findings) or p.findings],
            }
            for e in plan.judged
            for p in e.passed_over
        ],
        "exit_code": plan.exit_code,
    }


def show_plan(plan: Plan, *, done: bool = False) -> None:
    """A plan, for a person: every move, every loader's file, every variant passed over with its reason."""
    if plan.hold:
        say(f"{mark('open')} held by {escape(plan.hold.by)}: {escape(plan.hold.why)}; changeover unhold lifts it")
    if plan.wait:
        say(f"{mark('open')} waits: {escape(plan.wait)}; what is chosen is installed all the same")
    if not plan.moves:
        _show_nothing_chosen(plan, done=done)
    for move in plan.moves:
        verb = {
            "take": "changed to" if done else "change to",
            "same": "stays",
            "keep": "waits to change to" if move.waits else "not changed to",
        }
        stays_for_now = bool(plan.hold or plan.wait) and move.outcome == "take"
        sign = "skip" if stays_for_now else "open" if move.waits else _OUTCOMES[move.outcome]
        before = f" (from {move.before.partition('@')[2]})" if move.before and move.outcome == "take" else ""
        stays = f"  WITHDRAWN: {move.withdrawn}" if move.withdrawn and move.outcome != "keep" else ""
        say(f"{mark(sign)} {move.where}: {verb[move.outcome]} [bold]{escape(move.wanted)}[/]{escape(before + stays)}")
        if move.withdrawn and move.outcome == "keep":
            say(f"    stays [bold]{escape(move.before or '')}[/]  WITHDRAWN: {escape(move.withdrawn)}")
        if move.why:
            say(f"    {escape(move.why)}")
    if gone := [move.where for move in plan.moves if move.withdrawn]:
        say(f"{mark('no')} {way_from_withdrawn([where for where in gone if not where.startswith('pin ')])}")
    _show_answers(plan)


def _show_nothing_chosen(plan: Plan, *, done: bool) -> None:
    """Before the first choice, what comes first; after it, that what is no longer chosen makes a new generation."""
    if plan.generation is None and not plan.held:
        say("the studio has chosen nothing yet; choose with: changeover promote")
    elif plan.generation is not None and not done:
        say(f"{mark('ok')} change to generation {plan.generation.number}: {escape(plan.generation.why)}")


def _show_answers(plan: Plan) -> None:
    for eligible in plan.judged:
        if len(plan.judged) > 1:
            say(f"  [dim]{escape(str(eligible.ref))}[/]")
        against = (p for p in eligible.passed_over if blocking(p.findings) and str(eligible.ref) in plan.held)
        blocked = {(p.loader, p.nuke_line) for p in against}
        for answer in eligible.answers:
            loader = answer.loader + (f" {answer.nuke_line}" if answer.nuke_line else "")
            if answer.path:
                tiles = f", tiles {', '.join(answer.tiles)}" if answer.tiles else ""
                say(f"    {loader}: {answer.variant}{tiles}  [dim]{escape(answer.path)}[/]")
            else:
                # What a station holds is served as it was installed, whatever is found of it later.
                held = "as installed; judged anew: " if (answer.loader, answer.nuke_line) in blocked else ""
                say(f"    {loader}: {held}{escape(answer.unavailable or '')}")
        for passed in eligible.passed_over:
            _show_passed_over(passed)


def _show_passed_over(passed: PassedOver) -> None:
    loader = passed.loader + (f" {passed.nuke_line}" if passed.nuke_line else "")
    found = blocking(passed.findings) or passed.findings
    for finding in found[:_SHOWN]:
        say(f"    [dim]passed over for {loader}: {passed.variant}: {escape(describe(finding))}[/]")
    if len(found) > _SHOWN:
        say(f"    [dim]passed over for {loader}: {passed.variant}: {len(found) - _SHOWN} more; --json tells all[/]")


def promote_line(ref: ReleaseRef, channel: str | None) -> str:
    """The command that promotes what was accepted; the channel's place stays open where nobody can tell it."""
    return f'changeover promote {ref.model}@{ref.version} --channel {shlex.quote(channel or "CHANNEL")} --reason "..."'


def show_verdict(digest: str, verdict: Verdict, aliases: Mapping[str, str] = {}, *, whole: bool = False) -> None:
    """A verdict, for a person: the decision and its reason first, then what it rests on.

    Args:
        digest: That it is filed under.
        verdict: The verdict.
        aliases: What its sentences call the shots, by their names; the table tells both.
        whole: Whether every shot is shown.
    """
    say(f"[bold {_COLOURS[verdict.decision]}]{verdict.decision}[/] {escape(str(verdict.candidate))}")
    say(f"  {escape(verdict.reason)}")
    current = str(verdict.current) if verdict.current else "nothing in use yet"
    golden = (
        f", golden set {verdict.golden_set.name} version {verdict.golden_set.version}" if verdict.golden_set else ""
    )
    say(f"  [dim]against {escape(current)}{golden}, sandbox {verdict.sandbox}[/]")
    say(f"  [dim]verdict {digest[:12]}, {verdict.made_at}, by {escape(verdict.made_by)} on {escape(verdict.host)}[/]")
    if verdict.judged_host:
        say(f"  [dim]checks 1 to 6 were judged for [bold]{escape(verdict.judged_host)}[/], a question of what if[/]")
    if verdict.sign_off:
        word = verdict.sign_off
        say(f"  [dim]signed off by {escape(word.name)}, {word.at}, of verdict {word.of[:12]}: {escape(word.note)}[/]")
    for finding in verdict.findings:
        _show_finding(finding)
    for report in verdict.points:
        _show_point(report, aliases, digest, whole=whole)


def _show_point(report: PointReport, aliases: Mapping[str, str], digest: str, *, whole: bool) -> None:
    facts = [f"{report.frame_us / 1000:.1f} ms a frame"] if report.frame_us else ["not measured"]
    if report.evidence in {"twin", "nuke"}:
        facts.append("measured inside Nuke" if report.evidence == "nuke" else "measured by its TorchScript twin")
    if report.memory:
        largest = report.memory[-1]
        facts.append(f"{largest.bytes / 2**20:.0f} MiB at {largest.width}x{largest.height} ({report.memory_label})")
    say(f"  [bold]{escape(str(report.point))}[/]: {', '.join(facts)}")
    _show_memory(report)
    lines = [(m.metric, m.mean, m.lower or "-", m.upper or "-", m.margin, str(m.shots)) for m in report.metrics]
    if lines:
        rows("", ("metric", "better by", "at least", "at most", "margin", "shots"), lines, indent=4)
    _show_shots(report, aliases, whole=whole)
    _show_noise(report)
    for warning in report.warnings or ():
        say(f"    {mark('open')} {escape(warning)}")
    _show_point_findings(report, digest)


def _show_memory(report: PointReport) -> None:
    """The plan in words and why it was chosen, then the prediction under it: its range and its parts."""
    if report.memory_plan is not None:
        say(f"    [dim]memory plan: {described(report.memory_plan)}[/]")
        say(f"    [dim]  chosen because {CHOSEN}; docs/explanation/memory-plans.md says more[/]")
    found, measured = report.memory_answer, report.measured_memory
    if found is not None:
        say(f"    [dim]memory at a tensor of {found.key.width}x{found.key.height}: {predicted(found)}[/]")
        said = ((f"{part.name}{' between frames' if part.name == 'resting' else ''}", part) for part in found.parts)
        parts = [f"{name} {_mib(part.bytes)} ({part.label})" for name, part in said if part.bytes]
        say(f"    [dim]  {', '.join(parts)}[/]")
    if measured is not None:
        say(f"    [dim]  measured: {_mib(measured.in_use_bytes)} in use, arena {_mib(measured.arena_bytes)}[/]")


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


def _show_noise(report: PointReport) -> None:
    """How far two runs of one model lie apart here, in the metric in which that is most."""
    if not report.noise:
        return
    most = max(report.noise, key=lambda floor: Decimal(floor.difference))
    same = "two runs of one model are equal here"
    differ = f"two runs of one model differ by up to {most.difference} here ({most.metric})"
    say(f"    [dim]noise: {escape(differ if Decimal(most.difference) else same)}[/]")


def _show_shots(report: PointReport, aliases: Mapping[str, str], *, whole: bool) -> None:
    """What the candidate does to each shot, the worst first; in brackets what is gained on the current release."""
    shots = _by_shot(report, aliases)
    if not shots:
        return
    metrics = _columns(report)
    shown = shots if whole else shots[:_SHOTS]
    lines = [
        (escape(_called(name, aliases)), *(_cell(scores.get(metric)) for metric in metrics)) for name, scores in shown
    ]
    if any(score.current for score in report.scores):
        say("    [dim]each shot's mean, and in brackets what is gained on the release in use: positive is better[/]")
    rows("", ("shot", *metrics), lines, indent=4)
    if len(shown) < len(shots):
        say(f"    [dim]{len(shots) - len(shown)} more shots; changeover verdict show tells all[/]")


def _columns(report: PointReport) -> tuple[str, ...]:
    """The gated metrics, and those whose guards broke; all others stand in the report.

    Without a baseline, those that floors and ceiling are of.
    """
    there = dict.fromkeys(score.metric for score in report.scores)
    wanted = {metric.metric for metric in report.metrics} or {*_FLOORED, *(one.partition(":")[0] for one in _FLOORED)}
    broken = {what for _, what in _broken(report.findings)}
    wanted |= {metric for metric, what in ((FLICKER, "flicker"), (EMPTY, "nothing found")) if what in broken}
    return tuple(metric for metric in there if metric in wanted)


def _broken(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    """What each broken guard is about: what the sentences call the shot, and what is wrong there."""
    found = (_about(finding) for finding in findings)
    return [about for about in found if about is not None]


def _about(finding: Finding) -> tuple[str, str] | None:
    if not isinstance(finding, Refused) or finding.check != "golden":
        return None
    found = _ABOUT.match(finding.actual)
    return (found["shot"], found["what"]) if found else None


def _called(name: str, aliases: Mapping[str, str]) -> str:
    """A shot's alias, as all sentences call it, and its name, which the site's own people know."""
    alias = aliases.get(name, name)
    return alias if alias == name else f"{alias} ({name})"


def _by_shot(report: PointReport, aliases: Mapping[str, str]) -> list[tuple[str, dict[str, ShotScore]]]:
    """Each shot's scores: those with broken guards in the order in which these are told, then by the gain in J."""
    shots: dict[str, dict[str, ShotScore]] = {}
    for score in report.scores:
        shots.setdefault(score.shot, {})[score.metric] = score
    told = {shot: place for place, (shot, _) in reversed(list(enumerate(_broken(report.findings))))}

    def place(item: tuple[str, dict[str, ShotScore]]) -> tuple[int, Decimal, str]:
        name, scores = item
        return told.get(aliases.get(name, name), len(told) + len(report.findings)), _gain(_first(scores)), name

    return sorted(shots.items(), key=place)


def _first(scores: dict[str, ShotScore]) -> ShotScore | None:
    """A shot's score of J, under the name of today or of the first verdicts."""
    return next((score for metric, score in scores.items() if metric.partition(":")[0] == "jaccard"), None)


def _gain(score: ShotScore | None) -> Decimal:
    if score is None:
        return Decimal(0)
    return Decimal(score.candidate) - Decimal(score.current) if score.current else Decimal(score.candidate)


def _cell(score: ShotScore | None) -> str:
    if score is None:
        return "n/a"
    value = f"{Decimal(score.candidate):.4f}"
    if score.current is None:
        return value
    difference = Decimal(score.candidate) - Decimal(score.current)
    better = difference if _higher_is_better(score.metric) else -difference
    colour = "green" if better > 0 else "red" if better < 0 else "dim"
    return f"{value} [{colour}]({better:+.4f})[/]"


def _higher_is_better(name: str) -> bool:
    """A metric's direction by the catalogue; the first verdicts named three of them without their variant."""
    return next(
        (m.higher_is_better for m in (*METRICS, *SUMMARIES) if name in {m.name, m.name.partition(":")[0]}), True
    )


def _show_point_findings(report: PointReport, digest: str) -> None:
    """Each finding; of one rule that is broken on many shots the first ones, so that the rest can still be seen.

    What several guards say of one metric of one shot is one loss, and one line.
    """
    seen: Counter[tuple[str, str]] = Counter()
    for finding, also in _once(report.findings):
        kind = (finding.check, getattr(finding, "rule", finding.outcome))
        seen[kind] += 1
        if seen[kind] <= _SHOWN:
            _show_finding(finding, about=str(report.point), digest=digest, also=also)
    for (check, rule), number in seen.items():
        if number > _SHOWN:
            say(f"    [dim]{escape(check)}: {escape(rule)}: {number - _SHOWN} more; --json tells all[/]")


def _once(findings: Iterable[Finding]) -> list[tuple[Finding, list[str]]]:
    """Each finding with the rules of further ones that tell the same loss again."""
    told: dict[tuple[str, str], list[str]] = {}
    shown: list[tuple[Finding, list[str]]] = []
    for finding in findings:
        about = _about(finding)
        if about in told and isinstance(finding, Refused):
            told[about].append(finding.rule)
            continue
        also: list[str] = []
        if about is not None:
            told[about] = also
        shown.append((finding, also))
    return shown


def _show_finding(finding: Finding, about: str = "", digest: str = "", also: Iterable[str] = ()) -> None:
    kinds = {"passed": "ok", "refused": "no", "not-run": "open", "not-applicable": "skip"}
    text = describe(finding.model_copy(update={"subject": ""}) if finding.subject == about else finding)
    # The judge does not know yet what the verdict will be filed under.
    text = text.replace("sign-off DIGEST ", f"sign-off {digest[:12]} ") if digest else text
    more = ", ".join(dict.fromkeys(also))
    text += f" (broken with it: {more})" if more else ""
    say(f"{'    ' if about else '  '}{mark(kinds[finding.outcome])} {escape(text)}")
