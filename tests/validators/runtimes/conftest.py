"""Real model files, made on the spot, and the ways of isolation that this machine has."""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from changeover_registry.records.release import Contract, State, TensorIn, TensorOut, Tile
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.sandbox import Isolation, available

RGB = ("R", "G", "B")
FLOAT = TensorProto.FLOAT


def _save(path: Path, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], *constants: Any) -> Path:
    graph = helper.make_graph(list(nodes), "net", list(inputs), list(outputs), initializer=list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def _value(name: str, *shape: Any, kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, list(shape))


def _floats(name: str, values: Any) -> Any:
    return onnx.numpy_helper.from_array(np.asarray(values, np.float32), name)


def _integers(name: str, values: Any) -> Any:
    return onnx.numpy_helper.from_array(np.asarray(values, np.int64), name)


class Nets:
    """Writes small ONNX files into one folder; all take `x` [1,3,H,W] and answer `y` [1,1,H,W], some take more."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._x, self._y = _value("x", 1, 3, "h", "w"), _value("y", 1, 1, "h", "w")

    def weighted(self, name: str = "net.onnx") -> Path:
        """Y = 0.5 r + 0.25 g + 0.125 b: every pixel by itself, and each channel tells."""
        weights = _floats("k", np.array([0.5, 0.25, 0.125]).reshape(1, 3, 1, 1))
        node = helper.make_node("Conv", ["x", "k"], ["y"])
        return _save(self.folder / name, [node], [self._x], [self._y], weights)

    def half(self) -> Path:
        """Y = mean of the channels, all in float16."""
        kind = TensorProto.FLOAT16
        node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=1)
        inputs, outputs = [_value("x", 1, 3, "h", "w", kind=kind)], [_value("y", 1, 1, "h", "w", kind=kind)]
        return _save(self.folder / "net.onnx", [node], inputs, outputs)

    def counting(self) -> Path:
        """Y = (frames seen so far, this one counted) / 100; the count is the state s, [1,1,1,1]."""
        nodes = [
            helper.make_node("Add", ["s", "one"], ["t"]),
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[1], keepdims=1),
            helper.make_node("Mul", ["m", "nought"], ["z"]),
            helper.make_node("Mul", ["t", "hundredth"], ["c"]),
            helper.make_node("Add", ["z", "c"], ["y"]),
        ]
        constants = [_floats("one", [1]), _floats("nought", [0]), _floats("hundredth", [0.01])]
        inputs = [self._x, _value("s", 1, 1, 1, 1)]
        return _save(self.folder / "net.onnx", nodes, inputs, [self._y, _value("t", 1, 1, 1, 1)], *constants)

    def not_a_number(self) -> Path:
        """Y = 0 / 0."""
        nodes = [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[1], keepdims=1),
            helper.make_node("Sub", ["m", "m"], ["z"]),
            helper.make_node("Div", ["z", "z"], ["y"]),
        ]
        return _save(self.folder / "net.onnx", nodes, [self._x], [self._y])

    def endless(self) -> Path:
        """Takes 2^62 steps."""
        true = onnx.numpy_helper.from_array(np.array(1, dtype=bool), "true")
        body = helper.make_graph(
            [
                helper.make_node("Identity", ["go"], ["go_on"]),
                helper.make_node("Cos", ["m_in"], ["m_out"]),
            ],
            "body",
            [_value("i", kind=TensorProto.INT64), _value("go", kind=TensorProto.BOOL), _value("m_in", 1, 1, "h", "w")],
            [_value("go_on", kind=TensorProto.BOOL), _value("m_out", 1, 1, "h", "w")],
        )
        nodes = [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[1], keepdims=1),
            helper.make_node("Loop", ["steps", "true", "m"], ["y"], body=body),
        ]
        return _save(self.folder / "net.onnx", nodes, [self._x], [self._y], _integers("steps", 2**62), true)

    def expanding(self, *values: int) -> Path:
        """Makes a tensor of the given shape out of the frame's mean, and answers that tensor's mean."""
        nodes = [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[0, 1, 2, 3], keepdims=1),
            helper.make_node("Expand", ["m", "shape"], ["big"]),
            helper.make_node("Cos", ["big"], ["big2"]),
            helper.make_node("ReduceMean", ["big2"], ["n"], axes=[0, 1, 2, 3], keepdims=1),
            helper.make_node("ReduceMean", ["x"], ["p"], axes=[1], keepdims=1),
            helper.make_node("Add", ["p", "n"], ["y"]),
        ]
        return _save(self.folder / "net.onnx", nodes, [self._x], [self._y], _integers("shape", list(values)))

    def halving(self) -> Path:
        """Answers a matte of half the size, which no contract describes."""
        nodes = [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[1], keepdims=1),
            helper.make_node("MaxPool", ["m"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
        ]
        return _save(self.folder / "net.onnx", nodes, [self._x], [_value("y", 1, 1, "p", "q")])

    def garbage(self) -> Path:
        path = self.folder / "net.onnx"
        path.write_bytes(b"\x00\xffnot a model" * 100)
        return path


@pytest.fixture
def variant(tmp_path: Path) -> Path:
    folder = tmp_path / "variant"
    folder.mkdir()
    return folder


@pytest.fixture
def nets(variant: Path) -> Nets:
    return Nets(variant)


@pytest.fixture
def contract() -> Contract:
    return Contract(
        evaluation="stateless",
        inputs=(TensorIn(name="x", port="plate", channels=RGB),),
        output=TensorOut(name="y", port="matte", rule="as-is"),
        colour="scene-linear",
    )


@pytest.fixture
def counting_contract(contract: Contract) -> Contract:
    states = (State(input="s", output="t"),)
    return contract.model_copy(update={"evaluation": "sequence", "states": states})


@pytest.fixture
def request_for(variant: Path, contract: Contract) -> Callable[..., RunRequest]:
    """A request for the variant's net.onnx, with whatever the test changes."""

    def make(**changes: Any) -> RunRequest:
        fields: dict[str, Any] = {
            "interpreter": sys.executable,
            "folder": variant,
            "entry": "net.onnx",
            "runtime": "onnx",
            "contract": contract,
            "tile": Tile(size=0),
            "provider": "cpu",
            "sandbox": "required",
            "wall_seconds": 60.0,
            "ram_mib": 1024,
        }
        return RunRequest(**(fields | changes))

    return make


@pytest.fixture(scope="session")
def only_unshare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A search path on which unshare is found and bubblewrap is not."""
    folder = tmp_path_factory.mktemp("tools")
    tool = shutil.which("unshare")
    if tool is not None:
        (folder / "unshare").symlink_to(tool)
    return str(folder)


@pytest.fixture(params=["bubblewrap", "namespaces"])
def isolation(request: pytest.FixtureRequest, only_unshare: str) -> Isolation:
    """Each way of isolation, where this machine has it."""
    found = available() if request.param == "bubblewrap" else available(only_unshare)
    if found.name != request.param:
        pytest.skip(f"no {request.param} here: {found.reason}")
    return found


@pytest.fixture
def some_isolation() -> Isolation:
    """The isolation that the product would choose."""
    found = available()
    if found.name is None:
        pytest.skip(f"no isolation here: {found.reason}")
    return found


@pytest.fixture
def plate() -> Any:
    """A plate of 30 x 40 pixels in which no two values are equal."""
    return np.linspace(0, 1, 30 * 40 * 3, dtype=np.float32).reshape(30, 40, 3)


@pytest.fixture
def test_data() -> Path:
    root = Path(__file__).parents[3]
    place = Path(os.environ.get("CHANGEOVER_TEST_DATA", root.parent / "shared" / "data"))
    if not (place / "models").is_dir():
        pytest.skip(f"no real models at {place}")
    return place
