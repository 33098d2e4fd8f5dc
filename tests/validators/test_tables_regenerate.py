"""The script that writes the tables anew, against a folder of real wheels in the place of the package index."""

import struct
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from changeover_validators import tables
from changeover_validators.tables import regenerate
from changeover_validators.tables.write import comment_of

FOLDER = Path(tables.__file__).parent
TAG = f"cp{sys.version_info.major}{sys.version_info.minor}"
SYSTEM = sysconfig.get_platform().replace("-", "_").replace(".", "_")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the wheels here are those of Linux")


def wheel(folder: Path, name: str, version: str, files: dict[str, bytes | Path], **more: str) -> None:
    """A wheel of those files; ``requires`` has its dependencies, one a line, ``tag`` its tag."""
    tag = more.get("tag", f"{TAG}-{TAG}-{SYSTEM}")
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {line}\n" for line in more.get("requires", "").splitlines())
    extras = "".join(f"Provides-Extra: {extra}\n" for extra in ("cuda", "cudnn")) if needs else ""
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: >=3.8\n{extras}{needs}"
    with zipfile.ZipFile(folder / f"{name.replace('-', '_')}-{version}-{tag}.whl", "w") as archive:
        archive.writestr(f"{info}/METADATA", head)
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
        for path, data in files.items():
            if isinstance(data, Path):
                archive.write(data, path)
            else:
                archive.writestr(path, data)


def library() -> bytes:
    """A real library of this Python with GPU code behind it: sm_86, sm_90a and compute_90 of PTX 8.7."""
    import _ctypes

    def entry(kind: int, architecture: int, flags: int, isa: tuple[int, int]) -> bytes:
        return struct.pack("<HHIQ8xHHI8xQ", kind, 257, 64, 8, isa[1], isa[0], architecture, flags).ljust(72, b"\0")

    body = entry(2, 86, 0, (0, 0)) + entry(2, 90, 1 << 20, (0, 0)) + entry(1, 90, 0, (8, 7))
    return Path(_ctypes.__file__).read_bytes() + struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels of onnxruntime as it is installed here, of two GPU releases, of a torch with CUDA and of one without."""
    import onnxruntime

    folder = tmp_path_factory.mktemp("index")
    package = Path(onnxruntime.__file__).parent
    keep = [path for path in package.rglob("*") if path.is_file() and "_providers_" not in path.name]
    files: dict[str, bytes | Path] = {f"onnxruntime/{path.relative_to(package)}": path for path in keep}
    wheel(folder, "onnxruntime", onnxruntime.__version__, files)
    wheel(folder, "numpy", "1.26.4", {})
    code = library()
    needs = "nvidia-cuda-runtime-cu12~=12.0; extra == 'cuda'\nnvidia-cudnn-cu12~=9.0; extra == 'cudnn'"
    stated = b"package_name = 'onnxruntime-gpu'\ncuda_version = '12.8'\n"
    for system, name in (("linux", "libonnxruntime_providers_cuda.so"), ("windows", "onnxruntime_providers_cuda.dll")):
        tag = f"{TAG}-{TAG}-manylinux_2_28_x86_64" if system == "linux" else "cp311-cp311-win_amd64"
        inside: dict[str, bytes | Path] = {
            f"onnxruntime/capi/{name}": code,
            "onnxruntime/capi/build_and_package_info.py": stated,
        }
        wheel(folder, "onnxruntime-gpu", "1.26.0", inside, requires=needs, tag=tag)
    wheel(folder, "torch", "2.7.1", {}, requires="nvidia-cuda-runtime-cu12==12.6.77\nnvidia-cudnn-cu12==9.5.1.17")
    wheel(folder, "torch", "2.8.0", {}, requires="filelock")
    return folder


@pytest.fixture
def refresh(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, list[dict[str, object]]]]:
    """Runs the script on one table, with pip seeing that folder alone; answers the new table."""
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", str(index)), ("PIP_CONFIG_FILE", "/dev/null")):
        monkeypatch.setenv(name, value)

    def run(name: str, *options: str) -> dict[str, list[dict[str, object]]]:
        path = tmp_path / f"{name}.toml"
        path.write_bytes((FOLDER / f"{name}.toml").read_bytes())
        assert regenerate.main([name, "--into", str(tmp_path), *options]) == 0
        assert comment_of(path) == comment_of(FOLDER / f"{name}.toml")
        return tomllib.loads(path.read_text(encoding="utf-8"))

    return run


def test_onnxruntime_is_probed_described_and_read(
    refresh: Callable[..., dict[str, list[dict[str, object]]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = refresh("onnxruntime", "--binaries")

    version = metadata.version("onnxruntime-gpu")
    shipped = tables.runtime_limits(version)
    (limits,) = found["release"]
    (gpu,) = found["gpu"]
    linux, windows = found["binary"]
    assert shipped is not None
    assert (limits["max_ir_version"], limits["max_opset"]) == (shipped.max_ir_version, shipped.max_opset)
    assert (gpu["toolkit"], gpu["cudnn"], gpu["glibc"], gpu["python"]) == ("12.0", "9.0", "2.28", ">=3.8")
    assert (linux["os"], windows["os"]) == ("linux", "windows")
    for row in (linux, windows):
        assert (row["toolkit"], row["ptx_isa"]) == ("12.8", "8.7")
        assert row["architectures"] == ["sm_86", "sm_90a", "compute_90"]
    assert {row["name"] for row in found["set"]} == {"cuda12", "cuda13"}


def test_torch_is_described_and_one_without_cuda_is_left_out(
    refresh: Callable[..., dict[str, list[dict[str, object]]]], capsys: pytest.CaptureFixture[str]
) -> None:
    found = refresh("torch")

    (row,) = found["wheel"]
    assert (row["version"], row["toolkit"], row["cudnn"]) == ("2.7.1", "12.6", "9.5")
    assert "torch 2.8.0: no CUDA" in capsys.readouterr().out
    assert all(row["origin"] == "prose" for row in found["build"])
