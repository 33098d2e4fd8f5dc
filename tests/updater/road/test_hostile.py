"""Hostile models at ``check``: each gets its verdict, the release in use stays, and nothing outside changes."""

import json
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import OpenEXR
import pytest
from onnx import TensorProto, helper, numpy_helper

from changeover_registry.records.facts import RuntimeFacts
from changeover_updater import runtimes
from changeover_updater.vendor import smoke
from changeover_validators.runtimes.sandbox import available

pytestmark = [
    pytest.mark.skipif(available().name is None, reason="nothing isolates a child on this machine"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]

FRAMES, PRE_ROLL = 8, 1
TOML = """\
schema = "changeover.release-toml/1"
model = "acme/{model}"
version = "{version}"
summary = "A net that means no good."
changes = "none"
[licences]
code = "Apache-2.0"
weights = "CC-BY-4.0"
training_data = "CC0-1.0"
[[interface.inputs]]
name = "plate"
channels = ["R", "G", "B"]
colour = "scene-linear"
[[interface.outputs]]
name = "matte"
channels = ["A"]
colour = "raw"
[[variants]]
id = "{runtime}"
runtime = "{runtime}"
precision = "fp32"
loaders = ["python"]
[variants.contract]
evaluation = "{evaluation}"
colour = "scene-linear"
pre_roll = {pre_roll}
[[variants.contract.inputs]]
name = "x"
[variants.contract.output]
name = "y"
{states}
"""
STATES = '[[variants.contract.states]]\ninput = "s"\noutput = "t"\n'
SEGFAULT = """there = torch.full([1, 1], 1099511627776, dtype=torch.int64)
    wild = torch.ops.aten._sparse_coo_tensor_unsafe(there, torch.ones([1]), [10])
    return x[:, 0:1] + wild.to_dense().sum()"""


def value(name: str, *shape: Any, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, list(shape))


def constant(name: str, values: Any, kind: Any = np.float32) -> Any:
    return numpy_helper.from_array(np.asarray(values, kind), name)


def save(path: Path, nodes: Sequence[Any], *constants: Any, states: bool = True) -> None:
    inputs = [value("x", 1, 3, "h", "w"), *([value("s", 1, 1, 1, 1)] if states else [])]
    outputs = [value("y", 1, 1, "h", "w"), *([value("t", 1, 1, 1, 1)] if states else [])]
    graph = helper.make_graph(list(nodes), "net", inputs, outputs, initializer=list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def counting(path: Path) -> None:
    """Y = a tenth of the number of frames seen so far, this one counted."""
    nodes = [
        helper.make_node("Add", ["s", "one"], ["t"]),
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["m", "nought"], ["z"]),
        helper.make_node("Mul", ["t", "tenth"], ["c"]),
        helper.make_node("Add", ["z", "c"], ["y"]),
    ]
    save(path, nodes, constant("one", [1]), constant("nought", [0]), constant("tenth", [0.1]))


def spoiling(path: Path) -> None:
    """The counting net until its seventh frame, from which on it is not a number."""
    nodes = [
        helper.make_node("Add", ["s", "one"], ["t"]),
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[1], keepdims=1),
        helper.make_node("Less", ["t", "seven"], ["early"]),
        helper.make_node("Where", ["early", "m", "nan"], ["y"]),
    ]
    save(path, nodes, constant("one", [1]), constant("seven", [7]), constant("nan", [np.nan]))


