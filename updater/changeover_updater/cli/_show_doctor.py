"""How a diagnosis and the impact of a change are shown to a person, and as plain objects for ``--json``."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from changeover_updater.cli._output import escape, mark, rows, say
from changeover_updater.doctor import Diagnosis, Installed
from changeover_validators.checks.impact import Impact
from changeover_validators.checks.reasons import Broken, Open, Problem

if TYPE_CHECKING:
    from changeover_updater.checkup import Checkup
    from changeover_updater.health import Symptom

__all__ = ["doctor_object", "impact_object", "show_doctor", "show_impact"]

_SIGNS = {"breaks": "no", "unknown": "open", "reopens": "open", "mends": "ok"}
_MENDING = {
    "settle": "closed what a killed command had begun",
    "point": "pointed at a whole generation",
    "file": "brought again",
    "mode": "made read-only",
    "aside": "set aside",
    "derived": "wrote again",
    "leases": "removed the leases of sessions that ended",
    "staging": "removed what ended commands left in staging",
    "by-host": "told the host its station",
    "choice": "finished what was signed",
}
_WORDS = {"breaks": "breaks", "unknown": "unknown", "reopens": "re-opens", "mends": "would run now"}


def doctor_object(found: Diagnosis, checkup: "Checkup | None" = None) -> dict[str, Any]:
    """A diagnosis, and the checkup of what stands on disk, for ``--json``."""
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
        "telemetry": {
            "off": bool(found.telemetry) and all(switch.off for switch in found.telemetry),
            "variables": {switch.name: switch.actual for switch in found.telemetry},
        },
        "troubles": [str(error) for error in found.troubles],
        "hashed": checkup.hashed if checkup else 0,
        "health": [_symptom_object(symptom) for symptom in checkup.left] if checkup else [],
        "mended": [
            {"kind": one.repair.kind, "path": one.repair.path, "failed": one.failed}
            for one in (checkup.mended if checkup else ())
        ],
        "exit_code": max(found.exit_code, checkup.exit_code if checkup else 0),
    }


def impact_object(found: Impact) -> dict[str, Any]:
    """An impact for ``--json``."""
    return {
        "same_class": found.same_class,
        "changes": [asdict(change) for change in found.changes],
        "effects": [asdict(effect) for effect in found.effects],
    }


def show_doctor(found: Diagnosis, checkup: "Checkup | None" = None) -> None:
    """A diagnosis, and the checkup of what stands on disk, for a person."""
    lines = [(setting.name, escape(setting.value), escape(setting.origin)) for setting in found.settings]
    rows("settings", ("name", "value", "from"), lines)
    _show_set(found)
    for gap in found.gaps:
        say(f"{mark('open')} unknown: {escape(gap.fact)}: {escape(gap.why)}; {escape(gap.learn)}")
    _show_telemetry(found)
    _show_since(found)
    if found.planned is not None:
        say("[bold]if the host's facts became those[/]")
        show_impact(found.planned)
    # The checkup tells of a damaged pointer too, and knows which generation is whole.
    told = {"pointer"} & {symptom.subject for symptom in checkup.left} if checkup else set()
    for error in (trouble for trouble in found.troubles if trouble.rule not in told):
        say(f"{mark('no')} {escape(str(error))}")
    if checkup is not None:
        _show_checkup(checkup)


def _show_checkup(checkup: "Checkup") -> None:
    say(f"[bold]what stands on disk[/] ({checkup.hashed} installed files hashed)")
    for one in checkup.mended:
        what = f"{_MENDING[one.repair.kind]} {one.repair.path}".rstrip()
        if one.failed is None:
            say(f"  {mark('ok')} {escape(what)}")
        else:
            say(f"  {mark('no')} not mended: {escape(what)}: {escape(one.failed)}")
    for symptom in checkup.left:
        said = f"{symptom.subject}: {symptom.where}: {symptom.found}; {symptom.remedy}"
        say(f"  {mark('no' if symptom.code else 'open')} {escape(said)}")
    if not any(symptom.code for symptom in checkup.left):
        say(f"  {mark('ok')} all is as it was made and signed")


def _symptom_object(symptom: "Symptom") -> dict[str, Any]:
    return {
        "subject": symptom.subject,
        "where": symptom.where,
        "found": symptom.found,
        "remedy": symptom.remedy,
        "code": symptom.code,
        "repair": symptom.repair.kind if symptom.repair else None,
    }


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


def _show_telemetry(found: Diagnosis) -> None:
    """That MLflow's, onnxruntime's and everybody's telemetry is off in what we start, or which variable is not."""
    for switch in found.telemetry:
        if not switch.off:
            wrong = f"{switch.name} is {switch.actual or 'not set'}, not {switch.must}"
            say(f"{mark('no')} telemetry: {escape(wrong)}; start changeover by its own command, which sets it")
    if found.telemetry and all(switch.off for switch in found.telemetry):
        names = ", ".join(f"{switch.name}={switch.must}" for switch in found.telemetry)
        say(f"{mark('ok')} telemetry is off in every process that changeover starts: {escape(names)}")


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
