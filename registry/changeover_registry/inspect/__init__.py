"""Inspection of model files without executing anything that they hold.

`inspect_variant` derives what a variant needs from its files and lists what is wrong with them. It raises only for the
local disk; a bad file is an answer, not an error. ONNX needs the extra `run`; the other formats need nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from changeover_registry.errors import ChangeoverError
from changeover_registry.inspect.inspection import Inspection, Problem, TensorInfo, compute_capability
from changeover_registry.names import check_paths
from changeover_registry.records.release import Requires

__all__ = ["Inspection", "Problem", "TensorInfo", "compute_capability", "inspect_variant"]


def inspect_variant(folder: Path, runtime: str, entry: str, files: Sequence[str]) -> Inspection:
    """Inspect the variant whose `files` (relative POSIX paths, `entry` among them) lie in `folder`.

    Args:
        folder: The variant's folder; nothing outside it is opened.
        runtime: ``onnx``, ``torchscript`` or ``nuke-cat``.
        entry: The file that a loader opens.
        files: All files of the variant.

    Raises:
        OSError: The folder cannot be read.
    """
    from changeover_registry.inspect.content import file_problems, missing_and_unlisted

    problems = _paths(entry, files)
    if problems:
        return Inspection(Requires(), problems=problems)
    problems = (*missing_and_unlisted(folder, files), *file_problems(folder, files))
    if any(problem.where == entry for problem in problems):
        return Inspection(Requires(), problems=problems)
    found = _inspect(folder, runtime, entry, files)
    return replace(found, problems=(*problems, *found.problems))


def _inspect(folder: Path, runtime: str, entry: str, files: Sequence[str]) -> Inspection:
    if runtime == "torchscript":
        from changeover_registry.inspect.torchscript import inspect_torchscript

        return inspect_torchscript(folder / entry, entry)
    if runtime == "nuke-cat":
        from changeover_registry.inspect.cat import inspect_cat

        return inspect_cat(folder / entry, entry)
    from changeover_registry.inspect.onnx import inspect_onnx

    return inspect_onnx(folder, entry, files)


def _paths(entry: str, files: Sequence[str]) -> tuple[Problem, ...]:
    try:
        check_paths(files, where="files")
    except ChangeoverError as error:
        return (Problem(error.rule, error.where, error.expected, error.actual, error.remedy),)
    if entry not in files:
        return (Problem("entry", entry, "one of the variant's files", "a file that it does not list", "list it"),)
    return ()
