"""What `fits` and `fleet` are asked about: a release of the site, a vendor's release folder, or an ONNX file.

A file has no record, so one is made for it as far as the file tells: its image inputs and its first output, whole frame
and the usual tiles where its axes are free, its own size where they are not, and the least multiple that it takes.
Such a record is never signed and never leaves the command. What this leaves out: every decision.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from changeover_registry.errors import ChangeoverError, InvalidInputError, UndecidedError
from changeover_registry.inspect import Inspection, TensorInfo
from changeover_registry.names import check_path
from changeover_registry.records.release import (
    Contract,
    Interface,
    Licences,
    Port,
    Release,
    TensorIn,
    TensorOut,
    Tile,
    Variant,
)
from changeover_updater.release_folder import RELEASE_TOML, describe_file, read_draft, read_release, variant_folder

__all__ = ["Subject", "file_subject", "folder_subject", "is_file", "is_folder"]

_TILES = (0, 2048, 1024, 512)
_MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128)
_LICENCES = Licences(code="none", weights="none", training_data="none")
_IMAGE_AXES = 4


@dataclass(frozen=True, slots=True)
class Subject:
    """A release, what to call it, and where the files of its variants lie.

    `fixed` is the width and height in pixels of a file that takes no other; nobody says how a plate becomes that.
    """

    name: str
    release: Release
    folder: Callable[[Variant], Path]
    fixed: tuple[int, int] | None = None


def is_file(text: str) -> bool:
    """Whether a person means a model file, and not ``MODEL@VERSION``."""
    return text.lower().endswith(".onnx")


def is_folder(text: str) -> bool:
    """Whether a person means a release folder."""
    return "@" not in text and (Path(text) / RELEASE_TOML).is_file()


def folder_subject(folder: Path) -> Subject:
    """A vendor's release folder.

    Raises:
        InvalidInputError: It cannot be read as a release.
        RefusedError: A file in it is of a kind that is refused.
    """
    release, draft = read_release(folder), read_draft(folder)
    name = f"{release.model}@{release.version}"
    return Subject(name, release, lambda variant: variant_folder(folder, variant.id, draft))


def file_subject(path: Path) -> Subject:
    """An ONNX file without a record.

    Raises:
        InvalidInputError: It is not there, no ONNX model, or takes no image.
        UndecidedError: Its inputs do not say how it is called.
    """
    if not path.is_file():
        raise InvalidInputError(
            "model file", where=str(path), expected="an ONNX file", actual="no such file", remedy="correct the path"
        )
    check_path(path.name, where=str(path))
    found = _inspected(path)
    variant = Variant(
        id="onnx",
        runtime="onnx",
        precision="fp16" if _images(path, found)[0].dtype == "float16" else "fp32",
        loaders=("python",),
        entry=path.name,
        files=(describe_file(path, path.name),),
        contract=_contract(path, found),
        requires=found.requires,
    )
    release = Release(
        model="file/onnx",
        version="0.0.0",
        summary=path.name,
        changes="a file without a record",
        licences=_LICENCES,
        interface=_interface(variant.contract),
        variants=(variant,),
    )
    return Subject(path.name, release, lambda _: path.parent, variant.contract.resize)


def _inspected(path: Path) -> Inspection:
    """What the file says; whatever lies beside it may be its external weights."""
    from changeover_registry.inspect.onnx import inspect_onnx

    found = inspect_onnx(path.parent, path.name, tuple(item.name for item in path.parent.iterdir() if item.is_file()))
    if found.problems:
        bad = found.problems[0]
        raise InvalidInputError(bad.rule, where=str(path), expected=bad.expected, actual=bad.actual, remedy=bad.remedy)
    return found


def _images(path: Path, found: Inspection) -> tuple[TensorInfo, ...]:
    images = tuple(info for info in found.inputs if len(info.dims) == _IMAGE_AXES)
    if not images or len(images) != len(found.inputs):
        raise UndecidedError(
            "contract",
            where=str(path),
            expected="image inputs alone, [1, channels, height, width], which a file without a record is called with",
            actual=", ".join(f"{info.name} {list(info.dims)}" for info in found.inputs) or "no input",
            remedy="write a release.toml that says how it is called, and give its folder",
        )
    return images


def _contract(path: Path, found: Inspection) -> Contract:
    images = _images(path, found)
    height, width = images[0].dims[2:]
    fixed = isinstance(height, int) and isinstance(width, int)
    inputs = tuple(
        TensorIn(
            name=info.name,
            port=f"input{number}",
            channels=_channels(info),
            dtype="float16" if info.dtype == "float16" else "float32",
        )
        for number, info in enumerate(images)
    )
    base = Contract(
        evaluation="stateless",
        inputs=inputs,
        output=TensorOut(name=found.outputs[0].name, port="matte"),
        colour="raw",
        resize=(int(width), int(height)) if fixed else None,
        tiles=(Tile(size=0),) if fixed else tuple(Tile(size=size) for size in _TILES),
    )
    return base if fixed else base.model_copy(update={"multiple": _multiple(path, base)})


def _channels(info: TensorInfo) -> tuple[str, ...]:
    count = info.dims[1]
    return tuple(f"channel{number}" for number in range(count if isinstance(count, int) else 3))


def _interface(contract: Contract) -> Interface:
    ports = tuple(Port(name=tensor.port, channels=tensor.channels, colour="raw") for tensor in contract.inputs)
    return Interface(inputs=ports, outputs=(Port(name="matte", channels=("alpha",), colour="raw"),))


def _multiple(path: Path, contract: Contract) -> int:
    """The least multiple at which an odd number of it in either direction gives a matte of the same size."""
    from changeover_validators.vram.graph import at_size, read_skeleton

    skeleton = read_skeleton(path)
    for multiple in _MULTIPLES:
        height, width = 5 * multiple, 7 * multiple
        shapes = {tensor.name: (1, len(tensor.channels), height, width) for tensor in contract.inputs}
        try:
            _, known = at_size(skeleton, shapes)
        except ChangeoverError:
            continue
        if known.get(contract.output.name, ())[2:] == (height, width):
            return multiple
    raise UndecidedError(
        "contract",
        where=str(path),
        expected="a matte as large as the image, at some multiple of up to 128 pixels",
        actual="none was found",
        remedy="write a release.toml that says how it is called, and give its folder",
    )
