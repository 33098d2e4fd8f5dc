"""``release.toml``: what a vendor writes by hand, and how it becomes a release record.

A vendor says what only people know (names, licences, the interface, how the tensors are called); sizes, digests and
what the files need of a host are derived and never written. A claim may ask for more than the files show, never for
less. Everything here is a function of values; reading folders is `release_folder`.
"""

import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar, Literal, Self

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from pydantic import AfterValidator, BeforeValidator, Field

from changeover_registry.errors import InvalidInputError
from changeover_registry.inspect import Inspection, TensorInfo
from changeover_registry.records.base import (
    Decimal6,
    Digest,
    ModelName,
    Name,
    Record,
    RelativePath,
    Text,
    Value,
    VersionText,
)
from changeover_registry.records.release import (
    Colour,
    FileEntry,
    Licences,
    Loader,
    Port,
    Provenance,
    Release,
    Requires,
    Runtime,
    State,
)
from changeover_updater.claims import plain, raise_claims
from changeover_validators.checks.evidence import evidence_of

__all__ = [
    "ContractToml",
    "InputToml",
    "OutputToml",
    "Part",
    "ReleaseToml",
    "VariantToml",
    "compose",
    "entry_of",
]

_SUFFIXES: dict[str, tuple[str, ...]] = {"onnx": (".onnx",), "torchscript": (".pt", ".ts"), "nuke-cat": (".cat",)}


def _number_as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _form(pattern: str, expected: str) -> AfterValidator:
    """A check of text by a pattern, with words that a person can act on."""

    def check(text: str) -> str:
        if re.fullmatch(pattern, text, re.ASCII) is None:
            message = f"expected {expected}"
            raise ValueError(message)
        return text

    return AfterValidator(check)


def _one_a_channel(value: object) -> object:
    """A list; a lone number is the slip of everybody whose training code takes one for all channels."""
    if isinstance(value, list | tuple):
        return tuple(value)
    text = str(value)
    shown = text if re.fullmatch(r"-?[0-9]{1,9}(\.[0-9]{1,9})?", text, re.ASCII) else "0.5"
    message = f"expected one number for each channel, such as [{', '.join([shown] * 3)}], found {text[:80]}"
    raise ValueError(message)


Number = Annotated[Decimal6, BeforeValidator(_number_as_text)]
"""A number that a person writes as 0, 0.5 or "0.5"; kept as a decimal, so no float enters a digest."""
Numbers = Annotated[tuple[Number, ...], BeforeValidator(_one_a_channel)]
Scalar = Annotated[str, BeforeValidator(_number_as_text)]
TileText = Annotated[str, _form(r"none|[1-9]\d{0,4}(\+\d{1,4})?", "none, or size+overlap in pixels such as 1024+64")]
_VARIANT_ID = r"[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?"
VariantId = Annotated[str, _form(_VARIANT_ID, "1 to 64 characters of a-z, 0-9, . and -, such as onnx-fp16")]


class KnobToml(Value):
    """``[[interface.knobs]]``."""

    name: str
    kind: Literal["int", "float", "bool", "enum"]
    default: Scalar
    minimum: Number | None = None
    maximum: Number | None = None
    choices: tuple[str, ...] = ()


class InterfaceToml(Value):
    """``[interface]``."""

    inputs: tuple[Port, ...] = Field(min_length=1)
    outputs: tuple[Port, ...] = Field(min_length=1)
    knobs: tuple[KnobToml, ...] = ()


class InputToml(Value):
    """``[[variants.contract.inputs]]``: port, channels and dtype are derived where one answer is possible."""

    name: Text
    port: Name | None = None
    channels: tuple[Text, ...] | None = None
    dtype: Literal["float32", "float16"] | None = None
    mean: Numbers = ()
    scale: Numbers = ()


class OutputToml(Value):
    """``[variants.contract.output]``."""

    name: Text
    port: Name | None = None
    channel: int | None = None
    rule: Literal["clamp", "as-is"] | None = None


class ContractToml(Value):
    """``[variants.contract]``; what is left out takes the record's default."""

    evaluation: Literal["stateless", "sequence"]
    colour: Colour
    inputs: tuple[InputToml, ...] = Field(min_length=1)
    output: OutputToml
    states: tuple[State, ...] = ()
    multiple: int | None = None
    pad: Literal["zero", "reflect", "replicate"] | None = None
    resize: tuple[int, int] | None = None
    tiles: tuple[TileText, ...] = ("none",)
    pre_roll: int | None = None
    non_finite: Literal["zero", "error"] | None = None
    clamp: Literal["none", "unit"] | None = None
    pixel_aspect: Literal["as-is", "desqueeze"] | None = None


