"""What MLflow's own page tells a person of a model and of a release: Markdown, as plain values.

A description ends with a line that says who writes it; where a person took that line away, the page is theirs. What a
vendor wrote is shown as plain text, so that nobody's browser fetches a picture from wherever it names. PostgreSQL takes
5000 characters: what is longer is cut, ends with where the whole is, and the whole becomes an artifact of the release.
Nothing in this module knows MLflow. Left out: tags and numbers (`view`).
"""

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlencode

from changeover_registry.records.release import Release
from changeover_registry.records.verdict import Verdict

__all__ = [
    "MOST_CHARS",
    "WHOLE",
    "Judged",
    "Page",
    "Side",
    "is_ours",
    "judged",
    "model_page",
    "version_page",
    "withdrawn_page",
]

Side = Literal["vendor", "studio"]
"""Whose MLflow it is: what to run next differs."""

MOST_CHARS = 4900
"""PostgreSQL refuses a description of more than 5000 characters; SQLite takes any length."""
WHOLE = "description.md"
"""Where the whole description lies among a release's artifacts, if it was cut."""

_OURS = "*Changeover writes this page. Take this line away and your own words stay.*"
_WITHDRAWN = "**Withdrawn by its vendor, refused from now on:**"
_VENDORS = (
    "Each version is one release with its raw bytes; it never changes. Only what is published is signed and reaches "
    "studios."
)
_STUDIOS = (
    "Each version is one release that this studio was sent, signed. The bytes are in the store, not here. Aliases show "
    "what the studio's signed choice gives each channel. Whoever moves an alias by hand changes nothing: `changeover "
    "doctor` shows it as a request to promote, and a person promotes."
)
_LEAST_CHARS = 400
_ACTIVE = re.compile(r"([\\`*_{}\[\]#|!~])")


@dataclass(frozen=True, slots=True)
class Page:
    """A description that MLflow takes, and the whole of it where it had to be cut."""

    text: str
    whole: str | None = None

    def documents(self) -> dict[str, bytes]:
        """The whole as an artifact, where the description is cut."""
        return {WHOLE: self.whole.encode()} if self.whole else {}


@dataclass(frozen=True, slots=True)
class Judged:
    """The newest verdict as a release's page shows it; `report` and the pictures' addresses are relative to MLflow."""

    decision: str
    made_at: str
    reason: str
    golden_set: str
    report: str
    pictures: tuple[tuple[str, str], ...] = ()
    judged_host: str | None = None
    """The host that was asked about, where it is not the one that measured."""


def is_ours(description: str | None) -> bool:
    """Whether nobody but this product wrote a description."""
    return not description or description.rstrip().endswith(_OURS)


def withdrawn_page(description: str | None, why: str) -> str | None:
    """A description of ours that also says, below its first words, that the release was taken back.

    None where it says so already, where a person wrote it, or where it has no room left.
    """
    if not description or not is_ours(description) or _WITHDRAWN in description:
        return None
    first, between, rest = description.partition("\n\n")
    text = f"{first}\n\n{_WITHDRAWN} {_cut(_plain(why), _LEAST_CHARS, 'changeover status')}{between}{rest}"
    return text if len(text) <= MOST_CHARS else None


def judged(verdict: Verdict, experiment: str, run: str, pictures: tuple[str, ...] = ()) -> Judged:
    """A verdict with the addresses of its run's artifacts.

    Args:
        verdict: As whoever reads MLflow may see it.
        experiment: The id of the run's experiment.
        run: The run's id.
        pictures: Those of the run's artifacts, by path, that anybody may see; the folder's name is the shot's alias.
    """
    used = verdict.golden_set
    return Judged(
        decision=verdict.decision,
        made_at=verdict.made_at,
        reason=verdict.reason,
        golden_set=f"{used.name} {used.version}" if used else "no golden set",
        report=f"#/experiments/{quote(experiment)}/runs/{quote(run)}/artifacts/report.html",
        pictures=tuple(
            (path.split("/")[-2], f"get-artifact?{urlencode({'path': path, 'run_uuid': run})}") for path in pictures
        ),
        judged_host=verdict.judged_host,
    )


