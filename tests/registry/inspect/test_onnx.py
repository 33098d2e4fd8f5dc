from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from changeover_registry.inspect import Inspection, inspect_variant

Make = Callable[..., onnx.ModelProto]
Save = Callable[[onnx.ModelProto], Path]


def inspect(folder: Path, *files: str) -> Inspection:
    return inspect_variant(folder, "onnx", "model.onnx", files or ("model.onnx",))


def rules(found: Inspection) -> list[str]:
    return [problem.rule for problem in found.problems]


def test_plain_model_needs_what_its_file_says(make_model: Make, save: Save) -> None:
    found = inspect(save(make_model()))

    assert found.problems == ()
    requires = found.requires
    assert (requires.ir_version, requires.opset, requires.domains) == (8, 17, ("ai.onnx",))
    assert requires.operators == ("Conv", "Relu")
    assert requires.dtypes == ("float32",)
    assert requires.weight_bytes == 4 * 3 * 3 * 3 * 4
    assert (requires.dynamic_axes, requires.external_data, requires.global_attention) == (True, False, False)
    assert requires.compute_capability is None
    assert found.inputs[0].dims == (1, 3, "h", "w")
    assert [item.name for item in found.outputs] == ["y"]


def test_dynamic_batch_alone_is_no_dynamic_plate(make_model: Make, save: Save) -> None:
    found = inspect(save(make_model(dims=("n", 3, 256, 256))))

    assert found.requires.dynamic_axes is False


@pytest.mark.parametrize(
    ("data_type", "dtype", "capability"),
    [
        (TensorProto.BFLOAT16, "bfloat16", "8.0"),
        (TensorProto.FLOAT8E4M3FN, "float8e4m3fn", "8.9"),
        (TensorProto.FLOAT16, "float16", None),
    ],
)
def test_tensor_type_asks_for_its_compute_capability(
    make_model: Make, save: Save, data_type: int, dtype: str, capability: str | None
) -> None:
    model = make_model()
    model.graph.initializer.append(TensorProto(name="extra", data_type=data_type, dims=[2], raw_data=b"\0\0\0\0"))

    requires = inspect(save(model)).requires

    assert dtype in requires.dtypes
    assert requires.compute_capability == capability


def test_cast_to_bfloat16_asks_for_it_although_no_weight_has_it(make_model: Make, save: Save) -> None:
    cast = helper.make_node("Cast", ["y"], ["z"], to=TensorProto.BFLOAT16)

    assert inspect(save(make_model(nodes=(cast,)))).requires.compute_capability == "8.0"


def test_custom_domain_is_a_problem_that_names_the_operator(make_model: Make, save: Save) -> None:
    node = helper.make_node("Steal", ["y"], ["z"], domain="com.acme")

    found = inspect(save(make_model(nodes=(node,), domains=("com.acme",))))

    assert rules(found) == ["operator domain"]
    assert found.problems[0].actual == "com.acme.Steal"


def test_custom_operator_inside_a_subgraph_is_found(make_model: Make, save: Save) -> None:
    inner = helper.make_graph([helper.make_node("Steal", [], ["q"], domain="com.acme")], "inner", [], [])
    branch = helper.make_node("If", ["y"], ["z"], then_branch=inner, else_branch=inner)

    assert "operator domain" in rules(inspect(save(make_model(nodes=(branch,)))))


def test_custom_operator_inside_a_function_is_found(make_model: Make, save: Save) -> None:
    model = make_model()
    body = [helper.make_node("Steal", ["a"], ["b"], domain="com.acme")]
    model.functions.append(helper.make_function("local", "F", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))

    assert "operator domain" in rules(inspect(save(model)))


def test_operator_that_the_opset_does_not_have_is_a_problem(make_model: Make, save: Save) -> None:
    found = inspect(save(make_model(nodes=(helper.make_node("Reluu", ["y"], ["z"]),))))

    assert rules(found) == ["operator"]
    assert "Reluu" in found.problems[0].actual


def test_ir_version_that_no_runtime_loads_is_a_problem(make_model: Make, save: Save) -> None:
    found = inspect(save(make_model(ir_version=14)))

    assert rules(found) == ["ONNX IR version"]
    assert found.problems[0].expected.startswith("at most 13")
    assert found.problems[0].actual == "14"
    assert found.requires.ir_version == 14


@pytest.mark.parametrize("opset", [27, 28, 99])
def test_opset_that_no_runtime_loads_is_a_problem_and_its_operators_are_not_judged(
    make_model: Make, save: Save, opset: int
) -> None:
    """The newest onnx stamps opset 28 if nobody says otherwise."""
    nodes = (helper.make_node("FromTheFuture", ["y"], ["z"]),) if opset == 99 else ()

    found = inspect(save(make_model(opset=opset, nodes=nodes)))

    assert rules(found) == ["ONNX opset"]
    assert (found.problems[0].expected.split(",")[0], found.problems[0].actual) == ("at most 26", str(opset))
    assert found.requires.opset == opset


def test_model_without_an_opset_is_a_problem(make_model: Make, save: Save) -> None:
    model = make_model()
    del model.opset_import[:]

    assert rules(inspect(save(model))) == ["ONNX opset"]


