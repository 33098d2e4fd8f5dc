"""``changeover verdict sign-off``: a supervisor's word where there are too few golden shots for a verdict."""

from typing import Annotated

import typer

from changeover_registry.errors import InvalidInputError
from changeover_updater.cli._context import JsonFlag, invocation
from changeover_updater.cli._output import emit, escape, mark, notice, say

__all__ = ["verdict_sign_off"]

_LONGEST = 2000
"""A verdict's reason quotes the note, and no record holds a text of more than 4000 characters."""


def _words(parameter: typer.CallbackParam, text: str) -> str:
    """What a person gave: some words, without control characters, which no record holds."""
    if not text.strip() or not text.replace("\n", " ").isprintable() or len(text) > _LONGEST:
        raise InvalidInputError(
            "sign-off",
            where=f"--{parameter.name}",
            expected=f"some words, at most {_LONGEST} characters, none of them a control character",
            actual=ascii(text) if len(text) <= _LONGEST else f"{len(text)} characters",
            remedy="say who signs off, and what the report shows; it is recorded for ever",
        )
    return text.strip()


def verdict_sign_off(
    context: typer.Context,
    digest: Annotated[str, typer.Argument(help="The verdict's digest, or its first characters.")],
    name: Annotated[str, typer.Option(help="The supervisor who looked at the report.", callback=_words)],
    note: Annotated[str, typer.Option(help="What the report shows; it is recorded for ever.", callback=_words)],
    as_json: JsonFlag = False,
) -> None:
    """Sign off a verdict to which nothing but golden shots is missing, by name; the policy must allow it."""
    from changeover_updater.cli._show_plan import promote_line
    from changeover_updater.reports import channel_of, publish
    from changeover_updater.sign_off import sign_off
    from changeover_updater.studio import read_studio

    call = invocation(context)
    call.key("verdict")
    done = sign_off(call, digest, name, note)
    verdict, word = done.filed.verdict, done.filed.verdict.sign_off
    site = call.site()
    if not done.before:
        publish(site, read_studio(site, call.station()), done.filed.digest, notice)

    def show() -> None:
        ref = f"{verdict.candidate.model}@{verdict.candidate.version}"
        said = f"signed off by {word.name}: {word.note}" if word else ""
        say(f"{mark('skip' if done.before else 'ok')} {escape(ref)} {'was ' if done.before else ''}{escape(said)}")
        say(f"  verdict {done.filed.digest}, {verdict.decision}")
        say(f"  next: {escape(promote_line(verdict.candidate, channel_of(site, verdict)))}")

    answer = {
        "verdict": done.filed.digest,
        "before": done.before,
        **verdict.model_dump(mode="json", exclude_none=True),
    }
    emit(answer, as_json=as_json, show=show)
