"""Compatibility facts as data: one TOML file a table, each row with its source and its day, read by typed functions.

A refresh of a table is a reviewed change of data without code. A fact that is not in a table is unknown; nothing here
guesses. What this leaves out: the rules that use the facts (`checks/`), and what a machine itself can say (`probe`).
"""

from changeover_validators.tables.load import (
    RuntimeLimits,
    Toolkit,
    TorchBuild,
    capability_of_gpu,
    driver_ceiling,
    nuke_python,
    nuke_toolkit,
    nuke_torch_line,
    rows,
    runtime_limits,
    toolkit,
    torch_build,
)

__all__ = [
    "RuntimeLimits",
    "Toolkit",
    "TorchBuild",
    "capability_of_gpu",
    "driver_ceiling",
    "nuke_python",
    "nuke_toolkit",
    "nuke_torch_line",
    "rows",
    "runtime_limits",
    "toolkit",
    "torch_build",
]
