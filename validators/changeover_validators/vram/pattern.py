"""The block that onnxruntime lays out from its first run, so that the second one makes a single allocation.

Allocations and frees of a run are replayed in order; each takes the tightest gap between the blocks that live or up to
the end of the whole, else the place behind the last of them. The block's size is the highest end that was ever
reached. Source: onnxruntime, core/framework/mem_pattern_planner, releases 1.15 to 1.31.
"""

from bisect import insort
from collections.abc import Iterable

__all__ = ["packed_bytes"]


def packed_bytes(events: Iterable[tuple[int, int]]) -> int:
    """The size of the block for `events`: (buffer, bytes) for an allocation, (buffer, -1) for its end."""
    live: list[tuple[int, int, int]] = []
    peak = 0
    for buffer, size in events:
        if size < 0:
            live = _without(live, buffer)
        elif size > 0:
            offset = _place(live, size, peak)
            insort(live, (offset, size, buffer))
            peak = max(peak, offset + size)
    return peak


def _without(live: list[tuple[int, int, int]], buffer: int) -> list[tuple[int, int, int]]:
    for index, block in enumerate(live):
        if block[2] == buffer:
            return live[:index] + live[index + 1 :]
    return live


def _place(live: list[tuple[int, int, int]], size: int, whole: int) -> int:
    """Where a new block goes among those that live, which are sorted by where they start."""
    best: tuple[int, int] | None = None
    current = 0
    for start, length, _ in (*live, (whole, 0, 0)):
        gap = start - current
        if gap >= size and (best is None or gap - size < best[0]):
            best = (gap - size, current)
        current = max(current, start + length)
    ends = [start + length for start, length, _ in live]
    return best[1] if best is not None else max(ends, default=0)
