from hypothesis import given
from hypothesis import strategies as st

from changeover_updater.transfer.limits import Limits, Pace, next_run, wait_seconds

FLOOR = Limits(floor_bytes_per_second=1000, floor_seconds=10.0)


def test_too_little_over_a_whole_window_is_too_slow_and_not_before() -> None:
    pace = Pace(FLOOR)
    told = [pace.too_slow(float(second), 999 * second, waiting=True) for second in range(12)]
    assert told == [False] * 10 + [True] * 2


def test_enough_is_never_too_slow_and_a_stall_is_seen_after_a_window() -> None:
    pace = Pace(FLOOR)
    assert not any(pace.too_slow(float(second), 1000 * second, waiting=True) for second in range(100))
    assert next(second for second in range(100, 130) if pace.too_slow(float(second), 99_000, waiting=True)) <= 110


def test_time_in_which_nobody_waits_does_not_count() -> None:
    pace = Pace(FLOOR)
    assert not any(pace.too_slow(float(second), 0, waiting=False) for second in range(1000))


@given(st.sets(st.integers(0, 300), min_size=1), st.integers(1, 8), st.integers(1, 32))
def test_a_run_is_of_missing_neighbours_and_begins_with_the_first(
    missing: set[int], connections: int, longest: int
) -> None:
    blocks = sorted(missing)
    run = next_run(blocks, Limits(connections=connections, run_blocks=longest))
    assert run[0] == blocks[0]
    assert set(run) <= missing
    assert 1 <= len(run) <= longest


def test_waits_grow_to_a_bound() -> None:
    limits = Limits(first_wait_seconds=0.2, longest_wait_seconds=1.0)
    assert [round(wait_seconds(number, limits), 3) for number in range(1, 6)] == [0.2, 0.4, 0.8, 1.0, 1.0]