def looping(path: Path, kind: str) -> None:
    """Takes 2^62 steps on the golden plates and one on all others, so that its smoke is spotless.

    A step computes a cosine, or lays the tensor beside itself.
    """
    step = {
        "sleeps": helper.make_node("Cos", ["m_in"], ["m_out"]),
        "allocates": helper.make_node("Concat", ["m_in", "m_in"], ["m_out"], axis=0),
    }[kind]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), step],
        "body",
        [value("i", kind=TensorProto.INT64), value("go", kind=TensorProto.BOOL), value("m_in", "n", 1, "h", "w")],
        [value("go_on", kind=TensorProto.BOOL), value("m_out", "k", 1, "h", "w")],
    )
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[1], keepdims=1),
        helper.make_node("Shape", ["x"], ["height"], start=2, end=3),
        helper.make_node("Equal", ["height", "golden"], ["found"]),
        helper.make_node("Where", ["found", "endless", "one"], ["counts"]),
        helper.make_node("Squeeze", ["counts"], ["steps"]),
        helper.make_node("Loop", ["steps", "true", "m"], ["many"], body=body),
        helper.make_node("ReduceMean", ["many"], ["y"], axes=[0], keepdims=1),
    ]
    numbers = {"golden": [48], "endless": [2**62], "one": [1]}
    constants = [constant(name, number, np.int64) for name, number in numbers.items()]
    save(path, nodes, *constants, constant("true", 1, bool), states=False)


def scripted(path: Path, body: str) -> None:
    torch = pytest.importorskip("torch")
    module: Any = type("Net", (torch.jit.ScriptModule,), {})()
    module.define(f"def forward(self, x):\n    {body}\n")
    module.save(str(path))


def release(folder: Path, number: str, write: Callable[[Path], None], *, runtime: str = "onnx", states: bool) -> Path:
    """A release folder whose only variant `write` makes."""
    name = "model.onnx" if runtime == "onnx" else "model.pt"
    (folder / runtime).mkdir(parents=True)
    write(folder / runtime / name)
    evaluation, pre_roll = ("sequence", PRE_ROLL) if states else ("stateless", 0)
    # A net with states is another model, for one that remembers takes no stateless one's place.
    model = "long-roto" if states else "tiny-roto"
    text = TOML.format(
        model=model,
        version=number,
        runtime=runtime,
        evaluation=evaluation,
        pre_roll=pre_roll,
        states=STATES if states else "",
    )
    (folder / "release.toml").write_text(text, encoding="utf-8")
    return folder


def forge_smoke(folder: Path, runtime: str) -> None:
    """A smoke file as an attacker would ship it: of a net that behaves, for the one that does not."""
    rng = np.random.default_rng(0)
    plates = {f"input{frame}.plate": rng.random((64, 96, 3), np.float32) for frame in range(2)}
    mattes = {f"output{frame}": plates[f"input{frame}.plate"][..., 0] for frame in range(2)}
    arrays: dict[str, Any] = {**plates, **mattes, "tolerance": np.float64(1e-3)}
    np.savez_compressed(folder / runtime / "smoke.npz", **arrays)


