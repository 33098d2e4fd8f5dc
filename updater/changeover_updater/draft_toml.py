"""A draft of ``release.toml`` from what files and a training run say. Pure.

What inspection shows is filled in, what is guessed says so beside it, and what only a person knows stays empty: then
`register` refuses the draft and names the field. Left out: reading files and MLflow (`draft`).
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from changeover_registry.inspect import Inspection, TensorInfo

__all__ = ["DraftVariant", "Origin", "draft_text", "group_files", "runtime_of"]

_RUNTIMES = {".onnx": "onnx", ".pt": "torchscript", ".ts": "torchscript", ".cat": "nuke-cat"}
_NOT_OURS = frozenset(
    {"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "registered_model_meta", "input_example.json"}
)
_CHANNELS = {1: ("A",), 3: ("R", "G", "B"), 4: ("R", "G", "B", "A")}
_IMAGE_AXES = 4
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the files come from: a run's id, its code, what it was trained on, and what it descends from."""

    run: str
    name: str
    revision: str | None
    parent: str | None
    datasets: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class DraftVariant:
    """One variant: its id, which is its folder too, the file that a loader opens, and what inspection found."""

    id: str
    runtime: str
    entry: str
    inspection: Inspection

    @property
    def half(self) -> bool:
        """Whether the file computes with half precision."""
        return "float16" in self.inspection.requires.dtypes


def runtime_of(path: str) -> str | None:
    """The runtime that a file's ending stands for, if one does."""
    return _RUNTIMES.get(PurePosixPath(path).suffix.lower())


