"""Global attention as exporters write it, and what looks like it and grows no faster than the plate."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from changeover_registry.inspect import inspect_variant
from changeover_registry.inspect.attention import Growth, global_attention

CHANNELS, STRIDE = 16, 16


class Drawing:
    """A net with an embedding of patches: `x` [1,3,h,w] becomes `map` [1,16,h/16,w/16]; nodes are added one by one."""

    def __init__(self, size: tuple[int, int] | None) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.size = size
        weights = self.keep(np.zeros((CHANNELS, 3, STRIDE, STRIDE), np.float32))
        self.add("Conv", "x", weights, output="map", strides=[STRIDE, STRIDE])

    def keep(self, values: Any) -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def shape(self, *sides: int) -> str:
        return self.keep(np.array(sides, np.int64))

    def add(self, kind: str, *inputs: str, output: str = "", domain: str = "", **attributes: Any) -> str:
        output = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], domain=domain, **attributes))
        return output

    def linear(self, tokens: str, wide: int = CHANNELS) -> str:
        return self.add("MatMul", tokens, self.keep(np.zeros((CHANNELS, wide), np.float32)))

    def tokens(self) -> str:
        """[1, places, channels]."""
        flat = self.add("Reshape", "map", self.shape(0, 0, -1))
        return self.add("Transpose", flat, perm=[0, 2, 1])

    def attend(self, tokens: str) -> str:
        query, key, value = (self.linear(tokens) for _ in range(3))
        scores = self.add("MatMul", query, self.add("Transpose", key, perm=[0, 2, 1]))
        weights = self.add("Softmax", self.add("Mul", scores, self.keep(np.float32(0.25))))
        return self.add("MatMul", weights, value)

    def model(self, last: str, opset: int = 17) -> onnx.ModelProto:
        sides = ["height", "width"] if self.size is None else list(self.size)
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, *sides])],
            [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)],
            self.constants,
        )
        imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=8)


def plain(net: Drawing) -> str:
    return net.attend(net.tokens())


def heads_folded(net: Drawing) -> str:
    """Torch's older way: heads go into the batch, by a shape that the graph computes."""
    tokens = net.linear(net.tokens())
    places = net.add("Gather", net.add("Shape", tokens), net.keep(np.int64(1)))
    places = net.add("Unsqueeze", places, net.shape(0))
    shape = net.add("Concat", net.shape(1), places, net.shape(4), net.shape(4), axis=0)
    split = net.add("Transpose", net.add("Reshape", tokens, shape), perm=[0, 2, 1, 3])
    folded = net.add("Reshape", split, net.add("Concat", net.shape(-1), places, net.shape(4), axis=0))
    scores = net.add("MatMul", folded, net.add("Transpose", folded, perm=[0, 2, 1]))
    return net.add("MatMul", net.add("Softmax", scores), folded)


def by_einsum(net: Drawing) -> str:
    tokens = net.tokens()
    scores = net.add("Einsum", net.linear(tokens), net.linear(tokens), equation="bic,bjc->bij")
    return net.add("Einsum", net.add("Softmax", scores), tokens, equation="bij,bjc->bic")


def softmax_in_parts(net: Drawing) -> str:
    tokens = net.tokens()
    scores = net.add("MatMul", net.linear(tokens), net.add("Transpose", tokens, perm=[0, 2, 1]))
    raised = net.add("Exp", net.add("Sub", scores, net.add("ReduceMax", scores, axes=[2])))
    return net.add("MatMul", net.add("Div", raised, net.add("ReduceSum", raised, net.shape(2))), tokens)


def key_reduced(net: Drawing) -> str:
    """Keys and values at a quarter of the places: the matrix is smaller, and grows all the same."""
    weights = net.keep(np.zeros((CHANNELS, CHANNELS, 2, 2), np.float32))
    small = net.add("Conv", "map", weights, strides=[2, 2])
    keys = net.add("Reshape", small, net.shape(0, 0, -1))
    return net.add("Softmax", net.add("MatMul", net.linear(net.tokens()), keys))


