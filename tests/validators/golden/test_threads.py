"""What the pipeline does beside inference and metrics lets other threads of Python run."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest

from changeover_validators.golden import _openexr
from changeover_validators.golden.aspect import widen
from changeover_validators.golden.colour import transform
from changeover_validators.golden.images import read_image

CG = "ocio://cg-config-v2.2.0_aces-v1.3_ocio-v2.4"


@pytest.fixture
def no_turns() -> Iterator[None]:
    """No thread is made to give up Python's lock: another one runs only while it is let go on purpose."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(before)


def lets_others_run(work: Callable[[], object]) -> bool:
    """Whether a thread that can run does so before `work` returns; a busy machine gets five chances."""
    work()
    for _ in range(5):
        start, ran = threading.Event(), threading.Event()

        def other(start: threading.Event = start, ran: threading.Event = ran) -> None:
            start.wait()
            ran.set()

        thread = threading.Thread(target=other)
        thread.start()
        start.set()
        work()
        answer = ran.is_set()
        thread.join()
        if answer:
            return True
    return False


def busy() -> int:
    return sum(index * index for index in range(300_000))


def test_a_loop_of_python_lets_nobody_run(no_turns: None) -> None:
    # Without this the others would prove nothing.
    assert not lets_others_run(busy)


@pytest.mark.parametrize("what", ["decode", "table", "primaries", "widen"])
def test_decoding_and_colour_let_other_threads_run(tmp_path: Path, what: str, no_turns: None) -> None:
    pixels = np.random.default_rng(0).random((1080, 1920, 3)).astype(np.float16)
    path = tmp_path / "a.exr"
    OpenEXR.File({"type": OpenEXR.scanlineimage, "compression": OpenEXR.ZIP_COMPRESSION}, {"RGB": pixels}).write(
        str(path)
    )
    table, primaries = transform("scene-linear", None, "srgb", None), transform("ACEScg", CG, "srgb", None)
    wide = pixels.astype(np.float32)
    work: dict[str, Callable[[], object]] = {
        "decode": lambda: _openexr.decode(str(path), ("R", "G", "B")),
        "table": lambda: table.apply(pixels),
        "primaries": lambda: primaries.apply(pixels),
        "widen": lambda: widen(wide, 2.0),
    }
    assert lets_others_run(work[what])


def write(path: Path, pixels: np.ndarray[Any, Any]) -> None:
    header = {"type": OpenEXR.scanlineimage, "compression": OpenEXR.ZIPS_COMPRESSION}
    OpenEXR.File(header, {"RGB": pixels}).write(str(path))


def test_several_threads_decode_the_same_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((1024, 1024, 3)).astype(np.float16)
    path = tmp_path / "a.exr"
    OpenEXR.File({"type": OpenEXR.scanlineimage, "compression": OpenEXR.ZIPS_COMPRESSION}, {"RGB": pixels}).write(
        str(path)
    )
    with ThreadPoolExecutor(4) as threads:
        images = list(threads.map(lambda _: read_image(path, ("R", "G", "B")), range(8)))
    assert all(np.array_equal(image.pixels, pixels) for image in images)