def group_files(paths: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """For each model file the files that come with it: all of its folder, where it is the only model in there.

    Beside other models, and at the top of a run, which has whatever was logged, it is what exporters call the data of
    that very file: ``model.onnx.data`` or ``model.onnx_data``. What MLflow itself writes beside a model is left out.
    """
    models = [path for path in paths if runtime_of(path) is not None]
    folders = [str(PurePosixPath(path).parent) for path in models]
    return {
        path: tuple(
            other
            for other in paths
            if other == path
            or _is_data_of(other, path)
            or (folders.count(folder) == 1 and folder != "." and _belongs(other, folder))
        )
        for path, folder in zip(models, folders, strict=True)
    }


def _is_data_of(path: str, model: str) -> bool:
    """Whether a file beside a model is called as what exporters keep apart of that very file."""
    return path.startswith(model) and re.fullmatch(r"[._-]data([._-]?\d+)?", path.removeprefix(model)) is not None


def _belongs(path: str, folder: str) -> bool:
    parts = PurePosixPath(path)
    return parts.is_relative_to(folder) and parts.name not in _NOT_OURS and not parts.name.startswith(".")


def draft_text(model: str, version: str, origin: Origin, variants: Sequence[DraftVariant]) -> str:
    """The text of ``release.toml``."""
    images = next((v.inspection.inputs for v in variants if v.inspection.inputs), ())
    ports = tuple(_ports(tuple(info for info in images if len(info.dims) == _IMAGE_AXES)))
    return "\n".join(
        [
            "# A draft. What is empty only you know; `changeover vendor register` names what is still missing.",
            'schema = "changeover.release-toml/1"',
            f"model = {_quoted(model)}",
            f"version = {_quoted(version)}",
            'summary = ""',
            f"changes = {_quoted(f'run {origin.name}' if origin.name else '')}",
            "",
            "[licences]",
            "# SPDX identifiers, or LicenseRef-NAME for one of your own.",
            'code = ""',
            'weights = ""',
            'training_data = ""',
            "",
            *_provenance(origin),
            "",
            "# What an artist connects; the names are yours. Nuke's plates are scene-linear.",
            *(line for name, channels in ports for line in _port("inputs", name, channels, "scene-linear")),
            *_port("outputs", "matte", ("A",), "raw"),
            *(line for variant in variants for line in _variant(variant, ports)),
            "",
        ]
    )


def _provenance(origin: Origin) -> Iterator[str]:
    yield "[provenance]"
    yield f"mlflow_run = {_quoted(origin.run)}"
    if origin.revision:
        yield f"source_revision = {_quoted(origin.revision)}"
    digests = [digest for _, digest in origin.datasets if _SHA256.fullmatch(digest)]
    if len(digests) == 1:
        yield f"data_digest = {_quoted(digests[0])}"
    for name, digest in origin.datasets:
        yield f"# trained on {_comment(name)} ({_comment(digest)}), as MLflow calls it"
    if origin.parent:
        yield f"parent_release = {_quoted(origin.parent)}"
    else:
        yield '# The release that this one was trained on from, if there is one: parent_release = "vendor/name@1.0.0"'


def _ports(images: Sequence[TensorInfo]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """A name and channels for each image input; a file that hides its inputs is taken to have one of three."""
    for number, info in enumerate(images):
        count = info.dims[1] if isinstance(info.dims[1], int) else 3
        name = "plate" if number == 0 else f"input{number}"
        yield name, _CHANNELS.get(count, tuple(f"channel{n}" for n in range(count)))
    if not images:
        yield "plate", _CHANNELS[3]


def _port(kind: str, name: str, channels: Sequence[str], colour: str) -> list[str]:
    return [
        f"[[interface.{kind}]]",
        f"name = {_quoted(name)}",
        f"channels = {_list(channels)}",
        f"colour = {_quoted(colour)}",
    ]


def _variant(variant: DraftVariant, ports: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    found = variant.inspection
    images = [info for info in found.inputs if len(info.dims) == _IMAGE_AXES]
    others = [info.name for info in found.inputs if len(info.dims) != _IMAGE_AXES]
    one_frame = len(found.inputs) <= 1
    loaders = ["nuke-inference"] if variant.runtime == "nuke-cat" else ["python", *(["mlserver"] if one_frame else [])]
    yield from ("", "[[variants]]", f"id = {_quoted(variant.id)}", f"runtime = {_quoted(variant.runtime)}")
    yield f"precision = {_quoted('fp16' if variant.half else 'fp32')}"
    yield f"loaders = {_list(loaders)}"
    yield f"entry = {_quoted(variant.entry)}"
    yield "[variants.contract]"
    yield f"evaluation = {_quoted('stateless' if one_frame else '')}" + ("" if one_frame else '  # or "sequence"')
    yield 'colour = ""  # of the values that the model takes: "srgb", "scene-linear" or "raw"'
    if size := _fixed(images):
        yield f"resize = [{size[0]}, {size[1]}]  # the file takes no other size"
    else:
        yield "# multiple = 32  # where height and width must be multiples of something"
    # A file that hides its tensors has one image, by a name that a person knows.
    names = [info.name for info in images] or [""]
    for name, (port, channels) in zip(names, ports, strict=False):
        yield "[[variants.contract.inputs]]"
        yield f"name = {_quoted(name)}"
        yield f"port = {_quoted(port)}"
        yield f"channels = {_list(channels)}"
    if others:
        yield f"# also fed: {_comment(', '.join(others))}; a recurrent state is one of [[variants.contract.states]]"
    yield "[variants.contract.output]"
    yield f"name = {_quoted(found.outputs[0].name if found.outputs else '')}" + _others(found.outputs)
    if variant.runtime == "nuke-cat":
        yield "[variants.requires]"
        yield 'torch_line = ""  # the torch of the Nuke in which the .cat was made, such as 2.1.1'


def _others(outputs: Sequence[TensorInfo]) -> str:
    names = ", ".join(info.name for info in outputs[1:])
    return f"  # a guess: the first; the others are {_comment(names)}" if names else ""


def _fixed(images: Sequence[TensorInfo]) -> tuple[int, int] | None:
    """Width and height that the file fixes."""
    sides = images[0].dims[2:] if images else ()
    height, width = sides if len(sides) == 2 else ("", "")
    return (width, height) if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0 else None


def _quoted(text: str) -> str:
    """A TOML string; a JSON string is one, once it holds nothing that cannot be printed."""
    return json.dumps("".join(letter for letter in text if letter.isprintable()), ensure_ascii=False)


def _list(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(_quoted, texts))}]"


def _comment(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())[:200]
