"""Host facts: what is known of one machine, with unknown as a value. Made only by the probe, or read from a file."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from changeover_registry.records.base import Record, Text, Unknown, Value

__all__ = ["Gpu", "HostFacts", "MigInstance", "NukeInstall", "RuntimeFacts"]

_Total = Annotated[int, Field(gt=0)]
_Share = Annotated[int, Field(ge=0)]
_Capability = Annotated[str, Field(pattern=r"^[1-9][0-9]?\.[0-9]{1,2}$")]

_VERSION = re.compile(
    r"[0-9]{1,6}(\.[0-9]{1,9}){1,3}([-_.]?(a|b|rc)[0-9]{1,9})?([-_.]?post[0-9]{1,9})?([-_.]?dev[0-9]{1,12})?"
    r"(\+[A-Za-z0-9]{1,60}([-_.][A-Za-z0-9]{1,60}){0,9})?"
)
"""A version as Python packages have it; a build's own mark stands after the plus."""


def _package_version(text: str) -> str:
    if _VERSION.fullmatch(text) is None:
        message = "expected a version such as 1.26.0"
        raise ValueError(message)
    return text


class _DeviceMemory(Value):
    """The memory of a GPU or of an instance in MiB. Each figure is rounded by itself, so their sum proves nothing."""

    total_mib: _Total | Unknown
    reserved_mib: _Share | Unknown
    free_mib: _Share | Unknown

    @field_validator("reserved_mib", "free_mib")
    @classmethod
    def _within_total(cls, value: int | Unknown, info: ValidationInfo) -> int | Unknown:
        total = info.data.get("total_mib")
        if isinstance(value, int) and isinstance(total, int) and value > total:
            message = f"expected at most total_mib, which is {total}, found {value}"
            raise ValueError(message)
        return value


class MigInstance(_DeviceMemory):
    """One instance of a divided GPU: its UUID, its profile such as ``3g.40gb``, its own memory in MiB."""

    uuid: str | Unknown
    profile: Text | Unknown


class Gpu(_DeviceMemory):
    """One GPU. Memory in MiB. `compute_capability` is ``major.minor``."""

    name: Text
    uuid: str | Unknown
    compute_capability: _Capability | Unknown
    display: bool | Unknown
    mig: bool | Unknown = False
    instances: tuple[MigInstance, ...] | Unknown | None = None
    """The instances of a divided GPU; each has a memory of its own."""
    driver_model: Literal["wddm", "tcc", "mcdm"] | Unknown | None = None
    """How Windows drives the card; absent on other systems. Under ``wddm`` no figure of one process can be had."""
    accounting: bool | Unknown | None = None
    """Whether the driver records each process's most memory."""


class RuntimeFacts(Value):
    """One interpreter's runtime: its version and its probed limits."""

    name: str = Field(pattern=r"^(onnxruntime|torch)$")
    version: Annotated[Text, AfterValidator(_package_version)]
    interpreter: Text
    providers: tuple[str, ...] = ()
    max_ir_version: int | Unknown | None = None
    max_opset: int | Unknown | None = None
    architectures: tuple[str, ...] | Unknown | None = None
    max_torchscript: int | Unknown | None = None
    toolkit: str | Unknown | None = None
    """The CUDA toolkit that the binary was built for, such as ``13.0``; absent for a CPU build."""
    cudnn: str | Unknown | None = None


class NukeInstall(Value):
    """One Nuke: version such as ``15.1v3`` and the torch that it embeds.

    `path` and the further folders that it `reads` are there where a check may start it. `found` is the folder of one
    that host.toml does not name and that was come upon where Nuke's installer puts it; no check starts that.
    """

    version: str = Field(pattern=r"^[0-9]+\.[0-9]+(v[0-9]+)?$")
    torch_line: str | Unknown
    path: str | None = None
    reads: tuple[Text, ...] | None = None
    found: Text | None = None

    @property
    def line(self) -> str:
        """``15.1``: the release line that compatibility is stated for."""
        return self.version.split("v")[0]


class HostFacts(Record):
    """The facts of one machine. RAM in MiB."""

    NAME: ClassVar[str] = "facts"

    host: Text
    os: str = Field(pattern=r"^(linux|windows|macos)$")
    kernel: str | Unknown
    glibc: str | Unknown | None = None
    cpu_level: str | Unknown
    cores: _Total | Unknown
    ram_mib: _Total | Unknown
    driver: str | Unknown | None = None
    cuda_driver: str | Unknown | None = None
    gpus: tuple[Gpu, ...] | Unknown
    runtimes: tuple[RuntimeFacts, ...] | Unknown
    nukes: tuple[NukeInstall, ...] = ()
    nuke_gpu: str | None = None
    """The UUID of the GPU that Nuke is set to; absent: any of them, so the least decides."""
    cpu: Text | Unknown | None = None
