"""Workspaces of cuDNN: what a convolution takes of a GPU's arena while it computes.

With a calibration the size is a constant and a rate for output elements, fitted on that GPU. Without one it is
modelled: the columns of an explicit matrix product, which is the most that the usual algorithms lay out, cut off at
32 MiB where the plan forbids more (onnxruntime's own bound, core/providers/cuda/nn/conv.h). Not measured on a GPU yet.
"""

import math
from collections.abc import Mapping

from changeover_registry.records.memory import Calibration, MemoryPlan
from changeover_validators.vram.optimised import Operation, Tensor

__all__ = ["BOUND_BYTES", "workspace_bytes"]

BOUND_BYTES = 32 << 20
"""What onnxruntime allows a convolution where ``cudnn_conv_use_max_workspace`` is off."""

_CONVOLUTIONS = frozenset({"Conv", "FusedConv", "ConvTranspose"})


def workspace_bytes(
    operation: Operation, tensors: Mapping[str, Tensor], plan: MemoryPlan, calibration: Calibration | None
) -> tuple[int, ...]:
    """The workspace of one operator, in bytes; nothing for what takes none."""
    rates = () if calibration is None else calibration.workspaces
    for rate in rates:
        if rate.operator == operation.operator:
            elements = math.prod(tensors[operation.outputs[0]].dims)
            return (rate.constant_bytes + rate.per_thousand * elements // 1000,)
    if operation.operator not in _CONVOLUTIONS:
        return ()
    columns = _columns(operation, tensors)
    return (min(columns, BOUND_BYTES) if plan.cudnn_max_workspace is False else columns,)


def _columns(operation: Operation, tensors: Mapping[str, Tensor]) -> int:
    """Bytes of the columns of one group: taps in the kernel times positions."""
    weight = tensors[operation.inputs[1]]
    if all(size == 1 for size in weight.dims[2:]):
        return 0
    positions = tensors[operation.inputs[0] if operation.operator == "ConvTranspose" else operation.outputs[0]].dims[2:]
    return math.prod(weight.dims[1:]) * math.prod(positions) * weight.item_bytes