class VariantToml(Value):
    """``[[variants]]``."""

    id: VariantId
    runtime: Runtime
    precision: Literal["fp32", "fp16"]
    loaders: tuple[Loader, ...] = Field(min_length=1)
    entry: RelativePath | None = None
    folder: RelativePath | None = None
    files: tuple[RelativePath, ...] | None = None
    sha256: dict[RelativePath, Digest] = Field(default_factory=dict)
    derived_from: str | None = None
    contract: ContractToml
    requires: Requires = Requires()

    def folder_name(self) -> str:
        """The variant's folder under the release folder."""
        return self.folder or self.id


class ReleaseToml(Record):
    """``release.toml``."""

    NAME: ClassVar[str] = "release-toml"

    model: ModelName
    version: VersionText
    kind: Literal["matte"] = "matte"
    summary: Text
    changes: Text
    licences: Licences
    provenance: Provenance = Provenance()
    interface: InterfaceToml
    variants: tuple[VariantToml, ...] = Field(min_length=1)

    @classmethod
    def from_toml(cls, data: bytes, *, where: str) -> Self:
        """Read ``release.toml``; text is taken in the one spelling (NFC) that records have.

        Raises:
            InvalidInputError: Not TOML, or a field is missing, unknown or of the wrong type.
        """
        try:
            body = tomllib.loads(unicodedata.normalize("NFC", data.decode("utf-8")), parse_float=str)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInputError(
                "TOML", where=where, expected="a TOML file in UTF-8", actual=str(error), remedy="correct that line"
            ) from error
        try:
            return cls.from_object(body, where=where)
        except InvalidInputError as error:
            raise _by_id(error, _ids(body), where) from error


@dataclass(frozen=True, slots=True)
class Part:
    """What one variant's files say: their entries, and what inspection found without executing them."""

    files: tuple[FileEntry, ...]
    inspection: Inspection


def compose(draft: ReleaseToml, parts: Mapping[str, Part], *, where: str) -> Release:
    """The release record of what a vendor wrote and what the files say.

    Args:
        draft: The parsed ``release.toml``.
        parts: For each variant's id what its files say.
        where: The path of ``release.toml``, for messages.

    Raises:
        InvalidInputError: A claim asks for less than the files, names a tensor or a port that is not there, or leaves
            open what cannot be derived.
    """
    _check_licences(draft.licences, where)
    for knob in draft.interface.knobs:
        _check_knob(knob, f"{where}: interface.knobs {knob.name}")
    body = draft.model_dump(mode="json", exclude={"variants", "ext"}, exclude_none=True)
    body["variants"] = [
        _variant(draft.interface, variant, parts[variant.id], f"{where}: variants.{variant.id}")
        for variant in draft.variants
    ]
    try:
        return Release.parse({**body, "ext": dict(draft.ext)}, where=where)
    except InvalidInputError as error:
        raise _by_id(error, [variant.id for variant in draft.variants], where) from error


def _ids(body: Mapping[str, Any]) -> list[str]:
    """The variants' ids as written, whatever else is wrong; a number stands where one has none that can be shown."""
    variants = body.get("variants")
    ids = (
        [item.get("id") if isinstance(item, dict) else None for item in variants] if isinstance(variants, list) else []
    )
    known = re.compile(_VARIANT_ID, re.ASCII)
    return [name if isinstance(name, str) and known.fullmatch(name) else str(number) for number, name in enumerate(ids)]


def _by_id(error: InvalidInputError, ids: Sequence[str], where: str) -> InvalidInputError:
    """The same error, with a variant's id in the place of its number; nobody counts variants from 0."""
    found = re.match(re.escape(f"{where}: variants.") + r"(\d+)", error.where, re.ASCII)
    if found is None or int(found[1]) >= len(ids):
        return error
    field = f"{where}: variants.{ids[int(found[1])]}{error.where[found.end() :]}"
    return InvalidInputError(error.rule, where=field, expected=error.expected, actual=error.actual, remedy=error.remedy)


