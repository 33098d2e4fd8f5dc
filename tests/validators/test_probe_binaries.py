import importlib.metadata
import re
import struct
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changeover_validators import probe_child as child

SUFFIXES = {"": 0, "a": 1 << 20, "f": 1 << 21}
PIECE = st.tuples(st.sampled_from(["sm", "compute"]), st.integers(30, 130), st.sampled_from(["", "a", "f"]))


def piece(kind: str, architecture: int, suffix: str = "", payload: bytes = b"code") -> bytes:
    """One piece of GPU code as NVIDIA's fatbinary writes it: a header of 64 bytes, then what it is for."""
    flags = 0x8011 | SUFFIXES[suffix]
    head = struct.pack("<HHIQ", 1 if kind == "compute" else 2, 0x101, 64, len(payload))
    head += bytes(12) + struct.pack("<I", architecture) + bytes(8) + struct.pack("<Q", flags)
    return head.ljust(64, b"\0") + payload


def container(*pieces: bytes) -> bytes:
    body = b"".join(pieces)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def library(folder: Path, data: bytes) -> Path:
    path = folder / "libonnxruntime_providers_cuda.so"
    path.write_bytes(data)
    return path


def test_gpu_code_is_named_as_the_makers_own_tools_name_it(tmp_path: Path) -> None:
    first = container(piece("sm", 75), piece("sm", 86), piece("compute", 90))
    second = container(piece("sm", 90, "a"), piece("sm", 120, "f"), piece("sm", 75))

    found = child.architectures(library(tmp_path, b"\x7fELF other" + first + b"between" + second + b"after"))

    assert found == ["compute_90", "sm_120f", "sm_75", "sm_86", "sm_90a"]


@given(st.lists(st.tuples(st.lists(PIECE, max_size=4), st.binary(max_size=40)), max_size=5))
def test_whatever_lies_between_containers_every_piece_in_them_is_found(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[list[tuple[str, int, str]], bytes]]
) -> None:
    data = b"start" + b"".join(container(*(piece(*one) for one in inside)) + gap for inside, gap in parts)

    found = child.architectures(library(tmp_path_factory.mktemp("library"), data))

    assert found == sorted({f"{kind}_{number}{suffix}" for inside, _ in parts for kind, number, suffix in inside})


def test_container_that_runs_over_the_end_and_pieces_of_another_kind_are_passed_over(tmp_path: Path) -> None:
    cut = struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 1 << 40)
    strange = container(struct.pack("<HHIQ", 7, 0, 64, 4).ljust(68, b"\0"))

    assert child.architectures(library(tmp_path, cut + strange + container(piece("sm", 80)) + cut)) == ["sm_80"]
    assert child.architectures(library(tmp_path, b"no GPU code at all")) == []


def test_wheel_that_is_installed_here_tells_what_it_was_built_for() -> None:
    runtime = pytest.importorskip("onnxruntime")
    folder = Path(runtime.__file__).parent / "capi"
    if not list(folder.glob("*onnxruntime_providers_cuda.*")):
        pytest.skip("the onnxruntime here is built for the CPU alone")

    found = child.build(runtime)

    assert re.fullmatch(r"1[1-9]\.[0-9]+", found["toolkit"])
    assert re.fullmatch(r"[89]|1[0-9]", found["cudnn"])
    assert found["architectures"]
    assert all(re.fullmatch(r"(sm|compute)_[0-9]{2,3}[af]?", name) for name in found["architectures"])
    # Turing is the least that CUDA 13 serves, and every release so far has been built for it.
    assert "sm_75" in found["architectures"]


def test_build_for_the_cpu_was_built_for_no_cuda(tmp_path: Path) -> None:
    (tmp_path / "capi").mkdir()

    found = child.build(SimpleNamespace(__file__=str(tmp_path / "__init__.py")))

    assert found == {"toolkit": None, "cudnn": None, "architectures": []}


def test_broken_library_is_unknown_and_takes_no_other_fact_with_it(tmp_path: Path) -> None:
    (tmp_path / "capi").mkdir()
    library(tmp_path / "capi", b"")

    found = child.build(SimpleNamespace(__file__=str(tmp_path / "__init__.py")))

    assert "empty file" in found["architectures"]["unknown"]


def test_wheel_that_names_no_toolkit_is_unknown_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime.capi.build_and_package_info", ModuleType("info"))

    assert "does not say for which CUDA" in child.toolkit()["unknown"]


@pytest.mark.parametrize(
    ("listed", "linked", "major"),
    [
        (['nvidia-cudnn-cu13~=9.0; extra == "cudnn"'], b"", "9"),
        (["nvidia-cudnn-cu12 (>=10.1)"], b"libcudnn.so.9", "10"),
        (["numpy>=1.21"], b"\0libcudnn.so.8\0", "8"),
        (None, b"\0cudnn64_9.dll\0", "9"),
    ],
)
def test_cudnn_is_what_the_wheel_requires_else_what_its_library_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: list[str] | None, linked: bytes, major: str
) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: listed)

    assert child.cudnn(library(tmp_path, b"start" + linked)) == major


def test_cudnn_that_nothing_names_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", absent)

    assert child.cudnn(library(tmp_path, b"nothing")) == {"unknown": "the wheel names no cuDNN"}
