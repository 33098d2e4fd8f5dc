from hypothesis import given
from hypothesis import strategies as st

from changeover_validators.vram.pattern import packed_bytes


def events_of(lives: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """Allocations and ends in time, from (start, length of life, size)."""
    moments = []
    for buffer, (start, life, size) in enumerate(lives):
        moments.append((start, 1, buffer, size))
        moments.append((start + life, 0, buffer, -1))
    return [(buffer, size) for _, _, buffer, size in sorted(moments)]


def placed_slowly(events: list[tuple[int, int]]) -> int:
    """The same block, byte by byte: a gap is a run of free bytes up to the end of the whole."""
    live: dict[int, tuple[int, int]] = {}
    whole = 0
    for buffer, size in events:
        if size < 0:
            live.pop(buffer, None)
            continue
        taken = {place for start, length in live.values() for place in range(start, start + length)}
        gaps = []
        place = 0
        while place < whole:
            end = place
            while end < whole and end not in taken:
                end += 1
            if end > place and end - place >= size:
                gaps.append((end - place, place))
            place = max(end, place) + 1
        behind = max((start + length for start, length in live.values()), default=0)
        start = min(gaps)[1] if gaps else behind
        live[buffer] = (start, size)
        whole = max(whole, start + size)
    return whole


lives = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 8), st.integers(1, 20)), max_size=14)


@given(lives)
def test_any_order_of_lives_packs_as_the_slow_packing_does(found: list[tuple[int, int, int]]) -> None:
    events = events_of(found)

    assert packed_bytes(events) == placed_slowly(events)


@given(lives)
def test_the_block_holds_at_least_what_lives_at_once(found: list[tuple[int, int, int]]) -> None:
    events = events_of(found)
    sizes: dict[int, int] = {}
    most = 0

    for buffer, size in events:
        if size < 0:
            sizes.pop(buffer, None)
        else:
            sizes[buffer] = size
        most = max(most, sum(sizes.values()))

    assert most <= packed_bytes(events) <= sum(size for _, size in events if size > 0)


def test_a_gap_at_the_end_counts_up_to_the_highest_end_so_far() -> None:
    # 0 and 1 lie one behind the other; when 1 ends, its place is a gap of its size, and 2 fits in it exactly.
    assert packed_bytes([(0, 10), (1, 5), (1, -1), (2, 5)]) == 15


def test_nothing_takes_nothing() -> None:
    assert packed_bytes([]) == 0
    assert packed_bytes([(0, 0)]) == 0
