"""How a diagnosis and the impact of a change are shown to a person, and as plain objects for ``--json``."""

from dataclasses import asdict
from typing import Any

from changeover_updater.cli._output import escape, mark, rows, say
from changeover_updater.doctor import Diagnosis, Installed
from changeover_validators.checks.impact import Impact
from changeover_validators.checks.reasons import Broken, Open, Problem

__all__ = ["doctor_object", "impact_object", "show_doctor", "show_impact"]

_SIGNS = {"breaks": "no", "unknown": "open", "reopens": "open", "mends": "ok"}
_WORDS = {"breaks": "breaks", "unknown": "unknown", "reopens": "re-opens", "mends": "would run now"}


def doctor_object(found: Diagnosis) -> dict[str, Any]:
    """A diagnosis for ``--json``."""
    chosen = found.advice.chosen
    since = found.since
    return {
        "host": found.facts.host,
        "settings": [asdict(setting) for setting in found.settings],
        "runtime_set": found.advice.name,
        "why": found.advice.why,
        "install": chosen.requirement if chosen else None,
        "costs": [problem_text(problem) for problem in chosen.problems] if chosen else [],
        "runtimes": [_installed_object(one) for one in found.installed],
        "unknown": [asdict(gap) for gap in found.gaps],
        "since": None
        if since is None
        else {
            "verdict": since.verdict,
            "made_at": since.made_at,
            "note": since.note,
            "impact": impact_object(since.impact) if since.impact else None,
        },
        "planned": impact_object(found.planned) if found.planned else None,
        "troubles": [str(error) for error in found.troubles],
        "exit_code": found.exit_code,
    }


def impact_object(found: Impact) -> dict[str, Any]:
    """An impact for ``--json``."""
    return {
        "same_class": found.same_class,
        "changes": [asdict(change) for change in found.changes],
        "effects": [asdict(effect) for effect in found.effects],
    }


def show_doctor(found: Diagnosis) -> None:
    """A diagnosis, for a person."""
    lines = [(setting.name, escape(setting.value), escape(setting.origin)) for setting in found.settings]
    rows("settings", ("name", "value", "from"), lines)
    _show_set(found)
    for gap in found.gaps:
        say(f"{mark('open')} unknown: {escape(gap.fact)}: {escape(gap.why)}; {escape(gap.learn)}")
    _show_since(found)
    if found.planned is not None:
        say("[bold]if the host's facts became those[/]")
        show_impact(found.planned)
    for error in found.troubles:
        say(f"{mark('no')} {escape(str(error))}")


def show_impact(found: Impact, *, changes: bool = True) -> None:
    """An impact, for a person; without `changes` only those that are breaking in themselves."""
    shown = [change for change in found.changes if changes or change.breaking]
    for change in shown:
        say(f"  {escape(change.what)}: {escape(change.before)} -> {escape(change.after)}")
        if change.breaking:
            say(f"    {mark('no')} breaking change: {escape(change.breaking)}")
    for effect in found.effects:
        said = f"{effect.release} {effect.subject}: {_WORDS[effect.kind]}: {effect.why}; {effect.remedy}"
        say(f"  {mark(_SIGNS[effect.kind])} {escape(said)}")
    if not shown and not found.effects:
        say(f"  {mark('ok')} nothing that a check reads has changed")


def problem_text(problem: Problem) -> str:
    """One problem in one line."""
    if isinstance(problem, Broken):
        return f"{problem.rule}: expected {problem.expected}, found {problem.actual}; {problem.remedy}"
    return f"{problem.why}; {problem.remedy}" if isinstance(problem, Open) else problem.detail


def _show_set(found: Diagnosis) -> None:
    advice, chosen = found.advice, found.advice.chosen
    if chosen is None:
        sign = "open" if advice.undecided else "skip" if not found.facts.gpus else "no"
        say(f"{mark(sign)} runtime set: none: {escape(advice.why)}")
    else:
        say(f"{mark('ok')} runtime set: [bold]{chosen.name}[/]: {escape(advice.why)}")
        say(f"    in a new environment: pip install {escape(chosen.requirement)}")
        for problem in chosen.problems:
            say(f"    {mark('open')} {escape(problem_text(problem))}")
    for one in found.installed:
        _show_installed(one)


def _show_installed(one: Installed) -> None:
    of_set = f", of the set {one.set_name}" if one.set_name else ""
    head = f"{one.runtime.name} {one.runtime.version} ({', '.join(one.runtime.providers) or 'no provider'}){of_set}"
    say(f"{mark('ok' if one.runs else 'no')} {escape(head)}  [dim]{escape(one.runtime.interpreter)}[/]")
    for problem in one.problems:
        say(f"    {escape(problem_text(problem))}")


def _show_since(found: Diagnosis) -> None:
    if found.since is None:
        return
    say(f"[bold]since the verdict {found.since.verdict[:12]} of {found.since.made_at}[/]")
    if found.since.impact is not None:
        show_impact(found.since.impact)
    else:
        say(f"  {mark('open')} {escape(found.since.note)}")


def _installed_object(one: Installed) -> dict[str, Any]:
    return {
        "name": one.runtime.name,
        "version": one.runtime.version,
        "interpreter": one.runtime.interpreter,
        "set": one.set_name,
        "runs": one.runs,
        "problems": [{"code": problem.reason.value, "text": problem_text(problem)} for problem in one.problems],
    }