def _check_licences(licences: Licences, where: str) -> None:
    """A misspelt identifier would be refused by every studio's policy once the version number is spent."""
    for field, text in (
        ("code", licences.code),
        ("weights", licences.weights),
        ("training_data", licences.training_data),
    ):
        if field == "training_data" and text in {"none", "unknown"}:
            continue
        try:
            known = str(canonicalize_license_expression(text))
        except InvalidLicenseExpression as error:
            known = str(error)
        if known != text:
            raise InvalidInputError(
                "licence",
                where=f"{where}: licences.{field}",
                expected="an SPDX expression such as Apache-2.0, or LicenseRef-NAME for one of your own",
                actual=f"{text!r} ({known})",
                remedy="correct the identifier",
            )


def entry_of(variant: VariantToml, paths: Sequence[str], *, where: str) -> str:
    """The file that a loader opens: as written, or the only one of the runtime's suffix.

    Raises:
        InvalidInputError: It is not among `paths`, or several or none could be it.
    """
    suffixes = _SUFFIXES[variant.runtime]
    found = [path for path in paths if PurePosixPath(path).suffix.lower() in suffixes]
    chosen = [path for path in paths if path == variant.entry] if variant.entry else found
    if len(chosen) == 1:
        return chosen[0]
    raise InvalidInputError(
        "field",
        where=f"{where}.entry",
        expected=f"the file {variant.entry!r}" if variant.entry else f"just one file of {' or '.join(suffixes)}",
        actual=", ".join(found or paths) or "no file",
        remedy=f"name in entry the file under {variant.folder_name()}/ that a loader opens",
    )


def _variant(interface: InterfaceToml, variant: VariantToml, part: Part, where: str) -> dict[str, Any]:
    _check_digests(variant, part.files, where)
    shown = evidence_of(part.inspection)
    requires = raise_claims(part.inspection.requires, variant.requires, where=f"{where}.requires", evidence=shown)
    if variant.runtime == "nuke-cat" and requires.torch_line is None:
        raise _left_open(
            f"{where}.requires.torch_line", "the torch line that the .cat was made with, such as 2.1.1", "nothing"
        )
    entry = entry_of(variant, [file.path for file in part.files], where=where)
    return {
        **variant.model_dump(mode="json", include={"id", "runtime", "precision", "loaders"}),
        "derived_from": variant.derived_from,
        "entry": entry,
        "files": [file.model_dump(mode="json") for file in part.files],
        "contract": _contract(interface, variant.contract, part, f"{where}.contract"),
        "requires": requires.model_dump(mode="json"),
    }


def _check_digests(variant: VariantToml, files: Sequence[FileEntry], where: str) -> None:
    """A vendor may pin a file's digest; it must be the file's."""
    found = {file.path: file.sha256 for file in files}
    for path, digest in variant.sha256.items():
        if found.get(path) != digest:
            raise InvalidInputError(
                "wrong digest",
                where=f"{where}.sha256: {variant.folder_name()}/{path}",
                expected=digest,
                actual=found.get(path, "no such file"),
                remedy="put the file there that was meant, or leave the digest out (it is derived)",
            )


def _contract(interface: InterfaceToml, contract: ContractToml, part: Part, where: str) -> dict[str, Any]:
    inputs, outputs = part.inspection.inputs, part.inspection.outputs
    _check_tensors(contract, inputs, outputs, where)
    for tensor in inputs:
        if tensor.name in {item.name for item in contract.inputs}:
            _check_size(contract, tensor, where)
    body = contract.model_dump(mode="json", exclude={"inputs", "output", "tiles"}, exclude_none=True)
    return {
        **body,
        "inputs": [
            _input(interface.inputs, item, inputs, f"{where}.inputs.{number}")
            for number, item in enumerate(contract.inputs)
        ],
        "output": {
            **contract.output.model_dump(mode="json", exclude_none=True),
            "port": _port(interface.outputs, contract.output.port, f"{where}.output").name,
        },
        "tiles": [_tile(text) for text in contract.tiles],
    }


def _check_tensors(
    contract: ContractToml, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], where: str
) -> None:
    """Every input and state is named as the file names it; a format that hides its tensors is not held to it."""
    takes = {item.name for item in contract.inputs} | {state.input for state in contract.states}
    gives = {contract.output.name} | {state.output for state in contract.states}
    if inputs and takes != {tensor.name for tensor in inputs}:
        raise _other_tensors(f"{where}.inputs", inputs, takes)
    if outputs and not gives <= {tensor.name for tensor in outputs}:
        raise _other_tensors(f"{where}.output", outputs, gives)
    have = _channels(outputs, contract.output.name)
    if have is not None and (contract.output.channel or 0) >= have:
        raise _left_open(f"{where}.output.channel", f"less than {have}", str(contract.output.channel))