def row_by_row(net: Drawing) -> str:
    """Each row attends to itself: the power is 1.5, and a line through two sizes is wrong for a third."""
    rows = net.add("Transpose", "map", perm=[0, 2, 3, 1])
    return net.add("MatMul", net.linear(rows), net.add("Transpose", rows, perm=[0, 1, 3, 2]))


def correlation(net: Drawing) -> str:
    """All pairs of places of two maps, without any softmax."""
    flat = net.add("Reshape", "map", net.shape(0, 0, -1))
    return net.add("MatMul", net.add("Transpose", flat, perm=[0, 2, 1]), flat)


def fused(net: Drawing) -> str:
    tokens = net.tokens()
    return net.add("MultiHeadAttention", tokens, tokens, tokens, domain="com.microsoft", num_heads=2)


def fused_of_one_sequence(net: Drawing) -> str:
    weights = net.keep(np.zeros((CHANNELS, 3 * CHANNELS), np.float32))
    bias = net.keep(np.zeros(3 * CHANNELS, np.float32))
    return net.add("Attention", net.tokens(), weights, bias, domain="com.microsoft", num_heads=2)


def standard(net: Drawing) -> str:
    tokens = net.tokens()
    return net.add("Attention", tokens, tokens, tokens, q_num_heads=2, kv_num_heads=2)


def windows(net: Drawing, side: int = 8) -> str:
    """[windows, side * side, channels], of a map that is a multiple of the side."""
    image = net.add("Transpose", "map", perm=[0, 2, 3, 1])
    shape = net.add("Shape", image)
    eight = net.keep(np.int64(side))
    rows, columns = (
        net.add("Unsqueeze", net.add("Div", net.add("Gather", shape, net.keep(np.int64(axis))), eight), net.shape(0))
        for axis in (1, 2)
    )
    cut = net.add("Concat", net.shape(1), rows, net.shape(side), columns, net.shape(side, CHANNELS), axis=0)
    parts = net.add("Transpose", net.add("Reshape", image, cut), perm=[0, 1, 3, 2, 4, 5])
    return net.add("Reshape", parts, net.shape(-1, side * side, CHANNELS))


def windowed(net: Drawing) -> str:
    return net.attend(windows(net))


def windowed_and_padded(net: Drawing) -> str:
    """Windows of 7 on a map that is padded up to a multiple of 7 by arithmetic on its shape, as Swin does."""
    shape, seven = net.add("Shape", "map"), net.keep(np.int64(7))
    pads = []
    for axis in (2, 3):
        side = net.add("Gather", shape, net.keep(np.int64(axis)))
        missing = net.add("Mod", net.add("Sub", seven, net.add("Mod", side, seven)), seven)
        pads.append(net.add("Unsqueeze", missing, net.shape(0)))
    whole = net.add("Concat", net.shape(0, 0, 0, 0, 0, 0), *pads, axis=0)
    net.add("Pad", "map", whole, output="padded")
    net.nodes[0].output[0], before = "map", "padded"
    image = net.add("Transpose", before, perm=[0, 2, 3, 1])
    sides = net.add("Shape", image)
    rows, columns = (
        net.add("Unsqueeze", net.add("Div", net.add("Gather", sides, net.keep(np.int64(a))), seven), net.shape(0))
        for a in (1, 2)
    )
    cut = net.add("Concat", net.shape(1), rows, net.shape(7), columns, net.shape(7, CHANNELS), axis=0)
    parts = net.add("Transpose", net.add("Reshape", image, cut), perm=[0, 1, 3, 2, 4, 5])
    return net.attend(net.add("Reshape", parts, net.shape(-1, 49, CHANNELS)))


def over_channels(net: Drawing) -> str:
    flat = net.add("Reshape", "map", net.shape(0, 0, -1))
    scores = net.add("MatMul", flat, net.add("Transpose", flat, perm=[0, 2, 1]))
    return net.add("MatMul", net.add("Softmax", scores), flat)


