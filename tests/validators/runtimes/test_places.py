import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from changeover_validators.runtimes.sandbox import Isolation, wrap
from changeover_validators.runtimes.view import make_view


@pytest.fixture
def below_scratch() -> Iterator[Path]:
    """A folder where a checkout, and so its interpreter, may lie."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        (Path(folder) / "deep").mkdir()
        (Path(folder) / "deep" / "file").write_text("seen\n", encoding="utf-8")
        yield Path(folder)


def test_an_interpreter_below_tmp_is_seen_and_the_rest_of_tmp_is_not(
    isolation: Isolation, below_scratch: Path, tmp_path: Path
) -> None:
    view = make_view(tmp_path, (str(below_scratch / "deep"),), ())
    look = f"cat {below_scratch}/deep/file; ls -A /tmp; touch /tmp/mine; touch {below_scratch}/deep/planted"

    done = subprocess.run(
        wrap(isolation, view, ("/usr/bin/env", "sh", "-c", look)), capture_output=True, env={}, check=False, timeout=60
    )

    assert (
        done.stdout.decode().split() == ["seen", below_scratch.name]
        or done.stdout.decode() == f"seen{below_scratch.name}\n"
    )
    assert b"Read-only file system" in done.stderr
    assert not (below_scratch / "deep" / "planted").exists()
    assert not Path("/tmp/mine").exists()  # noqa: S108
