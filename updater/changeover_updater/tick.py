"""One update of a station, and what it leaves behind whatever comes of it: the status in the site, and the hook.

`carry_out` is what ``changeover update`` does; `tick` is what an agent does, which heeds the hours of the policy:
outside of them files are brought and nothing is changed over to; within them, too, files come first, and the hours are
looked at once more when they are here. Left out: when it is done (`agent`), and the loop around it (`agent_loop`).
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from changeover_registry.client import Client
from changeover_registry.clock import format_time
from changeover_registry.errors import ChangeoverError
from changeover_registry.records.choice import Choice
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.hook import HookEvent
from changeover_registry.records.policy import AgentPolicy, Policy
from changeover_registry.records.station import Tried
from changeover_registry.transport.folder import FolderTransport
from changeover_updater.agent import Done, why_shut
from changeover_updater.hooks import run_hook
from changeover_updater.plan import Plan
from changeover_updater.site import Site
from changeover_updater.station import Station
from changeover_updater.status import Told, report_status, reported_status, status_now
from changeover_updater.studio import read_choices
from changeover_updater.tried import broken, newly_failed, tried_of
from changeover_updater.update import Outcome, Tools, update
from changeover_validators.classes import host_class

__all__ = ["Work", "carry_out", "tick", "undone"]

_FIRST = "files are brought first"
_VERDICTS = 40


@dataclass(frozen=True, slots=True)
class Work:
    """Whose station is updated, from what, when; `report_by` is when its agent reports again, if it has one."""

    site: Site
    station: Station
    host: str
    facts: HostFacts
    now: datetime
    tools: Tools
    notice: Callable[[str], None]
    report_by: str | None = None


@dataclass(slots=True)
class _Heard:
    """What an update says on its way: the policy that it read, and the release that it was busy with."""

    policy: Policy | None = None
    busy: str | None = None
    hours: str = ""

    def release(self, key: str) -> None:
        self.busy = key


def carry_out(work: Work) -> Outcome:
    """Update the station; its status is told to the site and a failure to the hook, whether or not it raises.

    Raises:
        ChangeoverError: As `update`.
        OSError: As `update`.
    """
    return _carried_out(work, _Heard())


def _carried_out(work: Work, heard: _Heard) -> Outcome:
    ask = work.tools.wait

    def wait(policy: Policy) -> str | None:
        heard.policy = policy
        return ask(policy)

    tools = replace(work.tools, wait=wait, trying=heard.release)
    try:
        outcome = update(work.site, work.station, work.facts, work.now, tools)
    except (ChangeoverError, OSError) as error:
        tried = (broken(heard.busy, error, work.now),) if heard.busy else None
        _tell(work, heard, tried, f"failed: {error}")
        raise
    quarantined = work.station.quarantined(host_class(work.facts))
    came = tried_of(outcome.plan, changed=outcome.changed, quarantined=quarantined, now=work.now)
    _tell(work, heard, came, _line(outcome))
    return outcome


def _tell(work: Work, heard: _Heard, tried: tuple[Tried, ...] | None, line: str) -> None:
    """The site and, of a release that failed here for the first time, the studio's hook. It never raises."""
    before = reported_status(work.site, work.station.id)
    told = Told(tried=tried, outcome=line, next_report=work.report_by)
    with contextlib.suppress(ChangeoverError):
        choices = read_choices(work.site, work.station)
        told = replace(told, choices={c.scope: c.number for c in choices}, verdicts=_verdicts(choices))
    report_status(work.site, work.station, work.host, work.now, work.facts, work.notice, told)
    if heard.policy is not None:
        for one in newly_failed(before, tried or ()):
            run_hook(heard.policy, _host_failed(work, one), work.notice)


def _verdicts(choices: Iterable[Choice]) -> tuple[str, ...]:
    """The digests of the verdicts that the choice rests on."""
    named = [p.verdict for c in choices for p in c.channels]
    named += [p.verdict for c in choices for p in c.pins] + [p.verdict for c in choices for p in c.shares]
    return tuple(sorted({digest for digest in named if digest}))[:_VERDICTS]


def _host_failed(work: Work, one: Tried) -> HookEvent:
    return HookEvent(
        what="host_failed",
        when=one.when,
        who=work.tools.who,
        host=work.host,
        site=str(work.site.root),
        why=one.why,
        station=work.station.id,
        release=one.key,
        model=one.key.partition("@")[0],
    )


