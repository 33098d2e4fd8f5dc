"""The command ``measure``: what a model takes of memory on this machine, beside what was predicted."""

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from changeover_registry.clock import format_time
from changeover_registry.errors import ChangeoverError
from changeover_updater.cli._context import Invocation, JsonFlag, host_facts, invocation
from changeover_updater.cli._options import PlateOption, PolicyOption
from changeover_updater.cli._output import emit, escape, mark, notice, progress, rows, say

if TYPE_CHECKING:
    from changeover_registry.records.base import Unknown
    from changeover_registry.records.memory import MemoryMeasurement, Steady
    from changeover_updater.measure import Measured
    from changeover_updater.site import Site
    from changeover_updater.station import Station
    from changeover_updater.subjects import Subject
    from changeover_validators.vram.measure_nuke import NukeMemory

__all__ = ["measure"]


def measure(  # noqa: PLR0917 - each is an option of the command
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="MODEL@VERSION of the site, a vendor's release folder, or FILE.onnx.")],
    plate: PlateOption = None,
    tile: Annotated[
        int | None, typer.Option(min=0, help="The tile's size, 0 for the whole frame; else the first.")
    ] = None,
    provider: Annotated[Literal["cpu", "cuda"] | None, typer.Option(help="Else cuda where there is a GPU.")] = None,
    variant: Annotated[
        str | None, typer.Option(help="The variant; else the first that runs outside Nuke. A .cat needs a licence.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, max=100, help="Runs after the warm-up of two.")] = 3,
    own_settings: Annotated[
        bool, typer.Option("--own-settings", help="Under the runtime's own settings, not the chosen memory plan.")
    ] = False,
    policy: PolicyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure what a model takes of memory here, in an isolated process, and hold its prediction against that."""
    from changeover_updater.cli._asked import ask_about, builders
    from changeover_updater.measure import Wish, calibration, cat_of, measure_cat, point_of, with_runtime
    from changeover_updater.measure import measure as measure_point
    from changeover_updater.memory import calibration_of, keep_calibration, measurements
    from changeover_updater.predicting import Predictors
    from changeover_updater.subjects import is_file, is_folder
    from changeover_validators.vram.measure import is_alarm

    call = invocation(context)
    asked = ask_about(call, (model,), policy, plate)
    subject = asked.questions[0].subject
    local = is_file(model) or is_folder(model)
    own, here = host_facts(call, _station(call)), builders(call)
    wish = Wish(
        variant, tile, provider or ("cuda" if isinstance(own.gpus, tuple) and own.gpus else "cpu"), runs, own_settings
    )
    cat = cat_of(subject, wish)
    if cat is not None:
        inside = measure_cat(subject, cat, wish, own, asked.policy)
        emit(_cat_object(inside), as_json=as_json, show=lambda: _show_cat(inside))
        return
    point = point_of(subject, asked.policy, wish)
    facts, runtime = with_runtime(own, point, here)
    site = None if local else call.site()
    find = partial(calibration_of, site)
    predictors = Predictors(facts, asked.policy, here, lambda _, v: subject.folder(v), calibration=find)
    with progress() as line:
        if site is not None and point.provider == "cuda" and find(predictors.target(point.variant, "cuda")) is None:
            line.step("calibrate this GPU, driver and runtime")  # pragma: gpu
            made = calibration(subject, point, runtime, predictors, format_time(call.now))  # pragma: gpu
            keep_calibration(site, made)  # pragma: gpu
        before = () if site is None else measurements(site, subject.release.model)
        found = measure_point(subject, point, wish, runtime, predictors, format_time(call.now), line.step, before)
        kept = None if site is None else _keep(site, subject, found)
    alarm = is_alarm(found.measurement)
    answer = {**found.measurement.model_dump(mode="json", exclude_none=True), "alarm": alarm, "kept": kept}
    emit(answer, as_json=as_json, show=lambda: _show(found, kept))
    for remark in found.remarks:
        notice(remark)
    raise typer.Exit(found.exit_code)


def _station(call: Invocation) -> "Station | None":
    """The station, whose remembered facts spare the probing; a file is measured without one, too."""
    if call.settings.store is None:
        return None
    try:
        return call.station()
    except ChangeoverError:
        return None


def _keep(site: "Site", subject: "Subject", found: "Measured") -> str:
    """File the measurement of a site's release in the site, and tell MLflow; returns where it lies."""
    from changeover_updater.memory import keep_measurement, log_measurement

    release = subject.release
    path = keep_measurement(site, release.model, found.measurement)
    log_measurement(site, release.model, release.version, found.measurement, notice)
    return str(path)


def _show(found: "Measured", kept: str | None) -> None:
    measured = found.measurement
    key, tile = measured.key, found.point.tile
    where = key.gpu or "the CPU"
    say(
        f"{mark('ok')} {escape(found.point.variant.id)}, tile {tile}, {key.width}x{key.height}: "
        f"{key.runtime} {escape(key.version)} on {escape(where)}, {measured.runs} runs"
    )
    rows("", ("", "in use", "held by the arena"), _lines(measured), indent=2)
    say(f"  between frames: {_mib(measured.resting_bytes)}")
    say(f"  the whole process: {_figure(measured.process_bytes)}; by the driver: {_figure(measured.accounted_bytes)}")
    if measured.predicted is not None and measured.error is not None:
        predicted = measured.predicted
        low, high = predicted.range.low_bytes, predicted.range.high_bytes
        span = _mib(high) if low == high else f"{_mib(low)} to {_mib(high)}"
        say(f"  predicted: {span} ({predicted.label}), off by {float(measured.error):+.1%}")
    if kept is not None:
        say(f"  kept: {escape(kept)}")


def _cat_object(found: "NukeMemory") -> dict[str, object]:
    from changeover_registry.records.base import Unknown

    fields = {**asdict(found), "model_bytes": found.model_bytes}
    return {name: value.model_dump() if isinstance(value, Unknown) else value for name, value in fields.items()}


def _show_cat(found: "NukeMemory") -> None:
    say(f"{mark('ok')} {escape(found.nuke)} on {escape(found.gpu or 'the CPU')}")
    held = (("before the model", found.before), ("first frame", found.first), ("steady", found.steady))
    rows("", ("", "Nuke holds of the GPU"), [(name, _figure(value)) for name, value in held], indent=2)
    say(f"  the model alone: {_figure(found.model_bytes)}; by the driver: {_figure(found.accounted)}")
    say(f"  of the host's memory: {_figure(found.resident)}")


def _lines(measured: "MemoryMeasurement") -> tuple[tuple[str, str, str], ...]:
    steps: tuple[tuple[str, Steady], ...] = (
        ("loaded", measured.loaded),
        ("first run", measured.first),
        ("steady", measured.steady),
    )
    return tuple((name, _mib(held.in_use_bytes), _mib(held.arena_bytes)) for name, held in steps)


def _figure(value: "int | Unknown") -> str:
    """Bytes, or why they are not known; never a zero that nobody measured."""
    return _mib(value) if isinstance(value, int) else escape(value.unknown)


def _mib(value: int) -> str:
    return f"{value / 2**20:,.1f} MiB"
