"""onnxruntime's arena, simulated: best fit with coalescing, chunk by chunk, so that its totals come out to the byte.

What the runtime does, as facts: sizes are rounded up to 256 bytes; free chunks lie in 21 bins by power of two; the
smallest free chunk that fits is taken (of equal ones the one at the lower address), and split only where it is at
least twice the request or would waste 128 MiB; neighbours in a region merge when they are freed; regions never merge.
A region that is added is the next power of two (from 1 MiB, doubled each time up to steps of 1 GiB) or just the
request. Weights are reserved beside the regions, unrounded. Source: onnxruntime, core/framework/bfc_arena, releases
1.15 to 1.31. What this leaves out: streams, and a device that refuses to give what the limit would allow.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Literal

__all__ = ["Arena", "ArenaFullError", "Extend"]

Extend = Literal["next-power-of-two", "same-as-requested"]

_ROUND = 256
_BINS = 21
_FIRST = 1 << 20
_REGROWTH = 2 << 20
_LARGEST_STEP = 1 << 30
_DEAD = 128 << 20
_FAR = 1 << 48
"""Distance between regions' addresses: chunks of two regions never touch."""


class ArenaFullError(Exception):
    """The limit does not allow the region that a request needs."""


@dataclass(slots=True)
class _Chunk:
    """A piece of a region. `before` and `after` are its neighbours there."""

    at: int
    size: int
    region: int
    used: bool = False
    before: "_Chunk | None" = None
    after: "_Chunk | None" = None


class Arena:
    """One arena from its making on. Handles are what `allocate` and `reserve` answer.

    Args:
        extend: How it grows.
        initial_chunk_bytes: The first region's size under ``next-power-of-two``; None is 1 MiB.
        limit_bytes: The most that regions and reservations may hold together; None is no limit.
        upward: Whether a later region has a higher address. Large ones of the C library lie downward on Linux.
    """

    def __init__(
        self,
        *,
        extend: Extend = "next-power-of-two",
        initial_chunk_bytes: int | None = None,
        limit_bytes: int | None = None,
        upward: bool = False,
    ) -> None:
        self._extend = extend
        self._limit = limit_bytes
        self._upward = upward
        first = _FIRST if initial_chunk_bytes is None else initial_chunk_bytes
        self._step = _rounded(first if limit_bytes is None else min(first, limit_bytes))
        self._bins: list[list[tuple[int, int]]] = [[] for _ in range(_BINS)]
        self._at: dict[int, _Chunk] = {}
        self._regions: dict[int, int] = {}
        self._reserved: dict[int, int] = {}
        self._numbers = 0
        self.in_use = 0
        self.max_in_use = 0
        self.total = 0
        self.extensions = 0

    def allocate(self, size: int) -> int:
        """A chunk for `size` bytes, at least 1.

        Raises:
            ArenaFullError: No chunk is free and the limit allows no region.
        """
        wanted = _rounded(size)
        chunk = self._find(wanted)
        if chunk is None:
            self._grow(wanted)
            chunk = self._find(wanted)
        if chunk is None:  # pragma: no cover - a region that was just added holds the request
            raise ArenaFullError
        return self._take(chunk, wanted)

    def free(self, handle: int) -> None:
        """Give a chunk or a reservation back."""
        reserved = self._reserved.pop(handle, None)
        if reserved is not None:
            self.in_use -= reserved
            self.total -= reserved
            return
        chunk = self._at[handle]
        chunk.used = False
        self.in_use -= chunk.size
        self._insert(self._merged(chunk))

    def reserve(self, size: int) -> int:
        """Bytes beside the regions, unrounded."""
        self._numbers += 1
        handle = -self._numbers
        self._reserved[handle] = size
        self.total += size
        self._use(size)
        return handle

    def shrink(self) -> None:
        """Give back each region that holds nothing; the first one stays unless the arena grows as requested."""
        for number in list(self._regions):
            if number == 0 and self._extend == "next-power-of-two":
                continue
            self._release_if_empty(number)
        self._step = _REGROWTH

    def _add_region(self, size: int) -> None:
        number = len(self._regions) if not self._regions else max(self._regions) + 1
        base = (number + 1) * _FAR if self._upward else (1 << 24) * _FAR - (number + 1) * _FAR
        self._regions[number] = size
        self.total += size
        self.extensions += 1
        chunk = _Chunk(base, size, number)
        self._at[base] = chunk
        self._insert(chunk)

    def _use(self, size: int) -> None:
        self.in_use += size
        self.max_in_use = max(self.max_in_use, self.in_use)

    def _find(self, wanted: int) -> _Chunk | None:
        for chunks in self._bins[_bin(wanted) :]:
            index = bisect_left(chunks, (wanted, 0))
            if index < len(chunks):
                return self._at[chunks.pop(index)[1]]
        return None

    def _take(self, chunk: _Chunk, wanted: int) -> int:
        if chunk.size >= 2 * wanted or chunk.size - wanted >= _DEAD:
            self._split(chunk, wanted)
        chunk.used = True
        self._use(chunk.size)
        return chunk.at

    def _split(self, chunk: _Chunk, wanted: int) -> None:
        rest = _Chunk(chunk.at + wanted, chunk.size - wanted, chunk.region, before=chunk, after=chunk.after)
        if chunk.after is not None:
            chunk.after.before = rest
        chunk.after = rest
        chunk.size = wanted
        self._at[rest.at] = rest
        self._insert(rest)

    def _merged(self, chunk: _Chunk) -> _Chunk:
        if chunk.after is not None and not chunk.after.used:
            self._remove(chunk.after)
            self._absorb(chunk, chunk.after)
        if chunk.before is not None and not chunk.before.used:
            self._remove(chunk.before)
            self._absorb(chunk.before, chunk)
            return chunk.before
        return chunk

    def _absorb(self, left: _Chunk, right: _Chunk) -> None:
        left.size += right.size
        left.after = right.after
        if right.after is not None:
            right.after.before = left
        del self._at[right.at]

    def _insert(self, chunk: _Chunk) -> None:
        insort(self._bins[_bin(chunk.size)], (chunk.size, chunk.at))

    def _remove(self, chunk: _Chunk) -> None:
        chunks = self._bins[_bin(chunk.size)]
        del chunks[bisect_left(chunks, (chunk.size, chunk.at))]

    def _grow(self, wanted: int) -> None:
        available = None if self._limit is None else (self._limit - self.total) // _ROUND * _ROUND
        if available is not None and wanted > available:
            message = f"{wanted} bytes are wanted and {available} are left"
            raise ArenaFullError(message)
        size = wanted if self._extend == "same-as-requested" else self._next_step(wanted)
        self._add_region(size if available is None else min(size, available))

    def _next_step(self, wanted: int) -> int:
        if wanted > self._step:
            while wanted > self._step:
                self._step *= 2
            return self._step
        size = self._step
        self._step = min(_LARGEST_STEP, self._step * 2)
        return size

    def _release_if_empty(self, number: int) -> None:
        mine = [chunk for chunk in self._at.values() if chunk.region == number]
        if any(chunk.used for chunk in mine):
            return
        for chunk in mine:
            self._remove(chunk)
            del self._at[chunk.at]
        self.total -= self._regions.pop(number)
        self.extensions -= 1


def _rounded(size: int) -> int:
    return -(-size // _ROUND) * _ROUND


def _bin(size: int) -> int:
    """The bin of a chunk: by powers of two of 256 bytes, the last one open."""
    return min(_BINS - 1, (max(size, _ROUND) // _ROUND).bit_length() - 1)
