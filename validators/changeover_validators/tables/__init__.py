"""Compatibility facts as data: one TOML file a table, each row with its source, its origin and its day.

A refresh of a table is a reviewed change of data without code (`regenerate`). A fact that is not in a table is unknown;
nothing here guesses. What this leaves out: the rules that use the facts (`checks/`), and what a machine itself can say
(`probe`).
"""

from changeover_validators.tables.cuda import (
    LastDriver,
    Toolkit,
    capability_of_gpu,
    driver_ceiling,
    last_cudnn,
    ptx_toolkit,
    toolkit,
)
from changeover_validators.tables.frameworks import (
    Build,
    CpuFloor,
    Jit,
    RuntimeLimits,
    RuntimeSet,
    below_cpu_floor,
    cpu_floor,
    newest_torch_toolkit,
    nuke_jit,
    nuke_platform,
    nuke_python,
    nuke_toolkit,
    nuke_torch_line,
    onnxruntime_build,
    runtime_limits,
    runtime_sets,
    torch_build,
    torchscript_limit,
    torchscript_operators,
)
from changeover_validators.tables.load import rows

__all__ = [
    "Build",
    "CpuFloor",
    "Jit",
    "LastDriver",
    "RuntimeLimits",
    "RuntimeSet",
    "Toolkit",
    "below_cpu_floor",
    "capability_of_gpu",
    "cpu_floor",
    "driver_ceiling",
    "last_cudnn",
    "newest_torch_toolkit",
    "nuke_jit",
    "nuke_platform",
    "nuke_python",
    "nuke_toolkit",
    "nuke_torch_line",
    "onnxruntime_build",
    "ptx_toolkit",
    "rows",
    "runtime_limits",
    "runtime_sets",
    "toolkit",
    "torch_build",
    "torchscript_limit",
    "torchscript_operators",
]
