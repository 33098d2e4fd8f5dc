"""What `fits` and `fleet` are asked about: a release of the site, a vendor's release folder, or an ONNX file.

A file has no record, so one is made for it as far as the file tells: its image inputs and its first output, whole frame
and the usual tiles where its axes are free, its own size where they are not, and the least multiple that it takes.
Such a record is never signed and never leaves the command. What this leaves out: every decision.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

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

if TYPE_CHECKING:
    from changeover_validators.vram.graph import Skeleton

__all__ = ["Subject", "file_subject", "folder_subject", "is_file", "is_folder"]

_TILES = (0, 2048, 1024, 512)
_MULTIPLES = (1, 2, 4, 8, 16, 32, 64, 128)
_LICENCES = Licences(code="none", weights="none", training_data="none")
_IMAGE_AXES = 4
_MOST_CHANNELS = 64
"""Of one input; an image with more is fed by nobody, and each has a name in the record."""
_LONGEST_NAME = 4000
_LONGEST_SIDE = 16384
"""In pixels; a record's contract takes no larger fixed size."""
_FED = ("float32", "float16")
_WEIGHT_CHANNELS_AXIS = {"Conv": 1, "ConvTranspose": 0}


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
        InvalidInputError: It is not there, no ONNX model, or cannot run as such a record calls it.
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
    _refuse_unfit(path, found)
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
    if fixed and max(int(width), int(height)) > _LONGEST_SIDE:
        _unfit(path, images[0], f"at most {_LONGEST_SIDE} pixels a side", f"{width}x{height}", rule="size")
    base = Contract(
        evaluation="stateless",
        inputs=inputs,
        output=TensorOut(name=found.outputs[0].name, port="matte"),
        colour="raw",
        resize=(int(width), int(height)) if fixed else None,
        tiles=(Tile(size=0),) if fixed else tuple(Tile(size=size) for size in _TILES),
    )
    if not fixed:
        return base.model_copy(update={"multiple": _multiple(path, base)})
    _check_fixed(path, base, (int(height), int(width)))
    return base


def _refuse_unfit(path: Path, found: Inspection) -> None:
    """Refuse what a record that is made here cannot call: other types than its own, channels without end, no matte."""
    for info in (*found.inputs, *found.outputs[:1]):
        if not info.name.isprintable() or not 0 < len(info.name.strip()) <= _LONGEST_NAME:
            raise InvalidInputError(
                "tensor name",
                where=str(path),
                expected=f"a name of 1 to {_LONGEST_NAME} printable characters",
                actual=f"{info.name[:20]!a} of {len(info.name)}",
                remedy="export the model again",
            )
    for info in found.inputs:
        if info.dtype not in _FED:
            _unfit(path, info, f"{' or '.join(_FED)}, as images are fed", info.dtype, rule="input type")
        if isinstance(info.dims[1], int) and info.dims[1] > _MOST_CHANNELS:
            _unfit(path, info, f"at most {_MOST_CHANNELS} channels", str(info.dims[1]), rule="channels")
    if not found.outputs:
        raise InvalidInputError(
            "outputs", where=str(path), expected="a matte", actual="no output", remedy="export the model again"
        )


def _unfit(path: Path, info: TensorInfo, expected: str, actual: str, *, rule: str) -> NoReturn:
    remedy = "export the model for images, or write a release.toml that says how it is called, and give its folder"
    raise InvalidInputError(rule, where=f"{path}: input {info.name}", expected=expected, actual=actual, remedy=remedy)


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
        _refuse_contradiction(path, skeleton, {**known, **shapes})
        if known.get(contract.output.name, ())[2:] == (height, width):
            return multiple
    raise UndecidedError(
        "contract",
        where=str(path),
        expected="a matte as large as the image, at some multiple of up to 128 pixels",
        actual="none was found",
        remedy="write a release.toml that says how it is called, and give its folder",
    )


def _check_fixed(path: Path, contract: Contract, size: tuple[int, int]) -> None:
    """Refuse a file of one size whose channels contradict each other; what cannot be followed is left undecided."""
    from changeover_validators.vram.graph import at_size, read_skeleton

    shapes = {tensor.name: (1, len(tensor.channels), *size) for tensor in contract.inputs}
    try:
        skeleton = read_skeleton(path)
        _, known = at_size(skeleton, shapes)
    except UndecidedError:
        return
    _refuse_contradiction(path, skeleton, {**known, **shapes})


def _refuse_contradiction(path: Path, skeleton: "Skeleton", known: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a convolution whose weights take another number of channels than it is fed; inference lets it pass."""
    shapes = {**{tensor.name: tuple(tensor.dims) for tensor in skeleton.model.graph.initializer}, **known}
    for node in skeleton.model.graph.node:
        image, weight = (list(shapes.get(name, ())) for name in (*node.input, "", "")[:2])
        if (
            node.op_type not in _WEIGHT_CHANNELS_AXIS
            or node.domain not in {"", "ai.onnx"}
            or min(len(image), len(weight)) <= 1
        ):
            continue
        groups = next((item.i for item in node.attribute if item.name == "group"), 1) if node.op_type == "Conv" else 1
        taken = weight[_WEIGHT_CHANNELS_AXIS[node.op_type]] * groups
        if image[1] != taken:
            raise InvalidInputError(
                "channels",
                where=f"{path}: {'input ' if node.input[0] in skeleton.shapes else ''}{node.input[0]}",
                expected=f"{taken} channels, which {node.op_type} {node.name}".rstrip() + " takes",
                actual=str(image[1]),
                remedy="export the model again, or write a release.toml that says how it is called",
            )
