"""The parts of the jail that can be looked at one by one; what it amounts to is in test_sandbox."""

import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

from changeover_validators.runtimes import jail

SETUP = "import sys\nfrom changeover_validators.runtimes import jail\n"


def run(code: str, *prefix: str) -> Any:
    command = [*prefix, sys.executable, "-c", SETUP + code]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_first_process_ends_as_the_command_ends() -> None:
    assert run("sys.exit(jail.supervise(['/bin/sh', '-c', 'exit 3']))").returncode == 3


def test_a_signal_is_answered_as_a_shell_does() -> None:
    assert run("sys.exit(jail.supervise(['/bin/sh', '-c', 'kill -SEGV $$']))").returncode == 128 + 11


def test_the_first_process_waits_for_the_command_and_not_for_its_orphans() -> None:
    done = run("sys.exit(jail.supervise(['/bin/sh', '-c', '(sleep 0.2 &) ; sleep 0.4; exit 4']))")

    assert done.returncode == 4


def test_a_command_that_is_not_there_is_said() -> None:
    done = run("sys.exit(jail.supervise(['/nowhere']))")

    assert done.returncode == 126
    assert done.stderr == "jail: /nowhere: No such file or directory\n"


def test_capabilities_are_dropped_for_good() -> None:
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    code = (
        "before = [l.split()[1] for l in open('/proc/self/status') if l.startswith('CapEff')]\n"
        "jail.drop_capabilities()\n"
        "after = [l.split()[1] for l in open('/proc/self/status') if l.startswith(('Cap', 'NoNewPrivs'))]\n"
        "print(before[0] != '0' * 16, after)"
    )

    done = run(code, "unshare", "--user", "--map-root-user")

    if done.returncode != 0 and "unshare" in done.stderr:
        pytest.skip(f"no user namespaces here: {done.stderr.strip()}")
    nothing = "0" * 16
    assert done.stdout == f"True {[nothing, nothing, nothing, nothing, nothing, '1']}\n", done.stderr


def test_without_namespaces_the_jail_says_what_it_may_not_do() -> None:
    """Without the right to mount the first mount is refused, and no command is started."""
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    plan = '{"read_only": [], "devices": [], "scratch": ["/tmp"], "scratch_bytes": 4096}'
    bare = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()

    done = run(f"jail.main([{plan!r}, '--', '/bin/echo', 'started'])", *bare)

    assert done.returncode == 125
    assert done.stderr == "jail: [Errno 1] Operation not permitted (/)\n"
    assert done.stdout == ""


def test_a_call_that_fails_names_its_paths() -> None:
    with pytest.raises(OSError, match=r"\(/from /to\)"):
        jail._call(lambda *_: -1, b"/from", b"/to", 7)


def test_another_processor_is_said_and_not_guessed() -> None:
    with pytest.raises(OSError, match="no isolation by namespaces is written for"):
        jail._syscall({"vax": 1})
