"""The settings at which a model fits: the largest tile that a loader allows, and the largest tile of all for vendors.

Every size is answered by a `Predictor`, none is drawn out from others. A size fits when what must fit at once is within
`MARGIN` of the budget, and every session runs with an arena that may not grow over its share of it: a session can need
more while it loads than when it runs, and by that and the last 3 % two of six chosen tiles failed under a real limit
where neither was looked at (research, hardware, section 1.5). What this leaves out: budgets, and which memory plan.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

from changeover_registry.errors import ChangeoverError
from changeover_registry.records.memory import MemoryAnswer, MemoryPlan
from changeover_registry.records.release import Contract, Tile, Variant
from changeover_validators.vram.curves import tensor_size
from changeover_validators.vram.footprint import Room, footprint_of
from changeover_validators.vram.predictor import Predictor

__all__ = [
    "LARGEST_TILE",
    "MARGIN",
    "NUKE_TILES",
    "PlanFor",
    "Solution",
    "Tried",
    "largest_on_plate",
    "largest_size",
    "largest_tile",
    "margin_of",
    "tiles_of",
    "try_size",
    "within",
]

MARGIN = Fraction(97, 100)
"""The share of a budget that a chosen tile may take."""

NUKE_TILES = (0, 1024, 2048, 4096)
"""What the knob of Nuke's Inference node offers, in pixels; 0 is the whole frame."""

LARGEST_TILE = 16384
"""The largest side in pixels that a contract can name."""

_STEP = 8
"""Pixels; what is finer tells a vendor nothing."""

PlanFor = Callable[[Tile, int, int], MemoryPlan]
"""The memory plan of a tile whose tensor has that width and height."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One size that was tried: the tile, its tensor in pixels, the answer, and what of it must fit at once.

    `why` says why there is no answer. `runs` tells whether every session would run if its arena were held to its share
    of the whole budget; a size that runs so and does not fit was refused to be on the safe side.
    """

    tile: Tile
    width: int
    height: int
    answer: MemoryAnswer | None
    need_bytes: int | None
    fits: bool
    runs: bool
    why: str = ""

    @property
    def conservative(self) -> bool:
        """Whether it would run under a limit, and is refused all the same."""
        return self.runs and not self.fits


@dataclass(frozen=True, slots=True)
class Solution:
    """The largest size that fits, if any does, and the next larger one, which does not."""

    best: Tried | None
    larger: Tried | None


def tiles_of(variant: Variant) -> tuple[Tile, ...]:
    """The tiles that a variant may be used with, the largest first: its contract's, and of these what its loader has.

    Nuke's node offers a few sizes only; every other loader takes what the contract says.
    """
    tiles = variant.contract.tiles
    if variant.runtime == "nuke-cat":
        tiles = tuple(tile for tile in tiles if tile.size in NUKE_TILES)
    return tuple(sorted(tiles, key=lambda tile: (tile.size or LARGEST_TILE + 1, tile.overlap), reverse=True))


def margin_of(allowed_bytes: int) -> int:
    """What a chosen size may take of a budget, rounded down."""
    return int(allowed_bytes * MARGIN)


def within(room: Room, answer: MemoryAnswer) -> bool:
    """Whether what must fit at once is within the margin of the budget."""
    return room.need(footprint_of(answer)).bytes <= margin_of(room.allowed_bytes)


def try_size(
    predictor: Predictor, contract: Contract, tile: Tile, plate: tuple[int, int], room: Room, plan_for: PlanFor
) -> Tried:
    """What becomes of one tile at a plate of that width and height."""
    width, height = tensor_size(contract, *plate, tile)
    try:
        plan = plan_for(tile, width, height)
        answer = predictor.answer(width, height, plan)
        need = room.need(footprint_of(answer)).bytes

        def runs_within(bytes_of_budget: int) -> bool:
            # What lies outside of the arena stays; the arena alone has the rest of the budget.
            limit = answer.range.high_bytes + room.share(bytes_of_budget - need)
            return limit > 0 and predictor.runs_in(width, height, plan, limit)

        fits = need <= margin_of(room.allowed_bytes) and runs_within(margin_of(room.allowed_bytes))
        runs = fits or runs_within(room.allowed_bytes)
    except ChangeoverError as error:
        return Tried(tile, width, height, None, None, fits=False, runs=False, why=str(error))
    return Tried(tile, width, height, answer, need, fits=fits, runs=runs)


def largest_tile(
    predictor: Predictor,
    contract: Contract,
    tiles: Iterable[Tile],
    plate: tuple[int, int],
    room: Room,
    plan_for: PlanFor = lambda _tile, _width, _height: MemoryPlan(),
) -> Solution:
    """The first of `tiles` (the largest first) that fits at `plate`, and the one before it."""
    larger: Tried | None = None
    for tile in tiles:
        tried = try_size(predictor, contract, tile, plate, room, plan_for)
        if tried.fits:
            return Solution(tried, larger)
        larger = tried
    return Solution(None, larger)


def largest_size(
    predictor: Predictor,
    contract: Contract,
    room: Room,
    plan_for: PlanFor = lambda _tile, _width, _height: MemoryPlan(),
    *,
    most: int = LARGEST_TILE,
) -> Solution:
    """The largest square tensor that fits, in steps of the contract's multiple (of at least 8), up to `most`.

    It tells a vendor which tile to publish; a station only ever uses tiles that the contract allows. A contract that
    resizes has one size whatever the tile, so there is no solution to name.
    """
    if contract.resize is not None:
        return Solution(None, None)
    step = contract.multiple if contract.multiple >= _STEP else math.lcm(contract.multiple, _STEP)
    tried: dict[int, Tried] = {}

    def fits(steps: int) -> bool:
        tile = Tile(size=steps * step)
        tried[steps] = try_size(predictor, contract, tile, (tile.size, tile.size), room, plan_for)
        return tried[steps].fits

    low, high = 0, most // step
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return Solution(tried.get(low), tried.get(low + 1))


def largest_on_plate(
    predictor: Predictor,
    contract: Contract,
    plate: tuple[int, int],
    room: Room,
    plan_for: PlanFor = lambda _tile, _width, _height: MemoryPlan(),
) -> Solution:
    """As `largest_size`, and never beyond a plate of that width and height: the whole frame, else a tile within it.

    A tile that is larger than the shorter side of the plate would be filled up with nothing.
    """
    whole = try_size(predictor, contract, Tile(size=0), plate, room, plan_for)
    if whole.fits:
        return Solution(whole, None)
    found = largest_size(predictor, contract, room, plan_for, most=min(*plate, LARGEST_TILE))
    return found if found.larger is not None else Solution(found.best, whole)
