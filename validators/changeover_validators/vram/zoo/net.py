"""A small writer of ONNX graphs in the manner of torch's exporter, in a static form and one with free height and width.

Each method adds operators and answers the name of its result. What a tensor is is kept beside its name: its channels
and by how much its height and width are divided. In the static form sizes are constants, as a traced model has them; in
the dynamic form they are read from the tensors (Shape, Gather, Concat), as a model exported with free axes has them.
Weights come from a seeded generator, so that a graph is the same wherever it is built. Opset 17, IR version 8.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

__all__ = ["Net"]

_OPSET = 17
_IR_VERSION = 8


@dataclass(frozen=True, slots=True)
class _Tensor:
    """The channels of an image or the width of tokens, and by how much height and width are divided."""

    channels: int
    divisor: int


class Net:
    """Collects the operators and weights of one model.

    Args:
        width: The plate's width in pixels; None with `height` None for free axes.
        height: The plate's height in pixels.
    """

    def __init__(self, width: int | None, height: int | None) -> None:
        import numpy as np

        self.size = None if width is None or height is None else (height, width)
        self._random = np.random.default_rng(4)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._kept: dict[str, _Tensor] = {}

    def channels(self, name: str) -> int:
        """The channels of an image, or the width of tokens."""
        return self._kept[name].channels

    def divisor(self, name: str) -> int:
        """By how much the height and width of `name` are divided against the plate's."""
        return self._kept[name].divisor

    def keep(self, name: str, channels: int, divisor: int) -> str:
        """Note what `name` is, and answer it."""
        self._kept[name] = _Tensor(channels, divisor)
        return name

    def dims(self, channels: int, divisor: int) -> list[int | str]:
        """The dims of an image in this net's form."""
        if self.size is None:
            return [1, channels, *(axis if divisor == 1 else f"{axis}/{divisor}" for axis in ("height", "width"))]
        return [1, channels, self.size[0] // divisor, self.size[1] // divisor]

    def image(self, name: str, channels: int) -> str:
        """An input [1, channels, height, width]."""
        return self._input(name, self.dims(channels, 1), channels, 1)

    def state(self, name: str, channels: int, divisor: int) -> str:
        """A recurrent input [1, channels, height / divisor, width / divisor]; in the dynamic form all of it is free.

        There a first frame's state is a single pixel of one channel.
        """
        if self.size is None:
            free: list[int | str] = [1, *(f"{name}_{axis}" for axis in ("channels", "height", "width"))]
            return self._input(name, free, channels, divisor)
        return self._input(name, self.dims(channels, divisor), channels, divisor)

    def _input(self, name: str, dims: Sequence[int | str], channels: int, divisor: int) -> str:
        from onnx import TensorProto, helper

        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))
        return self.keep(name, channels, divisor)

    def result(self, source: str, name: str) -> None:
        """Make `source` the model's output `name`."""
        from onnx import TensorProto, helper

        kept = self._kept[source]
        dims = self.dims(kept.channels, kept.divisor)
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))
        for node in self._nodes:
            for names in (node.input, node.output):
                for index, found in enumerate(names):
                    if found == source:
                        names[index] = name
        self._kept[name] = kept

    def constant(self, values: "NDArray[Any]", name: str = "onnx::Constant") -> str:
        """An initializer that holds `values`."""
        from onnx import numpy_helper

        unique = f"{name}_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(values, unique))
        return unique

    def integers(self, *values: int) -> str:
        """An initializer of int64."""
        import numpy as np

        return self.constant(np.array(values, np.int64))

    def number(self, value: float) -> str:
        """An initializer of one float32 without axes, as a Python number is exported."""
        import numpy as np

        return self.constant(np.array(value, np.float32))

    def weight(self, *shape: int) -> str:
        """An initializer of small seeded numbers."""
        import numpy as np

        values: NDArray[np.float32] = (self._random.standard_normal(shape) * 0.05).astype(np.float32)
        return self.constant(values, "onnx::Weight")

    def add(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:  # noqa: ANN401 - as onnx takes them
        """One operator with one result; what that is stays unknown until `keep` says it."""
        return self.add_many(operator, inputs, 1, **attributes)[0]

    def add_many(
        self,
        operator: str,
        inputs: Sequence[str],
        outputs: int,
        **attributes: Any,  # noqa: ANN401 - as onnx takes them
    ) -> list[str]:
        """One operator with several results."""
        from onnx import helper

        stem = f"/{operator}_{len(self._nodes)}"
        names = [f"{stem}_output_{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(operator, list(inputs), names, name=stem, **attributes))
        return names

    def same(self, operator: str, *inputs: str, **attributes: Any) -> str:  # noqa: ANN401 - as onnx takes them
        """One operator whose result is as its first input."""
        kept = self._kept[inputs[0]]
        return self.keep(self.add(operator, inputs, **attributes), kept.channels, kept.divisor)

    def model(self) -> "onnx.ModelProto":
        """The whole model, checked."""
        import onnx
        from onnx import helper

        graph = helper.make_graph(self._nodes, "main_graph", self._inputs, self._outputs, self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
        onnx.checker.check_model(model)
        return model
