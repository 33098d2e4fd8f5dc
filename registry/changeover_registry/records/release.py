"""The release record: what a vendor says of one immutable version, canonical in ``release.json``.

Its digest is the release's identity. ``requires`` is derived from the files; a vendor may ask for more, never for less.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from changeover_registry.errors import InvalidInputError
from changeover_registry.names import check_paths, digest12
from changeover_registry.records.base import (
    Decimal6,
    Digest,
    ModelName,
    Name,
    Record,
    RelativePath,
    Text,
    Time,
    Value,
    VersionText,
)

__all__ = [
    "BLOCK_BYTES",
    "Adopted",
    "Contract",
    "FileEntry",
    "Interface",
    "Knob",
    "Licences",
    "Port",
    "Provenance",
    "Release",
    "ReleaseRef",
    "Requires",
    "State",
    "TensorIn",
    "TensorOut",
    "Tile",
    "Variant",
]

BLOCK_BYTES = 4 * 1024 * 1024
"""The size of the blocks whose sha256 a file entry lists."""

Loader = Literal["nuke-inference", "mlserver", "flame", "python"]
Runtime = Literal["onnx", "torchscript", "nuke-cat"]
Colour = Literal["scene-linear", "srgb", "raw"]
_Side = Annotated[int, Field(ge=1, le=16384)]


class ReleaseRef(Value):
    """One release, exactly: model, version and digest."""

    model: ModelName
    version: VersionText
    digest: Digest

    def __str__(self) -> str:
        """``acme/person-roto@1.0.0-0123456789ab``: unique, readable, also a folder name under the model."""
        return f"{self.model}@{self.version}-{digest12(self.digest)}"


class Licences(Value):
    """SPDX identifiers, or ``LicenseRef-…``, or ``none`` for training data that has no statement."""

    code: Text
    weights: Text
    training_data: Text


class Provenance(Value):
    """Where a release comes from; everything optional, nothing trusted."""

    mlflow_run: str | None = None
    data_digest: Digest | None = None
    source_revision: str | None = None
    parent_release: str | None = None


class Adopted(Value):
    """What a studio ran before it had releases: where the file lay, since when, and what nobody knows about it.

    `unknown` names fields of this record that hold a guess or nothing, such as ``licences.weights`` or ``contract``.
    An adopted release is what a show already has; it is never offered to anybody as an upgrade.
    """

    source: Text
    modified_at: Time | None = None
    unknown: tuple[Text, ...] = ()


class Port(Value):
    """One image that goes in or comes out, as an artist names it."""

    name: Name
    channels: tuple[Text, ...] = Field(min_length=1)
    colour: Colour


class Knob(Value):
    """One control that an artist sees. Numbers are decimal strings."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")
    kind: Literal["int", "float", "bool", "enum"]
    default: str
    minimum: Decimal6 | None = None
    maximum: Decimal6 | None = None
    choices: tuple[str, ...] = ()


class Interface(Value):
    """What an artist connects and sets; a change needs a new major version."""

    inputs: tuple[Port, ...] = Field(min_length=1)
    outputs: tuple[Port, ...] = Field(min_length=1)
    knobs: tuple[Knob, ...] = ()

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        for parts in (self.inputs, self.outputs, self.knobs):
            found = [part.name for part in parts]
            if len(set(found)) != len(found):
                message = f"expected distinct names, found {found}"
                raise ValueError(message)
        return self


