"""What the memory benchmark runs: the zoo and torch's own exports at plate sizes, and real models at their own size."""

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from changeover_registry.records.release import Contract, TensorIn, TensorOut
from changeover_validators.vram.zoo import Architecture, architectures
from changeover_validators.vram.zoo.twins import twins

__all__ = ["SIZES", "Case", "cases"]

SIZES = {"512p": (896, 512), "1080p": (1920, 1088), "2160p": (3840, 2176)}
"""Width and height in pixels, padded to what every architecture takes."""


@dataclass(frozen=True, slots=True)
class Case:
    """One model at one size. `form` is ``fixed`` or ``free``; `build` writes the file; `feeds` are its inputs' dims."""

    name: str
    form: str
    width: int
    height: int
    contract: Contract
    feeds: Mapping[str, tuple[int, ...]]
    build: Callable[[Path], object]
    held_out: bool = False
    real: bool = False


def cases(
    folder: Path | None, *, only: Collection[str] | None = None, sizes: Sequence[tuple[int, int]] = ()
) -> Iterator[Case]:
    """All, or those of the names in `only`; real models come from `folder`, else from the test data where it is."""
    for architecture in (*architectures(), *twins()):
        if only is None or architecture.name in only:
            for width, height in sizes:
                yield from _forms(architecture, width, height)
    for path in sorted((folder or _test_data()).glob("*.onnx")):
        if only is None or path.stem in only:
            yield _real(path)


def _forms(architecture: Architecture, width: int, height: int) -> Iterator[Case]:
    feeds = architecture.feeds(width, height)
    forms: tuple[tuple[str, tuple[int, int] | tuple[None, None]], ...]
    forms = (("fixed", (width, height)), ("free", (None, None)))
    for form, size in forms:
        contract = architecture.contract_at(width, height) if form == "fixed" else architecture.contract
        yield Case(
            architecture.name,
            form,
            width,
            height,
            contract,
            feeds,
            partial(architecture.build, width=size[0], height=size[1]),
            held_out=architecture.held_out,
        )


def _test_data() -> Path:
    """Where tests look too: beside the checkout that this is run in."""
    return Path(os.environ.get("CHANGEOVER_TEST_DATA") or Path.cwd().parent / "shared" / "data") / "models"


def _real(path: Path) -> Case:
    """A file at the size that it states; what it leaves free is one."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    (taken,) = (item for item in graph.input if item.name not in weights)
    dims = tuple(dim.dim_value or 1 for dim in taken.type.tensor_type.shape.dim)
    contract = Contract(
        evaluation="stateless",
        inputs=(TensorIn(name=taken.name, port="plate", channels=("red", "green", "blue")),),
        output=TensorOut(name=graph.output[0].name, port="matte"),
        colour="srgb",
        resize=(dims[3], dims[2]),
    )
    return Case(
        path.stem,
        "fixed",
        dims[3],
        dims[2],
        contract,
        {taken.name: dims},
        partial(shutil.copyfile, path),
        real=True,
    )
