"""A bounded line of work between two threads, which either side can end.

Items come out in the order in which they went in. Whoever fills it ends it, with an error or without: the taker gets
what is still in it first, so of several errors the one of the earliest frame is told. Either side may cut it, whereupon
nobody waits on it any more. Left out: what the work is.
"""

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Channel", "CutError"]

T = TypeVar("T")


class CutError(Exception):
    """The line was cut: there is no use in going on."""


class Channel(Generic[T]):
    """A line of at most `room` waiting items."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = self._cut = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Add an item, waiting until there is room.

        Raises:
            CutError: Nobody takes it any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._cut or len(self._items) < self._room)
            if self._cut:
                raise CutError
            self._items.append(item)
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Say that no item follows, and why where it is not the proper end."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def cut(self) -> None:
        """Drop what is in it and wake everybody who waits."""
        with self._changed:
            self._cut = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Every item in turn, each dropped before the next is awaited.

        Raises:
            CutError: The line was cut.
            BaseException: The error with which it was ended.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._cut or self._ended or bool(self._items))
                if self._cut:
                    raise CutError
                if not self._items:
                    break
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
            del item
        if self._error is not None:
            raise self._error
