import errno
import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from changeover_registry.inspect import Inspection, inspect_variant
from changeover_registry.inspect.content import archive_fault, is_pickle
from changeover_registry.inspect.inspection import formats


class Bomb:
    """What an attacker puts into a pickle: loading it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, (str(self.target), 0o755)


@pytest.fixture
def bomb(tmp_path: Path) -> tuple[bytes, Path]:
    """A pickle that makes a folder when it is loaded, and that folder; it is shown to work, then cleaned up."""
    target = tmp_path / "executed"
    data = pickle.dumps(Bomb(target))
    pickle.loads(data)  # noqa: S301 - the oracle: it really does run code
    target.rmdir()
    return data, target


@pytest.fixture
def archive(tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    """A zip with these members as ``variant/model.pt``; the folder is answered."""

    def write(members: dict[str, bytes]) -> Path:
        folder = tmp_path / "variant"
        folder.mkdir(exist_ok=True)
        with zipfile.ZipFile(folder / "model.pt", "w") as file:
            for name, data in members.items():
                file.writestr(name, data)
        return folder

    return write


def script(data: bytes = b"\x80\x02N.") -> dict[str, bytes]:
    return {
        "net/data.pkl": data,
        "net/constants.pkl": b"\x80\x02).",
        "net/code/__torch__.py": b"class Net: pass",
        "net/data/0": bytes(40),
        "net/version": b"3\n",
    }


def test_torchscript_with_a_bomb_is_read_and_not_executed(
    archive: Callable[[dict[str, bytes]], Path], bomb: tuple[bytes, Path]
) -> None:
    data, target = bomb
    folder = archive(script(data))

    found = inspect_variant(folder, "torchscript", "model.pt", ["model.pt"])

    assert not target.exists()
    assert found.problems == ()
    assert found.requires.torchscript_version == 3
    assert found.requires.weight_bytes == 40


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_of_every_protocol_is_refused_by_content_and_not_executed(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "executed"
    folder = tmp_path / "variant"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(pickle.dumps(Bomb(target), protocol))

    found = inspect_variant(folder, "onnx", "model.onnx", ["model.onnx"])

    assert not target.exists()
    assert [problem.rule for problem in found.problems] == ["file format"]
    assert "pickle" in found.problems[0].actual


def test_torch_checkpoint_is_a_pickle_in_a_zip(archive: Callable[[dict[str, bytes]], Path]) -> None:
    folder = archive({"net/data.pkl": b"\x80\x02N.", "net/data/0": b"", "net/version": b"3"})

    found = inspect_variant(folder, "torchscript", "model.pt", ["model.pt"])

    assert "torch checkpoint" in found.problems[0].actual


def test_real_torchscript_tells_its_version_types_and_weights(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    code = (
        "import sys, warnings; warnings.simplefilter('ignore'); import torch\n"
        "net = torch.nn.Conv2d(3, 4, 3).to(torch.bfloat16)\n"
        "torch.jit.script(net).save(sys.argv[1]); torch.save(net.state_dict(), sys.argv[2])\n"
    )
    paths = [str(tmp_path / "model.pt"), str(tmp_path / "checkpoint.pt")]
    subprocess.run([sys.executable, "-c", code, *paths], check=True)

    found = inspect_variant(tmp_path, "torchscript", "model.pt", ["model.pt", "checkpoint.pt"])

    assert found.requires.torchscript_version is not None
    assert found.requires.dtypes == ("bfloat16",)
    assert found.requires.compute_capability == "8.0"
    assert found.requires.weight_bytes == (4 * 3 * 3 * 3 + 4) * 2
    assert [problem.where for problem in found.problems] == ["checkpoint.pt"]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"net/readme": b"x"}, "a zip without them"),
        ({"../net/code/x": b""}, "../net/code/x"),
        ({k: v for k, v in script().items() if k != "net/version"}, "none"),
        ({**script(), "net/version": b"three"}, "'three'"),
        ({**script(), "net/version": b"100000"}, "'100000'"),
        ({**script(), "net/.data/version": b"10\n"}, ".data/version says '10', version says '3'"),
        ({}, "a zip without them"),
    ],
)
def test_zip_that_is_no_torchscript_is_a_problem(
    archive: Callable[[dict[str, bytes]], Path], members: dict[str, bytes], words: str
) -> None:
    found = inspect_variant(archive(members), "torchscript", "model.pt", ["model.pt"])

    assert [problem.rule for problem in found.problems] == ["TorchScript file"]
    assert words in found.problems[0].actual


@pytest.mark.parametrize("names", [("version",), (".data/version",), ("version", ".data/version")])
def test_version_is_read_where_torch_writes_it(
    archive: Callable[[dict[str, bytes]], Path], names: tuple[str, ...]
) -> None:
    members = {name: data for name, data in script().items() if name != "net/version"}

    found = inspect_variant(
        archive(members | {f"net/{name}": b"10\n" for name in names}), "torchscript", "model.pt", ["model.pt"]
    )

    assert found.problems == ()
    assert found.requires.torchscript_version == 10


CODE = b"""class Net(Module):
  def forward(self, x: Tensor) -> Tensor:
    _0 = "torch.evil(x) and \\" torch.worse(x)"
    y = torch.gelu((self.c).forward(x, ))
    ops.prim.RaiseException(_0)
    z = __torch__.torch.nn.functional.interpolate(y)
    return torch.add(ops.quantized.relu6(z), torch.full([1], 2.))
