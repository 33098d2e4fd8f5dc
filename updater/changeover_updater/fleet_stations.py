"""The stations of a site together: who runs what, who is behind and why, who is silent, what each class has. Pure.

All of it is what hosts report of themselves. What is chosen for them is verified, so that a station which lies about
itself can at most look better or worse than it is. Reports come in one by one and are folded: of ten thousand stations
a line each stays in memory, not their facts. Left out: reading (`stations`) and what a host that was never heard of
could run (`fleet`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from changeover_registry.clock import format_time
from changeover_registry.records.choice import Choice
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.station import StationStatus, Tried
from changeover_updater.rollout import Health, admits, chosen_pointers, health_of
from changeover_updater.stations import Unread

__all__ = [
    "Behind",
    "Coverage",
    "Line",
    "Reason",
    "Rollout",
    "Stations",
    "Withdrawn",
    "class_label",
    "is_of",
    "stations_object",
    "stations_of",
]

Reason = Literal[
    "hold", "quarantined", "failed", "refused", "undecided", "waiting", "silent", "not-seen", "no-agent", "unreported"
]
"""Why a station has another release than was chosen for it, by its own report."""
_NO_CLASS = "unknown"


@dataclass(frozen=True, slots=True)
class Behind:
    """A channel of a station that answers another release than was chosen for it, and why."""

    channel: str
    model: str
    has: str | None
    wanted: str
    reason: Reason
    why: str


@dataclass(frozen=True, slots=True)
class Line:
    """One station as it reports itself. `silent`: since when nothing was heard, though its agent said it would be."""

    station: str
    host: str
    host_class: str
    reported_at: str
    generation: int | None
    version: str | None
    hold: str | None
    silent: str | None
    agent: bool
    serving: tuple[tuple[str, str, str], ...]
    behind: tuple[Behind, ...]
    tried: tuple[Tried, ...]
    keeps: tuple[str, ...] = ()
    """What its generation holds beside that: for pins, for scripts that are stamped with it, for the way back."""


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A release that its vendor took back: the stations whose channels answer it, and those that keep it otherwise."""

    release: str
    why: str
    stations: tuple[str, ...]
    keeps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Coverage:
    """One release on one host class: how many stations of it run it, may, may not and why, or say nothing of it."""

    release: str
    host_class: str
    label: str
    stations: int
    runs: int
    may: int
    refused: int
    failed: int
    undecided: int
    unheard: int
    why: str
    held: int = 0
    """How many say nothing of it and are held where they are."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A release on its way into a channel: how many stations it reaches, has reached, and how it went there."""

    channel: str
    release: str
    percent: int
    state: str
    stations: int
    reaches: int
    tried: int
    failed: int


@dataclass(frozen=True, slots=True)
class Stations:
    """All of it. `chosen` says whether the studio's choice could be verified, without which nobody is known behind."""

    lines: tuple[Line, ...]
    unread: tuple[Unread, ...]
    coverage: tuple[Coverage, ...]
    rollouts: tuple[Rollout, ...]
    labels: Mapping[str, str]
    chosen: bool
    withdrawn: tuple[Withdrawn, ...] = ()

    def running(self) -> tuple[tuple[str, str, str, int], ...]:
        """How many stations answer what: channel, model, release, count."""
        counts = Counter(entry for line in self.lines for entry in line.serving)
        return tuple((*entry, counts[entry]) for entry in sorted(counts))

    def behind(self) -> Mapping[tuple[Reason, str, str], tuple[str, ...]]:
        """The stations that are behind, by reason, wanted release and why."""
        found: dict[tuple[Reason, str, str], list[str]] = defaultdict(list)
        for line in self.lines:
            for one in {(b.reason, b.wanted, b.why): b for b in line.behind}:
                found[one].append(line.station)
        return {key: tuple(found[key]) for key in sorted(found, key=lambda key: (-len(found[key]), key))}

    def silent(self) -> tuple[Line, ...]:
        """The stations whose agent is overdue, the longest first."""
        return tuple(sorted((line for line in self.lines if line.silent), key=lambda line: str(line.silent)))

    def versions(self) -> tuple[tuple[str, int], ...]:
        """How many stations run which Changeover."""
        counts = Counter(line.version or "unknown" for line in self.lines)
        return tuple(sorted(counts.items()))


@dataclass(slots=True)
class _Fold:
    """What is gathered while reports come in."""

    lines: list[Line] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    health: dict[int, Health] = field(default_factory=dict)
    reaches: Counter[int] = field(default_factory=Counter)


