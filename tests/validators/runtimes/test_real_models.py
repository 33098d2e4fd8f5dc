from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from changeover_registry.records.release import Contract, TensorIn, TensorOut, Tile
from changeover_validators.runtimes.contract import ContractRunner
from changeover_validators.runtimes.interface import SMOKE_FILE, RunRequest
from changeover_validators.runtimes.onnx import OnnxModel
from changeover_validators.runtimes.process import ModelProcess
from changeover_validators.runtimes.sandbox import Isolation

BGR = ("B", "G", "R")
SINET = Contract(
    evaluation="stateless",
    inputs=(
        TensorIn(
            name="data",
            port="plate",
            channels=BGR,
            mean=("0.403490196", "0.436274510", "0.497686275"),
            scale=("0.015890671", "0.015918497", "0.015069319"),
        ),
    ),
    output=TensorOut(name="Softmax/1", port="matte", channel=1),
    colour="srgb",
    resize=(320, 320),
)
PRISMA = Contract(
    evaluation="stateless",
    inputs=(TensorIn(name="input_3", port="plate", channels=("R", "G", "B")),),
    output=TensorOut(name="permute_2", port="matte"),
    colour="srgb",
    resize=(256, 256),
)
MODELS = [("sinet.onnx", SINET), ("prisma.onnx", PRISMA)]


@pytest.fixture
def photograph(test_data: Path) -> Any:
    reader = pytest.importorskip("OpenImageIO")
    image = reader.ImageBuf(str(next((test_data / "plates" / "gt05").glob("*merged*"))))
    return np.asarray(image.get_pixels(reader.FLOAT), np.float32)[..., :3]


@pytest.mark.parametrize(("name", "contract"), MODELS)
def test_a_real_model_gives_in_the_sandbox_what_it_gives_outside(
    test_data: Path,
    request_for: Callable[..., RunRequest],
    isolation: Isolation,
    name: str,
    contract: Contract,
    photograph: Any,
) -> None:
    folder = test_data / "models"
    request = request_for(folder=folder, entry=name, contract=contract)

    with ModelProcess(request, isolation) as model:
        got = model.infer({"plate": photograph}, reset=True)

    outside = ContractRunner(OnnxModel(str(folder / name), "cpu", 1), contract, Tile(size=0))
    expected = outside.frame({"plate": photograph}, reset=True).values
    np.testing.assert_allclose(got.matte, expected, atol=1e-6)
    assert got.matte.shape == photograph.shape[:2]
    assert 0 <= got.matte.min() < got.matte.max() <= 1


@pytest.mark.parametrize(("name", "contract"), MODELS)
def test_a_real_model_passes_the_smoke_that_was_made_of_it(
    test_data: Path,
    variant: Path,
    request_for: Callable[..., RunRequest],
    some_isolation: Isolation,
    name: str,
    contract: Contract,
) -> None:
    (variant / name).write_bytes((test_data / "models" / name).read_bytes())
    request = request_for(entry=name, contract=contract)
    with ModelProcess(request, some_isolation) as model:
        (variant / SMOKE_FILE).write_bytes(model.make_smoke(5))

    with ModelProcess(request_for(entry=name, contract=contract, threads=2), some_isolation) as model:
        result = model.smoke()

    assert result.passed
    assert result.worst < 1e-4


def test_a_real_model_with_its_channels_swapped_fails_its_smoke(
    test_data: Path, variant: Path, request_for: Callable[..., RunRequest], some_isolation: Isolation
) -> None:
    (variant / "sinet.onnx").write_bytes((test_data / "models" / "sinet.onnx").read_bytes())
    with ModelProcess(request_for(entry="sinet.onnx", contract=SINET), some_isolation) as model:
        (variant / SMOKE_FILE).write_bytes(model.make_smoke(5))
    swapped = SINET.model_copy(update={"inputs": (SINET.inputs[0].model_copy(update={"channels": ("R", "G", "B")}),)})

    with ModelProcess(request_for(entry="sinet.onnx", contract=swapped), some_isolation) as model:
        result = model.smoke()

    assert not result.passed
    assert result.worst > 0.02
