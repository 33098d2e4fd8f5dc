"""The release that another one descends from, as its record names it. Pure.

A fine-tuned model is judged beside what it was tuned from, years later too; so the name has the one form by which a
release is found, and where it is the vendor's own it must be one that the vendor published. What another vendor
published is not looked up here: that is said, and a studio that knows both sees it.
"""

from collections.abc import Collection

from changeover_registry.errors import ChangeoverError, InvalidInputError
from changeover_registry.names import Version, check_model
from changeover_registry.records.release import Release

__all__ = ["check_parent", "parent_of"]

_FORM = "vendor/name@version, such as acme/person-roto@1.0.0"


def parent_of(release: Release, *, where: str) -> tuple[str, str] | None:
    """Model and version of the release that this one descends from; None where it names none.

    Raises:
        InvalidInputError: What it names has another form, or is itself.
    """
    text = release.provenance.parent_release
    if text is None:
        return None
    model, _, version = text.partition("@")
    try:
        found = check_model(model, where=where), str(Version.parse(version, where=where))
    except ChangeoverError as error:
        raise _wrong(where, _FORM, repr(text), "write the whole name and the version") from error
    if found == (release.model, release.version):
        raise _wrong(where, "another release", f"{text}, which is this one", "name what it was trained on from")
    return found


def check_parent(release: Release, published: Collection[tuple[str, str]], *, where: str) -> str | None:
    """Check what a release says that it descends from; a sentence where nobody could look.

    Args:
        release: The release.
        published: Model and version of all that its own vendor published.
        where: The path of ``release.toml``, for messages.

    Raises:
        InvalidInputError: The name has another form, is the release's own, or is none of its vendor's releases.
    """
    field = f"{where}: provenance.parent_release"
    parent = parent_of(release, where=field)
    if parent is None or parent in published:
        return None
    model, version = parent
    vendor = release.model.partition("/")[0]
    if model.partition("/")[0] != vendor:
        return f"it descends from {model}@{version}, which is another vendor's and was not looked up"
    have = sorted((v for name, v in published if name == model), key=Version.parse)
    raise _wrong(
        field,
        f"a published release of {model} ({', '.join(have) or 'none is'})",
        version,
        "correct the version, or publish that release first",
    )


def _wrong(where: str, expected: str, actual: str, remedy: str) -> InvalidInputError:
    return InvalidInputError("parent release", where=where, expected=expected, actual=actual, remedy=remedy)