"""


def test_operators_are_what_the_code_calls_and_not_what_its_texts_say(
    archive: Callable[[dict[str, bytes]], Path],
) -> None:
    members = script() | {"net/code/__torch__.py": CODE, "net/code/__torch__.py.debug_pkl": b"torch.debug("}

    found = inspect_variant(archive(members), "torchscript", "model.pt", ["model.pt"])

    assert found.problems == ()
    assert found.requires.operators == (
        "aten::add", "aten::full", "aten::gelu", "prim::RaiseException", "quantized::relu6"
    )  # fmt: skip


def test_operator_of_another_library_is_a_problem_that_names_it(archive: Callable[[dict[str, bytes]], Path]) -> None:
    members = script() | {"net/code/__torch__.py": b"  y = ops.torchvision.nms(x, s, 0.5)\n"}

    found = inspect_variant(archive(members), "torchscript", "model.pt", ["model.pt"])

    assert [(problem.rule, problem.actual) for problem in found.problems] == [("operator domain", "torchvision::nms")]


def test_operators_of_a_real_script_and_known_namespaces_are_those_of_torch(tmp_path: Path) -> None:
    """The oracle is the compiler: the graph of the loaded script, without reading its text, and all its schemas."""
    pytest.importorskip("torch")
    code = """
import sys, warnings; warnings.simplefilter('ignore'); import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
    def forward(self, x):
        y = torch.nn.functional.gelu(self.conv(x)) * torch.linspace(0., 1., 4)[None, :, None, None]
        return y.mean(1, True) + torch.full([1], 2.0)
torch.jit.script(Net()).save(sys.argv[1])
def kinds(block):
    for node in block.nodes():
        yield node.kind()
        for inner in node.blocks():
            yield from kinds(inner)
