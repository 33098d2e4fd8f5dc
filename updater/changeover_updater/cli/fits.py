"""The command ``fits``: whether a model fits a host, offline and without a GPU."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from changeover_registry.errors import InvalidInputError
from changeover_updater.cli._context import Invocation, JsonFlag, host_facts, invocation, read_facts
from changeover_updater.cli._options import PlateOption, PolicyOption
from changeover_updater.cli._output import emit

if TYPE_CHECKING:
    from changeover_registry.records.facts import HostFacts

__all__ = ["fits"]


def fits(  # noqa: PLR0917 - each is an option of the command
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="MODEL@VERSION of the site, a vendor's release folder, or FILE.onnx.")],
    plate: PlateOption = None,
    host: Annotated[
        Path | None, typer.Option(help="Facts of the host: a file or a shipped name; else this machine.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help='A shipped host with this card, such as "RTX A4000".')] = None,
    provider: Annotated[
        Literal["cuda", "cpu"] | None, typer.Option(help="cpu: answer for the arena in the host's RAM.")
    ] = None,
    solve: Annotated[
        Literal["tile", "variant"] | None,
        typer.Option(help="tile: also the largest that fits. variant: also why each point is passed over."),
    ] = None,
    policy: PolicyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say whether a model fits a host at a plate, what it takes of memory, and why. Nothing is run on a GPU."""
    from changeover_updater.cli._asked import ask_about, builders, calibrations
    from changeover_updater.cli._show_fits import show_fits
    from changeover_updater.fits import EXIT_CODES, answer, answer_object, on_cpu, solve_tiles
    from changeover_updater.predicting import Predictors
    from changeover_validators.vram.footprint import Footprint

    if host is not None and gpu is not None:
        raise InvalidInputError(
            "usage", where="fits", expected="one host", actual="--host and --gpu", remedy="leave one out"
        )
    call = invocation(context)
    asked = ask_about(call, (model,), policy, plate)
    question, rules, facts = asked.questions[0], asked.policy, _facts(call, host, gpu)
    if provider == "cpu":
        facts, rules = on_cpu(facts, rules)
    predictors = Predictors(facts, rules, builders(call), question.folder, calibrations(call))
    old = question.old(facts, rules, predictors)
    answered = answer(question.subject, facts, rules, predictors, old, asked.usual)
    beside = old if isinstance(old, Footprint) else None
    solved = solve_tiles(answered, predictors, beside) if solve == "tile" else None
    emit(
        answer_object(answered, solved),
        as_json=as_json,
        show=lambda: show_fits(answered, solved, explain=solve == "variant"),
    )
    raise typer.Exit(EXIT_CODES[answered.fits.outcome])


def _facts(call: Invocation, host: Path | None, gpu: str | None) -> "HostFacts":
    from changeover_updater.fits import host_of_gpu

    if gpu is not None:
        return host_of_gpu(gpu)
    return host_facts(call, None) if host is None else read_facts(host)
