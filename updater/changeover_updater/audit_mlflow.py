"""What an MLflow holds of releases and verdicts, and what was signed in their place: for `audit`.

What decides is the vendors' signed metadata and the filed verdicts; of MLflow every version, tag, source, file and
metric is held to them. A copy of one file at a time is made, hashed and removed. A version without our tags is
somebody's own and is left alone; so are descriptions, further tags and aliases, which `doctor` shows.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from changeover_registry.errors import ChangeoverError, TrustError
from changeover_registry.mlflow_adapter.registry import RECORD, Registry, artifact_path
from changeover_registry.mlflow_adapter.seen import (
    SeenVersion,
    read_artifact,
    read_run_artifact,
    seen_artifacts,
    seen_models,
    seen_run,
    seen_versions,
)
from changeover_registry.mlflow_adapter.view import metric_values, registered_name, release_tags, verdict_tags
from changeover_registry.records.verdict import Verdict
from changeover_updater.audit import Difference, Item, Part
from changeover_updater.audit_site import FiledRun, Signed

__all__ = ["mlflow_part"]

_PIECE_BYTES = 4 * 1024 * 1024
_ENVELOPE = "verdict.dsse.json"
_SENTENCE = "changeover.reason"


def mlflow_part(
    name: str,
    registry: Registry,
    signed: Callable[[], Iterable[Signed]],
    verdicts: Callable[[], Iterable[FiledRun]] = tuple,
    *,
    with_files: bool,
) -> Part:
    """The releases and verdicts of one MLflow.

    Args:
        name: What to call the part.
        registry: The MLflow.
        signed: Every release that it should know.
        verdicts: The filed verdicts, of which it may have runs.
        with_files: Whether it holds the releases' bytes, as a vendor's does, or their records alone.
    """
    return Part(name, lambda: _holds(registry, signed, verdicts, with_files=with_files))


def _holds(
    registry: Registry,
    signed: Callable[[], Iterable[Signed]],
    verdicts: Callable[[], Iterable[FiledRun]],
    *,
    with_files: bool,
) -> Iterator[Item | Difference]:
    seen: dict[str, tuple[SeenVersion, ...]] = {}
    known: dict[str, set[str]] = {}
    for one in signed():
        if one.model not in seen:
            # One model after the other: what was seen of the last one is needed no more, but for its strays.
            seen[one.model] = seen_versions(registry, one.model)
        known.setdefault(one.model, set()).add(one.entry.version)
        yield from _release(registry, one, seen[one.model], with_files=with_files)
    for model in (*seen, *(model for model in seen_models(registry) if model not in seen)):
        versions = seen[model] if model in seen else seen_versions(registry, model)
        yield from _strays(registry, model, versions, known.get(model, set()))
    for filed in verdicts():
        yield from _run(registry, filed)


def _release(
    registry: Registry, one: Signed, versions: tuple[SeenVersion, ...], *, with_files: bool
) -> Iterator[Item | Difference]:
    """The version that counts for this release, which is the first that claims to be it, and all that it points at."""
    where = f"{registry.location}: {one.model}@{one.entry.version}"
    claims = [seen for seen in versions if seen.tags.get("changeover.version") == one.entry.version]
    if not claims:
        yield Difference("missing", where, f"release {one.ref}", "no version that says so")
        return
    first, *others = claims
    for other in others:
        if other.tags.get("changeover.digest") != one.entry.record:
            place = f"{registry.location}: {registered_name(one.model)} version {other.number}"
            yield Difference("unknown", place, f"one version for {one.ref}", _claim(other))
    where += f", version {first.number}"
    if one.record is not None:
        yield from _tags(where, release_tags(one.record), first.tags)
    elif first.tags.get("changeover.digest") != one.entry.record:
        yield Difference("altered", f"{where}: tag changeover.digest", one.entry.record, _claim(first))
    if first.holder is None:
        yield Difference("altered", f"{where}: source", "models:/m-..., a LoggedModel", first.source)
        return
    yield from _artifacts(registry, one, first.holder, where, with_files=with_files)


def _artifacts(
    registry: Registry, one: Signed, holder: str, where: str, *, with_files: bool
) -> Iterator[Item | Difference]:
    expected, alive = _expected(one, with_files=with_files), partial(seen_versions, registry, one.model)
    documents = {document.name for document in one.entry.documents or ()}
    try:
        listed = set(seen_artifacts(registry, holder))
    except ChangeoverError as error:
        # An MLflow that answers other questions has lost this one thing.
        alive()
        yield Difference("missing", f"{where}: {holder}", "a LoggedModel that holds the release", error.actual)
        return
    for path, digest in expected.items():
        place = f"{where}: {path}"
        if path not in listed and not (path in documents and not with_files):
            yield Difference("missing", place, f"sha256 {digest}", "no such file")
        elif path in listed:
            # A studio's MLflow has the documents of releases that it was told of since there are any.
            copy = partial(read_artifact, registry, holder, path)
            yield Item(place, digest, partial(_copied, copy, alive))
    if with_files and one.record is not None:
        folders = {variant.id for variant in one.record.variants}
        for path in sorted(listed - set(expected)):
            if path.partition("/")[0] in folders:
                yield Difference("unknown", f"{where}: {path}", "a file that the signed record names", "another file")


def _expected(one: Signed, *, with_files: bool) -> Mapping[str, str]:
    """The signed digest of each artifact. What no signature covers, such as an older bill of materials, is not here."""
    found = {RECORD: one.entry.record, **{document.name: document.sha256 for document in one.entry.documents or ()}}
    if with_files and one.record is not None:
        for variant in one.record.variants:
            found |= {artifact_path(variant, file.path): file.sha256 for file in variant.files}
    return found


def _strays(registry: Registry, model: str, versions: tuple[SeenVersion, ...], known: set[str]) -> Iterator[Difference]:
    """Versions that say they are a release that nobody signed."""
    for seen in versions:
        claimed = seen.tags.get("changeover.version")
        if claimed is not None and claimed not in known:
            place = f"{registry.location}: {registered_name(model)} version {seen.number}"
            yield Difference("unknown", place, f"a release that {model.partition('/')[0]} signed", _claim(seen))


def _run(registry: Registry, filed: FiledRun) -> Iterator[Item | Difference]:
    """What a run says of a filed verdict; an MLflow that was down when it was made has none, which says nothing."""
    run = seen_run(registry, filed.verdict.candidate.model, filed.digest)
    if run is None:
        return
    where = f"{registry.location}: run {run.id}"
    # The reason calls shots by their aliases there, as every sentence does that leaves the show.
    tags = {key: value for key, value in verdict_tags(filed.verdict).items() if key != _SENTENCE}
    yield from _tags(where, tags, run.tags)
    lost = Counter(_values(filed.verdict)) - Counter(run.metrics.values())
    if lost:
        expected = f"the {sum(lost.values())} metrics of the signed verdict {filed.digest[:12]}"
        yield Difference("altered", f"{where}: metrics", expected, "others")
    if _ENVELOPE in run.artifacts:
        copy = partial(read_run_artifact, registry, run, _ENVELOPE)
        alive = partial(seen_versions, registry, filed.verdict.candidate.model)
        yield Item(f"{where}: {_ENVELOPE}", filed.digest, partial(_copied, copy, alive))


def _values(verdict: Verdict) -> Iterator[float]:
    return (value.value for value in metric_values(verdict))


def _tags(where: str, expected: Mapping[str, str], actual: Mapping[str, str]) -> Iterator[Difference]:
    for key, value in expected.items():
        if actual.get(key) != value:
            yield Difference("altered", f"{where}: tag {key}", value, actual.get(key, "no such tag"))


def _claim(seen: SeenVersion) -> str:
    digest, version = seen.tags.get("changeover.digest", "none"), seen.tags.get("changeover.version", "none")
    return f"version {version} with digest {digest}"


def _copied(copy: Callable[[Path], Path], alive: Callable[[], object]) -> Iterator[bytes]:
    """The bytes of what `copy` brings; the copy is gone when they were read.

    Raises:
        TrustError: MLflow answers, as `alive` shows, and does not give this one thing.
        UnreachableError: It does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="changeover-audit-") as folder:
        try:
            local = copy(Path(folder))
        except ChangeoverError as error:
            alive()
            raise TrustError(
                error.rule, where=error.where, expected=error.expected, actual=error.actual, remedy=error.remedy
            ) from error
        with local.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece
