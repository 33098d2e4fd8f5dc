"""What commands print where the output cannot hold every sign."""

import json
import os
import subprocess
import sys

import pytest

from changeover_updater.cli._output import ProgressLine, escape, notice, once

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


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    """The line that stands there now."""
    return capsys.readouterr().err.rpartition("\x1b[K")[2]


def test_a_transfer_tells_its_rate_and_the_time_left_once_it_knows_them(capsys: pytest.CaptureFixture[str]) -> None:
    clock = [0.0]
    line = ProgressLine(live=True, clock=lambda: clock[0])
    line.bytes("model.onnx", 10_000_000, 1_000_000_000)
    assert shown(capsys) == "model.onnx: 10.0 of 1000.0 MB"
    clock[0] = 2.0
    line.bytes("model.onnx", 20_000_000, 1_000_000_000)
    assert shown(capsys) == "model.onnx: 30.0 of 1000.0 MB, 10.0 MB/s, 1 min 37 s left"


def test_what_came_long_ago_says_nothing_of_the_rate(capsys: pytest.CaptureFixture[str]) -> None:
    clock = [0.0]
    line = ProgressLine(live=True, clock=lambda: clock[0])
    line.bytes("a", 90_000_000, 100_000_000)
    for second in range(1, 31):
        clock[0] = float(second)
        line.bytes("a", 100_000, 100_000_000)
    assert shown(capsys) == "a: 93.0 of 100.0 MB, 0.1 MB/s, 1 min 10 s left"


def test_a_file_of_the_same_name_in_another_variant_begins_anew(capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine(live=True, clock=lambda: 0.0)
    line.bytes("smoke.npz", 3_000_000, 3_000_000)
    line.bytes("smoke.npz", 1_000_000, 3_000_000)
    assert shown(capsys) == "smoke.npz: 1.0 of 3.0 MB"


def test_where_nobody_watches_no_progress_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    ProgressLine(live=False).bytes("a", 1, 2)
    assert capsys.readouterr().err == ""


def test_progress_takes_one_row_of_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    ProgressLine(live=True).step("x" * 200)

    assert capsys.readouterr().err == "\r\x1b[K" + "x" * 79


def test_what_was_told_is_told_once() -> None:
    heard: list[str] = []
    tell = once(heard.append)

    for text in ("down", "down", "other", "down"):
        tell(text)

    assert heard == ["down", "other"]


def test_notice_takes_the_place_of_what_is_being_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    notice("left out")

    assert capsys.readouterr().err.startswith("\r\x1b[K")