def over_few_places(net: Drawing) -> str:
    """Every place looks at 49 pooled ones: linear."""
    few = net.add("Resize", "map", "", "", net.shape(1, CHANNELS, 7, 7), mode="nearest")
    keys = net.add("Reshape", few, net.shape(0, 0, -1))
    return net.add("Softmax", net.add("MatMul", net.linear(net.tokens()), keys))


def over_classes(net: Drawing) -> str:
    return net.add("Softmax", net.linear(net.tokens(), 5))


def fused_in_windows(net: Drawing) -> str:
    parts = windows(net)
    return net.add("MultiHeadAttention", parts, parts, parts, domain="com.microsoft", num_heads=2)


GLOBAL = [plain, heads_folded, by_einsum, softmax_in_parts, key_reduced, correlation, fused, fused_of_one_sequence]
LOCAL = [windowed, windowed_and_padded, over_channels, over_classes, fused_in_windows]


def asked(draw: Callable[[Drawing], str], size: tuple[int, int] | None, opset: int = 17) -> Growth:
    net = Drawing(size)
    return global_attention(net.model(draw(net), opset))


@pytest.mark.parametrize("size", [None, (512, 768)])
@pytest.mark.parametrize("draw", GLOBAL)
def test_every_place_against_every_other_is_found(draw: Callable[[Drawing], str], size: tuple[int, int] | None) -> None:
    found = asked(draw, size)

    assert found.found
    assert found.shown


@pytest.mark.parametrize("size", [None, (512, 768)])
@pytest.mark.parametrize("draw", LOCAL)
def test_what_grows_with_the_pixels_alone_is_none(draw: Callable[[Drawing], str], size: tuple[int, int] | None) -> None:
    assert asked(draw, size) == Growth(found=False)


@pytest.mark.parametrize(("draw", "found"), [(row_by_row, True), (over_few_places, False)])
def test_at_two_sizes_the_power_of_the_pixels_decides(draw: Callable[[Drawing], str], found: bool) -> None:
    assert asked(draw, None).found is found


@pytest.mark.parametrize("size", [None, (512, 768)])
def test_the_standards_own_operator_is_asked_for_its_length(size: tuple[int, int] | None) -> None:
    assert asked(standard, size, opset=23).found


def test_the_answer_shows_the_matrix_at_both_sizes() -> None:
    assert asked(plain, None).shown == "MatMul t7: 1x1024x1024 at 512x512 and 1x4096x4096 at 1024x1024"
    assert asked(plain, (512, 768)).shown == "MatMul t7: 1x1536x1536, every place of its feature map"


def test_tokens_beside_the_places_do_not_hide_them() -> None:
    def with_class(net: Drawing) -> str:
        token = net.keep(np.zeros((1, 1, CHANNELS), np.float32))
        return net.attend(net.add("Concat", token, net.tokens(), axis=1))

    assert asked(with_class, (512, 768)).found


def test_patches_cut_by_reshapes_alone_are_taken_for_places() -> None:
    """No convolution tells how many places there are; a wrong yes costs a measurement, a wrong no a wrong number."""

    def cut(net: Drawing) -> str:
        net.nodes.clear()
        parts = net.add("Reshape", "x", net.shape(1, 3, 32, 16, 48, 16))
        parts = net.add("Transpose", parts, perm=[0, 2, 4, 3, 5, 1])
        tokens = net.add("Reshape", parts, net.shape(1, 1536, 768))
        return net.add("MatMul", tokens, net.add("Transpose", tokens, perm=[0, 2, 1]))

    assert asked(cut, (512, 768)).found


def test_a_shape_that_only_a_run_would_tell_is_taken_for_attention_where_it_may_be() -> None:
    def chosen(net: Drawing) -> str:
        many = net.add("NonZero", net.add("Reshape", "map", net.shape(-1, CHANNELS)))
        some = net.add("Gather", net.add("Reshape", "map", net.shape(-1, CHANNELS)), many, axis=0)
        scores = net.add("MatMul", some, net.add("Transpose", some, perm=[0, 2, 1]))
        return net.add("Softmax", scores)

    def alone(net: Drawing) -> str:
        many = net.add("NonZero", net.add("Reshape", "map", net.shape(-1, CHANNELS)))
        return net.add("MatMul", net.add("Cast", many, to=1), net.add("Transpose", net.add("Cast", many, to=1)))

    assert asked(chosen, None) == Growth(found=True, shown="MatMul t6, whose shape is not known before it runs")
    assert asked(alone, None) == Growth(found=False)