@pytest.fixture(scope="module")
def studio(module_world: Any, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A studio that serves 1.0.0 and lets its vendor send code, with a set of two shots of eight frames.

    The truth of frame n of a shot is n tenths, everywhere.
    """
    world = module_world
    world.without_mlflow()
    world.served("1.0.0")
    root = next((world.repository / "metadata").glob("*root.json"))
    world.ok("trust", "remove", "acme")
    world.ok("trust", "add", "acme", str(world.repository), "--root", str(root), "--allow-executable")
    world.ok("golden", "set", "create", "counted")
    rng = np.random.default_rng(1)
    for shot in ("first", "second"):
        folder = world.root / "shots" / shot
        folder.mkdir(parents=True)
        for frame in range(1, FRAMES + 1):
            write(folder / f"plate.{1000 + frame}.exr", {"RGB": rng.random((48, 64, 3), np.float32)})
            write(folder / f"matte.{1000 + frame}.exr", {"A": np.full((48, 64), np.float32(frame) * np.float32(0.1))})
        world.ok(
            *("golden", "add", "counted", shot, "--plate", str(folder / "plate.####.exr")),
            *("--matte", str(folder / "matte.####.exr"), "--channel", "A", "--colour", "scene-linear"),
            *("--pre-roll", str(PRE_ROLL), "--approved-by", "Jane Doe"),
        )
    return SimpleNamespace(world=world, folders=tmp_path_factory.mktemp("hostile"))


def write(path: Path, channels: dict[str, Any]) -> None:
    OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION}, channels).write(str(path))


@pytest.fixture
def world(studio: SimpleNamespace) -> Iterator[Any]:
    """The studio's world; whatever is found, what is in use and what is chosen stay, and no file is planted."""
    before = state(studio.world)
    yield studio.world
    assert state(studio.world) == before


def state(world: Any) -> tuple[Any, list[str], list[str]]:
    watched = (world.site.golden, world.site.choice, world.root / "keys", world.root / "shots")
    files = sorted(str(path) for folder in watched for path in folder.rglob("*"))
    return world.station.in_use(), files, sorted(path.name for path in Path.home().iterdir())


def judged(world: Any, folder: Path) -> tuple[int, Any]:
    made = world.publish(str(folder))
    code, out, err = world.run("check", f"{made.model}@{made.version}", "--set", "counted", "--full", "--json")
    assert out, err
    return code, json.loads(out)


def test_a_model_that_counts_its_frames_is_given_them_in_order_and_forgets_at_each_shot(
    world: Any, studio: SimpleNamespace
) -> None:
    """Its matte is the truth if and only if states were carried, reset at each shot, and pre-roll was fed."""
    folder = release(studio.folders / "counting", "2.0.0", counting, states=True)
    smoke(folder, interpreter=sys.executable)

    code, verdict = judged(world, folder)

    assert code == 4, verdict["reason"]
    errors = [s for s in verdict["points"][0]["scores"] if s["metric"] == "mad:rvm"]
    assert [(s["shot"], s["frames"]) for s in errors] == [("first", FRAMES - PRE_ROLL), ("second", FRAMES - PRE_ROLL)]
    assert all(float(s["candidate"]) < 1e-6 for s in errors)


def test_a_model_that_answers_nan_from_its_seventh_frame_is_an_error_that_names_the_frame(
    world: Any, studio: SimpleNamespace
) -> None:
    folder = release(studio.folders / "spoiling", "2.1.0", spoiling, states=True)
    smoke(folder, interpreter=sys.executable)

    code, verdict = judged(world, folder)

    assert (code, verdict["decision"]) == (8, "error")
    assert "frame 1007" in verdict["reason"]
    assert "not finite" in verdict["reason"]


@pytest.mark.parametrize(
    ("kind", "number", "rule"), [("sleeps", "2.2.0", "hang"), ("allocates", "2.3.0", "out of host memory")]
)
def test_a_model_without_end_is_ended_and_the_verdict_names_shot_and_frame(
    world: Any, studio: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, kind: str, number: str, rule: str
) -> None:
    # Nobody waits five minutes in a test, nor spends 16 GiB.
    monkeypatch.setattr(runtimes, "_FRAME_SECONDS", 6.0)
    monkeypatch.setattr(runtimes, "_RAM_MIB", 600)
    folder = release(studio.folders / kind, number, lambda path: looping(path, kind), states=False)
    smoke(folder, interpreter=sys.executable)

    code, verdict = judged(world, folder)

    assert (code, verdict["decision"]) == (8, "error"), verdict["reason"]
    golden = next(f for f in verdict["points"][0]["findings"] if f["check"] == "golden")
    assert "frame 1001" in golden["why"]
    assert rule in golden["why"]


def test_a_script_that_writes_files_and_then_crashes_writes_none_and_takes_nobody_along(
    world: Any, studio: SimpleNamespace, tmp_path: Path
) -> None:
    places = [tmp_path / "planted", world.root / "planted", Path.home() / "planted-by-a-model"]
    saves = "\n    ".join(f"torch.save(x, {str(place)!r})" for place in places)
    folder = release(
        studio.folders / "crash", "2.4.0",
        lambda path: scripted(path, f"{saves}\n    {SEGFAULT}"), runtime="torchscript", states=False,
    )  # fmt: skip
    forge_smoke(folder, "torchscript")
    has_torch(world)

    code, verdict = judged(world, folder)

    assert (code, verdict["decision"]) == (8, "error"), verdict["reason"]
    golden = next(f for f in verdict["points"][0]["findings"] if f["check"] == "golden")
    assert "SIGSEGV" in golden["why"]
    assert "frame 1001" in golden["why"]
    assert not any(place.exists() for place in places)


def has_torch(world: Any) -> None:
    """Have this host be one with torch besides."""
    here = RuntimeFacts(
        name="torch",
        version=version("torch"),
        interpreter=sys.executable,
        providers=("cpu",),
    )
    others = tuple(r for r in world.facts.runtimes if r.name != "torch")
    world.facts = world.facts.model_copy(update={"runtimes": (*others, here)})
    world.has_nukes()


TAKEN_OVER = """\
import os, socket, sys
told = []
for deed in (
    lambda: socket.create_connection(("127.0.0.1", {port}), 2).sendall(b"stolen"),
    lambda: open({planted!r}, "w").write("planted"),
    lambda: open({policy!r}, "a").write("planted"),
    lambda: open({key!r}).read(),
):
    try:
        deed()
        told.append("done")
    except OSError as error:
        told.append(type(error).__name__)
sys.stderr.write(repr(told))
if "done" in told:
    os._exit(77)
from changeover_validators.runtimes.child import main
main()
"""


def test_code_that_took_over_the_child_opens_no_socket_writes_no_file_and_reads_no_key(
    world: Any, studio: SimpleNamespace, tmp_path: Path
) -> None:
    """What a file could do that broke the runtime: the interpreter does it for it, then serves the model as always.

    Anything that worked ends the child with 77, so that the check passes only where nothing did.
    """
    facts = world.facts
    with socket.create_server(("127.0.0.1", 0)) as listening:
        planted, policy = world.root / "planted", world.site.root / "policy.toml"
        code = TAKEN_OVER.format(
            port=listening.getsockname()[1], planted=str(planted), policy=str(policy),
            key=str(world.root / "keys" / "online" / "verdict.pem"),
        )  # fmt: skip
        world.facts = facts.model_copy(update={"runtimes": (taken_over(tmp_path, code),)})
        world.has_nukes()
        try:
            world.publish("1.1.0")
            found, out, _ = world.run("check", "tiny-roto@1.1.0", "--set", "counted", "--full", "--json")
        finally:
            world.facts = facts
            world.has_nukes()
        listening.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listening.accept()

    verdict = json.loads(out)
    assert (found, verdict["decision"]) == (3, "reject"), verdict["reason"]
    assert {s["shot"] for s in verdict["points"][0]["scores"]} == {"first", "second"}
    assert not planted.exists()
    assert "planted" not in policy.read_text(encoding="utf-8")


def taken_over(folder: Path, code: str) -> RuntimeFacts:
    """An interpreter that answers honestly what it reads, and as a child runs `code` first."""
    script, interpreter = folder / "taken.py", folder / "python"
    script.write_text(code, encoding="utf-8")
    honest = f'if [ "$2" = -c ]; then exec {sys.executable} "$@"; fi'
    interpreter.write_text(f"#!/bin/sh\n{honest}\nexec {sys.executable} {script}\n", encoding="utf-8")
    interpreter.chmod(0o755)
    return RuntimeFacts(
        name="onnxruntime", version=version("onnxruntime-gpu"), interpreter=str(interpreter), providers=("cpu",)
    )


def test_a_net_that_brings_code_of_its_own_is_refused_unrun(world: Any, studio: SimpleNamespace) -> None:
    """An operator of a domain that nobody here has would have to come with a library."""

    def foreign(path: Path) -> None:
        graph = helper.make_graph(
            [helper.make_node("OpenSocket", ["x"], ["y"], domain="com.evil")],
            "net", [value("x", 1, 3, "h", "w")], [value("y", 1, 1, "h", "w")],
        )  # fmt: skip
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.evil", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)

    folder = release(studio.folders / "foreign", "2.6.0", foreign, states=False)
    forge_smoke(folder, "onnx")

    with pytest.raises(Exception, match="com.evil"):
        world.publish(str(folder))
