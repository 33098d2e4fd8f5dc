import os
import sys
from pathlib import Path

import pytest

from changeover_registry.errors import UndecidedError
from changeover_validators.runtimes.interpreter import inspect_interpreter


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_an_interpreter_says_what_it_reads() -> None:
    found = inspect_interpreter(sys.executable)

    assert found.path == sys.executable
    assert sys.prefix in found.folders
    assert sys.base_prefix in found.folders
    assert os.path.realpath(Path(os.__file__).parent) in found.folders
    assert any((Path(folder) / "changeover_validators").is_dir() for folder in found.folders)
    assert any((Path(folder) / "changeover_registry").is_dir() for folder in found.folders)
    assert "/" not in found.folders


def test_every_link_on_the_way_to_the_executable_is_seen(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    answer = '{"paths": [], "home": ["/usr/lib"]}'
    (tmp_path / "b" / "python").symlink_to(script(tmp_path / "real", f"echo '{answer}'"))
    (tmp_path / "a" / "python").symlink_to("../b/python")

    found = inspect_interpreter(str(tmp_path / "a" / "python"))

    assert found.folders == (str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path), "/usr")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exit 1", "does not answer (CalledProcessError)"),
        ("echo hello", "does not answer (JSONDecodeError)"),
        ("echo '[]'", "does not answer (TypeError)"),
        ("echo '{}'", "does not answer (KeyError)"),
        ("""echo '{"paths": [], "home": []}'""", "one without Changeover"),
    ],
)
def test_what_is_no_interpreter_with_changeover_is_undecided(tmp_path: Path, text: str, said: str) -> None:
    path = script(tmp_path / "python", text)

    with pytest.raises(UndecidedError) as caught:
        inspect_interpreter(path)

    assert said in caught.value.actual
    assert caught.value.remedy == "name such an interpreter under [runtimes] in host.toml"


def test_an_interpreter_that_is_not_there_is_undecided(tmp_path: Path) -> None:
    with pytest.raises(UndecidedError, match="No such file"):
        inspect_interpreter(str(tmp_path / "python"))
