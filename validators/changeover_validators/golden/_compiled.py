"""How a kernel is compiled: on first use, without Python's global lock, kept on disk where any place can be written.

numba keeps what it compiled beside the source, else in the user's cache folder, and raises where neither can be
written. A kernel is then compiled in each process anew, which is slow and right. ``NUMBA_CACHE_DIR`` names another
place. Files in the cache are replaced whole, so two processes that start at once do not disturb each other.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

__all__ = ["compiled"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function as machine code; nothing is compiled before the first call."""
    try:
        kernel = numba.njit(function, nogil=True, error_model="numpy", cache=True)
    except RuntimeError:
        kernel = numba.njit(function, nogil=True, error_model="numpy")
    return cast("Callable[Arguments, Result]", kernel)
