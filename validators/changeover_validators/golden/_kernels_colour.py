"""The inner loop of colour: half pixels through tables of all 65536 halves, without Python's lock.

Compiled on first use. Left out: what the tables hold (`colour`).
"""

import numpy as np
from numpy.typing import NDArray

from changeover_validators.golden._compiled import compiled

__all__ = ["look_up"]


@compiled
def look_up(
    bits: NDArray[np.uint16], tables: NDArray[np.float32], which: NDArray[np.intp], out: NDArray[np.float32]
) -> None:
    """Write ``tables[which[c], bits[y, x, c]]`` to ``out[y, x, c]``.

    Args:
        bits: The bits of half pixels [H, W, C], in any order of memory.
        tables: float32 [K, 65536].
        which: The table of each channel [C].
        out: float32 [H, W, C].
    """
    height, width, channels = bits.shape
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                out[y, x, c] = tables[which[c], bits[y, x, c]]
