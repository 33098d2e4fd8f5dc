"""The sizes of torch's CUDA caching allocator by torch line: read from a table, never guessed where it has no row."""

from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from changeover_registry.errors import UndecidedError
from changeover_validators.tables import rows

__all__ = ["Line", "line_of"]


@dataclass(frozen=True, slots=True)
class Line:
    """How the allocator of one range of torch lines behaves at its default settings; all sizes in bytes.

    Attributes:
        first: The oldest line of the range, such as ``1.6``.
        last: The newest line of the range.
        block: Requests are rounded up to a multiple of it.
        small: Requests up to this size lie in the small pool, larger ones in the large pool.
        small_segment: What the small pool takes of the device at a time.
        large_segment: What the large pool takes for a request under `direct`.
        direct: From this size on a request gets a segment of its own, rounded up to a multiple of `round`.
        round: See `direct`.
        requested: Whether its counters tell what was asked for, before rounding.
        share: Whether a process can be held to a share of the device.
        blas: What cuBLAS is lent for ever when the first matrix product runs.
        blas_hopper: The same on cards of compute capability 9.0; newer ones are taken to want as much.
    """

    first: str
    last: str
    block: int
    small: int
    small_segment: int
    large_segment: int
    direct: int
    round: int
    requested: bool
    share: bool
    blas: int
    blas_hopper: int


def line_of(version: str) -> Line:
    """The line that the torch `version` (``2.1.1``, ``2.7.1+cu128``) belongs to.

    Raises:
        UndecidedError: The table has no row for it.
    """
    wanted = _line(version)
    for row in rows("caching")["line"]:
        if wanted is not None and _pair(row["first"]) <= wanted <= _pair(row["last"]):
            return Line(**{name: row[name] for name in Line.__slots__})
    raise UndecidedError(
        "memory of torch",
        where=f"torch {version}",
        expected="a torch line whose allocator is known",
        actual="no row in tables/caching.toml",
        remedy="measure it on this host, or use a torch line that the table has",
    )


def _line(version: str) -> tuple[int, int] | None:
    try:
        parsed = Version(version)
    except InvalidVersion:
        return None
    return parsed.major, parsed.minor


def _pair(line: str) -> tuple[int, int]:
    major, minor = line.split(".")
    return int(major), int(minor)
