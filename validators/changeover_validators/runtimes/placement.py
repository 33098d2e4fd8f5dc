"""Where onnxruntime put each node of a session: whatever works on images must be on the provider that was asked for.

``session.disable_cpu_ep_fallback`` refuses a session of which any node is on the CPU, and onnxruntime puts the nodes
that compute shapes there on purpose; so with CUDA it would refuse every export with free axes. Releases from 1.24 on
tell the place of each node, and those are asked; with older ones the option stands. Nothing of onnxruntime is imported
here. Not measured on a GPU.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from changeover_registry.errors import MeasurementError

__all__ = ["check_nodes", "nodes_of", "placement_entries"]

_TELLS = "get_provider_graph_assignment_info"
_OF_SHAPES = frozenset(
    {"Abs", "Add", "And", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Floor",
     "Gather", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not",
     "Or", "Range", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Round", "Shape", "Size", "Slice",
     "Split", "Sqrt", "Squeeze", "Sub", "Unsqueeze", "Where"}
)  # fmt: skip
"""What exporters compute shapes with. CUDA has kernels of all of them for images, so on images they are never left."""


def placement_entries(runtime_module: Any) -> dict[str, str]:  # noqa: ANN401 - onnxruntime has no types
    """The entries of a session's configuration that keep it from running elsewhere in silence."""
    if hasattr(runtime_module.InferenceSession, _TELLS):
        return {"session.record_ep_graph_assignment_info": "1"}
    return {"session.disable_cpu_ep_fallback": "1"}


def nodes_of(session: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - as above
    """Provider and operator of each node, of a session that was built with `placement_entries`; none where not told."""
    for group in getattr(session, _TELLS, tuple)():
        for node in group.get_nodes():
            yield str(group.ep_name), str(node.op_type)


def check_nodes(wanted: str, placed: Iterable[tuple[str, str]]) -> None:
    """See that no node which may work on an image is on another provider than `wanted`, by onnxruntime's name.

    Raises:
        MeasurementError: Some are.
    """
    elsewhere = sorted({f"{kind} on {ran}" for ran, kind in placed if ran != wanted and kind not in _OF_SHAPES})
    if elsewhere:
        raise MeasurementError(
            "provider",
            where="onnxruntime",
            expected=f"every operator on images on {wanted}",
            actual=", ".join(elsewhere[:5]) + (f" and {len(elsewhere) - 5} more kinds" if len(elsewhere) > 5 else ""),
            remedy="use another variant, or a runtime that has these operators for this provider",
        )
