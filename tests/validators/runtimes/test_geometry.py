from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_validators.runtimes.geometry import blend_weights, boxes, pad_to, resize, round_up

SIDES = st.integers(min_value=1, max_value=24)


def slow_resize(image: Any, height: int, width: int) -> Any:
    """Bilinear by the definition, one pixel at a time."""
    rows, columns = image.shape[:2]
    out = np.zeros((height, width, *image.shape[2:]))
    for y in range(height):
        for x in range(width):
            v = min(max((y + 0.5) * rows / height - 0.5, 0), rows - 1)
            u = min(max((x + 0.5) * columns / width - 0.5, 0), columns - 1)
            top, left = int(v), int(u)
            bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
            a, b = v - top, u - left
            upper = image[top, left] * (1 - b) + image[top, right] * b
            lower = image[bottom, left] * (1 - b) + image[bottom, right] * b
            out[y, x] = upper * (1 - a) + lower * a
    return out


def slow_reflect(place: int, length: int) -> int:
    """Walk to and fro between the first and the last pixel."""
    at, step = 0, 1
    for _ in range(place):
        if length == 1:
            break
        if not 0 <= at + step < length:
            step = -step
        at += step
    return at


def noise(height: int, width: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((height, width, 2), np.float32)


@given(SIDES, SIDES, SIDES, SIDES)
@settings(deadline=None, max_examples=30)
def test_resize_is_bilinear_with_half_pixel_centres(rows: int, columns: int, height: int, width: int) -> None:
    image = noise(rows, columns)

    got = resize(image, height, width)

    np.testing.assert_allclose(got, slow_resize(image, height, width), atol=1e-6)
    assert got.dtype == np.float32


@pytest.mark.parametrize(("height", "width"), [(7, 31), (64, 64), (20, 10), (5, 3)])
def test_resize_is_what_torch_does_without_aligned_corners(height: int, width: int) -> None:
    torch = pytest.importorskip("torch")
    image = noise(20, 10)

    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(image.transpose(2, 0, 1)[None].copy()), (height, width), mode="bilinear", align_corners=False
    )

    np.testing.assert_allclose(resize(image, height, width), theirs[0].numpy().transpose(1, 2, 0), atol=1e-6)


def test_resize_to_the_same_size_changes_nothing() -> None:
    image = noise(5, 6)

    assert resize(image, 5, 6) is image


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 25), st.integers(0, 25))
@settings(deadline=None, max_examples=40)
def test_reflection_goes_to_and_fro_however_small_the_image(rows: int, columns: int, down: int, right: int) -> None:
    image = noise(rows, columns)

    got = pad_to(image, rows + down, columns + right, "reflect")

    for y in range(rows + down):
        for x in range(columns + right):
            np.testing.assert_array_equal(got[y, x], image[slow_reflect(y, rows), slow_reflect(x, columns)])


def test_zero_and_replicate_pad_on_the_right_and_at_the_bottom() -> None:
    image = np.array([[1, 2], [3, 4]], np.float32)

    zero, again = pad_to(image, 3, 4, "zero"), pad_to(image, 3, 4, "replicate")

    assert zero.tolist() == [[1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 0, 0]]
    assert again.tolist() == [[1, 2, 2, 2], [3, 4, 4, 4], [3, 4, 4, 4]]
    assert pad_to(image, 2, 2, "zero") is image


@given(st.integers(1, 1000), st.integers(1, 64))
@settings(deadline=None)
def test_round_up_is_the_first_multiple(size: int, multiple: int) -> None:
    got = round_up(size, multiple)

    assert got == next(n for n in range(size, size + multiple) if n % multiple == 0)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(8, 40), st.integers(0, 3))
@settings(deadline=None, max_examples=80)
def test_tiles_cover_the_frame_inside_it_and_share_the_overlap(
    height: int, width: int, size: int, overlap: int
) -> None:
    tiles = boxes(height, width, size, overlap)

    covered = np.zeros((height, width), bool)
    for box in tiles:
        assert box.left >= 0
        assert box.top >= 0
        assert box.left + box.width <= width
        assert box.top + box.height <= height
        assert (box.height, box.width) == (min(size, height), min(size, width))
        box.of(covered)[...] = True
    assert covered.all()
    lefts = sorted({box.left for box in tiles})
    assert all(b - a <= size - overlap for a, b in pairwise(lefts))
    assert len(set(tiles)) == len(tiles)


def test_size_zero_is_the_whole_frame() -> None:
    (box,) = boxes(30, 40, 0, 0)

    assert (box.left, box.top, box.width, box.height) == (0, 0, 40, 30)


def test_weights_rise_over_the_overlap_and_never_reach_zero() -> None:
    (box,) = boxes(1, 9, 0, 0)

    weights = blend_weights(box, 3)

    np.testing.assert_allclose(weights[0] / weights[0].max(), [0.25, 0.5, 0.75, 1, 1, 1, 0.75, 0.5, 0.25])
    assert (weights > 0).all()
