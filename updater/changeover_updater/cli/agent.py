"""The command ``agent``: keeps one station up to date for as long as it runs."""

import json
import logging
import re
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from changeover_registry import clock
from changeover_registry.clock import format_time
from changeover_registry.errors import ChangeoverError, InvalidInputError
from changeover_updater.cli._context import Invocation, host_facts, invocation
from changeover_updater.cli._output import escape, notice, print_error, say

if TYPE_CHECKING:
    from changeover_updater.agent import Done
    from changeover_updater.agent_loop import Kept
    from changeover_updater.site import Site
    from changeover_updater.station import Station
    from changeover_updater.tick import Work

__all__ = ["agent", "duration"]

_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_LONGEST = 7 * 24 * 3600.0


def duration(text: str) -> float:
    """Seconds, of ``90s``, ``15m`` or ``1h``.

    Raises:
        InvalidInputError: It is none of these, nothing, or longer than a week.
    """
    found = _DURATION.fullmatch(text.strip())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not 0 < seconds <= _LONGEST:
        raise InvalidInputError(
            "duration",
            where=text,
            expected="a span such as 90s, 15m or 1h, at most a week",
            actual=repr(text),
            remedy="write the time in that form",
        )
    return seconds


def agent(
    context: typer.Context,
    interval: Annotated[str, typer.Option(help="How often to update, such as 15m.")] = "15m",
    poll: Annotated[str, typer.Option(help="How often to look whether there is a new choice.")] = "1m",
    jitter: Annotated[str, typer.Option(help="Over what time stations spread that see a new choice at once.")] = "2m",
    once: Annotated[bool, typer.Option("--once", help="Update once, as the agent does, and end: for a timer.")] = False,
    prometheus: Annotated[Path | None, typer.Option(help="Write metrics to this .prom file after each update.")] = None,
    log_json: Annotated[bool, typer.Option("--log-json", help="Write each line of the log as JSON.")] = False,
    report_by: Annotated[str | None, typer.Option(hidden=True, help="Set by a running agent for its child.")] = None,
) -> None:
    """Keep this station up to date: look each minute, update each interval, change over at a safe moment."""
    from changeover_updater.agent import Pace
    from changeover_updater.agent_loop import agent_lock
    from changeover_updater.prometheus import check_name

    call = invocation(context)
    pace = Pace(call.settings.station, duration(interval), duration(poll), duration(jitter))
    call.settings.need_site()
    station = call.station()
    write = partial(_write_metrics, prometheus and check_name(prometheus), call, station)
    if report_by is not None:
        done = _tick(call, station, report_by)
        sys.stdout.write(done.model_dump_json())
        raise typer.Exit(done.exit_code)
    with agent_lock(station):
        if once:
            _once(call, station, write)
        _loop(call, station, pace, write, _logger(as_json=log_json))


def _once(call: Invocation, station: "Station", write: "Callable[[Kept], None]") -> None:
    from changeover_updater.agent_loop import keep, look

    seen = look(call.settings.need_site(), station)
    done = _tick(call, station, None)
    write(keep(station, done, clock.now(), seen.serial, None))
    if done.exit_code in {0, 3, 4}:
        say(escape(done.line))
    else:
        print_error(done.line)
    raise typer.Exit(done.exit_code)


def _loop(
    call: Invocation,
    station: "Station",
    pace: Any,  # noqa: ANN401 - a Pace; its module is imported where the command runs
    write: "Callable[[Kept], None]",
    log: Callable[[str, dict[str, Any]], None],
) -> None:
    from changeover_updater.agent_loop import Agent, stopped_by_signals

    stop = threading.Event()
    site, tick = call.settings.need_site(), partial(_in_a_child, call, stop)
    running = Agent(site, station, pace, tick, log, write, stop)
    line = f"the agent of station {station.id} runs: an update each {pace.period:g} s, a look each {pace.poll:g} s"
    log(line, {"line": line, "station": station.id, "interval": pace.period, "poll": pace.poll, "jitter": pace.jitter})
    with stopped_by_signals(stop):
        running.run()
    log("the agent has ended", {"line": "the agent has ended"})


def _in_a_child(call: Invocation, stop: threading.Event, report_by: datetime) -> "Done":
    from changeover_updater.agent_loop import run_child

    return run_child(_command(call, report_by), stop)


def _command(call: Invocation, report_by: datetime) -> list[str]:
    """The command line of one tick: this interpreter, these settings."""
    settings = call.settings
    named = ["--config", str(settings.config), "--station", settings.station]
    named += ["--site", str(settings.site), "--store", str(settings.store)]
    head = [sys.executable, "-I", "-m", "changeover_updater", *named]
    return [*head, "agent", "--report-by", format_time(report_by)]


def _tick(call: Invocation, station: "Station", report_by: str | None) -> "Done":
    """One update, in this process; what it raises is what it answers."""
    from changeover_updater.tick import tick, undone

    site: Site | None = None
    try:
        site = call.site()
        return tick(_work(call, site, station, report_by), lambda: clock.now().astimezone())
    except (ChangeoverError, OSError) as error:
        logging.getLogger(__name__).info("the update failed", exc_info=True)
        return undone(station, site, call.now, error)


def _work(call: Invocation, site: "Site", station: "Station", report_by: str | None) -> "Work":
    from changeover_updater.runtimes import Runtimes
    from changeover_updater.tick import Work
    from changeover_updater.update import Tools
    from changeover_validators.probe import with_free_memory

    found = with_free_memory(host_facts(call, station), dict(call.settings.runtimes))
    tools = Tools(
        call.settings.who,
        lambda policy: Runtimes(found, policy).smoke,
        lambda *_: None,
        logging.getLogger(__name__).info,
    )
    return Work(site, station, call.settings.host, found, call.now, tools, notice, report_by)


def _write_metrics(path: Path | None, call: Invocation, station: "Station", kept: "Kept") -> None:
    import shutil
    from importlib.metadata import version

    from changeover_updater.prometheus import metrics_text, write_metrics

    if path is None:
        return
    free: dict[str, int] = {}
    for name, place in (("store", call.settings.store), ("site", call.settings.site)):
        try:
            free[name] = shutil.disk_usage(str(place)).free
        except OSError:
            continue
    try:
        write_metrics(path, metrics_text(kept, station.id, version("changeover"), free))
    except OSError as error:
        notice(f"the metrics were not written to {path}: {error.strerror or error}")


def _logger(*, as_json: bool) -> Callable[[str, dict[str, Any]], None]:
    """One line on stderr for each thing that is told, with its moment."""

    def log(line: str, fields: dict[str, Any]) -> None:
        when = format_time(clock.now())
        text = json.dumps({"when": when, **fields}, sort_keys=True) if as_json else f"{when} {_one_line(line)}"
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    return log


def _one_line(text: str) -> str:
    """A text as one printable line."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
