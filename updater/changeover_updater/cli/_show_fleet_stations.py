"""How a site's stations are shown to a person: counts first, names only where somebody has to do something."""

from collections.abc import Sequence

from changeover_updater.cli._output import count, escape, mark, rows, say
from changeover_updater.fleet_stations import Coverage, Stations, Withdrawn

__all__ = ["show_stations"]

_NAMED = 3
_WHY = 160
_LISTED = 12


def show_stations(found: Stations) -> None:
    """The stations of a site, as they report themselves."""
    heard, bad = len(found.lines), len(found.unread)
    nothing = f"; {count(bad, 'report')} {'counts' if bad == 1 else 'count'} for nothing" if bad else ""
    say(f"[bold]{count(heard, 'station')}[/], reported by the hosts{nothing}")
    if not found.lines and not bad:
        say("  none yet: a station tells of itself when it runs changeover update or changeover agent")
        return
    _running(found)
    _withdrawn(found)
    _coverage(found.coverage)
    _behind(found)
    _rollouts(found)
    _silent(found)
    for one in found.unread[:_LISTED]:
        say(f"{mark('no')} {escape(one.station)}: {escape(_short(one.why))}")
    _more(bad)
    versions = ", ".join(f"{escape(version)} on {number:,}" for version, number in found.versions())
    say(f"[dim]changeover {versions}[/]")


def _running(found: Stations) -> None:
    lines = [
        (channel, _release(key), f"{number:,}", _part(number, len(found.lines)))
        for channel, _, key, number in found.running()
    ]
    rows("who runs what", ("channel", "release", "stations", ""), lines)


def _withdrawn(found: Stations) -> None:
    lines = [
        (_release(one.release), f"{len(one.stations):,}", f"{len(one.keeps):,}", _taken_back(one))
        for one in found.withdrawn
    ]
    if lines:
        columns = ("release", "stations", "keep it for pins, scripts, the way back", "why, and such as")
        rows("withdrawn by the vendor and still in use", columns, lines)
        say("  promote another release, or go back with: changeover rollback --channel CHANNEL")


def _taken_back(one: Withdrawn) -> str:
    return f"{escape(_short(one.why))} [dim]({_names(one.stations or one.keeps)})[/]"


def _coverage(coverage: Sequence[Coverage]) -> None:
    """A table for each release that is not run everywhere; of classes that say nothing of it, nothing is said."""
    for release in dict.fromkeys(one.release for one in coverage):
        told = [one for one in coverage if one.release == release and one.unheard < one.stations]
        runs, of = sum(one.runs for one in told), sum(one.stations for one in coverage if one.release == release)
        if runs == of:
            say(f"{mark('ok')} {_release(release)}: {_everywhere(of, len(told))} it")
            continue
        lines = [
            (f"{escape(one.label)}  [dim]{one.host_class[:8]}[/]", f"{one.runs:,} of {one.stations:,}", _others(one))
            for one in told
        ]
        rows(
            f"{_release(release)}: {runs:,} of {of:,} run it",
            ("host class", "run it", "the others"),
            lines,
            empty="no station tells of it",
        )


def _everywhere(stations: int, classes: int) -> str:
    """That all stations run it: of how many host classes is told where there are several."""
    if stations == 1:
        return "the one station runs"
    return f"all {stations:,} stations" + (f" of all {classes} host classes" if classes > 1 else "") + " run"


def _others(one: Coverage) -> str:
    because = f" ({_short(one.why)})" if one.why else ""
    bad = [f"{number:,} {word}" for word, number in (("failed", one.failed), ("refused", one.refused)) if number]
    bad += [f"{one.undecided:,} not known"] if one.undecided else []
    open_ = [f"{number:,} {word}" for number, word in ((one.may, "waiting"), (one.held, "on hold")) if number]
    first, rest = (bad, open_) if bad else (open_, [])
    silent = [f"{one.unheard:,} say nothing of it"] if one.unheard else []
    return escape(", ".join(filter(None, (", ".join(first) + because if first else "", *rest, *silent))))


def _behind(found: Stations) -> None:
    if not found.chosen:
        say(f"{mark('open')} what is chosen could not be verified here, so who is behind is not known")
        return
    reasons = found.behind()
    lines = [
        (f"{len(names):,}", reason, _release(wanted), f"{escape(_short(why))} [dim]({_names(names)})[/]")
        for (reason, wanted, why), names in list(reasons.items())[:_LISTED]
    ]
    title = "behind: another release than was chosen for them"
    rows(title, ("stations", "because", "chosen", "why, and such as"), lines, empty="nobody")
    _more(len(reasons), "reasons")


def _rollouts(found: Stations) -> None:
    lines = [
        (
            one.channel,
            _release(one.release),
            f"{one.percent} %",
            one.state,
            f"{one.reaches:,} of {one.stations:,}",
            f"{one.tried:,}",
            f"{one.failed:,} ({_part(one.failed, one.tried)})" if one.failed else "0",
        )
        for one in found.rollouts
    ]
    if lines:
        columns = ("channel", "release", "share", "state", "reaches", "tried", "failed")
        rows("releases on their way", columns, lines)


def _silent(found: Stations) -> None:
    silent = found.silent()
    lines = [(escape(line.station), escape(line.host), str(line.silent)) for line in silent[:_LISTED]]
    if lines:
        are = "is" if len(silent) == 1 else "are"
        rows(f"silent: {count(len(silent), 'agent')} {are} overdue", ("station", "host", "last heard"), lines)
        _more(len(silent))


def _more(number: int, what: str = "") -> None:
    if number > _LISTED:
        say(f"  [dim]and {number - _LISTED:,} more {what}".rstrip() + "; all of them: changeover fleet --json[/]")


def _names(names: tuple[str, ...]) -> str:
    return escape(", ".join(names[:_NAMED])) + (" ..." if len(names) > _NAMED else "")


def _release(key: str) -> str:
    """A release by model and version; its digest is in ``--json``."""
    return escape(key.rpartition("-")[0] or key)


def _part(number: int, of: int) -> str:
    return f"{100 * number / of:.0f} %" if of else "-"


def _short(text: str) -> str:
    return text if len(text) <= _WHY else text[: _WHY - 3] + "..."
