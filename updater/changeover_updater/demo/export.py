"""Writes a trained plan as ONNX, node by node, so that the file holds exactly what the plan says.

IR version 8 and opset 17: every onnxruntime from 1.12 on loads them. Height and width are free. Weights are float32, or
bfloat16 with a cast in front of each use, as files are that were saved for newer GPUs.
"""

from typing import TYPE_CHECKING, Literal, TypeAlias

from changeover_updater.demo.net import Conv, Join, Plan, Step, Up, Weights

if TYPE_CHECKING:
    import onnx

__all__ = ["IR_VERSION", "OPSET", "Storage", "export_onnx"]

IR_VERSION = 8
OPSET = 17

Storage: TypeAlias = Literal["float32", "bfloat16"]


def export_onnx(plan: Plan, weights: Weights, storage: Storage = "float32", *, name: str = "matte") -> bytes:
    """The bytes of an ONNX file: ``image`` [1, 3, H, W] in, ``matte`` [1, 1, H, W] in 0..1 out."""
    from onnx import TensorProto, checker, helper

    nodes = [node for step in plan for node in _nodes(step, storage)]
    nodes.append(helper.make_node("Sigmoid", [plan[-1].name], ["matte"], name="sigmoid"))
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "height", "width"])],
        [helper.make_tensor_value_info("matte", TensorProto.FLOAT, [1, 1, "height", "width"])],
        _initializers(plan, weights, storage),
    )
    model = helper.make_model(graph, producer_name="changeover-demo", opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _initializers(plan: Plan, weights: Weights, storage: Storage) -> "list[onnx.TensorProto]":
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    tensors = []
    for name, value in weights.items():
        if storage == "bfloat16":
            tensors.append(helper.make_tensor(name, TensorProto.BFLOAT16, value.shape, value.ravel().tolist()))
        else:
            tensors.append(numpy_helper.from_array(value, name))
    if any(isinstance(step, Up) for step in plan):
        tensors.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice"))
    return tensors


def _nodes(step: Step, storage: Storage) -> "list[onnx.NodeProto]":
    from onnx import helper

    match step:
        case Conv():
            return _convolution(step, storage)
        case Up():
            return [
                helper.make_node(
                    "Resize",
                    [step.source, "", "twice"],
                    [step.name],
                    name=step.name,
                    mode="nearest",
                    coordinate_transformation_mode="asymmetric",
                    nearest_mode="floor",
                )
            ]
        case Join():
            return [helper.make_node("Concat", [step.first, step.second], [step.name], name=step.name, axis=1)]
        case _:
            return [helper.make_node("Add", [step.first, step.second], [step.name], name=step.name)]


def _convolution(step: Conv, storage: Storage) -> "list[onnx.NodeProto]":
    from onnx import TensorProto, helper

    stored = [f"{step.name}.weight", f"{step.name}.bias"]
    used = [f"{name}.float32" for name in stored] if storage == "bfloat16" else stored
    casts = [
        helper.make_node("Cast", [before], [after], name=f"{before}.cast", to=TensorProto.FLOAT)
        for before, after in zip(stored, used, strict=True)
        if before != after
    ]
    result = step.name if step.linear else f"{step.name}.linear"
    conv = helper.make_node(
        "Conv",
        [step.source, *used],
        [result],
        name=step.name,
        kernel_shape=[step.kernel, step.kernel],
        strides=[step.stride, step.stride],
        pads=[step.padding] * 4,
        dilations=[step.dilation, step.dilation],
        group=step.groups,
    )
    rectifier = [] if step.linear else [helper.make_node("Relu", [result], [step.name], name=f"{step.name}.relu")]
    return [*casts, conv, *rectifier]
