"""What a curve says of plates that it does not hold, against maxima of straight lines that are known everywhere."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.records.release import Contract, TensorIn, TensorOut, Tile
from changeover_registry.records.verdict import CurvePoint
from changeover_validators.vram.curves import Asked, asked_for, at_plate, larger_plates, tensor_pixels, tensor_size

HD, UHD, DCI = (1920, 1080), (3840, 2160), (4096, 2160)


def point(plate: tuple[int, int], requested: int | None, size: int = 0) -> CurvePoint:
    return CurvePoint(width=plate[0], height=plate[1], bytes=size, requested_bytes=requested)


def contract(multiple: int = 1, resize: tuple[int, int] | None = None) -> Contract:
    return Contract(
        evaluation="stateless",
        inputs=(TensorIn(name="x", port="plate", channels=("red", "green", "blue")),),
        output=TensorOut(name="y", port="matte"),
        colour="srgb",
        multiple=multiple,
        resize=resize,
    )


def test_plate_is_found_and_larger_ones_come_with_the_cheapest_first() -> None:
    curve = (point(DCI, None, 3), point(HD, None, 1), point(UHD, None, 2))

    assert at_plate(curve, UHD) == curve[2]
    assert at_plate(curve, (1, 1)) is None
    assert larger_plates(curve, (2000, 1080)) == (curve[2], curve[0])
    assert larger_plates(curve, (5000, 100)) == ()


def test_curve_without_requested_bytes_bounds_nothing() -> None:
    assert asked_for((point(HD, None, 10), point(UHD, None, 20)), DCI) is None
    assert asked_for((), DCI) is None


def test_one_smaller_plate_is_a_floor_and_one_larger_plate_alone_says_nothing() -> None:
    assert asked_for((point(HD, 10),), DCI) == Asked(10, None)
    assert asked_for((point(DCI, 10),), HD) is None


def test_known_plate_is_its_own_bound() -> None:
    curve = (point(HD, 100), point(DCI, 700))

    found = asked_for(curve, DCI)

    assert found == Asked(700, 700)


def test_tile_asks_for_the_same_at_every_plate() -> None:
    pixels = tensor_pixels(contract(multiple=32), Tile(size=500))

    found = asked_for((point(HD, 77), point(DCI, 77)), UHD, pixels=pixels)

    assert pixels(HD) == 512 * 512
    assert found == Asked(77, 77)


def test_plates_of_as_many_pixels_give_the_less_as_floor_and_the_more_as_ceiling() -> None:
    assert asked_for((point((200, 100), 5), point((100, 200), 7)), (20000, 1)) == Asked(5, 7)


lines = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 10**9)), min_size=1, max_size=4)
"""Bytes a pixel, and bytes for each size: what each node of a graph asks for."""
counts = st.lists(st.integers(1, 40_000), min_size=2, max_size=5, unique=True)
three = st.lists(st.integers(1, 40_000), min_size=3, max_size=5, unique=True)


def truth(amounts: list[tuple[int, int]], pixels: int, squares: int = 0) -> int:
    return max(slope * pixels + constant for slope, constant in amounts) + squares * pixels**2


@settings(deadline=None)
@given(amounts=lines, known=counts, wanted=st.integers(1, 60_000), squares=st.sampled_from([0, 3]))
def test_what_is_asked_for_lies_between_the_bounds(
    amounts: list[tuple[int, int]], known: list[int], wanted: int, squares: int
) -> None:
    curve = tuple(point((count, 1), truth(amounts, count, squares)) for count in known)
    found = asked_for(curve, (wanted, 1), attention=squares > 0)
    real = truth(amounts, wanted, squares)

    assert (found is not None) or (wanted < min(known) and len(known) < 2)
    if found is not None:
        assert found.least <= real
        assert found.most is None or real <= found.most
        assert (found.most is None) == (not min(known) <= wanted <= max(known))


@settings(deadline=None)
@given(slope=st.integers(1, 4000), constant=st.integers(0, 10**9), known=three, wanted=st.integers(1, 60_000))
def test_straight_line_is_found_again_to_the_byte(slope: int, constant: int, known: list[int], wanted: int) -> None:
    curve = tuple(point((count, 1), slope * count + constant) for count in known)
    exact = slope * wanted + constant

    found = asked_for(curve, (wanted, 1))

    assert found is not None
    assert found.least == exact
    assert found.most in {None, exact}


@settings(deadline=None)
@given(known=counts, beyond=st.integers(1, 60_000), squares=st.integers(1, 9))
def test_attention_is_never_drawn_out_and_its_floor_is_the_largest_known(
    known: list[int], beyond: int, squares: int
) -> None:
    curve = tuple(point((count, 1), squares * count**2) for count in known)

    assert asked_for(curve, (max(known) + beyond, 1), attention=True) == Asked(squares * max(known) ** 2, None)


@settings(deadline=None)
@given(known=counts, order=st.randoms(use_true_random=False), wanted=st.integers(1, 60_000))
def test_order_of_the_curve_changes_no_bound(known: list[int], order: object, wanted: int) -> None:
    curve = [point((count, 1), 7 * count) for count in known]
    mixed = list(curve)
    order.shuffle(mixed)  # type: ignore[attr-defined]

    assert asked_for(mixed, (wanted, 1)) == asked_for(curve, (wanted, 1))


@pytest.mark.parametrize(
    ("resize", "tile", "plate", "tensor"),
    [
        (None, Tile(size=0), (1921, 1080), (1952, 1088)),
        (None, Tile(size=512, overlap=32), (4096, 2160), (512, 512)),
        (None, Tile(size=500, overlap=32), (300, 200), (512, 512)),
        ((320, 200), Tile(size=512), (4096, 2160), (320, 224)),
    ],
)
def test_tensor_is_as_large_as_the_contract_makes_it(
    resize: tuple[int, int] | None, tile: Tile, plate: tuple[int, int], tensor: tuple[int, int]
) -> None:
    assert tensor_size(contract(32, resize), *plate, tile) == tensor


def test_bounds_are_whole_bytes_on_the_safe_side() -> None:
    curve = (point((1, 1), 0), point((4, 1), 10))

    found = asked_for(curve, (2, 1))

    assert found == Asked(0, -(-Fraction(10, 3) // 1))
