"""Asks pip what the package index says of a release: its wheel's name, digest, Python and what it depends on.

pip is asked to resolve without installing (``--dry-run --report``), so a wheel of hundreds of megabytes is not fetched
where the index publishes its metadata beside it. Which index is asked is pip's own configuration. What this leaves out:
what is inside the file (`binaries`), and what it does when it runs (`limits`).
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import parse_wheel_filename

from changeover_registry.errors import UnreachableError
from changeover_validators.tables.load import rows

__all__ = ["Wheel", "available", "cuda_of", "cudnn_of", "download", "glibc_of_tag", "wheel"]

_VERSIONS = re.compile(r"^Available versions: (.+)$", re.MULTILINE)
_POLICY = re.compile(r"^manylinux_(\d+)_(\d+)_")
_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel as the index describes it. `python` is a specifier such as ``>=3.11``."""

    name: str
    version: str
    file: str
    sha256: str
    python: str
    requires: tuple[str, ...]

    @property
    def glibc(self) -> str | None:
        """The least glibc that its tags promise to do with; None for another system's wheel."""
        tags = {tag.platform for tag in parse_wheel_filename(self.file)[3]}
        found = [floor for tag in tags if (floor := glibc_of_tag(tag))]
        return min(found, key=_numbers, default=None)


def available(package: str) -> tuple[str, ...]:
    """Every release of `package` that pip could install in this Python, newest first.

    Raises:
        UnreachableError: The index does not answer.
    """
    found = _VERSIONS.search(_pip("index", "versions", package))
    return () if found is None else tuple(found.group(1).split(", "))


def wheel(package: str, version: str) -> Wheel:
    """What the index says of that release.

    Raises:
        UnreachableError: The index does not answer, or has no wheel of it for this Python.
    """
    report = json.loads(
        _pip("install", "--dry-run", "--ignore-installed", "--no-deps", "--report", "-", f"{package}==={version}")
    )
    return parse(report["install"][0])


def parse(item: dict[str, Any]) -> Wheel:
    """One entry of pip's report as a value."""
    metadata, archive = item["metadata"], item["download_info"]
    return Wheel(
        name=metadata["name"],
        version=metadata["version"],
        file=archive["url"].rpartition("/")[2].replace("%2B", "+"),
        sha256=archive.get("archive_info", {}).get("hashes", {}).get("sha256", ""),
        python=metadata.get("requires_python", ""),
        requires=tuple(metadata.get("requires_dist", ())),
    )


def download(package: str, version: str, folder: Path, *options: str) -> Path:
    """Fetch the wheel of that release into `folder`.

    Raises:
        UnreachableError: The index does not answer, or has none.
    """
    before = set(folder.glob("*.whl"))
    _pip("download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), *options, f"{package}==={version}")
    return next(iter(set(folder.glob("*.whl")) - before))


def cuda_of(requires: Sequence[str]) -> str | None:
    """The CUDA toolkit that the dependencies ask for, such as ``12.6`` of ``nvidia-cuda-runtime-cu12==12.6.77``.

    A range such as ``~=12.0`` answers its lower end.
    """
    return _floor(requires, "cuda-toolkit", "nvidia-cuda-runtime")


def cudnn_of(requires: Sequence[str]) -> str | None:
    """The cuDNN that the dependencies ask for, major and minor."""
    return _floor(requires, "nvidia-cudnn")


def glibc_of_tag(tag: str) -> str | None:
    """``2.28`` of ``manylinux_2_28_x86_64``; older names are in the table ``glibc``."""
    found = _POLICY.match(tag)
    if found:
        return f"{found.group(1)}.{found.group(2)}"
    name = tag.partition("_")[0]
    return next((str(row["glibc"]) for row in rows("glibc")["tag"] if row["tag"] == name), None)


def _floor(requires: Sequence[str], *names: str) -> str | None:
    for text in requires:
        try:
            asked = Requirement(text)
        except InvalidRequirement:
            continue
        if re.sub(r"-cu\d+$", "", asked.name) in names:
            for only in asked.specifier:
                if only.operator in {"==", "~=", ">="}:
                    return ".".join(only.version.split(".")[:2])
    return None


def _pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", "--quiet", *arguments]
    if arguments[0] == "index":
        command.remove("--quiet")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    if done.returncode != 0:
        told = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise UnreachableError(
            "package index",
            where=arguments[-1],
            expected="an answer to pip",
            actual=told[0] if told else f"pip ended with {done.returncode}",
            remedy="check pip's configuration and the network, then run it again",
        )
    return done.stdout


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
