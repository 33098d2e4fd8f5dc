"""What a station's quick commands may import: nothing that is not in the base installation, nothing heavy."""

import subprocess
import sys
from typing import Any

import pytest

HEAVY = ("mlflow", "torch", "onnxruntime", "boto3", "onnx", "numpy", "scipy", "OpenEXR")

SCRIPT = """
import sys
from changeover_updater.cli.main import run
code = run(sys.argv[1:])
loaded = sorted(name for name in {heavy!r} if name in sys.modules)
print("LOADED", code, loaded)
"""


@pytest.mark.parametrize("command", [["status"], ["plan"], ["rollback"], ["log"], ["hold", "--reason", "x"]])
def test_quick_commands_import_nothing_heavy(world: Any, command: list[str]) -> None:
    first = world.served("1.0.0")
    world.served("1.1.0", current=first)

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(heavy=HEAVY), "--config", str(world.config), *world.extra, *command],
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.stdout.splitlines()[-1] == "LOADED 0 []", done.stdout + done.stderr
