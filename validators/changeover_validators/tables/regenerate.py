"""Writes anew what artifacts tell of the tables: ``python -m changeover_validators.tables.regenerate [PART ...]``.

Parts: ``cpu`` (what numpy is built for), ``onnx`` (its own version table), ``onnxruntime`` (limits probed from the
CPU wheel of each release line, CUDA and cuDNN from the GPU wheels' metadata), ``torch`` (metadata), ``torchscript``
(a header of the wheels, and torch's own list of operators). ``--binaries`` also fetches each GPU wheel of
onnxruntime, some hundred megabytes each, one at a time, and reads the architectures out of it; without it those rows
stay. Prose stays always. The result is a change of data for a person to look at. Needs the extras ``run`` and
``torch``, and an index that pip can reach.
"""

import argparse
import hashlib
import platform
import re
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from packaging.version import Version

from changeover_registry import clock
from changeover_validators.tables.binaries import codes, names_of, needed
from changeover_validators.tables.limits import (
    numpy_baseline,
    onnx_versions,
    onnxruntime_limits,
    torch_operators,
    torchscript_limits,
    unpack,
)
from changeover_validators.tables.load import rows
from changeover_validators.tables.wheels import available, cuda_of, cudnn_of, download, wheel
from changeover_validators.tables.write import Row, comment_of, refreshed, text_of

__all__ = ["main", "newest_of_each_line"]

_FIRST_ONNXRUNTIME = Version("1.15")
_NUMPY_1 = ("1.26.4", Version("1.19"))
"""The numpy that releases before 1.19 were built against."""
_STATED = "onnxruntime/capi/build_and_package_info.py"
"""Where a wheel names the toolkit that it was built with; those before 1.21 do not."""
_CUDA_LIBRARIES = {
    "linux": "onnxruntime/capi/libonnxruntime_providers_cuda.so",
    "windows": "onnxruntime/capi/onnxruntime_providers_cuda.dll",
}
_FIRST_WINDOWS = Version("1.21")
"""The first release whose wheel for Windows is read; it carries other architectures than the one for Linux."""
_SMALL_TORCH = (
    ("1.6.0", "37", "macosx_10_9_x86_64"),
    ("1.12.1", "39", "macosx_11_0_arm64"),
    ("2.1.1", "311", "macosx_11_0_arm64"),
    ("2.7.1", "311", "macosx_11_0_arm64"),
    ("2.15.0", "311", "macosx_14_0_arm64"),
)
"""Wheels whose header is read: a tenth of the size of those with CUDA, and the header is the same in all."""

Arrays = dict[str, list[Row]]


def newest_of_each_line(versions: Sequence[str], first: Version) -> tuple[str, ...]:
    """The newest final release of each minor line from `first` on, oldest first."""
    found: dict[tuple[int, int], Version] = {}
    for version in map(Version, versions):
        line = (version.major, version.minor)
        if not version.is_prerelease and version.local is None and version >= first:
            found[line] = max(version, found.get(line, version))
    return tuple(str(found[line]) for line in sorted(found))


def onnx(today: date) -> Arrays:
    """The table ``onnx``."""
    version, known = onnx_versions()
    told = {"origin": "probe", "source": f"onnx.helper.VERSION_TABLE of onnx {version}", "date": str(today)}
    return {"release": [{"version": v, "ir_version": ir, "opset": opset, **told} for v, ir, opset in known]}


def onnxruntime(today: date) -> Arrays:
    """The arrays ``release`` and ``gpu`` of the table ``onnxruntime``."""
    lines = newest_of_each_line(available("onnxruntime"), _FIRST_ONNXRUNTIME)
    with tempfile.TemporaryDirectory() as folder:
        numpy_1 = unpack(download("numpy", _NUMPY_1[0], Path(folder)), Path(folder, "numpy"))
        found = [_limits(version, Path(folder), numpy_1, today) for version in lines]
    gpu = [_gpu(v, today) for v in newest_of_each_line(available("onnxruntime-gpu"), _FIRST_ONNXRUNTIME)]
    return {"release": found, "gpu": gpu}


def binaries(today: date) -> Arrays:
    """The array ``binary`` of the table ``onnxruntime``: what each GPU wheel carries."""
    versions = available("onnxruntime-gpu")
    told = [_binary(version, "linux", today) for version in newest_of_each_line(versions, _FIRST_ONNXRUNTIME)]
    told += [_binary(version, "windows", today) for version in newest_of_each_line(versions, _FIRST_WINDOWS)]
    return {"binary": told}


def torch(today: date) -> Arrays:
    """The array ``wheel`` of the table ``torch``: what the default wheel for Linux is built for."""
    told: list[Row] = []
    for version in newest_of_each_line(available("torch"), Version("1.13")):
        found = wheel("torch", version)
        cuda = cuda_of(found.requires)
        if cuda is None:
            _say(f"torch {version}: no CUDA in {found.file}; left out")
            continue
        line = _line(version)
        facts = {"toolkit": cuda, "cudnn": cudnn_of(found.requires), "glibc": found.glibc, "python": found.python}
        told.append({"line": line, "version": version, **_known(facts), **_metadata(found.sha256, found.file, today)})
        _say(f"torch {version}: CUDA {cuda}")
    return {"wheel": told}