def _check_size(contract: ContractToml, tensor: TensorInfo, where: str) -> None:
    """A file of one fixed size is handed just that; plates have any size, so the contract must lead to it."""
    if len(tensor.dims) != 4 or not all(isinstance(side, int) and side > 0 for side in tensor.dims[2:]):
        return
    height, width = tensor.dims[2:]
    sizes = [contract.resize] if contract.resize else [_square(tile) for tile in contract.tiles]
    step = max(contract.multiple or 1, 1)
    if all(size is not None and tuple(-(-side // step) * step for side in size) == (width, height) for size in sizes):
        return
    given = f"resize = {list(contract.resize)}" if contract.resize else "no resize"
    raise InvalidInputError(
        "contract",
        where=f"{where}.resize",
        expected=f"resize = [{width}, {height}], the width and height that {tensor.name} takes in the file",
        actual=given if step == 1 else f"{given} with multiple = {step}",
        remedy=f"write resize = [{width}, {height}] into the contract and no multiple, or export for any size",
    )


def _square(tile: str) -> tuple[int, int] | None:
    """Width and height of the tensors for a tile; None for the whole frame, which may have any size."""
    size = _tile(tile)["size"]
    return (size, size) if size else None


def _input(ports: Sequence[Port], item: InputToml, tensors: Sequence[TensorInfo], where: str) -> dict[str, Any]:
    port = _port(ports, item.port, where)
    channels = item.channels or port.channels
    if not set(channels) <= set(port.channels):
        raise _left_open(f"{where}.channels", f"channels of {port.name}: {plain(port.channels)}", plain(channels))
    takes = _channels(tensors, item.name)
    if takes not in {None, len(channels)}:
        raise _left_open(f"{where}.channels", f"{takes} channels, as the file says", plain(channels))
    return {
        **item.model_dump(mode="json", include={"name", "mean", "scale"}),
        "port": port.name,
        "channels": list(channels),
        "dtype": _dtype(item, tensors, where),
    }


def _dtype(item: InputToml, tensors: Sequence[TensorInfo], where: str) -> str:
    """The element type of the file, where it says one; else as written, or float32."""
    shown = next((tensor.dtype for tensor in tensors if tensor.name == item.name), None)
    written = item.dtype or shown or "float32"
    if shown is not None and written != shown:
        raise _left_open(f"{where}.dtype", f"{shown}, as the file says", written)
    return written


def _channels(tensors: Sequence[TensorInfo], name: str) -> int | None:
    """The channels of an image tensor [N,C,H,W], where the file fixes their number."""
    dims = next((tensor.dims for tensor in tensors if tensor.name == name), ())
    return dims[1] if len(dims) == 4 and isinstance(dims[1], int) else None


def _port(ports: Sequence[Port], name: str | None, where: str) -> Port:
    """The port of that name, or the only one."""
    found = [port for port in ports if name in {None, port.name}]
    if len(found) == 1:
        return found[0]
    names = ", ".join(port.name for port in ports)
    raise _left_open(f"{where}.port", f"one of {names}", "nothing" if name is None else name)


def _tile(text: str) -> dict[str, int]:
    """``none`` is the whole frame, ``1024+64`` is size and overlap in pixels."""
    if text == "none":
        return {"size": 0}
    size, _, overlap = text.partition("+")
    return {"size": int(size), "overlap": int(overlap or 0)}


def _check_knob(knob: KnobToml, where: str) -> None:
    if knob.kind == "enum" and knob.default not in knob.choices:
        raise _left_open(f"{where}.default", f"one of {', '.join(knob.choices) or 'its choices'}", knob.default)


def _left_open(where: str, expected: str, actual: str) -> InvalidInputError:
    return InvalidInputError("field", where=where, expected=expected, actual=actual, remedy="write the field")


def _other_tensors(where: str, tensors: Sequence[TensorInfo], named: set[str]) -> InvalidInputError:
    return InvalidInputError(
        "contract",
        where=where,
        expected=f"the tensors of the model file: {', '.join(tensor.name for tensor in tensors)}",
        actual=", ".join(sorted(named)),
        remedy="name every input and state, and the output that holds the matte, as the file does",
    )
