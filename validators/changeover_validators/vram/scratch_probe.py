"""Asks a release of onnxruntime what single operators take while they compute, beside what `scratch` says of them.

    python -m changeover_validators.vram.scratch_probe [--library FILE] [--threads N]

Each question is a graph of one operator whose arena takes exactly what is asked of it, so the most in use less the
outputs is what the kernel took, to the byte. The library may be that of any release from 1.23 on, such as one in a
throw-away environment. Prints every question and ends with 1 where an answer differs. What this leaves out: operators
whose scratch memory no formula is known for (LSTM, GRU, fused attention without a table of its own).
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from changeover_registry.records.memory import MemoryPlan
from changeover_validators.runtimes.capi import minor_of
from changeover_validators.runtimes.memory_plan import providers, register_arena, session_options
from changeover_validators.runtimes.statistics import read_statistics
from changeover_validators.vram.native_runtime import NativeInference, NativeRuntime
from changeover_validators.vram.optimised import read_optimised
from changeover_validators.vram.probe_cases import CONTRIB, NCHWC
from changeover_validators.vram.scratch import ScratchRules, scratch_bytes

if TYPE_CHECKING:
    import onnx

__all__ = ["QUESTIONS", "Answer", "Question", "answers", "main"]

_EXACT = MemoryPlan(extend="same-as-requested", initial_chunk_bytes=256, pattern=False)
_ROUND = 256
_OPSET = 17


@dataclass(frozen=True, slots=True)
class Question:
    """One operator: the dims of what it is fed and of its weights, its attributes, and further lists of numbers."""

    operator: str
    fed: tuple[tuple[int, ...], ...]
    weights: tuple[tuple[int, ...], ...] = ()
    attributes: Mapping[str, Any] | None = None
    domain: str = ""
    lists: tuple[tuple[str, tuple[float, ...]], ...] = ()
    """(type, values) of further inputs; an empty type leaves one out."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes that the kernel took beside its outputs, and that `scratch_bytes` says."""

    question: Question
    taken: int
    said: int


def answers(library: Path | None = None, threads: int = 1) -> Iterator[Answer]:
    """All questions, asked of the wheel of this interpreter or of `library`.

    Raises:
        UndecidedError: There is no library.
        NativeError: The runtime refuses a question.
    """
    runtime = NativeRuntime(library)
    rules = ScratchRules(minor_of(runtime.api.version), threads, _OPSET)
    try:
        for question in QUESTIONS:
            yield Answer(question, _taken(runtime, question, threads), _said(question, rules))
    finally:
        runtime.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m changeover_validators.vram.scratch_probe")
    parser.add_argument("--library", type=Path, help="a library of onnxruntime (default: this interpreter's)")
    parser.add_argument("--threads", type=int, default=1, help="threads inside an operator (default 1)")
    given = parser.parse_args(arguments)
    differ = 0
    for one in answers(given.library, given.threads):
        differ += one.taken != one.said
        asked = f"{one.question.domain}:{one.question.operator}".lstrip(":")
        attributes = " ".join(f"{key}={value}" for key, value in (one.question.attributes or {}).items())
        mark = "" if one.taken == one.said else f"   said {one.said:,}"
        sys.stdout.write(f"{asked:28}{one.taken:>14,}  {one.question.fed[0]} {attributes}{mark}\n")
    return int(differ > 0)


def _model(question: Question) -> "onnx.ModelProto":
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(3)
    inputs = [f"x{at}" for at in range(len(question.fed))]
    names, constants = list(inputs), []
    for at, shape in enumerate(question.weights):
        constants.append(numpy_helper.from_array(random.random(shape, np.float32), f"w{at}"))
        names.append(f"w{at}")
    for at, (dtype, values) in enumerate(question.lists):
        names.append(f"l{at}" if dtype else "")
        if dtype:
            constants.append(numpy_helper.from_array(np.array(values, dtype), f"l{at}"))
    node = helper.make_node(question.operator, names, ["y"], domain=question.domain, **(question.attributes or {}))
    given = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(inputs, question.fed, strict=True)
    ]
    graph = helper.make_graph([node], "scratch", given, [helper.make_empty_tensor_value_info("y")], constants)
    sets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(question.domain or CONTRIB, 1)]
    return helper.make_model(graph, opset_imports=sets, ir_version=8)


def _taken(runtime: NativeRuntime, question: Question, threads: int) -> int:
    import numpy as np

    data = _model(question).SerializeToString()
    arena = register_arena(runtime, _EXACT, "cpu")
    options = session_options(runtime, _EXACT, provider="cpu", threads=threads, shapes=None, model=data, arena=arena)
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(data, options, providers=providers(_EXACT, "cpu"))
    try:
        before = _in_use(runtime, session)[0]
        feeds = {f"x{at}": np.full(shape, 0.5, np.float32) for at, shape in enumerate(question.fed)}
        outputs = session.run(feeds, None)
        after = _in_use(runtime, session)[1]
    finally:
        session.close()
    return after - before - sum(_rounded(value.nbytes) for value in outputs.values())


def _in_use(runtime: NativeRuntime, session: NativeInference) -> tuple[int, int]:
    """Now, and at most so far."""
    found = read_statistics(runtime.api, session.pointer, "cpu")
    return (0, 0) if found is None else (found.in_use, found.max_in_use)


def _said(question: Question, rules: ScratchRules) -> int:
    graph = read_optimised(_model(question).SerializeToString(), question.operator)
    at = graph.at({f"x{index}": shape for index, shape in enumerate(question.fed)})
    return sum(_rounded(size) for size in scratch_bytes(at.operations[0], at.tensors, rules))