@pytest.mark.parametrize("size", [None, (512, 768)])
def test_a_fused_operator_of_unknown_length_is_taken_for_attention(size: tuple[int, int] | None) -> None:
    def chosen(net: Drawing) -> str:
        many = net.add("Cast", net.add("NonZero", "map"), to=TensorProto.FLOAT)
        some = net.add("Unsqueeze", many, net.shape(0))
        return net.add("MultiHeadAttention", some, some, some, domain="com.microsoft", num_heads=2)

    assert "not known before it runs" in asked(chosen, size).shown


def test_an_operator_whose_name_says_that_it_looks_near_is_none() -> None:
    def near(net: Drawing) -> str:
        tokens = net.tokens()
        return net.add("LongformerAttention", *[tokens] * 7, domain="com.microsoft", num_heads=2, window=8)

    assert not asked(near, None).found


@pytest.mark.parametrize("size", [None, (512, 768)])
def test_attention_in_a_branch_of_the_graph_is_found(size: tuple[int, int] | None) -> None:
    net = Drawing(size)
    tokens, condition = net.tokens(), net.keep(np.array(True))
    across = net.add("Transpose", tokens, perm=[0, 2, 1])
    out = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)]
    inner = helper.make_graph([helper.make_node("MatMul", [tokens, across], ["scores"])], "inner", [], out)
    last = net.add("If", condition, then_branch=inner, else_branch=inner)

    assert global_attention(net.model(last)).found


def test_attention_inside_a_function_of_the_exporter_is_found() -> None:
    net = Drawing(None)
    tokens = net.tokens()
    body = [
        helper.make_node("Transpose", ["q"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "t"], ["s"]),
        helper.make_node("Softmax", ["s"], ["p"]),
    ]
    model = net.model(net.add("Attend", tokens, domain="local"))
    model.functions.append(helper.make_function("local", "Attend", ["q"], ["p"], body, [helper.make_opsetid("", 17)]))
    model.opset_import.append(helper.make_opsetid("local", 1))

    assert global_attention(model).found


def function(name: str, *called: str) -> Any:
    steps = [helper.make_node(other, ["a"], [f"b{n}"], domain="local") for n, other in enumerate(called)]
    last = helper.make_node("Sum", [f"b{n}" for n in range(len(called))], ["z"])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, ["a"], ["z"], [*steps, last], imports)


@pytest.mark.parametrize(
    "functions",
    [
        [function("F0", "F0")],
        [function("F0", "F1"), function("F1", "F0")],
        [*(function(f"F{n}", *[f"F{n + 1}"] * 4) for n in range(30)), function("F30", "Relu")],
    ],
    ids=["itself", "each other", "four to the thirtieth"],
)
def test_functions_without_an_end_are_not_followed(functions: list[Any]) -> None:
    net = Drawing(None)
    model = net.model(net.add("F0", "map", domain="local"))
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.functions.extend(functions)

    assert "functions" in global_attention(model).shown


def test_inspection_says_what_shows_it(tmp_path: Path) -> None:
    net = Drawing(None)
    onnx.save(net.model(plain(net)), tmp_path / "model.onnx")

    found = inspect_variant(tmp_path, "onnx", "model.onnx", ["model.onnx"])

    assert found.problems == ()
    assert found.requires.global_attention is True
    assert found.evidence["global_attention"].startswith("MatMul ")
    assert found.evidence["dynamic_axes"] == "axes height, width"
    assert found.requires.weight_bytes is not None
    assert found.requires.weight_bytes > 3 * CHANNELS * STRIDE * STRIDE * 4
