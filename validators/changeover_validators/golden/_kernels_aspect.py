"""The inner loop of a change of width: each new pixel is a weighted sum of neighbours in its row.

Compiled on first use. Left out: the weights (`aspect`).
"""

import numpy as np
from numpy.typing import NDArray

from changeover_validators.golden._compiled import compiled

__all__ = ["resample"]


@compiled
def resample(
    pixels: NDArray[np.float32], first: NDArray[np.intp], weights: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Write to ``out[y, x, c]`` the sum over k of ``weights[x, k] * pixels[y, first[x] + k, c]``, columns clamped.

    Args:
        pixels: float32 [H, W, C].
        first: The leftmost column that each new column takes [V]; may lie outside.
        weights: float32 [V, K].
        out: float32 [H, V, C].
    """
    height, width, channels = pixels.shape
    for y in range(height):
        for x in range(out.shape[1]):
            for c in range(channels):
                total = np.float32(0)
                for k in range(weights.shape[1]):
                    column = min(max(first[x] + k, 0), width - 1)
                    total += weights[x, k] * pixels[y, column, c]
                out[y, x, c] = total
