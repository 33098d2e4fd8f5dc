"""What a studio already runs, as releases of its own, and as what a show has. Pure: files are read elsewhere.

A ``.cat`` that a show uses before it has Changeover has no vendor, no record and no verdict. It becomes a release of
the studio's own vendor that says of itself what nobody knows, and by a signed choice it is what the show has: the
current release of a model of its own, and where that is named, what releases of another model are compared with. It
never takes the place of a release that somebody judged, and no channel of the site points at it.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from changeover_registry.errors import InvalidInputError, RefusedError
from changeover_registry.names import RESERVED_NAMES, Version
from changeover_registry.records.choice import Baseline, Choice, Pointer, Share
from changeover_registry.records.release import (
    Adopted,
    Contract,
    FileEntry,
    Interface,
    Licences,
    Port,
    Provenance,
    Release,
    ReleaseRef,
    Requires,
    TensorIn,
    TensorOut,
    Variant,
)
from changeover_updater import choose

__all__ = [
    "UNKNOWN_LICENCE",
    "Found",
    "adopt",
    "check_only_adopted",
    "check_place",
    "is_adopted",
    "known_as",
    "model_name",
    "names_of",
    "next_version",
    "record_of",
]

UNKNOWN_LICENCE = "LicenseRef-unknown"
"""What stands in the place of a licence that nobody stated."""

_UNKNOWN = ("licences", "provenance", "interface", "contract", "precision")
_LONGEST = 40
_CHANNELS = ("rgba.red", "rgba.green", "rgba.blue")

IsAdopted = Callable[[ReleaseRef], bool]
"""Whether a release is known here, and known as adopted by this studio."""


@dataclass(frozen=True, slots=True)
class Found:
    """A ``.cat`` that somebody wants to adopt.

    Attributes:
        source: Where it lies, as text that a record can hold.
        stem: Its name without the ending.
        package: The folder that it lies in.
        file: Its size and digests; the path is left to the record.
        modified_at: When it was written last, where the disk says so.
        torch_line: For which torch it was made, as far as its package says from which Nuke on it runs.
        says: What its package says of it, else nothing.
    """

    source: str
    stem: str
    package: str
    file: FileEntry
    modified_at: str | None = None
    torch_line: str | None = None
    says: str = ""


def model_name(text: str) -> str:
    """A name for a model out of a file's: letters, digits and hyphens, at most 40 of them; empty if none is left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_LONGEST].strip("-")
    return f"{name}-model"[-_LONGEST:] if name in RESERVED_NAMES else name


def names_of(found: Iterable[Found], given: str | None) -> Mapping[str, str]:
    """A model's bare name for each file, by its digest: as given, its own, or with its folder's where two are alike.

    Raises:
        InvalidInputError: A name is given for several files, or no name can be made of one.
    """
    files: dict[str, Found] = {}
    for one in found:
        files.setdefault(one.file.sha256, one)
    if given is not None and len(files) > 1:
        raise InvalidInputError(
            "adopt",
            where="--as",
            expected="one .cat that is named so",
            actual=f"{len(files)} of them: {', '.join(one.source for one in files.values())}",
            remedy="name the files one by one, each with its --as, or leave --as out",
        )
    own = {digest: given or model_name(one.stem) for digest, one in files.items()}
    taken = [*own.values()]
    names = {
        digest: name if taken.count(name) == 1 else model_name(f"{one.package}-{one.stem}")
        for (digest, name), one in zip(own.items(), files.values(), strict=True)
    }
    for digest, name in names.items():
        if not name or [*names.values()].count(name) > 1:
            actual = f"{name!r}, which another of these files has too" if name else "no letters or digits"
            raise InvalidInputError(
                "model name",
                where=files[digest].source,
                expected="a name that this file alone has",
                actual=actual,
                remedy="adopt the file by itself and name its model: --as VENDOR/NAME",
            )
    return names


def known_as(found: Found, releases: Iterable[Release]) -> Release | None:
    """The release by which these very bytes were adopted before, whatever they were called."""
    adopted = (release for release in releases if release.adopted is not None)
    return next((r for r in adopted if [f.sha256 for v in r.variants for f in v.files] == [found.file.sha256]), None)


def next_version(model: str, releases: Iterable[Release]) -> str:
    """``0.1.0`` for the first adopted release of a model, then ``0.2.0``: a number from 1 on is somebody's promise."""
    minors = [v.minor for r in releases if r.model == model and (v := Version.parse(r.version)).major == 0]
    return str(Version(0, max(minors, default=0) + 1, 0))


def record_of(found: Found, model: str, version: str, *, who: str, why: str) -> Release:
    """The record of an adopted release; what it guesses it names as unknown."""
    name = model.partition("/")[2]
    unknown = _UNKNOWN if found.torch_line else (*_UNKNOWN, "requires.torch_line")
    variant = Variant(
        id="nuke-cat",
        runtime="nuke-cat",
        precision="fp32",
        loaders=("nuke-inference",),
        entry=f"{name}.cat",
        files=(found.file.model_copy(update={"path": f"{name}.cat"}),),
        contract=Contract(
            evaluation="stateless",
            inputs=(TensorIn(name="image", port="plate", channels=_CHANNELS),),
            output=TensorOut(name="matte", port="matte", rule="as-is"),
            colour="scene-linear",
        ),
        requires=Requires(torch_line=found.torch_line),
    )
    return Release(
        model=model,
        version=version,
        summary=found.says or f"{_shown(found.stem)}.cat, as the studio had it",
        changes=f"adopted by {who}: {why}",
        licences=Licences(code=UNKNOWN_LICENCE, weights=UNKNOWN_LICENCE, training_data="unknown"),
        provenance=Provenance(),
        adopted=Adopted(source=found.source, modified_at=found.modified_at, unknown=unknown),
        interface=Interface(
            inputs=(Port(name="plate", channels=_CHANNELS, colour="scene-linear"),),
            outputs=(Port(name="matte", channels=("rgba.alpha",), colour="raw"),),
        ),
        variants=(variant,),
    )


