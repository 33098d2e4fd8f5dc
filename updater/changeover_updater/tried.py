"""How it went with each release that is chosen for a station: what its status tells, and what is worth an alarm. Pure.

A release has failed here when its own bytes or its own answers were wrong on this machine: its install broke, or its
smoke test was refused. A site that does not answer, a lock, a check that says no beforehand or a full GPU are no
failures of a release, and never stop a rollout elsewhere.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from changeover_registry.clock import format_time
from changeover_registry.errors import ChangeoverError
from changeover_registry.records.findings import Finding, NotRun, Refused
from changeover_registry.records.station import Quarantine, StationStatus, Tried
from changeover_updater.plan import Move, Plan

__all__ = ["broken", "newly_failed", "tried_of"]

_SAYS_NOTHING = frozenset({6, 7})
"""Exit codes after which nothing is known of the release: something does not answer, somebody else was first."""
_WORST = ("failed", "waiting", "refused", "undecided", "done")
_WHY = 300


def tried_of(plan: Plan, *, changed: bool, quarantined: Iterable[Quarantine], now: datetime) -> tuple[Tried, ...]:
    """How it went with each release that the plan's moves name, each release once: what is worst counts."""
    kept_out = dict(plan.smoke)
    since = {str(one.release): one for one in quarantined}
    found: dict[str, Tried] = {}
    for move in plan.moves:
        one = _of_move(plan, move, kept_out.get(move.wanted), since, now, changed=changed)
        other = found.get(one.key)
        if other is None or _WORST.index(one.outcome) < _WORST.index(other.outcome):
            found[one.key] = one
    return tuple(found[key] for key in sorted(found))


def _of_move(
    plan: Plan,
    move: Move,
    smoke: Finding | None,
    since: Mapping[str, Quarantine],
    now: datetime,
    *,
    changed: bool,
) -> Tried:
    key, when, why = move.wanted, format_time(now), move.why[:_WHY]
    if isinstance(smoke, Refused) or (isinstance(smoke, NotRun) and smoke.error):
        return Tried(key=key, outcome="failed", when=when, why=why)
    if move.outcome != "keep":
        if move.outcome == "same" or changed:
            return Tried(key=key, outcome="done", when=when)
        return Tried(key=key, outcome="waiting", when=when, why=_waits(plan)[:_WHY])
    if key in since:
        return Tried(key=key, outcome="failed", when=since[key].since, why=why)
    if move.waits:
        return Tried(key=key, outcome="waiting", when=when, why=why)
    return Tried(key=key, outcome="refused" if move.exit_code == 3 else "undecided", when=when, why=why)


def _waits(plan: Plan) -> str:
    return f"hold: {plan.hold.why}" if plan.hold else plan.wait or "not changed over to yet"


def broken(key: str, error: ChangeoverError | OSError, now: datetime) -> Tried:
    """How it went with the release whose install or smoke test ended in an error."""
    code = error.exit_code if isinstance(error, ChangeoverError) else 9
    why = str(error) if isinstance(error, ChangeoverError) else f"local disk: {error.strerror or error}"
    outcome = "undecided" if code in _SAYS_NOTHING else "failed"
    return Tried(key=key, outcome=outcome, when=format_time(now), why=why[:_WHY])  # type: ignore[arg-type]


def newly_failed(before: StationStatus | None, tried: Iterable[Tried]) -> tuple[Tried, ...]:
    """The failures that the station had not told of before: a hook hears of each once."""
    told = {one.key for one in (before.tried if before else None) or () if one.outcome == "failed"}
    return tuple(one for one in tried if one.outcome == "failed" and one.key not in told)
