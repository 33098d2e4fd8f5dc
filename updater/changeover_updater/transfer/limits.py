"""What a transfer puts up with: how many connections, how slow, how often again. Values and arithmetic, no I/O."""

from collections import deque
from dataclasses import dataclass

__all__ = ["Limits", "Pace", "next_run", "wait_seconds"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of a transfer.

    With two connections a kill loses two blocks at most, and a cut connection one; each of them streams many blocks
    for one request, so that more connections bring little.
    """

    connections: int = 2
    run_blocks: int = 16
    floor_bytes_per_second: int = 32 * 1024
    floor_seconds: float = 20.0
    tries: int = 3
    first_wait_seconds: float = 0.2
    longest_wait_seconds: float = 5.0


class Pace:
    """Whether less comes than the floor allows, over a whole window of waiting for it.

    Time in which nobody waited for the other side (for the disk, say) does not count.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._waited = 0.0
        self._before: float | None = None
        self._seen: deque[tuple[float, int]] = deque([(0.0, 0)])

    def too_slow(self, now: float, received: int, *, waiting: bool) -> bool:
        """Take note of `received` bytes in all by `now` (seconds of any clock that only goes forward)."""
        if waiting and self._before is not None:
            self._waited += now - self._before
        self._before = now
        self._seen.append((self._waited, received))
        window = self._limits.floor_seconds
        while len(self._seen) > 1 and self._waited - self._seen[1][0] >= window:
            self._seen.popleft()
        since, had = self._seen[0]
        seconds = self._waited - since
        return seconds >= window and received - had < self._limits.floor_bytes_per_second * seconds


def next_run(missing: list[int], limits: Limits) -> range:
    """The next blocks that one connection asks for at once: neighbours, and fewer of them towards the end.

    Args:
        missing: The blocks that nobody is bringing, in order; at least one.
        limits: How many connections there are, and the longest run.
    """
    most = min(limits.run_blocks, max(1, len(missing) // (2 * limits.connections)))
    first = missing[0]
    length = 1
    while length < min(most, len(missing)) and missing[length] == first + length:
        length += 1
    return range(first, first + length)


def wait_seconds(failures: int, limits: Limits) -> float:
    """How long to wait after so many failures in a row."""
    return float(min(limits.first_wait_seconds * 2 ** (failures - 1), limits.longest_wait_seconds))