def _shown(text: str) -> str:
    """A file's name as a record can hold it: what is no text, or cannot be printed, as escapes."""
    plain = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in plain)


def is_adopted(release: Release | None) -> bool:
    """Whether a release is what a studio had before; one that is not known here is not."""
    return release is not None and release.adopted is not None


def adopt(
    last: Choice | None, channel: str, release: ReleaseRef, model: str | None, change: choose.Change, known: IsAdopted
) -> Choice:
    """The next choice of a show: it has `release`, and releases of `model` are compared with it.

    What was compared with an adopted release that this one takes the place of is compared with this one.

    Args:
        last: The show's choice in force.
        channel: The show's channel.
        release: What the show has; adopted.
        model: Another model, or None.
        change: Who, when and why.
        known: Tells which releases are adopted.

    Raises:
        InvalidInputError: The channel is not a show's, or `model` is the release's own.
        RefusedError: The channel holds, of this model or of `model`, what nobody adopted.
    """
    check_place(last, channel, release, model, known)
    before = last.pointer(channel, release.model) if last else None
    chosen = choose.promote(last, channel, release, None, change)
    what = f"adopt {release} on {channel}" + (f" as the baseline of {model}" if model else "")
    kept = tuple(_moved(entry, before, release) for entry in (last.baselines or () if last else ()))
    kept = tuple(entry for entry in kept if (entry.channel, entry.model) != (channel, model))
    new = (Baseline(channel=channel, model=model, release=release, reason=change.why),) if model else ()
    ordered = tuple(sorted((*kept, *new), key=lambda entry: (entry.channel, entry.model)))
    return chosen.model_copy(update={"entry": change.entry(what), "baselines": ordered or None})


def _moved(entry: Baseline, before: Pointer | None, release: ReleaseRef) -> Baseline:
    """What a model is compared with follows what the channel has."""
    follows = before is not None and (entry.channel, entry.release) == (before.channel, before.release)
    return entry.model_copy(update={"release": release}) if follows else entry


def check_place(
    last: Choice | None, channel: str, release: ReleaseRef, model: str | None, known: IsAdopted, *, site: bool = False
) -> None:
    """Check that an adopted release takes the place of nothing that somebody judged.

    Args:
        last: The choice in force of the channel's scope; with `site`, of the site.
        channel: The channel; with `site`, the one that serves shows without a channel of their own.
        release: The adopted release.
        model: The model whose releases are to be compared with it, if one is named.
        known: Tells which releases are adopted.
        site: Whether the channel serves the show for want of its own.

    Raises:
        InvalidInputError: The channel is not a show's, or `model` is the release's own.
        RefusedError: The channel holds, of this model or of `model`, what nobody adopted.
    """
    if not site and not channel.startswith("show/"):
        raise InvalidInputError(
            "adopt",
            where=channel,
            expected="the channel of a show, which has the file already",
            actual=f"{channel}, which every show may follow",
            remedy="name the shows that use it: --show SHOW",
        )
    if model == release.model:
        raise InvalidInputError(
            "adopt",
            where="--baseline-of",
            expected="another model, whose releases are compared with this one",
            actual=f"{model}, the adopted one itself",
            remedy="leave --baseline-of out: a later release of this model is compared with it anyhow",
        )
    for wanted in (release.model, *([] if model is None or site else [model])):
        for entry in _held(last, channel, wanted):
            if wanted == model or not known(entry.release):
                raise _in_use(channel, wanted, entry, release)


def _held(last: Choice | None, channel: str, model: str) -> tuple[Pointer | Share, ...]:
    found = (last.pointer(channel, model), last.share(channel, model)) if last else ()
    return tuple(entry for entry in found if entry is not None)


def _in_use(channel: str, model: str, entry: Pointer | Share, release: ReleaseRef) -> RefusedError:
    return RefusedError(
        "adopt",
        where=f"{channel}: {release}",
        expected=f"a channel that has nothing of {model}, or only what was adopted",
        actual=f"{entry.release}, which was promoted",
        remedy="what was judged is replaced by what is judged: changeover promote; or adopt under another name: --as",
    )


def check_only_adopted(release: Release) -> None:
    """Refuse to promote what was adopted: nobody judged it, and only `adopt` says that a show has it.

    Raises:
        RefusedError: It was adopted.
    """
    if release.adopted is not None:
        raise RefusedError(
            "promotion",
            where=f"{release.model}@{release.version}",
            expected="a release that somebody made to be used, with its record",
            actual=f"one that was adopted from {release.adopted.source}, of which {', '.join(release.adopted.unknown)} "
            "are unknown",
            remedy="where a show has it already: changeover adopt FILE --show SHOW; to use it elsewhere, make it a "
            "release of the studio's own: changeover vendor register",
        )