def stations_of(
    reports: Iterable[StationStatus | Unread],
    choices: tuple[Choice, ...] | None,
    now: datetime,
    only: tuple[str, ...] = (),
    withdrawn: Mapping[str, str] | None = None,
) -> Stations:
    """Fold the reports of stations.

    Args:
        reports: Each once.
        choices: What the studio chose, verified; None where it could not be.
        now: The moment.
        only: Releases (``MODEL@VERSION`` or a key) that alone count; all if there are none.
        withdrawn: Why its vendor took a release back, by the release's key, verified.
    """
    fold, shares = _Fold(), [share for choice in choices or () for share in choice.shares]
    for report in reports:
        if isinstance(report, Unread):
            fold.unread.append(report)
            continue
        line = _line_of(report, choices, now, only)
        fold.lines.append(line)
        if report.facts is not None and line.host_class not in fold.labels:
            fold.labels[line.host_class] = class_label(report.facts)
        for number, share in enumerate(shares):
            one, so_far = health_of((report,), str(share.release), share.resumed), fold.health.get(number, Health(0, 0))
            fold.health[number] = Health(so_far.tried + one.tried, so_far.failed + one.failed)
            fold.reaches[number] += admits(share, report.station, report.host_class)
    rollouts = tuple(
        Rollout(
            channel=share.channel,
            release=str(share.release),
            percent=share.percent,
            state=share.state,
            stations=len(fold.lines),
            reaches=fold.reaches[number],
            tried=fold.health.get(number, Health(0, 0)).tried,
            failed=fold.health.get(number, Health(0, 0)).failed,
        )
        for number, share in enumerate(shares)
        if is_of(str(share.release), only)
    )
    coverage = tuple(_coverage(fold, _releases(fold.lines, choices, only)))
    taken = tuple(_withdrawn(fold.lines, withdrawn or {}))
    return Stations(tuple(fold.lines), tuple(fold.unread), coverage, rollouts, fold.labels, choices is not None, taken)


def _withdrawn(lines: Iterable[Line], withdrawn: Mapping[str, str]) -> Iterator[Withdrawn]:
    """Who has what was taken back, the release that most stations serve first; one that nobody has is left out."""
    serve: dict[str, list[str]] = defaultdict(list)
    keep: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        for key in {key for _, _, key in line.serving} & withdrawn.keys():
            serve[key].append(line.station)
        for key in withdrawn.keys() & set(line.keeps):
            keep[key].append(line.station)
    for key in sorted({*serve, *keep}, key=lambda key: (-len(serve[key]), key)):
        yield Withdrawn(key, withdrawn[key], tuple(serve[key]), tuple(keep[key]))


def is_of(key: str, only: tuple[str, ...]) -> bool:
    """Whether a release's key is one of those that were asked for, by key, ``MODEL@VERSION`` or the bare name."""
    full, _, digest = key.rpartition("-")
    names = {key, full, full.partition("/")[2], f"{full.partition('/')[2]}-{digest}"}
    return not only or any(asked in names for asked in only)


def class_label(facts: HostFacts) -> str:
    """What a host class is, in a few words: its GPUs with their memory, or its system."""
    if not isinstance(facts.gpus, tuple):
        return f"{facts.os}, GPUs unknown"
    if not facts.gpus:
        return f"{facts.os}, no GPU"
    counts = Counter(
        f"{gpu.name}, {gpu.total_mib // 1024} GiB" if isinstance(gpu.total_mib, int) else gpu.name for gpu in facts.gpus
    )
    return " + ".join(f"{count}x {name}" if count > 1 else name for name, count in sorted(counts.items()))


def _line_of(status: StationStatus, choices: tuple[Choice, ...] | None, now: datetime, only: tuple[str, ...]) -> Line:
    overdue = status.next_report is not None and status.next_report < format_time(now)
    serving = tuple(sorted((one.channel, one.model, one.key) for one in status.serving or () if is_of(one.key, only)))
    return Line(
        station=status.station,
        host=status.host,
        host_class=status.host_class or _NO_CLASS,
        reported_at=status.reported_at,
        generation=status.generation,
        version=status.changeover,
        hold=status.hold,
        silent=status.reported_at if overdue else None,
        agent=status.next_report is not None,
        serving=serving,
        keeps=tuple(key for key in status.releases if is_of(key, only) and key not in {one for _, _, one in serving}),
        behind=tuple(_behind(status, choices or (), overdue=overdue, only=only)),
        tried=tuple(one for one in status.tried or () if is_of(one.key, only)),
    )


def _behind(
    status: StationStatus, choices: tuple[Choice, ...], *, overdue: bool, only: tuple[str, ...]
) -> Iterator[Behind]:
    has = {(one.channel, one.model): one.key for one in status.serving or ()}
    pairs = [(channel, key) for (channel, _), key in has.items()]
    for choice in choices:
        for pointer in chosen_pointers(choice, status.station, status.host_class, pairs):
            wanted, model = str(pointer.release), pointer.release.model
            if has.get((pointer.channel, model)) != wanted and is_of(wanted, only):
                reason, why = _why(status, wanted, choice, overdue=overdue)
                yield Behind(pointer.channel, model, has.get((pointer.channel, model)), wanted, reason, why)