module = torch.jit.load(sys.argv[1])
torch._C._jit_pass_inline(module.forward.graph)
print(*sorted({kind for kind in kinds(module.forward.graph) if kind.startswith('aten::')}))
print(*{schema.name.split('::')[0] for schema in torch._C._jit_get_all_schemas()})
"""
    (tmp_path / "net.py").write_text(code)
    folder = tmp_path / "variant"
    folder.mkdir()
    command = [sys.executable, str(tmp_path / "net.py"), str(folder / "model.pt")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)

    found = inspect_variant(folder, "torchscript", "model.pt", ["model.pt"])

    in_the_graph, namespaces = (set(line.split()) for line in done.stdout.splitlines())
    hidden_by_syntax = {"aten::__getitem__"}
    assert found.requires.torchscript_version == 10
    assert in_the_graph - hidden_by_syntax == {name for name in found.requires.operators if name.startswith("aten::")}
    assert set(formats()["torchscript"]["domains"]) <= namespaces


def test_garbage_and_truncated_torchscript_are_problems(archive: Callable[[dict[str, bytes]], Path]) -> None:
    folder = archive(script())
    data = (folder / "model.pt").read_bytes()
    for cut in (data[: len(data) // 2], b"garbage"):
        (folder / "model.pt").write_bytes(cut)

        found = inspect_variant(folder, "torchscript", "model.pt", ["model.pt"])

        assert found.problems, cut[:10]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6))
def test_archive_with_flipped_bytes_never_raises(
    archive: Callable[[dict[str, bytes]], Path], flips: list[tuple[int, int]]
) -> None:
    folder = archive(script())
    data = bytearray((folder / "model.pt").read_bytes())
    for place, value in flips:
        data[place % len(data)] = value
    (folder / "model.pt").write_bytes(data)

    assert isinstance(inspect_variant(folder, "torchscript", "model.pt", ["model.pt"]), Inspection)


def test_fault_of_the_disk_is_no_fault_of_the_archive() -> None:
    assert "Invalid argument" in archive_fault(OSError(errno.EINVAL, "Invalid argument"))
    with pytest.raises(OSError, match="Input/output"):
        archive_fault(OSError(errno.EIO, "Input/output error"))


def test_member_that_promises_too_much_is_not_read_to_its_end(archive: Callable[[dict[str, bytes]], Path]) -> None:
    folder = archive(script())
    with zipfile.ZipFile(folder / "model.pt", "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in {**script(), "net/data.pkl": bytes((64 << 20) + 1)}.items():
            file.writestr(name, data)

    found = inspect_variant(folder, "torchscript", "model.pt", ["model.pt"])

    assert "is larger than" in found.problems[0].actual


def test_numpy_archive_with_objects_is_refused_and_plain_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "roto.cat").write_bytes(b"opaque")
    objects, plain = io.BytesIO(), io.BytesIO()
    np.savez(objects, a=np.array([{"x": 1}], dtype=object))
    np.savez(plain, a=np.zeros(3))
    (tmp_path / "bad.npz").write_bytes(objects.getvalue())
    (tmp_path / "smoke.npz").write_bytes(plain.getvalue())
    (tmp_path / "cut.npz").write_bytes(plain.getvalue()[:60])

    found = inspect_variant(tmp_path, "nuke-cat", "roto.cat", ["roto.cat", "bad.npz", "smoke.npz", "cut.npz"])

    assert {problem.where for problem in found.problems} == {"bad.npz", "cut.npz"}


def test_native_library_is_refused_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "roto.cat").write_bytes(b"opaque")
    (tmp_path / "weights.bin").write_bytes(b"\x7fELF\x02\x01")

    found = inspect_variant(tmp_path, "nuke-cat", "roto.cat", ["roto.cat", "weights.bin"])

    assert [(problem.where, problem.actual) for problem in found.problems] == [("weights.bin", "a Linux library")]


def test_opaque_cat_says_nothing_and_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / "roto.cat").write_bytes(b"opaque bytes")

    found = inspect_variant(tmp_path, "nuke-cat", "roto.cat", ["roto.cat"])

    assert found.problems == ()
    assert found.requires.torch_line is None
    assert found.requires.weight_bytes is None


@pytest.mark.parametrize(("name", "data"), [("roto.cat", b""), ("roto.bin", b"x")])
def test_empty_or_misnamed_cat_is_a_problem(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)

    found = inspect_variant(tmp_path, "nuke-cat", name, [name])

    assert [problem.rule for problem in found.problems] == ["Nuke .cat file"]


def test_missing_unlisted_and_linked_files_are_problems(tmp_path: Path) -> None:
    folder = tmp_path / "variant"
    folder.mkdir()
    (folder / "roto.cat").write_bytes(b"opaque")
    (folder / "extra.txt").write_bytes(b"x")
    (tmp_path / "outside").write_bytes(b"x")
    (folder / "link.bin").symlink_to(tmp_path / "outside")

    found = inspect_variant(folder, "nuke-cat", "roto.cat", ["roto.cat", "link.bin", "gone.bin"])

    assert {(problem.where, problem.actual) for problem in found.problems} == {
        ("gone.bin", "no such file"),
        ("extra.txt", "a file that it does not list"),
        ("link.bin", "a link"),
    }


@pytest.mark.parametrize("files", [["../x.cat"], ["/x.cat"], ["a.cat", "A.cat"]])
def test_paths_that_leave_the_folder_are_a_problem_and_nothing_is_opened(tmp_path: Path, files: list[str]) -> None:
    found = inspect_variant(tmp_path, "nuke-cat", files[0], files)

    assert [problem.rule for problem in found.problems] == ["path"]


def test_entry_that_is_not_listed_is_a_problem(tmp_path: Path) -> None:
    found = inspect_variant(tmp_path, "nuke-cat", "a.cat", ["b.cat"])

    assert [problem.rule for problem in found.problems] == ["entry"]


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x02", b"\x80\x02\xff\xff", b"(hello)", b"]plain text"])
def test_bytes_that_only_begin_like_a_pickle_are_none(data: bytes) -> None:
    assert not is_pickle(data)


def test_start_of_a_long_pickle_is_recognised() -> None:
    assert is_pickle(pickle.dumps(list(range(10_000)))[:1000])
