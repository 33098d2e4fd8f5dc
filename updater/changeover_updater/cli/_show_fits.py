"""How answers about memory are shown to a person: one model on one host, and releases against hosts."""

from changeover_registry.records.base import Unknown
from changeover_registry.records.findings import NotRun, Refused
from changeover_registry.records.memory import MemoryAnswer
from changeover_registry.records.release import Tile
from changeover_updater.cli._output import console, escape, mark, rows, say
from changeover_updater.fits import Answered, Solved, not_counted, plan_note, range_note
from changeover_updater.fleet import Cell, Fleet
from changeover_validators.checks.budget import MIB, Budget, mib
from changeover_validators.fits import Judged, passed_over
from changeover_validators.runtimes.memory_plan import described
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
    at = f"at {plate} " if answered.subject.fixed is None else ""
    _say(
        f"{mark(_SIGNS[found.outcome])} [bold]{name}[/] [{_COLOURS[found.outcome]}]{_WORDS[found.outcome]}[/] "
        f"{at}on {host}"
        + (f": {escape(str(near.point))}" if near and found.chosen else "")
        + "".join(f"; {escape(text)}" for text in _beside(answered)),
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
        _say(f"{mark('open')} no tile can be solved for: {_unsolved(answered)}")
    if near is not None and near.answer is not None and near.answer.key.provider == "cuda":
        say("[dim]not measured on a GPU: parts are modelled unless they say otherwise[/]")


def _beside(answered: Answered) -> tuple[str, ...]:
    """What the first line must not leave out: an instance of a card, a size that is fixed, what is not counted."""
    budget, fixed = answered.fits.budget, answered.subject.fixed
    part = isinstance(budget, Budget) and budget.gpu is not None and budget.gpu != budget.name
    size = f"{fixed[0]}x{fixed[1]}" if fixed else ""
    return tuple(
        filter(
            None,
            (
                f"on one instance of a divided card, {budget.name}" if isinstance(budget, Budget) and part else None,
                f"the file takes {size} only, so this holds for {size} whatever the plate" if fixed else None,
                not_counted(answered) if answered.fits.chosen else None,
            ),
        )
    )


def _unsolved(answered: Answered) -> str:
    resized = [variant.contract.resize for variant in answered.subject.release.variants if variant.contract.resize]
    if resized:
        return f"the tensor is {resized[0][0]}x{resized[0][1]} whatever the tile"
    return "nothing predicts a variant that runs here"


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
        context = found.part("context")
        sum_of = f"{context / MIB:,.1f} + {number} x {(found.total_bytes - context) / MIB:,.1f}"
        many = "instances" if number > 1 else "instance"
        lines.append((f"{number} {many}", f"{near.need.alone_bytes / MIB:,.1f}", sum_of))
        if near.need.changeover_bytes is not None:
            lines.append(("at the changeover", f"{near.need.changeover_bytes / MIB:,.1f}", ""))
    say(f"  [bold]{escape(title)}[/]")
    wide = max(len(figure) for _, figure, _ in lines)
    aligned = [(name, figure.rjust(wide), known) for name, figure, known in lines]
    rows("", ("memory", "MiB".rjust(wide), "how known"), aligned, indent=4)
    steady, sessions = f"{mib(found.steady.in_use_bytes):,} MiB in use", f"over {found.range.sessions} sessions"
    note = range_note(found)
    if note is None:
        _say(f"steady: {steady}, arena {mib(low):,} to {mib(high):,} MiB {sessions}", indent=4)
    else:
        _say(f"steady: arena {mib(low):,} to {mib(high):,} MiB {sessions}, {steady} with the most: {note}", indent=4)
    _say(f"plan: {escape(described(key.plan))}", indent=4)
    if text := plan_note(answered):
        _say(f"{mark('open')} {escape(text)}", indent=4)


def _show_budget(found: Budget | Unknown) -> None:
    if isinstance(found, Unknown):
        say(f"  budget: unknown: {escape(found.unknown)}")
        return
    kept = ", ".join(f"{part.bytes // MIB:,} {part.what}" for part in found.kept if part.bytes)
    _say(
        f"budget: [bold]{found.allowed_bytes // MIB:,} MiB[/] of {escape(found.name)} ({found.total_bytes // MIB:,}"
        + (f" less {escape(kept)}" if kept else "")
        + ")",
        indent=2,
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
    beside = any(one.need and one.need.both and one.need.changeover_bytes is not None for one in answered.fits.points)
    figure = "MiB at the changeover" if beside else "MiB"
    rows("", ("", "operating point", figure.rjust(_FIGURE), "why"), lines, indent=2)


def _show_remedies(points: tuple[Judged, ...]) -> None:
    """What a reader can do where nothing fits, each thing once."""
    found = (finding for one in points for finding in one.findings if isinstance(finding, (Refused, NotRun)))
    for remedy in list(dict.fromkeys(finding.remedy for finding in found if finding.remedy))[:_SHOWN]:
        _say(f"what to do: {escape(remedy)}", indent=2)


def _show_solved(one: Solved) -> None:
    say(f"  [bold]{escape(one.variant)}[/] on {one.provider}:")
    _show_solution("largest tile that the loader and the contract allow", one.allowed)
    if one.any_size != Solution(None, None):
        _show_solution("largest tile of any size, for its vendor", one.any_size)


def _show_solution(title: str, found: Solution) -> None:
    best = f"[green]{_tile(found.best.tile)}[/], {_needed(found.best)}" if found.best else "[red]not one fits[/]"
    say(f"    {title}: {best}")
    if found.larger is not None:
        careful = "; it would run in an arena that is held to its share, and is refused to be on the safe side"
        end = careful if found.larger.conservative else ""
        which = "next larger" if found.best else "smallest"
        _say(f"[dim]{which}: {_tile(found.larger.tile)}, {_needed(found.larger)}{end}[/]", indent=6)


def _tile(tile: Tile) -> str:
    return str(tile) if tile.size else "whole frame"


def _needed(one: Tried) -> str:
    return f"{mib(one.need_bytes):,} MiB" if one.need_bytes is not None else escape(one.why)


def show_fleet(fleet: Fleet) -> None:
    """Releases against host classes: one line a class, one column a release, and under it what limits each."""
    columns = ("host class", *(escape(name) for name in fleet.releases))
    lines = [(escape(", ".join(row.hosts)), *(_cell(cell) for cell in row.cells)) for row in fleet.rows]
    plate = "x".join(map(str, fleet.plate))
    rows(f"at {plate}", columns, lines)
    for note in dict.fromkeys(cell.plan_note for row in fleet.rows for cell in row.cells if cell.plan_note):
        _say(f"{mark('open')} {escape(note)}")
    counts = [cell.outcome for row in fleet.rows for cell in row.cells]
    say(
        f"{mark('ok')} {counts.count('fits')} fit, {mark('no')} "
        f"{counts.count('over-budget') + counts.count('incompatible')} do not, {mark('open')} "
        f"{counts.count('unknown')} not known"
    )


def _cell(cell: Cell) -> str:
    text = "; ".join((cell.text, *cell.notes))
    return f"{mark(_SIGNS[cell.outcome])} [{_COLOURS[cell.outcome]}]{escape(text)}[/]"


def _say(text: str, *, indent: int = 0) -> None:
    """One line of a result, broken between words where the terminal is too narrow for it."""
    from rich.padding import Padding

    out = console()
    if not out.is_terminal:
        say(" " * indent + text)
        return
    out.soft_wrap = False
    out.print(Padding.indent(text, indent))
