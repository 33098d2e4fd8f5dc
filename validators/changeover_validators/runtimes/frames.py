"""The framed pipe: a length, a JSON head, and raw little-endian bytes whose lengths the head lists.

    uint32 length of the head | head as UTF-8 JSON object, with `blobs`: [bytes, ...] | the blobs, one after another

Neither side trusts the other's lengths: a reader names the most that it takes. Nothing is ever unpickled.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

__all__ = ["HEAD_LIMIT_BYTES", "BrokenFrameError", "CutFrameError", "Frame", "read_frame", "write_frame"]

HEAD_LIMIT_BYTES = 1024 * 1024
_CHUNK_BYTES = 1024 * 1024
_LENGTH = struct.Struct("<I")


class BrokenFrameError(Exception):
    """The other side sent something that is no frame."""


class CutFrameError(BrokenFrameError):
    """The other side ended inside a frame."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message: its head, and its blobs as bytes."""

    head: Mapping[str, Any]
    blobs: tuple[bytearray, ...] = ()


def write_frame(stream: BinaryIO, head: Mapping[str, Any], blobs: Sequence[bytes | memoryview] = ()) -> None:
    """Send one frame.

    Raises:
        OSError: The other side is gone.
    """
    views = [memoryview(blob).cast("B") for blob in blobs]
    data = json.dumps({**head, "blobs": [view.nbytes for view in views]}).encode("utf-8")
    stream.write(_LENGTH.pack(len(data)) + data)
    for view in views:
        stream.writelines(view[start : start + _CHUNK_BYTES] for start in range(0, view.nbytes, _CHUNK_BYTES))
    stream.flush()


def read_frame(stream: BinaryIO, *, limit_bytes: int) -> Frame | None:
    """Take one frame, or None where the stream ends between two frames.

    Args:
        stream: The pipe.
        limit_bytes: The most that all blobs together may have.

    Raises:
        CutFrameError: The stream ends inside a frame.
        BrokenFrameError: The head is no head, or it announces too much.
    """
    first = stream.read(_LENGTH.size)
    if not first:
        return None
    (length,) = _LENGTH.unpack(first + _exactly(stream, _LENGTH.size - len(first)))
    if length > HEAD_LIMIT_BYTES:
        message = f"a head of {length} bytes"
        raise BrokenFrameError(message)
    head = _head(_exactly(stream, length))
    sizes = _sizes(head, limit_bytes)
    return Frame(head, tuple(_exactly(stream, size) for size in sizes))


def _head(data: bytearray) -> dict[str, Any]:
    try:
        head = json.loads(data)
    except (ValueError, RecursionError) as error:
        message = "a head that is not JSON"
        raise BrokenFrameError(message) from error
    if not isinstance(head, dict):
        message = "a head that is not an object"
        raise BrokenFrameError(message)
    return head


def _sizes(head: dict[str, Any], limit_bytes: int) -> list[int]:
    sizes = head.pop("blobs", None)
    if not isinstance(sizes, list) or any(type(size) is not int or size < 0 for size in sizes):
        message = "a head without lengths of blobs"
        raise BrokenFrameError(message)
    if sum(sizes) > limit_bytes:
        message = f"{sum(sizes)} bytes where at most {limit_bytes} belong"
        raise BrokenFrameError(message)
    return sizes


def _exactly(stream: BinaryIO, count: int) -> bytearray:
    data = bytearray(count)
    view, done = memoryview(data), 0
    while done < count:
        got = stream.readinto(view[done : done + _CHUNK_BYTES])  # type: ignore[attr-defined]
        if not got:
            message = f"the end after {done} of {count} bytes"
            raise CutFrameError(message)
        done += got
    return data
