"""The command ``check``: judge a candidate, here or with the help of a farm."""

import shlex
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from changeover_registry.errors import InvalidInputError
from changeover_updater.cli._context import JsonFlag, host_facts, invocation, read_facts
from changeover_updater.cli._output import emit, escape, mark, notice, progress, say
from changeover_updater.cli._told import tell_hook

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from changeover_registry.records.release import ReleaseRef
    from changeover_registry.records.verdict import Verdict
    from changeover_updater.check import Case, Where
    from changeover_updater.cli._context import Invocation
    from changeover_updater.site import Site
    from changeover_updater.station import Station
    from changeover_updater.studio import Studio
    from changeover_validators.checks.impact import Impact

__all__ = ["Release", "check"]

Release = Annotated[str, typer.Argument(help="MODEL@VERSION; the bare model name is enough if it is unique.")]
_EXIT_CODES = {"accept": 0, "reject": 3, "inconclusive": 4, "error": 8}


def check(  # noqa: PLR0917 - each is an option of the command
    context: typer.Context,
    release: Release,
    set_name: Annotated[str | None, typer.Option("--set", help="The golden set; else the policy's.")] = None,
    host: Annotated[
        Path | None, typer.Option(help="Facts of another host, for checks 1 to 6: a file or a shipped name.")
    ] = None,
    channel: Annotated[
        str | None, typer.Option(help="Compare with this channel's release; else the policy's channel.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Score every shot, even where an early one decides.")] = False,
    executor: Annotated[
        str | None, typer.Option(help="Score on a Dask cluster whose workers see the site: dask://HOST:PORT.")
    ] = None,
    tasks: Annotated[
        Path | None, typer.Option(help="Write what is to be scored into this folder, as command lines for a farm.")
    ] = None,
    collect: Annotated[
        Path | None, typer.Option(help="Take the farm's results from that folder, and judge them.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Judge a candidate on the studio's shots and this machine, into a signed verdict."""
    from changeover_updater.bench import Watch
    from changeover_updater.check import Case
    from changeover_updater.check import check as judge
    from changeover_updater.judged_facts import keep_facts
    from changeover_updater.permitted import baseline_of
    from changeover_updater.reports import publish, shot_aliases
    from changeover_updater.signed import sign_verdict
    from changeover_updater.studio import read_studio

    call = invocation(context)
    site, station = call.site(), call.station()
    call.key("verdict")
    options = (("--set", set_name), ("--host", host), ("--channel", channel), ("--full", full))
    where = _where(executor, tasks, collect, _again(release, options), call.settings.config)
    studio, own = read_studio(site, station), host_facts(call, station)
    candidate, name = studio.find(release), studio.policy.channel if channel is None else channel
    case = Case(
        candidate=candidate,
        vendor=studio.vendor_of(candidate),
        baseline=baseline_of(studio, candidate, name),
        channel=name,
        facts=own if host is None else read_facts(host),
        own=own,
        set_name=studio.policy.golden.set if set_name is None else set_name,
        who=call.settings.who,
        now=call.now,
        full=full,
    )
    with _tasks_told(as_json=as_json), progress() as line:
        verdict = judge(site, station, studio, case, Watch(line.step, line.bytes), where)
        line.step("sign and file the verdict")
        keep_facts(site, case.facts)
        digest = sign_verdict(call, site, verdict)
        line.step("write the report")
        page = publish(site, studio, digest, notice)
    became = None if host is None else _became(site, station, studio, case)
    told = (shot_aliases(site, verdict), page, became, _to_be_agreed(studio, candidate.ref(), name))
    emit(_answer(digest, verdict, became), as_json=as_json, show=partial(_show, digest, verdict, *told))
    _end(call, studio, digest, verdict)


def _end(call: "Invocation", studio: "Studio", digest: str, verdict: "Verdict") -> None:
    """Run the hook of a verdict that accepts or refuses (one that leaves it open has none), and end with its code."""
    if verdict.decision in {"accept", "reject"}:
        tell_hook(
            call,
            "accepted" if verdict.decision == "accept" else "refused",
            policy=studio.policy,
            why=verdict.reason,
            model=verdict.candidate.model,
            release=str(verdict.candidate),
            channel=verdict.channel,
            verdict=digest,
            decision=verdict.decision,
        )
    raise typer.Exit(_EXIT_CODES[verdict.decision])


def _answer(digest: str, verdict: "Verdict", became: "Impact | None") -> dict[str, Any]:
    from changeover_updater.cli._show_doctor import impact_object

    answer = {"verdict": digest, **verdict.model_dump(mode="json", exclude_none=True)}
    return answer if became is None else {**answer, "impact": impact_object(became)}


def _became(site: "Site", station: "Station", studio: "Studio", case: "Case") -> "Impact":
    """What is in use here, if this host's facts became those that were given; of the candidate the verdict tells."""
    from changeover_updater.in_use import points_in_use, releases_in_use
    from changeover_updater.studio import read_verdicts
    from changeover_validators.checks.impact import elsewhere, impact

    releases = releases_in_use(station, studio)
    hosts, verdicts = (case.own, case.facts), read_verdicts(site, studio)
    points = points_in_use(station.in_use(), releases, verdicts, hosts, studio.policy)
    found = impact(case.own, case.facts, releases, studio.policy, points)
    return found if case.own.host == case.facts.host else elsewhere(found)


def _to_be_agreed(studio: "Studio", release: "ReleaseRef", channel: str) -> str | None:
    """What has to be done before the channel may have the release, where the show's client did not agree to it yet."""
    from changeover_registry.records.findings import Refused
    from changeover_updater.choose import channel_scope
    from changeover_updater.show_terms import check_client_approval, terms_of

    found = check_client_approval(release, terms_of(studio.choices, channel_scope(channel)), studio.policy)
    return next((finding.remedy for finding in found if isinstance(finding, Refused)), None)


def _show(
    digest: str,
    verdict: "Verdict",
    aliases: "Mapping[str, str]",
    page: Path | None,
    became: "Impact | None",
    first: str | None,
) -> None:
    from changeover_updater.cli._show_doctor import show_impact
    from changeover_updater.cli._show_plan import promote_line, show_verdict

    show_verdict(digest, verdict, aliases)
    if became is not None:
        other = escape(verdict.judged_host or verdict.host)
        say(f"  [bold]what is in use here, if this host's facts became those of {other}[/]")
        show_impact(became, changes=False)
    if page is not None:
        say(f"  report: {escape(str(page))}")
    if verdict.decision == "accept" and verdict.judged_host is None:
        if first is not None:
            say(f"  next: {escape(first)}")
        say(f"  {'then' if first else 'next'}: {escape(promote_line(verdict.candidate, verdict.channel))}")


@contextmanager
def _tasks_told(*, as_json: bool) -> "Iterator[None]":
    """End well, and undecided, where the block has written tasks as it was asked."""
    from changeover_updater.farm import TasksWrittenError

    try:
        yield
    except TasksWrittenError as written:
        told = {"folder": written.where, "written": written.actual, "next": written.remedy}
        emit(told, as_json=as_json, show=lambda: _show_tasks(told))
        raise typer.Exit(written.exit_code) from None


def _show_tasks(told: "Mapping[str, str]") -> None:
    say(f"{mark('ok')} {escape(told['written'])} written into {escape(told['folder'])}")
    say(f"  {mark('open')} nothing is decided yet: {escape(told['next'])}")


def _again(release: str, options: tuple[tuple[str, object], ...]) -> str:
    """The command line of this check, without where it is scored."""
    words = ["changeover", "check", release]
    for name, value in options:
        if value is True:
            words.append(name)
        elif value not in {None, False}:
            words += [name, str(value)]
    return shlex.join(words)


def _where(executor: str | None, tasks: Path | None, collect: Path | None, again: str, config: Path) -> "Where":
    """Where shots are scored.

    Raises:
        InvalidInputError: More than one place is named, or the address is none.
    """
    from changeover_updater.check import Where

    named = [flag for flag, value in (("--executor", executor), ("--tasks", tasks), ("--collect", collect)) if value]
    if len(named) > 1:
        raise InvalidInputError(
            "usage", where="check", expected="one of them at most", actual=" and ".join(named), remedy="leave one out"
        )
    dask = None
    if executor is not None:
        from changeover_updater.dask_adapter import scheduler_address

        dask = scheduler_address(executor)
    return Where(dask, tasks, collect, again, notice, config if config.is_file() else None)