@pytest.mark.parametrize("data", [b"", b"garbage that is no protobuf", b"\x08\x08"])
def test_what_is_no_model_is_a_problem_that_names_the_file(save: Save, make_model: Make, data: bytes) -> None:
    folder = save(make_model())
    (folder / "model.onnx").write_bytes(data)

    found = inspect(folder)

    assert rules(found) == ["ONNX file"]
    assert found.problems[0].where == "model.onnx"


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(min_value=0, max_value=400), flip=st.integers(min_value=0, max_value=255))
def test_truncated_and_flipped_files_never_raise(make_model: Make, save: Save, cut: int, flip: int) -> None:
    model = make_model()
    folder = save(model)
    data = bytearray(model.SerializeToString())
    data[cut % len(data)] ^= flip
    (folder / "model.onnx").write_bytes(bytes(data[: len(data) - cut % len(data)]))

    assert isinstance(inspect(folder), Inspection)


@pytest.mark.parametrize("name", [b"Relu", b"net"])
def test_name_that_is_not_utf8_is_a_problem(make_model: Make, save: Save, name: bytes) -> None:
    folder = save(make_model())
    data = make_model().SerializeToString()
    (folder / "model.onnx").write_bytes(data.replace(name, b"\xff" * len(name)))

    found = inspect(folder)

    assert rules(found) == ["ONNX file"]
    assert found.problems[0].actual == "a name that is not UTF-8"


def external(model: onnx.ModelProto, **fields: str) -> onnx.ModelProto:
    tensor = TensorProto(name="big", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in fields.items():
        tensor.external_data.add(key=key, value=value)
    model.graph.initializer.append(tensor)
    return model


def test_external_data_beside_the_model_is_accepted_and_counted(make_model: Make, save: Save) -> None:
    folder = save(external(make_model(), location="big.data", offset="8", length="16"))
    (folder / "big.data").write_bytes(bytes(24))

    found = inspect(folder, "model.onnx", "big.data")

    assert found.problems == ()
    assert found.requires.external_data is True
    assert found.requires.weight_bytes == 432 + 16


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret", "a/../../secret", "C:\\secret", ""])
def test_external_data_outside_the_folder_is_a_problem(make_model: Make, save: Save, location: str) -> None:
    found = inspect(save(external(make_model(), location=location)))

    assert rules(found) == ["external data"]
    assert repr(location) in found.problems[0].actual


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"offset": "100"}, "bytes 100 to 116 of a file of 16"),
        ({"length": "17"}, "17 bytes for a tensor of 16"),
        ({"offset": "-1"}, "not numbers"),
    ],
)
def test_external_data_that_the_file_does_not_hold_is_a_problem(
    make_model: Make, save: Save, fields: dict[str, str], words: str
) -> None:
    folder = save(external(make_model(), location="big.data", **fields))
    (folder / "big.data").write_bytes(bytes(16))

    found = inspect(folder, "model.onnx", "big.data")

    assert words in found.problems[0].actual


def test_external_data_that_is_not_listed_is_a_problem(make_model: Make, save: Save) -> None:
    folder = save(external(make_model(), location="big.data"))
    (folder / "big.data").write_bytes(bytes(16))

    found = inspect(folder)

    assert sorted(rules(found)) == ["external data", "file"]


def test_external_data_that_is_missing_or_a_link_is_a_problem(make_model: Make, save: Save, tmp_path: Path) -> None:
    folder = save(external(make_model(), location="big.data"))
    missing = inspect(folder, "model.onnx", "big.data")
    (tmp_path / "outside").write_bytes(bytes(16))
    (folder / "big.data").symlink_to(tmp_path / "outside")
    linked = inspect(folder, "model.onnx", "big.data")

    assert "does not exist" in missing.problems[-1].actual
    assert "a link" in linked.problems[-1].actual


def test_sparse_constant_and_packed_weights_are_counted(make_model: Make, save: Save) -> None:
    model = make_model()
    constant = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.ones(5, np.float64), "k"))
    model.graph.node.append(constant)
    model.graph.initializer.append(TensorProto(name="i4", data_type=TensorProto.INT4, dims=[3], raw_data=b"\0\0"))
    model.graph.initializer.append(TensorProto(name="i2", data_type=TensorProto.INT2, dims=[5], raw_data=b"\0\0"))
    model.graph.initializer.append(TensorProto(name="s", data_type=TensorProto.STRING, dims=[1], string_data=[b"x"]))
    model.graph.initializer.append(TensorProto(name="?", data_type=999, dims=[1]))
    values = numpy_helper.from_array(np.ones(2, np.float32), "sparse")
    indices = numpy_helper.from_array(np.arange(2, dtype=np.int64), "at")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [9]))

    requires = inspect(save(model)).requires

    assert requires.weight_bytes == 432 + 40 + 2 + 2 + 8 + 16
    assert "type-999" in requires.dtypes


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (TensorProto(name="t", data_type=999, dims=[1]), "type 999"),
        (TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[-1]), "dims [-1]"),
        (TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[4], raw_data=b"\0"), "1 bytes for a tensor of 16"),
    ],
)
def test_tensor_whose_bytes_do_not_fit_its_dims_is_a_problem(
    make_model: Make, save: Save, tensor: TensorProto, words: str
) -> None:
    model = make_model()
    model.graph.initializer.append(tensor)

    found = inspect(save(model))

    assert rules(found) == ["tensor"]
    assert words in found.problems[0].actual


def test_softmax_over_classes_is_no_global_attention(make_model: Make, save: Save) -> None:
    found = inspect(save(make_model(nodes=(helper.make_node("Softmax", ["y"], ["z"]),))))

    assert found.requires.global_attention is False


def test_real_models_have_no_problem(models: Path) -> None:
    for path in sorted(models.glob("*.onnx")):
        found = inspect_variant(models, "onnx", path.name, [item.name for item in models.iterdir()])
        assert found.problems == (), path.name
        assert found.requires.weight_bytes
