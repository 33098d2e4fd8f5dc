"""How a site's stations are shown to a person: counts first, names only where somebody has to do something."""

from collections.abc import Sequence

from changeover_updater.cli._output import escape, mark, rows, say
from changeover_updater.fleet_stations import Coverage, Stations

__all__ = ["show_stations"]

_NAMED = 3
_WHY = 160
_LISTED = 12


def show_stations(found: Stations) -> None:
    """The stations of a site, as they report themselves."""
    heard, bad = len(found.lines), len(found.unread)
    say(f"[bold]{heard:,} stations[/], reported by the hosts" + (f"; {bad:,} reports count for nothing" if bad else ""))
    if not found.lines and not bad:
        say("  none yet: a station tells of itself when it runs changeover update or changeover agent")
        return
    _running(found)
    _coverage(found.coverage)
    _behind(found)
    _rollouts(found)
    _silent(found)
    for one in found.unread[:_LISTED]:
        say(f"{mark('no')} {escape(one.station)}: {escape(_short(one.why))}")
    _more(bad)
    versions = ", ".join(f"{escape(version)} on {count:,}" for version, count in found.versions())
    say(f"[dim]changeover {versions}[/]")


def _running(found: Stations) -> None:
    lines = [
        (channel, _release(key), f"{count:,}", _part(count, len(found.lines)))
        for channel, _, key, count in found.running()
    ]
    rows("who runs what", ("channel", "release", "stations", ""), lines)


def _coverage(coverage: Sequence[Coverage]) -> None:
    """A table for each release that is not run everywhere; of classes that say nothing of it, nothing is said."""
    for release in dict.fromkeys(one.release for one in coverage):
        told = [one for one in coverage if one.release == release and one.unheard < one.stations]
        runs, of = sum(one.runs for one in told), sum(one.stations for one in coverage if one.release == release)
        if runs == of:
            say(f"{mark('ok')} {_release(release)}: all {of:,} stations of all {len(told)} host classes run it")
            continue
        lines = [
            (f"{escape(one.label)}  [dim]{one.host_class[:8]}[/]", f"{one.runs:,} of {one.stations:,}", _others(one))
            for one in told
        ]
        rows(
            f"{_release(release)}: {runs:,} of {of:,} run it", ("host class", "run it", "the others"), lines, empty="-"
        )


def _others(one: Coverage) -> str:
    because = f" ({_short(one.why)})" if one.why else ""
    bad = [f"{count:,} {word}" for word, count in (("failed", one.failed), ("refused", one.refused)) if count]
    bad += [f"{one.undecided:,} not known"] if one.undecided else []
    open_ = [f"{one.may:,} wait"] if one.may else []
    open_ += [f"{one.unheard:,} say nothing of it"] if one.unheard else []
    return escape(", ".join(filter(None, (", ".join(bad) + because if bad else "", *open_))))


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
        rows(f"silent: {len(silent):,} agents are overdue", ("station", "host", "last heard"), lines)
        _more(len(silent))


def _more(count: int, what: str = "") -> None:
    if count > _LISTED:
        say(f"  [dim]and {count - _LISTED:,} more {what}".rstrip() + "; all of them: changeover fleet --json[/]")


def _names(names: tuple[str, ...]) -> str:
    return escape(", ".join(names[:_NAMED])) + (" ..." if len(names) > _NAMED else "")


def _release(key: str) -> str:
    """A release by model and version; its digest is in ``--json``."""
    return escape(key.rpartition("-")[0] or key)


def _part(count: int, of: int) -> str:
    return f"{100 * count / of:.0f} %" if of else "-"


def _short(text: str) -> str:
    return text if len(text) <= _WHY else text[: _WHY - 3] + "..."
