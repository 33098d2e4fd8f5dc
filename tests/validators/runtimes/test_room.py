import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.process import ModelProcess
from changeover_validators.runtimes.room import Room, Shelf, has_rooms
from changeover_validators.runtimes.sandbox import Isolation

Make = Callable[..., RunRequest]
pytestmark = pytest.mark.skipif(not has_rooms(), reason="no shared memory of this kind on this system")


@pytest.fixture
def room() -> Any:
    made = Room()
    yield made
    made.close()


def test_what_the_parent_lays_down_the_child_reads_and_the_other_way_round(room: Room) -> None:
    first, second = np.arange(5, dtype=np.float32), np.arange(7, dtype=np.float32) * 2
    total = room.put([first.data, second.data], 12)
    shelf = Shelf(room.descriptor)

    there = np.frombuffer(shelf.reach(total), np.float32)
    there[12:] = [7, 8, 9]
    back = np.empty(3, np.float32)

    assert room.take(back.data, 48)
    assert there[:12].tolist() == [*range(5), *range(0, 14, 2)]
    assert back.tolist() == [7, 8, 9]


def test_a_room_grows_with_the_frame_and_the_child_maps_it_anew(room: Room) -> None:
    shelf = Shelf(room.descriptor)
    shelf.reach(room.put([bytes_of(10)], 0))
    large = bytes_of(10_000)

    total = room.put([large], 0)

    assert bytes(shelf.reach(total)) == bytes(large)
    room.put([bytes_of(10)], 0)
    assert os.fstat(room.descriptor).st_size == 10_000


def test_a_room_that_was_cut_short_is_said_and_no_signal_ends_us(room: Room) -> None:
    room.put([bytes_of(8192)], 0)
    os.truncate(room.descriptor, 4096)

    assert not room.take(memoryview(bytearray(8192)), 0)
    assert room.take(memoryview(bytearray(4096)), 0)


def test_a_child_that_has_its_opening_append_makes_no_write_of_ours_grow_the_room(room: Room) -> None:
    import fcntl

    fcntl.fcntl(room.descriptor, fcntl.F_SETFL, os.O_APPEND)
    for _ in range(3):
        total = room.put([bytes_of(1000)], 24)

    assert os.fstat(room.descriptor).st_size == total == 1024
    assert os.pread(room.descriptor, 1000, 0) == bytes(bytes_of(1000))


def bytes_of(count: int) -> memoryview:
    return memoryview(np.random.default_rng(count).bytes(count))


@pytest.mark.parametrize("through_room", [True, False])
def test_frames_of_changing_size_come_back_whole_by_room_and_by_pipe(
    nets: Any, request_for: Make, isolation: Isolation, through_room: bool
) -> None:
    nets.weighted()
    plates = [
        np.random.default_rng(n).random(size, np.float32) for n, size in enumerate([(9, 5, 3), (200, 300, 3)] * 2)
    ]

    with ModelProcess(request_for(), isolation, room=through_room) as model:
        mattes = [model.infer({"plate": plate}, reset=True).matte for plate in plates]

    for plate, matte in zip(plates, mattes, strict=True):
        np.testing.assert_allclose(matte, plate @ np.array([0.5, 0.25, 0.125], np.float32), atol=1e-6)


def test_a_model_that_refuses_one_frame_still_answers_the_next(
    nets: Any, request_for: Make, some_isolation: Isolation, plate: Any
) -> None:
    nets.weighted()
    with ModelProcess(request_for(), some_isolation, room=True) as model:
        with pytest.raises(Exception, match="port plate"):
            model.infer({"plate": plate[..., :2]}, reset=True)

        got = model.infer({"plate": plate}, reset=True)

    np.testing.assert_allclose(got.matte, plate @ np.array([0.5, 0.25, 0.125], np.float32), atol=1e-6)


def test_no_descriptor_is_left_when_the_model_has_ended(
    nets: Any, request_for: Make, some_isolation: Isolation, plate: Any
) -> None:
    nets.weighted()
    before = len([*Path("/proc/self/fd").iterdir()])

    with ModelProcess(request_for(), some_isolation) as model:
        model.infer({"plate": plate}, reset=True)

    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_the_first_load_is_start_and_load_and_both_are_told(
    nets: Any, request_for: Make, some_isolation: Isolation
) -> None:
    nets.weighted()

    with ModelProcess(request_for(), some_isolation) as model:
        started = model.started

    assert started.start_us > started.load_us > 0
    assert started.first_load_us == started.start_us + started.load_us


def test_a_child_may_not_make_the_room_larger_than_a_file_of_its_own(room: Room) -> None:
    """The bound of `limits` holds for the room too, so that memory outside of the watch cannot be taken there."""
    import subprocess
    import sys

    code = (
        "import os, signal, sys\n"
        "from changeover_validators.runtimes.limits import FILE_BYTES, apply_limits, plan_limits\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "apply_limits(plan_limits(64, 'cpu'))\n"
        "for deed in (lambda f: os.truncate(f, FILE_BYTES + 1), lambda f: os.pwrite(f, b'x', FILE_BYTES + 1),\n"
        "             lambda f: os.posix_fallocate(f, 0, FILE_BYTES + 1)):\n"
        "    try:\n        deed(int(sys.argv[1]))\n        print('grown')\n"
        "    except OSError as error:\n        print(error.strerror)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(room.descriptor)],
        capture_output=True, text=True, check=True, pass_fds=(room.descriptor,),
    )  # fmt: skip

    assert done.stdout.split("\n")[:3] == ["File too large"] * 3
    assert os.fstat(room.descriptor).st_size == 0
