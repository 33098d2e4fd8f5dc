import subprocess
import sys
from typing import Any

import pytest

from changeover_validators.runtimes.limits import FILE_BYTES, Limits, plan_limits

SETUP = """
import resource
from changeover_validators.runtimes.limits import Limits, allow_cpu, apply_limits
"""


def run(code: str) -> Any:
    return subprocess.run([sys.executable, "-c", SETUP + code], capture_output=True, text=True, check=False, timeout=60)


def test_private_memory_is_bounded_on_the_cpu_and_not_with_cuda() -> None:
    assert plan_limits(1024, "cpu") == Limits((2 * 1024 + 512) << 20, FILE_BYTES)
    assert plan_limits(1024, "cuda") == Limits(None, FILE_BYTES)


def test_limits_bind_the_process() -> None:
    done = run(
        "apply_limits(Limits(700 << 20, 1 << 20))\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_FSIZE))\n"
        "try:\n    bytearray(900 << 20)\nexcept MemoryError:\n    print('bounded')\n"
    )

    assert done.stdout == f"(0, 0) ({1 << 20}, {1 << 20})\nbounded\n", done.stderr


def test_limits_never_go_above_what_the_process_already_has() -> None:
    done = run(
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "apply_limits(Limits(None, 1 << 20))\n"
        "print(resource.getrlimit(resource.RLIMIT_FSIZE))\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (3, 3))\nallow_cpu(50, 1)\n"
        "print(resource.getrlimit(resource.RLIMIT_CPU))"
    )

    assert done.stdout == "(5000, 5000)\n(3, 3)\n", done.stderr


@pytest.mark.parametrize("threads", [1, 4])
def test_processor_time_moves_ahead_with_each_request(threads: int) -> None:
    done = run(f"allow_cpu(10, {threads})\nprint(resource.getrlimit(resource.RLIMIT_CPU)[0])")

    assert 10 * threads + 5 <= int(done.stdout) <= 10 * threads + 10