def torchscript(today: date) -> Arrays:
    """The table ``torchscript``: what each torch reads, and which operators raise an archive's version."""
    readers: list[Row] = []
    for version, python, system in _SMALL_TORCH:
        with tempfile.TemporaryDirectory() as folder:
            path = download("torch", version, Path(folder), "--platform", system, "--python-version", python)
            low, high = torchscript_limits(path)
            told = {"origin": "file", "source": f"header in {path.name}", "sha256": _digest(path), "date": str(today)}
        readers.append({"torch": version, "min": low, "max": high, **told})
        _say(f"torch {version}: reads TorchScript {low} to {high}")
    version, raised = torch_operators()
    told = {"origin": "probe", "source": f"operator version map of torch {version}", "date": str(today)}
    operators: list[Row] = [{"name": name, "version": raised[name], **told} for name in sorted(raised)]
    return {"reader": readers, "operator": operators}


def cpu(today: date) -> Arrays:
    """The array ``floor`` of the table ``cpu``: the instructions that the numpy beside every runtime is built for."""
    version, level = numpy_baseline()
    told = {"origin": "probe", "source": f"__cpu_baseline__ of numpy {version}", "date": str(today)}
    return {"floor": [{"package": "numpy", "version": version, "level": level, **told}]}


def main(arguments: Sequence[str]) -> int:
    """Write the parts that are named, or all."""
    parts = _parts()
    parser = argparse.ArgumentParser(prog="changeover_validators.tables.regenerate")
    parser.add_argument("parts", nargs="*", choices=[*parts, []], metavar="PART", help=", ".join(parts))
    parser.add_argument("--binaries", action="store_true", help="also fetch GPU wheels and read them (gigabytes)")
    parser.add_argument("--into", type=Path, default=Path(__file__).parent, help="the folder of the tables")
    given = parser.parse_args(arguments)
    today = clock.now().date()
    for name in given.parts or parts:
        told = parts[name](today) | (binaries(today) if given.binaries and name == "onnxruntime" else {})
        path = given.into / f"{name}.toml"
        table = refreshed(rows(name), told)
        path.write_text(text_of(comment_of(path), table), encoding="utf-8", newline="\n")
        _say(f"wrote {path}")
    return 0


def _parts() -> dict[str, Callable[[date], Arrays]]:
    makers = (cpu, onnx, onnxruntime, torch, torchscript)
    return {make.__name__: make for make in makers}


def _limits(version: str, folder: Path, numpy_1: Path, today: date) -> Row:
    path = download("onnxruntime", version, folder)
    own = unpack(path, folder / version)
    old = Version(version) < _NUMPY_1[1]
    found = onnxruntime_limits(own, *([numpy_1] if old else []))
    limits = {name: found[name] for name in ("max_ir_version", "max_opset") if isinstance(found.get(name), int)}
    _say(f"onnxruntime {version}: IR {limits.get('max_ir_version')}, opset {limits.get('max_opset')}")
    source = f"probe of {path.name} in Python {platform.python_version()}"
    told = {"origin": "probe", "source": source, "sha256": _digest(path), "date": str(today)}
    return {"line": _line(version), "version": version, **limits, **told}


def _gpu(version: str, today: date) -> Row:
    found = wheel("onnxruntime-gpu", version)
    facts = {"toolkit": cuda_of(found.requires), "cudnn": cudnn_of(found.requires)}
    facts |= {"glibc": found.glibc, "python": found.python}
    _say(f"onnxruntime-gpu {version}: CUDA {facts['toolkit']}, glibc {facts['glibc']}")
    return {
        "line": _line(version),
        "version": version,
        **_known(facts),
        **_metadata(found.sha256, found.file, today),
    }


def _binary(version: str, system: str, today: date) -> Row:
    options = ("--platform", "win_amd64", "--python-version", "311") if system == "windows" else ()
    with tempfile.TemporaryDirectory() as folder:
        path = download("onnxruntime-gpu", version, Path(folder), *options)
        with zipfile.ZipFile(path) as archive:
            library = Path(archive.extract(_CUDA_LIBRARIES[system], folder))
            stated = archive.read(_STATED).decode() if _STATED in archive.namelist() else ""
        source = f"{library.name} of {path.name}"
        told = {"origin": "binary", "source": source, "sha256": _digest(library), "date": str(today)}
        built = re.search(r"cuda_version = '([0-9.]+)'", stated)
        toolkit = {"toolkit": built.group(1)} if built else {}
        row = {"line": _line(version), "version": version, "os": system, **toolkit, **read_library(library), **told}
    _say(f"onnxruntime-gpu {version} for {system}: {', '.join(row['architectures'])}")
    return row


def read_library(library: Path) -> dict[str, Any]:
    """What a CUDA library tells: ``cuda`` and ``cudnn`` that it links, ``architectures``, its PTX's ``ptx_isa``."""
    # What a library for Windows asks for is not read: its wheel names the toolkit.
    found, linked = codes(library), needed(library) if library.suffix == ".so" else ()
    facts = {"cuda": _major(linked, "libcudart.so"), "cudnn": _major(linked, "libcudnn.so")}
    isas = [code.isa for code in found if code.isa]
    facts |= {"ptx_isa": max(isas, key=Version, default=None)}
    return {**_known(facts), "architectures": list(names_of(found))}


def _major(linked: Sequence[str], name: str) -> str | None:
    found = (re.match(rf"{re.escape(name)}\.(\d+)", library) for library in linked)
    return next((match.group(1) for match in found if match), None)


def _metadata(sha256: str, file: str, today: date) -> Row:
    return {"origin": "metadata", "source": f"metadata of {file}", "sha256": sha256, "date": str(today)}


def _known(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value}


def _line(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
