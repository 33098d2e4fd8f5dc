from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changeover_validators.vram.arena import Arena, ArenaFullError

MIB = 1 << 20


@dataclass
class Region:
    """A region as bytes of which each belongs to a request or to none: slow, and hard to get wrong."""

    size: int
    owners: list[int | None] = field(default_factory=list)


class SlowArena:
    """The arena by its definition, in units of 256 bytes: every free run of every region is looked at each time."""

    def __init__(self, extend: str, first: int) -> None:
        self.extend, self.step = extend, first // 256
        self.regions: list[list[tuple[int, int | None]]] = []
        self.count = 0

    def allocate(self, size: int) -> int:
        units = -(-size // 256)
        found = self._free_runs(units)
        if not found:
            self.regions.append([(self._new_region(units), None)])
            found = self._free_runs(units)
        # The smallest that fits; among equals the one at the lowest address, and later regions lie lower.
        length, region, index = min(found, key=lambda run: (run[0], -run[1], run[2]))
        self.count += 1
        chunks = self.regions[region]
        if length >= 2 * units or length - units >= 128 * MIB // 256:
            chunks[index : index + 1] = [(units, self.count), (length - units, None)]
        else:
            chunks[index] = (length, self.count)
        return self.count

    def free(self, number: int) -> None:
        for chunks in self.regions:
            for index, (length, owner) in enumerate(chunks):
                if owner == number:
                    chunks[index] = (length, None)
            merged: list[tuple[int, int | None]] = []
            for length, owner in chunks:
                if merged and owner is None and merged[-1][1] is None:
                    merged[-1] = (merged[-1][0] + length, None)
                else:
                    merged.append((length, owner))
            chunks[:] = merged

    @property
    def total(self) -> int:
        return 256 * sum(length for chunks in self.regions for length, _ in chunks)

    @property
    def in_use(self) -> int:
        return 256 * sum(length for chunks in self.regions for length, owner in chunks if owner is not None)

    def _free_runs(self, units: int) -> list[tuple[int, int, int]]:
        return [
            (length, region, index)
            for region, chunks in enumerate(self.regions)
            for index, (length, owner) in enumerate(chunks)
            if owner is None and length >= units
        ]

    def _new_region(self, units: int) -> int:
        if self.extend == "same-as-requested":
            return units
        if units > self.step:
            while units > self.step:
                self.step *= 2
            return self.step
        size = self.step
        self.step = min(2 * size, 1024 * MIB // 256)
        return size


requests = st.lists(
    st.one_of(st.integers(1, 3000), st.integers(1, 64 * MIB), st.integers(0, 10).map(lambda index: -index)), max_size=40
)


@given(requests, st.sampled_from(["next-power-of-two", "same-as-requested"]))
def test_any_run_of_requests_ends_with_the_bytes_of_the_slow_arena(found: list[int], extend: str) -> None:
    fast = Arena(extend=extend)  # type: ignore[arg-type]
    slow = SlowArena(extend, MIB)
    live: list[tuple[int, int]] = []
    most = 0

    for item in found:
        if item > 0:
            live.append((fast.allocate(item), slow.allocate(item)))
        elif live:
            quick, number = live.pop(-item % len(live))
            fast.free(quick)
            slow.free(number)
        most = max(most, slow.in_use)
        assert (fast.in_use, fast.total) == (slow.in_use, slow.total)

    assert fast.max_in_use == most
    assert fast.extensions == len(slow.regions)


@given(st.lists(st.integers(1, 8 * MIB), min_size=1, max_size=20))
def test_what_is_freed_can_be_taken_again_without_another_region(sizes: list[int]) -> None:
    arena = Arena()
    handles = [arena.allocate(size) for size in sizes]
    total = arena.total

    for handle in handles:
        arena.free(handle)
    for size in sizes:
        arena.allocate(size)

    assert arena.total == total


def test_a_first_region_that_is_large_enough_is_the_only_one() -> None:
    arena = Arena(initial_chunk_bytes=10 * MIB)

    for _ in range(5):
        arena.allocate(2 * MIB)

    assert (arena.total, arena.extensions) == (10 * MIB, 1)


def test_reserved_weights_are_counted_unrounded_and_lie_beside_the_regions() -> None:
    arena = Arena()

    handle = arena.reserve(1001)

    assert (arena.in_use, arena.total, arena.extensions) == (1001, 1001, 0)
    arena.free(handle)
    assert (arena.in_use, arena.total) == (0, 0)


def test_over_the_limit_is_refused_and_nothing_is_taken() -> None:
    arena = Arena(limit_bytes=4 * MIB)
    arena.allocate(3 * MIB)

    with pytest.raises(ArenaFullError, match="are left"):
        arena.allocate(2 * MIB)

    assert arena.total <= 4 * MIB
    assert arena.in_use == 4 * MIB or arena.in_use == 3 * MIB


def test_the_last_region_under_a_limit_is_what_is_left() -> None:
    arena = Arena(limit_bytes=5 * MIB)
    arena.allocate(4 * MIB)

    arena.allocate(MIB)

    assert arena.total == 5 * MIB


def test_shrinking_keeps_the_first_region_of_powers_of_two_and_no_other_empty_one() -> None:
    arena = Arena()
    first, second = arena.allocate(MIB), arena.allocate(16 * MIB)
    arena.free(first)
    arena.free(second)

    arena.shrink()

    assert arena.total == MIB


def test_shrinking_an_arena_that_grows_as_requested_gives_all_back() -> None:
    arena = Arena(extend="same-as-requested")
    held, given = arena.allocate(MIB), arena.allocate(2 * MIB)
    arena.free(given)

    arena.shrink()

    assert arena.total == MIB
    arena.free(held)
    arena.shrink()
    assert arena.total == 0