def version_page(release: Release, side: Side, newest: Judged | None = None) -> Page:
    """What a version's page says: what it is, what changed, what to run, what was found of it."""
    ref = f"{release.model}@{release.version}"
    if newest is None:
        return _fitting(release, (_facts(release), _commands(ref, side)), WHOLE)
    # A page that has to be cut for its verdict alone had no artifact when it was registered; the record has every word.
    whole = WHOLE if version_page(release, side).whole else "release.json"
    return _fitting(release, (_facts(release), _found(newest), _commands(ref, side)), whole)


def model_page(release: Release, side: Side) -> Page:
    """What the page of a model says, by the release that was registered last."""
    model = release.model
    if side == "vendor":
        words = _VENDORS
        commands = _block(f"changeover vendor publish {model}@VERSION", f"changeover vendor withdraw {model}@VERSION")
    else:
        words = _STUDIOS
        commands = _block(
            f"changeover check {model}@VERSION",
            f'changeover promote {model}@VERSION --channel stable --reason "..."',
            "changeover doctor",
        )
    return Page("\n\n".join((_cut(_plain(release.summary), 2000, "the newest version's page"), words, commands, _OURS)))


def _facts(release: Release) -> str:
    licences = release.licences
    variants = ", ".join(f"`{variant.id}`" for variant in release.variants)
    weights, code, data = _plain(licences.weights), _plain(licences.code), _plain(licences.training_data)
    return "\n".join(
        (
            f"- variants: {_cut(variants, 600, 'release.json')}",
            (
                f"- licences: weights {_cut(weights, 200, 'release.json')}, code {_cut(code, 200, 'release.json')}, "
                f"training data {_cut(data, 200, 'release.json')}"
            ),
            f"- digest: `{release.digest()}`; every file with its own in `release.json` among the artifacts",
        )
    )


def _fitting(release: Release, rest: tuple[str, ...], named: str) -> Page:
    """The vendor's words, cut so far that the rest has room; what to run and what was found is never cut.

    What is cut says that the whole is in the artifact that is `named` so.
    """
    summary, changes = _plain(release.summary), _plain(release.changes)

    def compose(first: str, second: str) -> str:
        # MLflow's list of versions shows its own numbers, and the first words of this.
        return "\n\n".join((f"{release.version}: {first}", f"**Changes:** {second}", *rest, _OURS))

    whole = compose(summary, changes)
    if len(whole) <= MOST_CHARS:
        return Page(whole)
    room = max(MOST_CHARS - len(compose("", "")), 2 * _LEAST_CHARS)
    first = _cut(summary, max(_LEAST_CHARS, room // 3), named)
    return Page(compose(first, _cut(changes, room - len(first), named)), whole)


def _commands(ref: str, side: Side) -> str:
    if side == "vendor":
        return _block(f"changeover vendor publish {ref}")
    promote = f'changeover promote {ref} --channel stable --reason "..."'
    return _block(f"changeover check {ref}", promote, f"changeover verdict list {ref}")


def _found(newest: Judged) -> str:
    asked = f", what if on {_plain(newest.judged_host)}" if newest.judged_host else ""
    line = f"**Newest verdict: {newest.decision}** ({newest.made_at}, {_plain(newest.golden_set)}{asked}): "
    line += f"{_cut(_plain(newest.reason), 600, 'the report')} [Report]({newest.report})"
    pictures = " ".join(f"![{_plain(alias)}]({address})" for alias, address in newest.pictures)
    return f"{line}\n\n{pictures}" if pictures else line


def _block(*lines: str) -> str:
    return "\n".join(("```", *lines, "```"))


def _plain(text: str) -> str:
    """A person's text as Markdown shows it letter by letter: no links, no pictures, no HTML."""
    return _ACTIVE.sub(r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def _cut(text: str, most: int, whole: str) -> str:
    """At most so many characters, ending with where the whole is; no escape and no entity is left half."""
    if len(text) <= most:
        return text
    ending = f" ... (cut here; the whole is in {whole})"
    kept = re.sub(r"(\\|&[a-z]*)$", "", text[: most - len(ending)])
    return f"{kept.rstrip()}{ending}"
