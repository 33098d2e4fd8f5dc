"""The fast road for large plain OpenEXR files: OpenEXR's own library takes half the CPU time of OpenImageIO.

It decodes every channel of every part, and tells of a damaged file on standard output. So it is asked for files of one
part and few channels that OpenImageIO has opened and found whole at both ends; and what it would
print is swallowed for the thread that decodes, for no other. What it cannot read is left to OpenImageIO, which says
why. It takes as much memory as a header asks for, so nobody calls `decode` before the header was checked. Left out:
windows, channels by name, refusals (`images`).
"""

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["WORTH_IT", "decode"]

WORTH_IT = 2**20
"""Pixels from which the second opening of a file is repaid (measured: decision 82)."""


def decode(at: str, names: Sequence[str]) -> NDArray[np.generic] | None:
    """The channels `names` of the only part of the file `at`: [H, W, C], the data window; None where it fails."""
    import OpenEXR

    with _quiet():
        try:
            parts = OpenEXR.File(at).parts
        except Exception:  # noqa: BLE001 - whatever it is, OpenImageIO is asked next and has the reason in words
            return None
    return _assembled(parts[0].channels, names) if len(parts) == 1 else None


def _assembled(channels: dict[str, Any], names: Sequence[str]) -> NDArray[np.generic] | None:
    """Put channels in order; OpenEXR gives R, G, B and A of one layer as one array, named by the letters."""
    places = dict(place for group in channels for place in _places(group, channels[group].pixels))
    if any(name not in places for name in names):
        return None
    groups = {places[name][0] for name in names}
    wanted = [places[name][1] for name in names]
    pixels: NDArray[np.generic] = channels[next(iter(groups))].pixels
    if len(groups) == 1 and pixels.ndim == 3:
        return pixels if wanted == list(range(pixels.shape[-1])) else pixels[..., wanted]
    planes = [_plane(channels[places[name][0]].pixels, places[name][1]) for name in names]
    return np.stack(planes, axis=-1)


def _places(group: str, pixels: NDArray[np.generic]) -> Iterator[tuple[str, tuple[str, int]]]:
    """Each channel of a group with its place in the group's array."""
    if pixels.ndim == 2:
        yield group, (group, 0)
        return
    layer = "" if group in {"RGB", "RGBA"} else f"{group}."
    for index, letter in enumerate("RGBA"[: pixels.shape[-1]]):
        yield f"{layer}{letter}", (group, index)


def _plane(pixels: NDArray[np.generic], index: int) -> NDArray[np.generic]:
    return pixels if pixels.ndim == 2 else pixels[..., index]


class _Muted:
    """Standard output, deaf to some threads."""

    def __init__(self, real: TextIO) -> None:
        self.real = real
        self.threads: set[int] = set()

    def write(self, text: str) -> int:
        if threading.get_ident() in self.threads:
            return len(text)
        return self.real.write(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)


_muting = threading.Lock()


@contextmanager
def _quiet() -> Iterator[None]:
    """Swallow what this thread prints. Who meanwhile puts something else in place of standard output keeps it."""
    thread = threading.get_ident()
    with _muting:
        muted = sys.stdout if isinstance(sys.stdout, _Muted) else _Muted(sys.stdout)
        muted.threads.add(thread)
        sys.stdout = cast("TextIO", muted)
    try:
        yield
    finally:
        with _muting:
            muted.threads.discard(thread)
            if cast("object", sys.stdout) is muted and not muted.threads:
                sys.stdout = muted.real
