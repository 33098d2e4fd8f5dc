"""torch's CUDA caching allocator, simulated block by block, so that `reserved` comes out and not only what is alive.

What torch does at its default settings, as facts: a request is rounded up to 512 bytes. Up to 1 MiB it comes from the
small pool, which takes 2 MiB of the device at a time; larger ones from the large pool, which takes 20 MiB for a request
under 10 MiB and else the request in whole steps of 2 MiB. The smallest free block that fits is taken (of equal ones the
one at the lower address). It is split where at least 512 bytes remain in the small pool, or over 1 MiB in the large
one. Neighbours in a segment merge when they are freed. Where the device gives no more, every segment that holds nothing
is given back and the device is asked once more. The sizes of each torch line stand in `lines`.

Two things are assumed: later segments have higher addresses, and a device gives whatever its limit allows. What this
leaves out: other streams than one, CUDA graphs, and the settings of PYTORCH_CUDA_ALLOC_CONF, all of which are off by
default (no block is too large to split, no rounding to powers of two, no collection by age, no growing segments).
"""

from bisect import bisect_left, insort
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from changeover_validators.vram.arena import ArenaFullError
from changeover_validators.vram.lines import Line

__all__ = ["Block", "CachingAllocator", "Segment", "Stats"]

_FAR = 1 << 21
"""Addresses of segments are multiples of this: a device maps pages of 2 MiB."""


