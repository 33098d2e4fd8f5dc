"""What commands print where the output cannot hold every sign."""

import json
import os
import subprocess
import sys

import pytest

from changeover_updater.cli._output import escape

CODE = """\
import sys
from changeover_updater.cli import _output, main

def run(_):
    _output.emit({"who": "J\\u00f8rgen \\u2713 \\U0001f600"}, as_json=sys.argv[1] == "json", show=show)
    return 3

def show():
    _output.say(_output.mark("ok") + " J\\u00f8rgen")

main.run = run
main.main()
"""


def printed(how: str, encoding: str) -> bytes:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        [sys.executable, "-c", CODE, how], env=environment, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 3, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("encoding", "line"),
    [("utf-8", "✓ Jørgen".encode()), ("ascii", rb"\u2713 J\xf8rgen"), ("cp1252", rb"\u2713 J" + b"\xf8rgen")],
)
def test_sign_that_the_output_cannot_hold_is_an_escape_and_the_exit_code_stays(encoding: str, line: bytes) -> None:
    assert printed("person", encoding).strip() == line


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252", "utf-16"])
def test_json_is_json_in_every_encoding(encoding: str) -> None:
    assert json.loads(printed("json", encoding).decode(encoding)) == {"who": "Jørgen ✓ 😀"}


def test_signs_that_steer_a_terminal_or_turn_text_are_not_shown() -> None:
    assert escape("net\u202exnno.\u2066[red]\x1b[31m\x9b\tJørgen 例\n") == "netxnno.\\[red][31m\tJørgen 例\n"