def _rounded(size: int) -> int:
    return -(-size // _ROUND) * _ROUND


def _conv(channels: int, out: int, kernel: int, *, size: int = 64, batch: int = 1, **attributes: int) -> Question:
    """`attributes` are stride, dilation and group, 1 where they are not given."""
    dilation, group = attributes.get("dilation", 1), attributes.get("group", 1)
    written = {
        "kernel_shape": [kernel] * 2,
        "pads": [dilation * (kernel // 2)] * 4,
        "strides": [attributes.get("stride", 1)] * 2,
        "dilations": [dilation] * 2,
        "group": group,
    }
    weights = ((out, channels // group, kernel, kernel), (out,))
    return Question("Conv", ((batch, channels, size, size),), weights, written)


def _deconv(channels: int, out: int, kernel: int, stride: int, group: int = 1) -> Question:
    attributes = {"kernel_shape": [kernel] * 2, "pads": [(kernel - stride) // 2] * 4, "strides": [stride] * 2}
    weights = ((channels, out // group, kernel, kernel), (out,))
    return Question("ConvTranspose", ((1, channels, 32, 48),), weights, attributes | {"group": group})


def _resize(mode: str, *scales: float) -> Question:
    lists = (("", ()), ("float32", (1.0, 1.0, *scales)))
    return Question("Resize", ((1, 16, 48, 64),), (), {"mode": mode}, "", lists)


_IMAGE, _TOKENS = (1, 32, 64, 96), (1, 384, 128)
_POOL = {"kernel_shape": [3, 3], "pads": [1] * 4}

QUESTIONS: tuple[Question, ...] = (
    _conv(16, 16, 3),
    _conv(16, 32, 1),
    _conv(16, 32, 1, stride=2),
    _conv(16, 16, 3, dilation=6),
    _conv(16, 16, 3, stride=2),
    _conv(16, 16, 3, group=16),
    _conv(16, 16, 3, group=4),
    _conv(16, 16, 3, batch=2),
    _conv(8, 96, 3, size=4),
    _conv(8, 96, 3, size=4, group=2),
    _conv(4, 4, 3, size=8),
    replace(_conv(16, 16, 3), operator="FusedConv", domain=CONTRIB),
    replace(_conv(16, 16, 3), domain=NCHWC),
    replace(_conv(16, 16, 3, group=16), domain=NCHWC),
    _deconv(32, 16, 2, 2),
    _deconv(32, 16, 4, 2),
    _deconv(32, 16, 4, 2, group=2),
    _deconv(32, 32, 4, 2, group=32),
    *(_resize(mode, 2.0, 1.5) for mode in ("nearest", "linear", "cubic")),
    _resize("linear", 1.0, 1.0),
    *(Question(name, (_IMAGE,), (), {"axis": axis}) for name in ("Softmax", "LogSoftmax") for axis in (-1, 1, 2)),
    *(Question("ReduceMean", (_IMAGE,), (), {"axes": axes}) for axes in ([1], [2, 3], [3], [1, 3])),
    *(Question("Transpose", (_IMAGE,), (), {"perm": perm}) for perm in ([0, 2, 3, 1], [0, 3, 1, 2], [3, 2, 1, 0])),
    *(Question(name, (_IMAGE,), (), _POOL) for name in ("MaxPool", "AveragePool")),
    Question("GlobalAveragePool", (_IMAGE,)),
    Question("InstanceNormalization", (_IMAGE,), ((32,), (32,))),
    Question("BatchNormalization", (_IMAGE,), ((32,), (32,), (32,), (32,))),
    Question("LRN", (_IMAGE,), (), {"size": 3}),
    Question("LayerNormalization", (_TOKENS,), ((128,), (128,))),
    Question("SkipLayerNormalization", (_TOKENS, _TOKENS), ((128,), (128,)), {"epsilon": 1e-5}, CONTRIB),
    Question("MatMul", (_TOKENS,), ((128, 64),)),
    Question("MatMul", ((1, 4, 128, 32), (1, 4, 32, 128))),
    Question("FusedMatMul", ((1, 4, 128, 32), (1, 4, 128, 32)), (), {"transB": 1}, CONTRIB),
    Question("Gemm", ((256, 64),), ((64, 128), (128,))),
    Question("Einsum", ((1, 256, 64), (1, 64, 128)), (), {"equation": "bij,bjk->bik"}),
    Question("Einsum", (_IMAGE,), (), {"equation": "nchw->nhwc"}),
    Question("PRelu", (_IMAGE,), ((32, 1, 1),)),
    Question("DepthToSpace", (_IMAGE,), (), {"blocksize": 2, "mode": "CRD"}),
    Question("Pad", (_IMAGE,), (), {"mode": "reflect"}, "", (("int64", (0, 0, 1, 1, 0, 0, 1, 1)),)),
    Question("Slice", (_IMAGE,), (), None, "", (("int64", (1,)), ("int64", (9,)), ("int64", (1,)))),
    Question("Concat", (_IMAGE, _IMAGE), (), {"axis": 1}),
    Question("GridSample", (_IMAGE, (1, 64, 96, 2))),
    Question("Gelu", (_TOKENS,), (), None, CONTRIB),
    Question("BiasGelu", (_TOKENS,), ((128,),), None, CONTRIB),
    Question("FastGelu", (_TOKENS,), ((128,),), None, CONTRIB),
    Question("QuickGelu", (_IMAGE,), (), None, CONTRIB),
    *(Question(name, (_IMAGE,) * count) for name in ("Sum", "Max") for count in (2, 3, 5)),
    Question("Erf", (_IMAGE,)),
    Question("Sigmoid", (_IMAGE,)),
)
"""Operators of optimised matting nets whose scratch memory is known, none included, at sizes that tell it apart."""


if __name__ == "__main__":
    sys.exit(main())