def _why(status: StationStatus, wanted: str, choice: Choice, *, overdue: bool) -> tuple[Reason, str]:
    """Why a station has not what was chosen: what it says of that release itself, else what follows from its report."""
    tried = next((one for one in status.tried or () if one.key == wanted and one.outcome != "done"), None)
    if status.hold and (tried is None or tried.outcome == "waiting"):
        return "hold", status.hold
    if tried is not None:
        return "quarantined" if wanted in (status.quarantined or ()) else _outcome(tried), tried.why
    if overdue:
        return "silent", "its agent did not report when it said that it would"
    if (status.choices or {}).get(choice.scope, 0) >= choice.number:
        return "unreported", "it says nothing of this release"
    if status.next_report:
        return "not-seen", f"it has not seen choice {choice.number} of {choice.scope} yet"
    return "no-agent", f"nobody has updated it since choice {choice.number} of {choice.scope}, and no agent runs there"


def _outcome(tried: Tried) -> Reason:
    return "undecided" if tried.outcome == "done" else tried.outcome


def _releases(lines: list[Line], choices: tuple[Choice, ...] | None, only: tuple[str, ...]) -> tuple[str, ...]:
    """What is chosen, tried or served, by key."""
    keys = {str(p.release) for c in choices or () for p in c.channels}
    keys |= {str(p.release) for c in choices or () for p in c.pins}
    keys |= {str(s.release) for c in choices or () for s in c.shares}
    keys |= {key for line in lines for _, _, key in line.serving}
    keys |= {one.key for line in lines for one in line.tried}
    return tuple(sorted(key for key in keys if is_of(key, only)))


def _coverage(fold: _Fold, releases: tuple[str, ...]) -> Iterator[Coverage]:
    classes: dict[str, list[Line]] = defaultdict(list)
    for line in fold.lines:
        classes[line.host_class].append(line)
    for release in releases:
        for digest in sorted(classes, key=lambda digest: (fold.labels.get(digest, ""), digest)):
            yield _covered(release, digest, fold.labels.get(digest, "facts not told"), classes[digest])


def _covered(release: str, digest: str, label: str, lines: list[Line]) -> Coverage:
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for line in lines:
        tried = next((one for one in line.tried if one.key == release), None)
        runs = any(key == release for _, _, key in line.serving)
        held = next((one.why for one in line.behind if one.wanted == release and one.reason == "hold"), None)
        silent = "unheard" if held is None else "held"
        counts["runs" if runs else tried.outcome if tried and tried.outcome != "done" else silent] += 1
        if held is not None and not runs:
            reasons[f"hold: {held}"] += 1
        if tried is not None and not runs and tried.outcome in {"refused", "failed", "undecided"}:
            reasons[tried.why] += 1
    return Coverage(
        release=release,
        host_class=digest,
        label=label,
        stations=len(lines),
        runs=counts["runs"],
        may=counts["waiting"],
        refused=counts["refused"],
        failed=counts["failed"],
        undecided=counts["undecided"],
        unheard=counts["unheard"],
        held=counts["held"],
        why=reasons.most_common(1)[0][0] if reasons else "",
    )


def stations_object(found: Stations) -> dict[str, Any]:
    """For ``--json``: everything, each station by itself too. Nobody vouches for it."""
    return {
        "reported_by": "the hosts",
        "chosen_known": found.chosen,
        "stations": [_line_object(line) for line in found.lines],
        "unreadable": [{"station": one.station, "why": one.why} for one in found.unread],
        "classes": dict(found.labels),
        "running": [
            {"channel": channel, "model": model, "release": key, "stations": count}
            for channel, model, key, count in found.running()
        ],
        "coverage": [_fields(one) for one in found.coverage],
        "rollouts": [_fields(one) for one in found.rollouts],
        "withdrawn": [_fields(one) for one in found.withdrawn],
        "versions": dict(found.versions()),
    }


def _line_object(line: Line) -> dict[str, Any]:
    told = _fields(line)
    told["serving"] = [{"channel": channel, "model": model, "release": key} for channel, model, key in line.serving]
    told["behind"] = [_fields(one) for one in line.behind]
    told["tried"] = [one.model_dump(mode="json") for one in line.tried]
    return told


def _fields(value: Any) -> dict[str, Any]:  # noqa: ANN401 - any of the values above
    return {name: getattr(value, name) for name in value.__slots__}
