"""The largest tile that fits, against every size tried one by one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.errors import UndecidedError
from changeover_registry.records.memory import MemoryAnswer, MemoryKey, MemoryPart, MemoryPlan, MemoryRange, Steady
from changeover_registry.records.policy import Policy, VramPolicy
from changeover_registry.records.release import Contract, FileEntry, Requires, Tile, Variant
from changeover_validators.vram.footprint import Footprint, Room
from changeover_validators.vram.solve import (
    MARGIN,
    NUKE_TILES,
    largest_on_plate,
    largest_size,
    largest_tile,
    margin_of,
    tiles_of,
    try_size,
    within,
)

Make = Callable[..., Contract]
PLATE = (1920, 1080)
ALONE = Policy(vram=VramPolicy(instances=1))
TILES = (Tile(size=0), Tile(size=1024, overlap=64), Tile(size=1024), Tile(size=512), Tile(size=256))


@dataclass
class Linear:
    """A model whose arena grows with the pixels, and needs more while it loads; it remembers what it was asked."""

    per_pixel: int = 100
    weights: int = 5000
    context: int = 0
    loading: int = 0
    asked: list[tuple[int, int, MemoryPlan]] = field(default_factory=list)

    def answer(self, width: int, height: int, plan: MemoryPlan) -> MemoryAnswer:
        self.asked.append((width, height, plan))
        if width > 8192:
            raise UndecidedError("size", where="net", expected="less", actual=str(width), remedy="use a tile")
        arena = self.weights + self.per_pixel * width * height
        key = MemoryKey(model="a" * 64, runtime="onnxruntime", version="1.31.1", provider="cpu", width=1, height=1)
        parts = (MemoryPart(name="context", bytes=self.context, label="modelled"),)
        return MemoryAnswer(
            key=key,
            steady=Steady(in_use_bytes=arena, arena_bytes=arena),
            range=MemoryRange(low_bytes=arena, high_bytes=arena, sessions=1),
            parts=(*parts, MemoryPart(name="activations", bytes=arena, label="modelled")),
            total_bytes=self.context + arena,
            requested_bytes=arena,
            label="modelled",
        )

    def runs_in(self, width: int, height: int, plan: MemoryPlan, limit_bytes: int) -> bool:
        return self.answer(width, height, plan).steady.arena_bytes + self.loading <= limit_bytes


def variant(contract: Contract, runtime: Any = "onnx") -> Variant:
    cat = runtime == "nuke-cat"
    entry = "model.cat" if cat else "model.onnx"
    return Variant(
        id="v",
        runtime=runtime,
        precision="fp32",
        loaders=("nuke-inference",) if cat else ("python",),
        entry=entry,
        files=(FileEntry(path=entry, size=0, sha256="0" * 64, blocks=()),),
        contract=contract,
        requires=Requires(),
    )


def needs(model: Linear, contract: Contract, tile: Tile) -> int:
    return try_size(model, contract, tile, PLATE, Room(1 << 60, ALONE), lambda _t, _w, _h: MemoryPlan()).need_bytes or 0


def allowed_for(need: int) -> int:
    """The least budget whose margin holds `need`."""
    return -(-need * MARGIN.denominator // MARGIN.numerator)


def test_tiles_come_from_the_contract_and_for_nuke_only_those_that_its_node_offers(contract: Make) -> None:
    tiles = contract(tiles=TILES)

    assert tiles_of(variant(tiles)) == TILES
    assert tiles_of(variant(tiles.model_copy(update={"tiles": TILES[::-1]}))) == TILES
    assert tiles_of(variant(tiles, "nuke-cat")) == TILES[:3]
    assert NUKE_TILES == (0, 1024, 2048, 4096)


def test_largest_tile_fits_within_the_margin_and_the_next_larger_one_is_named_with_its_figure(contract: Make) -> None:
    model, wide = Linear(), contract(tiles=TILES)
    need = {tile: needs(model, wide, tile) for tile in TILES}
    budget = allowed_for(need[TILES[3]])

    found = largest_tile(model, wide, TILES, PLATE, Room(budget, ALONE))
    less = largest_tile(model, wide, TILES, PLATE, Room(budget - 1, ALONE))

    assert found.best is not None
    assert found.larger is not None
    assert (found.best.tile, found.best.need_bytes) == (TILES[3], need[TILES[3]])
    assert (found.larger.tile, found.larger.need_bytes, found.larger.fits) == (TILES[2], need[TILES[2]], False)
    assert less.best is not None
    assert less.best.tile == TILES[4]


def test_whole_frame_that_fits_has_no_larger_one_and_nothing_fits_in_nothing(contract: Make) -> None:
    model, wide = Linear(), contract(tiles=TILES)

    whole = largest_tile(model, wide, TILES, PLATE, Room(1 << 60, ALONE))
    none = largest_tile(model, wide, TILES, PLATE, Room(0, ALONE))

    assert whole.best is not None
    assert (whole.best.tile, whole.larger) == (TILES[0], None)
    assert none.best is None
    assert none.larger is not None
    assert none.larger.tile == TILES[-1]


def test_tile_that_needs_more_while_it_loads_than_the_arena_may_have_does_not_fit(contract: Make) -> None:
    wide = contract(tiles=TILES)
    budget = allowed_for(needs(Linear(), wide, TILES[3]))

    found = largest_tile(Linear(loading=1), wide, TILES, PLATE, Room(budget, ALONE))

    assert found.best is not None
    assert found.best.tile == TILES[4]


def test_tile_that_would_run_under_a_limit_and_is_refused_is_called_conservative(contract: Make) -> None:
    @dataclass
    class Frugal(Linear):
        """Takes half of what it grows to, if its arena is held to that."""

        def runs_in(self, width: int, height: int, plan: MemoryPlan, limit_bytes: int) -> bool:
            return self.answer(width, height, plan).steady.arena_bytes // 2 <= limit_bytes

    model, wide = Frugal(), contract(tiles=TILES[:1])
    need = needs(model, wide, TILES[0])

    most = largest_tile(model, wide, TILES[:1], PLATE, Room(allowed_for(need) - 1, ALONE)).larger
    half = largest_tile(model, wide, TILES[:1], PLATE, Room(need // 3, ALONE)).larger

    assert most is not None
    assert half is not None
    assert (most.fits, most.conservative) == (False, True)
    assert (half.fits, half.conservative) == (False, False)


def test_every_instance_and_the_release_in_use_need_room(contract: Make) -> None:
    model, wide = Linear(context=1000), contract(tiles=TILES)
    one = needs(model, wide, TILES[3]) - 1000
    two = Policy()

    def best(room: Room) -> Tile | None:
        found = largest_tile(model, wide, TILES, PLATE, room).best
        return found.tile if found else None

    assert best(Room(allowed_for(1000 + 2 * one), two)) == TILES[3]
    assert best(Room(allowed_for(1000 + 2 * one) - 1, two)) == TILES[4]
    assert best(Room(allowed_for(1000 + 2 * one), two, Footprint(0, one))) is None
    assert best(Room(allowed_for(1000 + 3 * one), two, Footprint(0, one))) == TILES[3]


def test_size_without_an_answer_is_passed_over_with_its_reason(contract: Make) -> None:
    tried = try_size(
        Linear(), contract(), Tile(size=9000), PLATE, Room(1 << 60, ALONE), lambda _t, _w, _h: MemoryPlan()
    )

    assert (tried.answer, tried.fits, tried.runs) == (None, False, False)
    assert "use a tile" in tried.why


def test_each_size_is_asked_under_its_own_plan(contract: Make) -> None:
    model = Linear()

    largest_tile(
        model,
        contract(tiles=TILES),
        TILES,
        PLATE,
        Room(1, ALONE),
        lambda _t, w, h: MemoryPlan(initial_chunk_bytes=w * h),
    )

    assert all(plan.initial_chunk_bytes == width * height for width, height, plan in model.asked)
    assert len({(width, height) for width, height, _ in model.asked}) == len({tile.size for tile in TILES})


@settings(deadline=None)
@given(budget=st.integers(0, 3 * 10**9), multiple=st.sampled_from([1, 2, 8, 14, 32, 64]))
def test_largest_size_is_the_last_that_fits_among_all_of_them(budget: int, multiple: int) -> None:
    model = Linear()
    room = Room(budget, ALONE)
    wanted = Contract.model_validate(
        {
            "evaluation": "stateless",
            "inputs": ({"name": "x", "port": "plate", "channels": ("r", "g", "b")},),
            "output": {"name": "y", "port": "matte"},
            "colour": "srgb",
            "multiple": multiple,
        }
    )
    step = {1: 8, 2: 8}.get(multiple, multiple)
    sizes = range(step, 4096 + 1, step)
    fitting = [size for size in sizes if model.weights + model.per_pixel * size**2 <= margin_of(budget)]

    found = largest_size(model, wanted, room, most=4096)

    assert (found.best.tile.size if found.best else None) == (fitting[-1] if fitting else None)
    beyond = (fitting[-1] if fitting else 0) + step
    assert (found.larger.tile.size if found.larger else None) == (beyond if beyond <= 4096 else None)


def test_contract_that_resizes_has_one_size_and_no_largest(contract: Make) -> None:
    found = largest_size(Linear(), contract(resize=(320, 320)), Room(1 << 40, ALONE))

    assert (found.best, found.larger) == (None, None)


@settings(deadline=None)
@given(less=st.integers(0, 10**9), more=st.integers(0, 10**9))
def test_more_budget_never_means_a_smaller_tile(less: int, more: int) -> None:
    less, more = sorted((less, more))
    model = Linear()
    wide = Contract.model_validate(
        {
            "evaluation": "stateless",
            "inputs": ({"name": "x", "port": "plate", "channels": ("r", "g", "b")},),
            "output": {"name": "y", "port": "matte"},
            "colour": "srgb",
        }
    )

    found = [largest_tile(model, wide, TILES, PLATE, Room(budget, ALONE)).best for budget in (less, more)]

    ranks = [-1 if one is None else len(TILES) - TILES.index(one.tile) for one in found]
    assert ranks == sorted(ranks)


@pytest.mark.parametrize("allowed", [0, 1, 99, 100, 10**15 + 7])
def test_margin_is_rounded_against_the_model(allowed: int) -> None:
    assert margin_of(allowed) <= Fraction(97, 100) * allowed < margin_of(allowed) + 1
    assert within(Room(allowed_for(5000), ALONE), Linear(per_pixel=0).answer(1, 1, MemoryPlan()))
    assert not within(Room(allowed_for(5000) - 1, ALONE), Linear(per_pixel=0).answer(1, 1, MemoryPlan()))


@pytest.mark.parametrize(
    ("share", "best", "larger"),
    [(Fraction(2), 0, None), (Fraction(3, 4), 1080, 0), (Fraction(1, 8), 504, 512)],
    ids=["whole frame fits", "tile as high as the plate fits", "tile within the plate fits"],
)
def test_largest_tile_of_any_size_is_never_beyond_the_plate(
    contract: Make, share: Fraction, best: int, larger: int | None
) -> None:
    model, wide = Linear(weights=0), contract(tiles=TILES)
    whole = needs(model, wide, Tile(size=0))

    found = largest_on_plate(model, wide, PLATE, Room(allowed_for(int(whole * share)), ALONE))

    # 1080 x 1080 takes 0.563 of the frame, and 504 x 504 the most that is below an eighth of it.
    assert found.best is not None
    assert (found.best.tile.size, found.larger.tile.size if found.larger else None) == (best, larger)
