import json
import os
import subprocess
import sys

import pytest

from changeover_validators.tables import rows
from changeover_validators.vram.rules import memory_rules

PROBE = """
import json, sys
import numpy, onnxruntime
from onnx import TensorProto, helper, numpy_helper

BYTES = 8 << 20
SHAPE = [1, 1, 1024, 2048]
ATTRIBUTES = {"Cast": {"to": TensorProto.FLOAT}, "LogSoftmax": {"axis": 3}, "Softmax": {"axis": 3}}
EXTRA = {"Clip": ["low", "high"], "Add": ["half"], "Sub": ["half"], "Mul": ["half"], "Div": ["half"], "PRelu": ["half"]}

def status(key):
    return int(next(line for line in open("/proc/self/status") if line.startswith(key)).split()[1]) * 1024

def buffers(operator):
    nodes = [
        helper.make_node("Add", ["x", "half"], ["a"]),
        helper.make_node(operator, ["a", *EXTRA.get(operator, [])], ["b"], **ATTRIBUTES.get(operator, {})),
        helper.make_node("ReduceMax", ["b"], ["y"]),
    ]
    values = [numpy_helper.from_array(numpy.array(v, numpy.float32), n) for n, v in
              (("half", [0.5]), ("low", 0.0), ("high", 1.0))]
    graph = helper.make_graph(nodes, "one", [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {"x": numpy.random.rand(*SHAPE).astype("float32")}
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = status("VmRSS")
    session.run(None, feed)
    return round((status("VmHWM") - before) / BYTES)

print(json.dumps({name: buffers(name) for name in sys.argv[1:]}))
"""

NOT_LISTED = [
    "Abs",
    "Add",
    "Ceil",
    "Div",
    "Erf",
    "Exp",
    "Floor",
    "Log",
    "Mul",
    "Neg",
    "PRelu",
    "Reciprocal",
    "Sqrt",
    "Sub",
]


def test_table_of_in_place_operators_is_what_the_runtime_does() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the high-water mark of a process is reset through /proc, which only Linux has")
    source = rows("memory")["in_place"][0]["source"]
    if ".".join(onnxruntime.__version__.split(".")[:2]) not in source:
        pytest.skip(f"the table states another release than {onnxruntime.__version__}: {source}")
    listed = sorted(memory_rules().in_place)
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}

    command = [sys.executable, "-c", PROBE, *listed, *NOT_LISTED]
    done = subprocess.run(command, env=environment | {"MALLOC_ARENA_MAX": "1"}, check=True, capture_output=True)

    buffers = json.loads(done.stdout)
    assert {name: buffers[name] for name in listed} == dict.fromkeys(listed, 1)
    assert {name: buffers[name] for name in NOT_LISTED} == dict.fromkeys(NOT_LISTED, 2)
