"""A child that was taken over answers what it likes; the parent believes none of it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.errors import ChangeoverError, MeasurementError, UndecidedError
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.process import ModelProcess
from changeover_validators.runtimes.room import has_rooms

Lie = Callable[..., RunRequest]
STARTED = 'say({"kind": "started", "load_us": 5, "runtime_version": "1", "provider_ran": "cpu"})'


@pytest.fixture
def liar(tmp_path: Path, nets: Any, request_for: Callable[..., RunRequest]) -> Lie:
    """An interpreter that answers honestly what it reads, and as a child runs the given code instead."""
    nets.weighted()

    def make(code: str, **changes: Any) -> RunRequest:
        script = tmp_path / "lie.py"
        script.write_text(
            "import struct, sys, time\n"
            "from changeover_validators.runtimes.frames import read_frame, write_frame\n"
            "def ask():\n"
            "    while (frame := read_frame(sys.stdin.buffer, limit_bytes=1 << 30)).head.get('kind') == 'warm':\n"
            "        say({'kind': 'warmed', 'run_us': 1})\n"
            "    return frame\n"
            "def say(head, blobs=()):\n    write_frame(sys.stdout.buffer, head, blobs)\n"
            f"first = ask()\n{code}\n"
        )
        interpreter = tmp_path / "python"
        interpreter.write_text(
            f'#!/bin/sh\nif [ "$2" = -c ]; then exec {sys.executable} "$@"; fi\nexec {sys.executable} {script}\n'
        )
        interpreter.chmod(0o755)
        return request_for(interpreter=str(interpreter), sandbox="limits-only", **changes)

    return make


def infer(request: RunRequest, plate: Any, *, room: bool = False) -> ChangeoverError:
    with ModelProcess(request, room=room) as model, pytest.raises(ChangeoverError) as caught:
        model.infer({"plate": plate}, reset=True)
    return caught.value


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ('say({"kind": "matte", "shape": [2, 2], "frame_us": 1}, [bytes(4800)])', "no matte of the plate's size"),
        ('say({"kind": "matte", "shape": [30, 40], "frame_us": 1}, [bytes(4796)])', "no matte of the plate's size"),
        ('say({"kind": "matte", "shape": [30, 40], "frame_us": 1})', "no matte of the plate's size"),
        ('say({"kind": "matte", "shape": [30, 40], "frame_us": 1}, [b"\\xff" * 4800])', "a matte that is not finite"),
        ('say({"kind": "matte", "shape": [30, 40], "frame_us": -1}, [bytes(4800)])', "an answer without frame_us"),
        ('say({"kind": "matte", "shape": [30, 40], "frame_us": 10**400}, [bytes(4800)])', "an answer without frame_us"),
        ('say({"kind": "matte", "shape": [30, 40]}, [bytes(4800)])', "an answer without frame_us"),
        ('say({"kind": "matte"}, [bytes(4801)]); time.sleep(60)', "4801 bytes where at most 4800 belong"),
        ('sys.stdout.buffer.write(b"\\xff" * 9); sys.stdout.flush(); time.sleep(60)', "a head of 4294967295 bytes"),
        ('sys.stdout.buffer.write(struct.pack("<I", 2) + b"hi"); sys.stdout.flush()', "a head that is not JSON"),
        ('sys.stdout.buffer.write(struct.pack("<I", 9) + b"hi"); sys.stdout.flush(); sys.exit(7)', "exit status 7"),
        ("import os; os.close(1); time.sleep(60)", "the end of the pipe"),
    ],
)
def test_an_answer_that_makes_no_sense_ends_the_child(liar: Lie, plate: Any, answer: str, said: str) -> None:
    error = infer(liar(f"{STARTED}\nask()\n{answer}\nask()"), plate)

    assert isinstance(error, MeasurementError)
    assert error.rule == "crash"
    assert said in error.actual


@pytest.mark.skipif(not has_rooms(), reason="no shared memory of this kind on this system")
@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("os.truncate(room, 0)", "no matte of the plate's size"),
        ("os.truncate(room, 14400 + 4799)", "no matte of the plate's size"),
        ('os.pwrite(room, b"\\xff" * 4800, 14400)', "a matte that is not finite"),
        ("shape = [2, 2]", "no matte of the plate's size"),
        ("blobs = [bytes(4800)]", "4800 bytes where at most 0 belong"),
    ],
)
def test_a_child_that_spoils_the_shared_room_is_ended_and_harms_nobody(
    liar: Lie, plate: Any, deed: str, said: str
) -> None:
    request = liar(
        f"{STARTED}\nimport os\nroom, shape, blobs = first.head['room'], [30, 40], ()\nask()\n{deed}\n"
        'say({"kind": "matte", "shape": shape, "frame_us": 1}, blobs)\nask()'
    )

    error = infer(request, plate, room=True)

    assert isinstance(error, MeasurementError)
    assert error.rule == "crash"
    assert said in error.actual


def test_an_error_that_was_made_up_is_still_an_error_of_ours(liar: Lie, plate: Any) -> None:
    refused = infer(liar(f'{STARTED}\nask()\nsay({{"kind": "refusal", "class": "SystemExit"}})\nask()'), plate)
    failed = infer(liar(f'{STARTED}\nask()\nsay({{"kind": "error", "text": "\\x1b[2J"}})\nask()'), plate)

    assert type(refused) is MeasurementError
    assert failed.rule == "unknown"
    assert "\x1b" not in str(failed)


@pytest.mark.parametrize(
    ("method", "said"), [("smoke", "an answer without numbers"), ("make_smoke", "an answer without a smoke file")]
)
def test_a_smoke_without_its_parts_is_no_smoke(liar: Lie, method: str, said: str) -> None:
    arguments = {"smoke": [], "make_smoke": [1]}[method]

    with (
        ModelProcess(liar(f'{STARTED}\nask()\nsay({{"kind": "x"}})\nask()')) as model,
        pytest.raises(MeasurementError, match=said),
    ):
        getattr(model, method)(*arguments)


def test_a_smoke_that_is_no_number_does_not_pass(liar: Lie) -> None:
    with ModelProcess(liar(f'{STARTED}\nask()\nsay({{"worst": float("nan"), "tolerance": 1.0}})\nask()')) as model:
        assert not model.smoke().passed


def test_a_smoke_that_no_float_holds_is_no_answer(liar: Lie) -> None:
    with (
        ModelProcess(liar(f'{STARTED}\nask()\nsay({{"worst": 10**400, "tolerance": 1}})\nask()')) as model,
        pytest.raises(MeasurementError, match="an answer without numbers"),
    ):
        model.smoke()


def test_a_version_that_no_record_could_hold_is_cut_to_one_short_line(liar: Lie) -> None:
    lie = STARTED.replace('"runtime_version": "1"', '"runtime_version": "1\\x1b[2J" + "9" * 5000')

    with ModelProcess(liar(f"{lie}\nask()")) as model:
        version = model.started.runtime_version

    assert version.startswith("1 [2J9")
    assert len(version) == 300


def test_another_provider_than_asked_for_is_refused(liar: Lie) -> None:
    lie = STARTED.replace('"cpu"', '"cuda"')

    with pytest.raises(MeasurementError) as caught, ModelProcess(liar(f"{lie}\nask()")):
        pytest.fail("it was believed")

    assert caught.value.rule == "provider"


def test_a_child_without_changeover_is_undecided(liar: Lie) -> None:
    with pytest.raises(UndecidedError) as caught, ModelProcess(liar("import changeover_of_another_kind")):
        pytest.fail("it ran")

    assert caught.value.rule == "runtime"


def test_a_child_that_does_not_leave_is_ended(liar: Lie) -> None:
    with ModelProcess(liar(f"{STARTED}\ntime.sleep(600)")) as model:
        assert model._running is not None
        process = model._running.process

    assert process.returncode is not None
    assert process.returncode < 0
