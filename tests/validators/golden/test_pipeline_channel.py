import threading
from collections.abc import Callable

import pytest

from changeover_validators.golden._channel import Channel, CutError


def in_a_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_items_come_out_in_order_and_the_end_ends() -> None:
    line: Channel[int] = Channel(2)

    def fill() -> None:
        for number in range(100):
            line.put(number)
        line.end()

    filler = in_a_thread(fill)
    assert list(line) == list(range(100))
    filler.join()


def test_no_more_items_wait_than_there_is_room() -> None:
    line: Channel[int] = Channel(3)
    for number in range(3):
        line.put(number)
    done = threading.Event()

    def fill() -> None:
        line.put(3)
        done.set()

    filler = in_a_thread(fill)
    assert not done.wait(0.05)
    assert next(iter(line)) == 0
    assert done.wait(10)
    filler.join()


def test_an_error_comes_behind_what_was_put_before_it() -> None:
    line: Channel[int] = Channel(2)
    line.put(1)
    line.end(KeyError("frame 2"))
    items = iter(line)
    assert next(items) == 1
    with pytest.raises(KeyError, match="frame 2"):
        next(items)


def test_a_cut_wakes_who_waits_to_put_and_who_waits_to_take() -> None:
    full: Channel[int] = Channel(1)
    full.put(1)
    empty: Channel[int] = Channel(1)
    cut: list[str] = []

    def put() -> None:
        try:
            full.put(2)
        except CutError:
            cut.append("put")

    def take() -> None:
        try:
            next(iter(empty))
        except CutError:
            cut.append("take")

    threads = [in_a_thread(put), in_a_thread(take)]
    full.cut()
    empty.cut()
    for thread in threads:
        thread.join(10)
    assert sorted(cut) == ["put", "take"]
    with pytest.raises(CutError):
        next(iter(full))