class FileEntry(Value):
    """One file of a variant: path under the variant's folder, size in bytes, whole and block digests."""

    path: RelativePath
    size: int = Field(ge=0)
    sha256: Digest
    blocks: tuple[Digest, ...]

    @model_validator(mode="after")
    def _blocks_cover_the_size(self) -> Self:
        count = -(-self.size // BLOCK_BYTES)
        if len(self.blocks) != count:
            message = f"expected {count} block digests for {self.size} bytes"
            raise ValueError(message)
        return self


class TensorIn(Value):
    """One image tensor that the model takes: NCHW, channels in this order, ``(value - mean) * scale``."""

    name: Text
    port: Name
    channels: tuple[Text, ...] = Field(min_length=1)
    dtype: Literal["float32", "float16"] = "float32"
    mean: tuple[Decimal6, ...] = ()
    scale: tuple[Decimal6, ...] = ()

    @model_validator(mode="after")
    def _one_number_a_channel(self) -> Self:
        for numbers in (self.mean, self.scale):
            if len(numbers) not in {0, len(self.channels)}:
                message = f"expected {len(self.channels)} numbers, one a channel, or none"
                raise ValueError(message)
        return self


class TensorOut(Value):
    """The tensor that holds the matte: NCHW, and which of its channels it is."""

    name: Text
    port: Name
    channel: int = Field(default=0, ge=0)
    rule: Literal["clamp", "as-is"] = "clamp"


class State(Value):
    """A recurrent state: the input that takes what the output gave for the frame before; zeros [1,1,1,1] or shape."""

    input: Text
    output: Text
    shape: tuple[int, ...] = (1, 1, 1, 1)
    dtype: Literal["float32", "float16"] = "float32"


class Tile(Value):
    """One tiling that the model allows: size in pixels (0 is the whole frame) and overlap in pixels."""

    size: int = Field(ge=0, le=16384)
    overlap: int = Field(default=0, ge=0, le=1024)

    @model_validator(mode="after")
    def _overlap_fits(self) -> Self:
        if self.overlap and self.overlap * 2 >= self.size:
            message = "expected an overlap under half the tile, and none with the whole frame"
            raise ValueError(message)
        return self

    def __str__(self) -> str:
        """``none`` or ``1024+64``."""
        return "none" if self.size == 0 else f"{self.size}+{self.overlap}"


class Contract(Value):
    """How a variant must be called, to the letter.

    `colour` is the space of the values that the tensors take (``scene-linear`` has Rec. 709 primaries); `clamp` cuts
    them to 0..1 after the conversion; `multiple` pads right and bottom by `pad`; `resize` names a fixed (width,
    height); `pre_roll` frames are fed before the first scored one. `pixel_aspect` says whether an anamorphic plate is
    fed as it is (also where absent) or widened to square pixels first.
    """

    evaluation: Literal["stateless", "sequence"]
    inputs: tuple[TensorIn, ...] = Field(min_length=1)
    output: TensorOut
    states: tuple[State, ...] = ()
    colour: Colour
    multiple: int = Field(default=1, ge=1, le=1024)
    pad: Literal["zero", "reflect", "replicate"] = "reflect"
    resize: tuple[_Side, _Side] | None = None
    tiles: tuple[Tile, ...] = (Tile(size=0),)
    pre_roll: int = Field(default=0, ge=0, le=1000)
    non_finite: Literal["zero", "error"] = "zero"
    clamp: Literal["none", "unit"] | None = None
    pixel_aspect: Literal["as-is", "desqueeze"] | None = None

    @model_validator(mode="after")
    def _states_need_a_sequence(self) -> Self:
        if self.states and self.evaluation == "stateless":
            message = "expected no states with evaluation = 'stateless'"
            raise ValueError(message)
        if not self.tiles or len(set(self.tiles)) != len(self.tiles):
            message = "expected at least one tile, each once"
            raise ValueError(message)
        return self


class Requires(Value):
    """What a variant needs of a host: derived from its files; absent means that the format has no such fact."""

    ir_version: int | None = None
    opset: int | None = None
    domains: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    torchscript_version: int | None = None
    dtypes: tuple[str, ...] = ()
    dynamic_axes: bool | None = None
    external_data: bool | None = None
    global_attention: bool | None = None
    weight_bytes: int | None = None
    compute_capability: str | None = Field(default=None, pattern=r"^[0-9]{1,2}\.[0-9]$")
    torch_line: str | None = Field(default=None, pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")


class Variant(Value):
    """One loadable form of a release."""

    id: Annotated[RelativePath, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?$")]
    runtime: Runtime
    precision: Literal["fp32", "fp16"]
    loaders: tuple[Loader, ...] = Field(min_length=1)
    entry: RelativePath
    files: tuple[FileEntry, ...] = Field(min_length=1)
    contract: Contract
    requires: Requires
    derived_from: str | None = None

    @model_validator(mode="after")
    def _entry_is_a_file(self) -> Self:
        paths = [file.path for file in self.files]
        try:
            check_paths(paths, where=self.id)
        except InvalidInputError as error:
            message = f"expected {error.expected}, found {error.actual}"
            raise ValueError(message) from error
        if self.entry not in paths:
            message = f"expected entry {self.entry!r} among the files"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _loaders_fit_the_runtime(self) -> Self:
        for loader in self.loaders:
            if (loader == "nuke-inference") != (self.runtime == "nuke-cat"):
                message = "expected a .cat for nuke-inference and nothing else, since Nuke's node loads no other file"
                raise ValueError(message)
        return self

    def file(self, path: str) -> FileEntry | None:
        """The entry of `path`, if the variant has it."""
        return next((file for file in self.files if file.path == path), None)


class Release(Record):
    """``release.json``."""

    NAME: ClassVar[str] = "release"

    model: ModelName
    version: VersionText
    kind: Literal["matte"] = "matte"
    summary: Text
    changes: Text
    licences: Licences
    provenance: Provenance = Provenance()
    adopted: Adopted | None = None
    interface: Interface
    variants: tuple[Variant, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _variants_are_distinct(self) -> Self:
        ids = [variant.id for variant in self.variants]
        if len(set(ids)) != len(ids):
            message = f"expected distinct variant ids, found {ids}"
            raise ValueError(message)
        for variant in self.variants:
            if variant.derived_from not in {None, *ids} - {variant.id}:
                message = f"expected derived_from among the variants beside {variant.id}, found {variant.derived_from}"
                raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _contracts_keep_to_the_interface(self) -> Self:
        inputs = {port.name: port.channels for port in self.interface.inputs}
        outputs = {port.name for port in self.interface.outputs}
        for variant in self.variants:
            for tensor in variant.contract.inputs:
                if not set(tensor.channels) <= set(inputs.get(tensor.port, ())):
                    message = f"expected tensor {tensor.name} of {variant.id} to take channels of {inputs}"
                    message += f", found {tensor.port} {list(tensor.channels)}"
                    raise ValueError(message)
            if variant.contract.output.port not in outputs:
                message = f"expected the output of {variant.id} among {sorted(outputs)}"
                message += f", found {variant.contract.output.port}"
                raise ValueError(message)
        return self

    def ref(self) -> ReleaseRef:
        """The release by model, version and digest."""
        return ReleaseRef(model=self.model, version=self.version, digest=self.digest())

    def variant(self, variant_id: str) -> Variant | None:
        """The variant of that id, if the release has it."""
        return next((variant for variant in self.variants if variant.id == variant_id), None)
