"""How answers about memory are shown to a person: one model on one host, and releases against hosts."""

from changeover_registry.records.base import Unknown
from changeover_registry.records.findings import NotRun, Refused
from changeover_registry.records.memory import MemoryAnswer, MemoryPlan
from changeover_updater.cli._output import escape, mark, rows, say
from changeover_updater.fits import Answered, Solved
from changeover_updater.fleet import Cell, Fleet
from changeover_validators.checks.budget import MIB, Budget, mib
from changeover_validators.fits import Judged, passed_over
from changeover_validators.vram.footprint import instances_of
from changeover_validators.vram.solve import Solution, Tried

__all__ = ["show_fits", "show_fleet"]

_SIGNS = {"fits": "ok", "over-budget": "no", "incompatible": "no", "unknown": "open"}
_WORDS = {"fits": "fits", "over-budget": "does not fit", "incompatible": "cannot run", "unknown": "not known"}
_COLOURS = {"fits": "green", "over-budget": "red", "incompatible": "red", "unknown": "yellow"}
_SHOWN = 3
_FIGURE = 7


def show_fits(answered: Answered, solved: tuple[Solved, ...] | None, *, explain: bool) -> None:
    """An answer: the one line, the parts of the memory, the budget, every point, and what was solved."""
    found, plate = answered.fits, "x".join(map(str, answered.policy.vram.plate))
    near = answered.nearest
    name, host = escape(answered.subject.name), escape(answered.facts.host)
    say(
        f"{mark(_SIGNS[found.outcome])} [bold]{name}[/] [{_COLOURS[found.outcome]}]{_WORDS[found.outcome]}[/] "
        f"at {plate} on {host}" + (f": {escape(str(near.point))}" if near and found.chosen else "")
    )
    if near is not None and near.answer is not None:
        _show_memory(answered, near, near.answer)
    _show_budget(found.budget)
    _show_points(answered, explain=explain)
    if found.chosen is None:
        _show_remedies(found.points)
    for one in solved or ():
        _show_solved(one)
    if solved is not None and not solved:
        say(f"{mark('open')} no tile can be solved for: nothing predicts a variant that runs here")
    if near is not None and near.answer is not None and near.answer.key.provider == "cuda":
        say("[dim]not measured on a GPU: parts are modelled unless they say otherwise[/]")


def _show_memory(answered: Answered, near: Judged, found: MemoryAnswer) -> None:
    low, high = found.range.low_bytes, found.range.high_bytes
    key = found.key
    where = " on ".join(filter(None, (f"{key.runtime} {key.version}, {key.provider}", key.gpu)))
    title = f"{near.point}: tensor {key.width}x{key.height}, {where}"
    lines: list[tuple[str, str, str]] = [
        (part.name, f"{part.bytes / MIB:,.1f}", part.label) for part in found.parts if part.name != "resting"
    ]
    lines.append(("[bold]one instance[/]", f"{found.total_bytes / MIB:,.1f}", found.label))
    lines += [
        (f"{part.name} between frames", f"{part.bytes / MIB:,.1f}", part.label)
        for part in found.parts
        if part.name == "resting"
    ]
    if near.need is not None:
        number = instances_of(answered.policy)
        lines.append((f"{number} instances", f"{near.need.alone_bytes / MIB:,.1f}", ""))
        if near.need.changeover_bytes is not None:
            lines.append(("at the changeover", f"{near.need.changeover_bytes / MIB:,.1f}", ""))
    say(f"  [bold]{escape(title)}[/]")
    wide = max(len(figure) for _, figure, _ in lines)
    aligned = [(name, figure.rjust(wide), known) for name, figure, known in lines]
    rows("", ("memory", "MiB".rjust(wide), "how known"), aligned, indent=4)
    say(
        f"    steady: {mib(found.steady.in_use_bytes):,} MiB in use, arena {mib(low):,} to {mib(high):,} MiB "
        f"over {found.range.sessions} sessions; {escape(_options(key.plan))}"
    )


def _options(plan: MemoryPlan) -> str:
    """A memory plan in words; what is the runtime's own is not said."""
    said = plan.model_dump(exclude_defaults=True)
    return "plan: " + (", ".join(f"{name} {value}" for name, value in said.items()) or "the runtime's own settings")


def _show_budget(found: Budget | Unknown) -> None:
    if isinstance(found, Unknown):
        say(f"  budget: unknown: {escape(found.unknown)}")
        return
    kept = ", ".join(f"{part.bytes // MIB:,} {part.what}" for part in found.kept if part.bytes)
    say(
        f"  budget: [bold]{found.allowed_bytes // MIB:,} MiB[/] of {escape(found.name)} ({found.total_bytes // MIB:,}"
        + (f" less {escape(kept)}" if kept else "")
        + ")"
    )


def _show_points(answered: Answered, *, explain: bool) -> None:
    why = {one.point: text for one, text in passed_over(answered.fits)}
    lines = []
    for one in answered.fits.points:
        chosen = one is answered.fits.chosen
        told = explain or one.outcome != "fits"
        reason = "chosen" if chosen else why[one.point] if told else "would do"
        need = f"{mib(one.need.bytes):,}".rjust(_FIGURE) if one.need else "-".rjust(_FIGURE)
        lines.append((mark(_SIGNS[one.outcome]), escape(str(one.point)), need, escape(reason)))
    rows("", ("", "operating point", "MiB".rjust(_FIGURE), "why"), lines, indent=2)


def _show_remedies(points: tuple[Judged, ...]) -> None:
    """What a reader can do where nothing fits, each thing once."""
    found = (finding for one in points for finding in one.findings if isinstance(finding, (Refused, NotRun)))
    for remedy in list(dict.fromkeys(finding.remedy for finding in found if finding.remedy))[:_SHOWN]:
        say(f"  what to do: {escape(remedy)}")


def _show_solved(one: Solved) -> None:
    say(f"  [bold]{escape(one.variant)}[/] on {one.provider}:")
    _show_solution("largest tile that the loader and the contract allow", one.allowed)
    if one.any_size != Solution(None, None):
        _show_solution("largest tile of any size, for its vendor", one.any_size)


def _show_solution(title: str, found: Solution) -> None:
    best = f"[green]{found.best.tile}[/], {_needed(found.best)}" if found.best else "[red]none fits[/]"
    say(f"    {title}: {best}")
    if found.larger is not None:
        careful = "; it would run in an arena that is held to its share, and is refused to be on the safe side"
        end = careful if found.larger.conservative else ""
        say(f"      [dim]next larger: {found.larger.tile}, {_needed(found.larger)}{end}[/]")


def _needed(one: Tried) -> str:
    return f"{mib(one.need_bytes):,} MiB" if one.need_bytes is not None else escape(one.why)


def show_fleet(fleet: Fleet) -> None:
    """Releases against host classes: one line a class, one column a release, and under it what limits each."""
    columns = ("host class", *(escape(name) for name in fleet.releases))
    lines = [(escape(", ".join(row.hosts)), *(_cell(cell) for cell in row.cells)) for row in fleet.rows]
    plate = "x".join(map(str, fleet.plate))
    rows(f"at {plate}", columns, lines)
    counts = [cell.outcome for row in fleet.rows for cell in row.cells]
    say(
        f"{mark('ok')} {counts.count('fits')} fit, {mark('no')} "
        f"{counts.count('over-budget') + counts.count('incompatible')} do not, {mark('open')} "
        f"{counts.count('unknown')} not known"
    )


def _cell(cell: Cell) -> str:
    return f"{mark(_SIGNS[cell.outcome])} [{_COLOURS[cell.outcome]}]{escape(cell.text)}[/]"
