"""Why a variant does not run on a host, or what it costs there: the closed list of reasons, and what each problem says.

A rule answers nothing (it holds), a cost (it holds, and a person should know what it costs), incompatible, or unknown.
Every answer carries the facts and the rows of tables that it rests on, so that a reader can go and look.
"""

from dataclasses import dataclass
from enum import StrEnum

from changeover_registry.records.findings import Finding, NotRun, Passed, Refused

__all__ = ["Broken", "Cost", "Open", "Problem", "Reason", "as_finding"]


class Reason(StrEnum):
    """Every reason that the hardware check may give; programs may rely on these words."""

    GPUS_UNKNOWN = "gpus-unknown"
    NO_GPU = "no-gpu"
    CAPABILITY_UNKNOWN = "capability-unknown"
    CAPABILITY_TOO_LOW = "capability-too-low"
    CPU_LEVEL_UNKNOWN = "cpu-level-unknown"
    CPU_LEVEL_TOO_LOW = "cpu-level-too-low"
    GLIBC_UNKNOWN = "glibc-unknown"
    GLIBC_TOO_OLD = "glibc-too-old"
    RUNTIMES_UNKNOWN = "runtimes-unknown"
    NO_RUNTIME = "no-runtime"
    NO_PROVIDER = "no-provider"
    IR_LIMIT_UNKNOWN = "ir-limit-unknown"
    IR_TOO_NEW = "ir-too-new"
    OPSET_LIMIT_UNKNOWN = "opset-limit-unknown"
    OPSET_TOO_NEW = "opset-too-new"
    COMPILED_ENGINE = "compiled-engine"
    TORCH_TOO_OLD = "torch-too-old"
    TORCHSCRIPT_LIMIT_UNKNOWN = "torchscript-limit-unknown"
    TORCHSCRIPT_TOO_NEW = "torchscript-too-new"
    OPERATOR_MISSING = "operator-missing"
    OPERATOR_UNKNOWN = "operator-unknown"
    TOOLKIT_UNKNOWN = "toolkit-unknown"
    DRIVER_UNKNOWN = "driver-unknown"
    DRIVER_TOO_OLD = "driver-too-old"
    DRIVER_TOO_NEW = "driver-too-new"
    ARCHITECTURE_MISSING = "architecture-missing"
    PTX_DRIVER_UNKNOWN = "ptx-driver-unknown"
    PTX_DRIVER_TOO_OLD = "ptx-driver-too-old"
    PTX_COMPILATION = "ptx-compilation"
    CUDNN_OTHER_MAJOR = "cudnn-other-major"
    CUDNN_TOO_NEW = "cudnn-too-new"
    NUKES_UNKNOWN = "nukes-unknown"
    NUKE_FORMAT = "nuke-format"
    NUKE_TORCH_NOT_STATED = "nuke-torch-not-stated"
    NUKE_TORCH_UNKNOWN = "nuke-torch-unknown"
    NUKE_TORCH_TOO_OLD = "nuke-torch-too-old"
    NUKE_GPU = "nuke-gpu"
    NUKE_COMPILATION = "nuke-compilation"


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that does not hold: the host is incompatible."""

    reason: Reason
    rule: str
    expected: str
    actual: str
    remedy: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Open:
    """A rule that cannot be decided, and why."""

    reason: Reason
    why: str
    remedy: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cost:
    """A rule that holds, at a cost that a person should know before."""

    reason: Reason
    detail: str
    evidence: tuple[str, ...] = ()


Problem = Broken | Open | Cost


def as_finding(subject: str, problem: Problem) -> Finding:
    """The finding of the hardware check that tells of a problem."""
    about = {"check": "hardware", "subject": subject, "code": problem.reason.value}
    evidence = tuple(dict.fromkeys(text for text in problem.evidence if text)) or None
    if isinstance(problem, Cost):
        return Passed.model_validate({**about, "evidence": evidence, "detail": problem.detail})
    if isinstance(problem, Open):
        return NotRun.model_validate({**about, "evidence": evidence, "why": problem.why, "remedy": problem.remedy})
    told = {"rule": problem.rule, "expected": problem.expected, "actual": problem.actual, "remedy": problem.remedy}
    return Refused.model_validate({**about, "evidence": evidence, **told})
