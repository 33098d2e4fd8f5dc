"""From a training run to a release folder that a person finishes: its model files, and a draft of ``release.toml``.

The folder appears whole or not at all. Nothing that the run left is executed: files are taken by their endings and
inspected, and what is refused at `register` is refused here. Left out: what only a person knows, which stays empty.
"""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from changeover_registry import _fs
from changeover_registry.errors import InvalidInputError, RefusedError
from changeover_registry.inspect import Inspection, inspect_variant
from changeover_registry.names import check_model
from changeover_updater.adopted import model_name
from changeover_updater.draft_toml import DraftVariant, Origin, draft_text, group_files, runtime_of
from changeover_updater.release_folder import RELEASE_TOML

if TYPE_CHECKING:
    from changeover_registry.mlflow_adapter.registry import Registry
    from changeover_registry.mlflow_adapter.trained import TrainedRun

__all__ = ["Drafted", "draft"]

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Drafted:
    """What was made: the folder, the variants by their ids, the run's files that were taken and those left."""

    folder: Path
    model: str
    variants: tuple[str, ...]
    taken: tuple[str, ...]
    left: tuple[str, ...]
    run_status: str


def draft(
    registry: "Registry",
    run_id: str,
    folder: Path,
    *,
    vendor: str,
    model: str | None = None,
    artifacts: tuple[str, ...] = (),
    step: Callable[[str], None] = lambda _: None,
) -> Drafted:
    """Make a release folder of what a run left.

    Args:
        registry: The MLflow that has the run.
        run_id: The run.
        folder: A new or empty folder.
        vendor: Whose release it becomes.
        model: Its bare name or ``vendor/name``; by the run's name if absent.
        artifacts: The model files to take; all that are there if none is named.
        step: Told what is being done.

    Raises:
        InvalidInputError: There is no such run, it has no such file or no model file, or `folder` holds something.
        RefusedError: A file is of a kind that is refused, such as a pickle.
        UndecidedError: The package that inspects a format is not installed here.
        UnreachableError: MLflow does not answer.
        OSError: The folder cannot be written.
    """
    from changeover_registry.mlflow_adapter.trained import take_file, trained_run

    folder = folder.absolute()
    _check_empty(folder)
    step(f"reading run {run_id}")
    run = trained_run(registry, run_id)
    groups = _chosen(run, artifacts, registry.location)
    full = check_model(_model(vendor, model, run.name), where="--model")
    _fs.make_dirs(folder.parent)
    staged = _fs.temporary_beside(folder)
    try:
        variants: list[DraftVariant] = []
        for entry, files in groups.items():
            for path in files:
                step(f"taking {path}")
                take_file(registry, run, path, staged / ".run")
            variants.append(_variant(staged, entry, files, {one.id for one in variants}))
        shutil.rmtree(staged / ".run")
        origin = Origin(run.id, run.name, run.revision, run.parent, run.datasets)
        _fs.write_atomic(staged / RELEASE_TOML, draft_text(full, "1.0.0", origin, variants).encode())
        _fs.rename_dir(staged, folder)
    finally:
        if staged.exists():
            _fs.remove_tree(staged)
    taken = tuple(path for files in groups.values() for path in files)
    left = tuple(path for path in sorted(run.files) if path not in taken)
    return Drafted(folder, full, tuple(one.id for one in variants), taken, left, run.status)


def _check_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInputError(
            "release folder",
            where=str(folder),
            expected="a new or an empty folder",
            actual="one that holds something" if folder.is_dir() else "a file",
            remedy="name another folder; nothing was changed",
        )


def _chosen(run: "TrainedRun", artifacts: tuple[str, ...], location: str) -> dict[str, tuple[str, ...]]:
    """The model files to take, each with what comes with it."""
    groups = group_files(sorted(run.files))
    wanted = artifacts or tuple(groups)
    missing = [path for path in wanted if path not in groups]
    if wanted and not missing:
        return {path: groups[path] for path in wanted}
    raise InvalidInputError(
        "model file",
        where=f"run {run.id} in {location}",
        expected=f"{missing[0]}, a file that ends in .onnx, .pt, .ts or .cat"
        if missing
        else "a file that ends in .onnx, .pt, .ts or .cat",
        actual=_some(groups or run.files) or "a run without files",
        remedy="name one of its files with --artifact" if groups else "log the exported model in the run",
    )


def _some(paths: Iterable[str]) -> str:
    found = sorted(paths)
    return ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")


def _model(vendor: str, given: str | None, run_name: str) -> str:
    name = given or model_name(run_name) or "model"
    return name if "/" in name else f"{vendor}/{name}"


def _variant(staged: Path, entry: str, files: tuple[str, ...], taken: set[str]) -> DraftVariant:
    """Put the files of one variant into its folder and inspect them."""
    runtime = runtime_of(entry) or ""
    base = PurePosixPath(entry).parent
    names = {path: str(PurePosixPath(path).relative_to(base)) for path in files}
    place = staged / ".variant"
    for path, name in names.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (staged / ".run" / path).rename(place / name)
    found = _inspect(place, runtime, names[entry], tuple(sorted(names.values())))
    half = "float16" in found.requires.dtypes
    first = "nuke-cat" if runtime == "nuke-cat" else f"{runtime}-{'fp16' if half else 'fp32'}"
    variant_id = next(name for n in range(1, 1000) if (name := first if n == 1 else f"{first}-{n}") not in taken)
    place.rename(staged / variant_id)
    return DraftVariant(variant_id, runtime, names[entry], found)


def _inspect(place: Path, runtime: str, entry: str, names: tuple[str, ...]) -> Inspection:
    found = inspect_variant(place, runtime, entry, names)
    if found.problems:
        first = found.problems[0]
        raise RefusedError(
            first.rule, where=first.where, expected=first.expected, actual=first.actual, remedy=first.remedy
        )
    return found