def _line(outcome: Outcome) -> str:
    """How an update ended, in one line."""
    number = outcome.generation.number if outcome.generation else None
    if outcome.changed:
        return f"changed over to generation {number}"
    plan = outcome.plan
    why = f"held: {plan.hold.why}" if plan.hold else plan.wait or next((m.why for m in plan.moves if m.why), "")
    in_use = f"generation {number} stays" if number else "nothing is in use"
    return f"{in_use}; {why}" if why else f"{in_use}; nothing to do"


def tick(work: Work, local: Callable[[], datetime]) -> Done:
    """Update as an agent does.

    Args:
        work: The update; its `tools.wait` is not asked.
        local: The moment in the host's local time, asked before anything is changed over to.

    Raises:
        ChangeoverError: As `update`; the site was told.
        OSError: As `update`; the site was told.
    """
    begun, heard = time.monotonic(), _Heard()

    def wait(policy: Policy, *, first: bool) -> str | None:
        heard.hours = (policy.agent or AgentPolicy()).hours
        return why_shut(heard.hours, local()) or (_FIRST if first and heard.hours else None)

    first = replace(work, tools=replace(work.tools, wait=lambda policy: wait(policy, first=True)))
    outcome = _carried_out(first, heard)
    if outcome.plan.wait == _FIRST:
        again = replace(work, tools=replace(work.tools, wait=lambda policy: wait(policy, first=False)))
        outcome = _carried_out(again, heard)
    return _done(work, heard, outcome, milliseconds=round((time.monotonic() - begun) * 1000))


def _done(work: Work, heard: _Heard, outcome: Outcome, *, milliseconds: int) -> Done:
    plan, made, told = outcome.plan, outcome.generation, reported_status(work.site, work.station.id)
    return Done(
        exit_code=plan.exit_code,
        line=_line(outcome),
        changed=outcome.changed,
        generation=made.number if made else None,
        held=plan.hold is not None,
        behind=_behind(plan, changed=outcome.changed),
        quarantined=len(work.station.quarantined(host_class(work.facts))),
        hours=heard.hours,
        shut=plan.wait is not None,
        choices=dict((told.choices if told else None) or {}),
        serving=tuple((one.channel, one.model, one.key) for one in made.channels) if made else (),
        expires=dict(_expires(work.site, work.station)),
        milliseconds=milliseconds,
    )


def undone(station: Station, site: Site | None, now: datetime, error: ChangeoverError | OSError) -> Done:
    """What a tick comes to that raised; what it did not learn is absent."""
    code = error.exit_code if isinstance(error, ChangeoverError) else 9
    line = str(error) if isinstance(error, ChangeoverError) else f"local disk: {error}"
    bare = Done(exit_code=code, line=line, behind=None)
    try:
        status = status_now(station, now)
    except (ChangeoverError, OSError):
        return bare
    made, facts = status.generation, station.facts()
    return bare.model_copy(
        update={
            "generation": made.number if made else None,
            "held": status.hold is not None,
            "quarantined": len(station.quarantined(host_class(facts[1]))) if facts else 0,
            "serving": tuple((one.channel, one.model, one.key) for one in made.channels) if made else (),
            "expires": dict(_expires(site, station)) if site else {},
        }
    )


def _expires(site: Site, station: Station) -> Iterator[tuple[str, str]]:
    """Until when the trusted metadata of the choice and of each vendor holds, as this station verified it last."""
    trust = station.folder / "trust"
    states = {"choice": (trust / "choice" / "state", site.choice)}
    with contextlib.suppress(OSError):
        states |= {f"vendor {v.vendor}": (trust / "vendors" / v.vendor, v.mirror) for v in site.vendors()}
    for name, (state, folder) in states.items():
        if state.is_dir():
            roles = Client(FolderTransport(folder), state, b"").expiries()
            yield from ((name, format_time(roles[0].expires)) for _ in roles[:1])


def _behind(plan: Plan, *, changed: bool) -> int:
    """How many targets of the choice have another release here than was chosen for them."""
    settled = {"same", "take"} if changed else {"same"}
    return sum(move.outcome not in settled for move in plan.moves)
