"""What a verdict's memory curve says of a plate that it does not hold. Pure arithmetic on `CurvePoint`.

An allocator's total is a staircase, so it is never drawn out between plates. What tensors ask for at once is the
greatest of several amounts that each grow in a straight line with the pixels of the tensor (with their square under
global attention). Such a maximum is convex, and that is all that is used here: beyond two known plates the line through
them lies at or below the truth, between them at or above it, and a larger tensor never asks for less. So a plate that
nobody predicted can be refused by the least that it asks for; it is passed only by a larger plate that fits.

What this leaves out: budgets (`checks/vram.py`), and the predictions themselves.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from changeover_registry.records.release import Contract, Tile
from changeover_registry.records.verdict import CurvePoint

__all__ = ["Asked", "asked_for", "at_plate", "larger_plates", "tensor_pixels", "tensor_size"]

Plate = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Asked:
    """Between what bounds the bytes lie that tensors ask for at once; `most` is None beyond the largest known plate."""

    least: int
    most: int | None


def tensor_size(contract: Contract, width: int, height: int, tile: Tile) -> tuple[int, int]:
    """Width and height in pixels of the tensor that one call takes for a plate of `width` by `height`.

    A tile is always handed over at its full size, also where the plate is smaller.
    """
    if contract.resize is not None:
        width, height = contract.resize
    elif tile.size:
        width = height = tile.size
    return _up(width, contract.multiple), _up(height, contract.multiple)


def tensor_pixels(contract: Contract, tile: Tile) -> Callable[[Plate], int]:
    """How many pixels the tensor has for a plate, as a function of the plate."""

    def pixels(plate: Plate) -> int:
        width, height = tensor_size(contract, *plate, tile)
        return width * height

    return pixels


def at_plate(curve: Iterable[CurvePoint], plate: Plate) -> CurvePoint | None:
    """The prediction at exactly `plate`, if the curve holds it."""
    return next((point for point in curve if (point.width, point.height) == plate), None)


def larger_plates(curve: Iterable[CurvePoint], plate: Plate) -> tuple[CurvePoint, ...]:
    """The predictions at plates that are at least as wide and as high, the one that takes least first."""
    found = [point for point in curve if point.width >= plate[0] and point.height >= plate[1]]
    return tuple(sorted(found, key=lambda point: (point.bytes, point.width, point.height)))


def asked_for(
    curve: Iterable[CurvePoint], plate: Plate, *, pixels: Callable[[Plate], int] | None = None, attention: bool = False
) -> Asked | None:
    """The bounds of what tensors ask for at `plate`, or None where nothing of the curve bounds it.

    Args:
        curve: Points without `requested_bytes` are passed over.
        plate: Width and height in pixels.
        pixels: The pixels of a plate's tensor; without it, those of the plate.
        attention: Whether the model has global attention. Beyond the largest known plate no line is drawn out then;
            the larger plate asks for no less, and nothing more is said.
    """
    count = pixels or (lambda size: size[0] * size[1])
    wanted = count(plate)
    known = _known(curve, count, min)
    below, above = [item for item in known if item[0] <= wanted], [item for item in known if item[0] >= wanted]
    least = [below[-1][1]] if below else []
    if len(below) > 1 and (above or not attention):
        least.append(_line(below[-2], below[-1], wanted))
    if len(above) > 1:
        least.append(_line(above[0], above[1], wanted))
    if not least:
        return None
    return Asked(max(0, *least), _most(_known(curve, count, max), wanted))


def _known(
    curve: Iterable[CurvePoint], pixels: Callable[[Plate], int], pick: Callable[[int, int], int]
) -> list[tuple[int, int]]:
    """(pixels, requested bytes), in order; of plates of as many pixels the least or the most is picked."""
    found: dict[int, int] = {}
    for point in curve:
        if point.requested_bytes is not None:
            count = pixels((point.width, point.height))
            found[count] = pick(point.requested_bytes, found.get(count, point.requested_bytes))
    return sorted(found.items())


def _most(known: list[tuple[int, int]], wanted: int) -> int | None:
    below, above = [item for item in known if item[0] <= wanted], [item for item in known if item[0] >= wanted]
    return _chord(below[-1], above[0], wanted) if below and above else None


def _line(first: tuple[int, int], second: tuple[int, int], at: int) -> int:
    """The line through two points, at `at`, rounded down to a whole byte."""
    (x0, y0), (x1, y1) = first, second
    return y0 + (y1 - y0) * (at - x0) // (x1 - x0)


def _chord(first: tuple[int, int], second: tuple[int, int], at: int) -> int:
    """The line between two points, at `at`, rounded up."""
    (x0, y0), (x1, y1) = first, second
    return y0 if x0 == x1 else y0 - (-(y1 - y0) * (at - x0) // (x1 - x0))


def _up(pixels: int, multiple: int) -> int:
    return -(-pixels // multiple) * multiple
