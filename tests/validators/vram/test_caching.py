"""The simulated allocator against a slow, obvious one, and against what torch's documentation and headers say."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.errors import UndecidedError
from changeover_validators.vram.arena import ArenaFullError
from changeover_validators.vram.caching import CachingAllocator, Segment
from changeover_validators.vram.lines import line_of

KIB, MIB = 1 << 10, 1 << 20
LINE = line_of("2.1.1")

SIZES = st.one_of(
    st.integers(0, 4 * KIB),
    st.integers(1, 3 * MIB),
    st.sampled_from(
        [512, MIB - 1, MIB, MIB + 1, 2 * MIB, 10 * MIB - 512, 10 * MIB - 511, 10 * MIB, 20 * MIB, 19 * MIB]
    ),
    st.integers(1, 64 * MIB),
)
STEPS = st.lists(st.one_of(SIZES, st.floats(0, 1), st.just("empty")), max_size=60)


class Slow:
    """The same rules on bytes of a plain list: a segment is a list of [size, handle or None], all of them searched."""

    def __init__(self, limit: int | None) -> None:
        self.limit, self.held = limit, list[tuple[bool, list[list[Any]]]]()

    def reserved(self) -> int:
        return sum(block[0] for _, blocks in self.held for block in blocks)

    def allocated(self) -> int:
        return sum(block[0] for _, blocks in self.held for block in blocks if block[1] is not None)

    def allocate(self, size: int, handle: int) -> None:
        size = (size + 511) // 512 * 512
        small = size <= MIB
        fitting = [
            (block[0], number, place)
            for number, (kind, blocks) in enumerate(self.held)
            for place, block in enumerate(blocks)
            if kind == small and block[1] is None and block[0] >= size
        ]
        if not fitting:
            fitting = [(0, self.grow(size, small=small), 0)]
        _, number, place = min(fitting)
        blocks = self.held[number][1]
        rest = blocks[place][0] - size
        if rest >= 512 if small else rest > MIB:
            blocks[place : place + 1] = [[size, handle], [rest, None]]
        else:
            blocks[place][1] = handle

    def grow(self, size: int, *, small: bool) -> int:
        whole = 2 * MIB if small else 20 * MIB if size < 10 * MIB else (size + 2 * MIB - 1) // (2 * MIB) * 2 * MIB
        for attempt in (1, 2):
            if self.limit is None or self.reserved() + whole <= self.limit:
                self.held.append((small, [[whole, None]]))
                return len(self.held) - 1
            if attempt == 1:
                self.empty()
        raise ArenaFullError

    def free(self, handle: int) -> None:
        for _, blocks in self.held:
            for block in blocks:
                if block[1] == handle:
                    block[1] = None
            at = 0
            while at + 1 < len(blocks):
                if blocks[at][1] is None and blocks[at + 1][1] is None:
                    blocks[at : at + 2] = [[blocks[at][0] + blocks[at + 1][0], None]]
                else:
                    at += 1

    def empty(self) -> None:
        self.held = [(kind, blocks) for kind, blocks in self.held if len(blocks) > 1 or blocks[0][1] is not None]


def layout(segments: tuple[Segment, ...]) -> list[tuple[bool, list[tuple[int, bool]]]]:
    return [
        (segment.segment_type == "small", [(b.size, b.state == "active_allocated") for b in segment.blocks])
        for segment in segments
    ]


@settings(deadline=None, max_examples=120)
@given(STEPS, st.one_of(st.none(), st.integers(2, 80).map(lambda n: n * MIB)))
def test_every_block_lies_where_a_slow_allocator_puts_it(steps: list[Any], limit: int | None) -> None:
    ours, slow, live = CachingAllocator(LINE, limit_bytes=limit), Slow(limit), list[tuple[int, int]]()
    for step in steps:
        if step == "empty":
            ours.empty_cache()
            slow.empty()
        elif isinstance(step, float):
            if live:
                handle, _ = live.pop(int(step * (len(live) - 1)))
                ours.free(handle)
                slow.free(handle)
        else:
            try:
                handle = ours.allocate(step)
            except ArenaFullError:
                with pytest.raises(ArenaFullError):
                    slow.allocate(step, -1)
            else:
                live.append((handle, step))
                if step:
                    slow.allocate(step, handle)
        assert layout(ours.segments()) == [(s, [(b[0], b[1] is not None) for b in blocks]) for s, blocks in slow.held]
        assert (ours.stats.allocated, ours.stats.reserved) == (slow.allocated(), slow.reserved())
        assert ours.stats.requested == sum(size for _, size in live)


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_blocks_tile_their_segments_aligned_and_free_neighbours_never_touch(steps: list[Any]) -> None:
    allocator, live = CachingAllocator(LINE), list[int]()
    for step in steps:
        if isinstance(step, int):
            live.append(allocator.allocate(step))
        elif isinstance(step, float) and live:
            allocator.free(live.pop(int(step * (len(live) - 1))))
    ends = 0
    for segment in allocator.segments():
        assert segment.address >= ends
        at = segment.address
        for block, after in zip(segment.blocks, (*segment.blocks[1:], None), strict=True):
            assert block.address == at
            assert block.address % 512 == block.size % 512 == 0
            assert after is None or "active_allocated" in {block.state, after.state}
            at += block.size
        ends = at
        assert at - segment.address == segment.total_size
    stats = allocator.stats
    split = [segment for segment in allocator.segments() if len(segment.blocks) > 1]
    assert stats.inactive_split == sum(b.size for s in split for b in s.blocks if b.state == "inactive")
    assert stats.segments == len(allocator.segments())
    assert stats.active == stats.allocated <= stats.max_allocated <= stats.max_reserved


@settings(deadline=None, max_examples=60)
@given(st.lists(SIZES, max_size=30), st.randoms())
def test_after_everything_is_freed_each_segment_is_one_block_and_can_be_given_back(
    sizes: list[int], random: Any
) -> None:
    allocator = CachingAllocator(LINE)
    handles = [allocator.allocate(size) for size in sizes]
    random.shuffle(handles)

    for handle in handles:
        allocator.free(handle)

    assert all(len(segment.blocks) == 1 for segment in allocator.segments())
    assert allocator.stats.allocated == allocator.stats.requested == allocator.stats.inactive_split == 0
    allocator.empty_cache()
    assert allocator.stats.reserved == 0
    assert allocator.segments() == ()


@pytest.mark.parametrize(
    ("size", "allocated", "reserved"),
    [
        (1, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),
        (11 * MIB, 12 * MIB, 12 * MIB),
        (33 * MIB + 5, 34 * MIB, 34 * MIB),
    ],
)
def test_one_request_takes_what_the_documentation_of_torch_says(size: int, allocated: int, reserved: int) -> None:
    allocator = CachingAllocator(LINE)

    allocator.allocate(size)

    assert (allocator.stats.allocated, allocator.stats.reserved) == (allocated, reserved)
    assert allocator.stats.requested == size


@pytest.mark.parametrize(
    ("size", "segments", "reserved", "left"),
    [
        (512, 1, 2 * MIB, 2 * MIB),
        (MIB, 2, 4 * MIB, 2 * MIB),
        (MIB + 512, 1, 20 * MIB, 20 * MIB),
        (10 * MIB - 512, 2, 40 * MIB, 20 * MIB),
        (10 * MIB + 512, 3, 36 * MIB, 12 * MIB),
    ],
)
def test_a_chain_of_copies_holds_what_torch_expects_of_a_gpu(
    size: int, segments: int, reserved: int, left: int
) -> None:
    # The figures are those of torch's own test on GPUs (test_cuda: memory stats of a graph, whose pool begins empty):
    # five times over, the last result is copied, something is made of the copy, and both the copy and it end.
    allocator = CachingAllocator(LINE)
    result = allocator.allocate(size)
    for _ in range(5):
        copy = allocator.allocate(size)
        made = allocator.allocate(size)
        allocator.free(copy)
        allocator.free(result)
        result = made

    stats = allocator.stats
    assert (stats.segments, stats.reserved, stats.active) == (segments, reserved, size)
    allocator.empty_cache()
    assert (allocator.stats.segments, allocator.stats.reserved, allocator.stats.active) == (1, left, size)


def test_a_full_device_is_asked_again_after_the_cache_was_given_back() -> None:
    allocator = CachingAllocator(LINE, limit_bytes=40 * MIB)
    for handle in [allocator.allocate(12 * MIB), allocator.allocate(12 * MIB), allocator.allocate(12 * MIB)]:
        allocator.free(handle)

    allocator.allocate(38 * MIB)

    stats = allocator.stats
    assert (stats.reserved, stats.max_reserved, stats.num_alloc_retries, stats.num_ooms) == (38 * MIB, 38 * MIB, 1, 0)
    with pytest.raises(ArenaFullError, match="beside the 39845888 that are reserved, of 41943040"):
        allocator.allocate(4 * MIB)
    assert (allocator.stats.num_alloc_retries, allocator.stats.num_ooms) == (2, 1)


def test_a_segment_that_holds_anything_is_not_given_back() -> None:
    allocator = CachingAllocator(LINE, limit_bytes=24 * MIB)
    kept = allocator.allocate(2 * MIB)

    with pytest.raises(ArenaFullError):
        allocator.allocate(21 * MIB)

    allocator.free(kept)
    allocator.allocate(21 * MIB)
    assert (allocator.stats.allocated, allocator.stats.reserved) == (22 * MIB, 22 * MIB)


def test_peaks_begin_again_where_they_are_reset() -> None:
    allocator = CachingAllocator(LINE)
    allocator.free(allocator.allocate(30 * MIB))

    allocator.reset_peaks()
    allocator.allocate(MIB)

    stats = allocator.stats
    assert (stats.max_allocated, stats.max_requested, stats.max_reserved) == (MIB, MIB, 32 * MIB)


def test_counters_bear_the_names_that_the_line_gives_them() -> None:
    allocator = CachingAllocator(LINE)
    allocator.allocate(100)

    assert allocator.stats.named(LINE) == {
        "allocated_bytes.all.current": 512,
        "allocated_bytes.all.peak": 512,
        "reserved_bytes.all.current": 2 * MIB,
        "reserved_bytes.all.peak": 2 * MIB,
        "active_bytes.all.current": 512,
        "active_bytes.all.peak": 512,
        "requested_bytes.all.current": 100,
        "requested_bytes.all.peak": 100,
        "segment.all.current": 1,
        "inactive_split_bytes.all.current": 2 * MIB - 512,
        "num_alloc_retries": 0,
        "num_ooms": 0,
    }
    old = line_of("1.6.0")
    assert not any("requested" in name for name in allocator.stats.named(old))


@pytest.mark.parametrize("version", ["1.6.0", "1.12.1", "2.1.1+cu118", "2.7.1", "2.13.0+cpu"])
def test_the_lines_that_nuke_embeds_are_known(version: str) -> None:
    line = line_of(version)

    assert (line.block, line.small, line.round) == (512, MIB, 2 * MIB)


@pytest.mark.parametrize("version", ["1.5.1", "3.0.0", "2.99", "no version"])
def test_a_line_without_a_row_is_undecided(version: str) -> None:
    with pytest.raises(UndecidedError, match="no row"):
        line_of(version)


def test_the_newest_row_says_what_the_headers_of_the_installed_torch_say() -> None:
    spec = find_spec("torch")
    header = Path(spec.origin).parent / "include/c10/core/AllocatorConfig.h" if spec and spec.origin else Path("none")
    if not header.is_file():
        pytest.skip("torch is not installed with its headers")
    text = header.read_text(encoding="utf-8")
    constants = {name: int(value) for name, value in re.findall(r"constexpr size_t (k\w+) = (\d+);", text)}
    large = re.search(r"large_segment_size_\{(\d+)\}", text)
    line = line_of("2.13.0")

    assert constants["kMinBlockSize"] == line.block
    assert constants["kSmallSize"] == line.small
    assert constants["kSmallBuffer"] == line.small_segment
    assert constants["kMinLargeAlloc"] == line.direct
    assert constants["kRoundLarge"] == line.round
    assert large is not None
    assert int(large.group(1)) == line.large_segment