@dataclass(frozen=True, slots=True)
class Stats:
    """The counters, named as torch's: bytes now, and at the most since the beginning or `reset_peaks`.

    `active` equals `allocated` here, since with one stream nothing waits to become free. `inactive_split` are bytes
    that are free inside of segments which hold something.
    """

    allocated: int = 0
    reserved: int = 0
    active: int = 0
    requested: int = 0
    inactive_split: int = 0
    max_allocated: int = 0
    max_reserved: int = 0
    max_active: int = 0
    max_requested: int = 0
    segments: int = 0
    num_alloc_retries: int = 0
    num_ooms: int = 0

    def named(self, line: Line) -> Mapping[str, int]:
        """The keys and values that `torch.cuda.memory_stats` of that line answers for these counters."""
        kinds = ("allocated", "reserved", "active", *(("requested",) if line.requested else ()))
        now = {f"{kind}_bytes.all.current": getattr(self, kind) for kind in kinds}
        peak = {f"{kind}_bytes.all.peak": getattr(self, f"max_{kind}") for kind in kinds}
        others = {"segment.all.current": self.segments, "inactive_split_bytes.all.current": self.inactive_split}
        return {**now, **peak, **others, "num_alloc_retries": self.num_alloc_retries, "num_ooms": self.num_ooms}


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a segment, as `torch.cuda.memory_snapshot` lists it."""

    address: int
    size: int
    requested_size: int
    state: Literal["active_allocated", "inactive"]


@dataclass(frozen=True, slots=True)
class Segment:
    """What was taken of the device in one go, with its blocks in the order of their addresses."""

    address: int
    total_size: int
    segment_type: Literal["small", "large"]
    blocks: tuple[Block, ...]


@dataclass(slots=True)
class _Counts:
    """What is counted step by step; the rest of `Stats` follows from the blocks."""

    allocated: int = 0
    reserved: int = 0
    requested: int = 0
    max_allocated: int = 0
    max_reserved: int = 0
    max_requested: int = 0
    num_alloc_retries: int = 0
    num_ooms: int = 0


@dataclass(slots=True)
class _Piece:
    """A block. `before` and `after` are its neighbours in the segment; only its first piece stands in `_heads`."""

    at: int
    size: int
    small: bool
    requested: int = 0
    used: bool = False
    before: "_Piece | None" = None
    after: "_Piece | None" = None


@dataclass(slots=True)
class _Pool:
    """The free blocks of one pool by size, then address."""

    keys: list[tuple[int, int]] = field(default_factory=list)
    pieces: dict[int, _Piece] = field(default_factory=dict)

    def add(self, piece: _Piece) -> None:
        insort(self.keys, (piece.size, piece.at))
        self.pieces[piece.at] = piece

    def remove(self, piece: _Piece) -> None:
        del self.keys[bisect_left(self.keys, (piece.size, piece.at))]
        del self.pieces[piece.at]

    def best(self, size: int) -> _Piece | None:
        place = bisect_left(self.keys, (size, 0))
        return self.pieces[self.keys[place][1]] if place < len(self.keys) else None


class CachingAllocator:
    """One process' allocator on one device, from its making on. Handles are what `allocate` answers.

    Args:
        line: The sizes of the torch that is simulated.
        limit_bytes: The most that the device gives this process; None is no limit.
    """

    def __init__(self, line: Line, *, limit_bytes: int | None = None) -> None:
        self.line = line
        self._limit = limit_bytes
        self._counts = _Counts()
        self._small, self._large = _Pool(), _Pool()
        self._heads: dict[int, _Piece] = {}
        self._live: dict[int, _Piece | None] = {}
        self._next_handle, self._next_address = 0, _FAR

    @property
    def stats(self) -> Stats:
        """The counters now."""
        now, free = self._counts, (*self._small.pieces.values(), *self._large.pieces.values())
        return Stats(
            active=now.allocated,
            max_active=now.max_allocated,
            segments=len(self._heads),
            inactive_split=sum(piece.size for piece in free if piece.before or piece.after),
            **asdict(now),
        )

    def allocate(self, size: int) -> int:
        """A block for `size` bytes; none at all for 0, which torch does not count.

        Raises:
            ArenaFullError: The device gives no more, also after all that holds nothing was given back.
        """
        handle = self._next_handle
        self._live[handle] = self._take(size) if size > 0 else None
        self._next_handle += 1
        return handle

    def free(self, handle: int) -> None:
        """Put the block of `handle` back into its pool, merged with the free neighbours."""
        piece = self._live.pop(handle)
        if piece is None:
            return
        self._count(allocated=-piece.size, requested=-piece.requested)
        piece.used, piece.requested = False, 0
        for neighbour in (piece.before, piece.after):
            if neighbour is not None and not neighbour.used:
                self._absorb(piece, neighbour)
        self._pool(small=piece.small).add(piece)

    def size_of(self, handle: int) -> int:
        """The bytes of the block behind `handle`, rounding and what was not worth splitting off included."""
        piece = self._live[handle]
        return 0 if piece is None else piece.size

    def empty_cache(self) -> None:
        """Give every segment that holds nothing back to the device, as `torch.cuda.empty_cache` does."""
        for pool in (self._large, self._small):
            for piece in [pool.pieces[at] for _, at in pool.keys]:
                if piece.before is None and piece.after is None:
                    pool.remove(piece)
                    del self._heads[piece.at]
                    self._count(reserved=-piece.size)

    def reset_peaks(self) -> None:
        """Let the peaks begin at what is held now, as `torch.cuda.reset_peak_memory_stats` does."""
        now = self._counts
        now.max_allocated, now.max_reserved, now.max_requested = now.allocated, now.reserved, now.requested

    def segments(self) -> tuple[Segment, ...]:
        """Everything that is held of the device, by address."""
        return tuple(_segment(self._heads[at]) for at in sorted(self._heads))

    def _pool(self, *, small: bool) -> _Pool:
        return self._small if small else self._large

    def _take(self, size: int) -> _Piece:
        line = self.line
        rounded = -(-size // line.block) * line.block
        small = rounded <= line.small
        piece = self._pool(small=small).best(rounded)
        if piece is None:
            piece = self._grow(rounded, small=small)
        else:
            self._pool(small=small).remove(piece)
        self._split(piece, rounded)
        piece.used, piece.requested = True, size
        self._count(allocated=piece.size, requested=size)
        return piece

    def _grow(self, size: int, *, small: bool) -> _Piece:
        """A segment of its own for `size`, after giving back what holds nothing where the device is full."""
        need = self._segment_size(size)
        if not self._has_room(need):
            self.empty_cache()
            self._counts.num_alloc_retries += 1
            if not self._has_room(need):
                self._counts.num_ooms += 1
                message = f"{need} bytes beside the {self._counts.reserved} that are reserved, of {self._limit}"
                raise ArenaFullError(message)
        piece = _Piece(self._next_address, need, small)
        self._heads[piece.at] = piece
        self._next_address += -(-need // _FAR) * _FAR
        self._count(reserved=need)
        return piece

    def _segment_size(self, size: int) -> int:
        line = self.line
        if size <= line.small:
            return line.small_segment
        return line.large_segment if size < line.direct else -(-size // line.round) * line.round

    def _has_room(self, size: int) -> bool:
        return self._limit is None or self._counts.reserved + size <= self._limit

    def _split(self, piece: _Piece, size: int) -> None:
        """Cut `piece` to `size` where the rest is worth keeping; the rest becomes a free block."""
        left = piece.size - size
        if left < self.line.block if piece.small else left <= self.line.small:
            return
        rest = _Piece(piece.at + size, left, piece.small, before=piece, after=piece.after)
        if rest.after is not None:
            rest.after.before = rest
        piece.size, piece.after = size, rest
        self._pool(small=piece.small).add(rest)

    def _absorb(self, piece: _Piece, neighbour: _Piece) -> None:
        self._pool(small=piece.small).remove(neighbour)
        if neighbour is piece.before:
            if neighbour.before is None:
                self._heads[neighbour.at] = piece
            piece.at, piece.before = neighbour.at, neighbour.before
            if piece.before is not None:
                piece.before.after = piece
        else:
            piece.after = neighbour.after
            if piece.after is not None:
                piece.after.before = piece
        piece.size += neighbour.size

    def _count(self, *, allocated: int = 0, requested: int = 0, reserved: int = 0) -> None:
        now = self._counts
        now.allocated += allocated
        now.requested += requested
        now.reserved += reserved
        now.max_allocated = max(now.max_allocated, now.allocated)
        now.max_requested = max(now.max_requested, now.requested)
        now.max_reserved = max(now.max_reserved, now.reserved)


def _segment(head: _Piece) -> Segment:
    blocks, piece = [], head
    while True:
        blocks.append(Block(piece.at, piece.size, piece.requested, "active_allocated" if piece.used else "inactive"))
        if piece.after is None:
            break
        piece = piece.after
    return Segment(head.at, sum(block.size for block in blocks), "small" if head.small else "large", tuple(blocks))
