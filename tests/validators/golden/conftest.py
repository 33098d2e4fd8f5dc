"""What the tests of golden shots share: images written for a test, and real ones where they are."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO as oiio  # noqa: N813 - the name that its own documentation uses
import pytest

DATA = Path(os.environ.get("CHANGEOVER_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))


@pytest.fixture(scope="session")
def data() -> Path:
    if not DATA.is_dir():
        pytest.skip("no real images: neither $CHANGEOVER_TEST_DATA nor ../shared/data is there")
    return DATA


@pytest.fixture
def write_image() -> Callable[..., Path]:
    """Write one image: pixels [H, W, C], channel names, the display window as (x, y, width, height)."""
    return _write


def _write(
    path: Path,
    pixels: np.ndarray[Any, Any],
    channels: Sequence[str],
    *,
    kind: str = "half",
    origin: tuple[int, int] = (0, 0),
    display: tuple[int, int, int, int] | None = None,
    attributes: dict[str, Any] | None = None,
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, count = pixels.shape
    spec = oiio.ImageSpec(width, height, count, kind)
    spec.channelnames = tuple(channels)
    spec.x, spec.y = origin
    spec.full_x, spec.full_y, spec.full_width, spec.full_height = display or (0, 0, width, height)
    for name, value in {"oiio:UnassociatedAlpha": 1, **(attributes or {})}.items():
        spec.attribute(name, value)
    file = oiio.ImageOutput.create(str(path))
    assert file is not None, oiio.geterror()
    assert file.open(str(path), spec), file.geterror()
    assert file.write_image(np.ascontiguousarray(pixels)), file.geterror()
    assert file.close()
    return path
