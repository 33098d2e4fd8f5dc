import io
import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_validators.runtimes.frames import HEAD_LIMIT_BYTES, BrokenFrameError, read_frame, write_frame

HEADS = st.dictionaries(st.text(max_size=8).filter(lambda name: name != "blobs"), st.integers() | st.text(max_size=8))


def framed(head: bytes, rest: bytes = b"") -> io.BytesIO:
    return io.BytesIO(struct.pack("<I", len(head)) + head + rest)


@given(HEADS, st.lists(st.binary(max_size=300), max_size=4))
@settings(deadline=None)
def test_what_is_written_is_read(head: dict[str, Any], blobs: list[bytes]) -> None:
    pipe = io.BytesIO()
    write_frame(pipe, head, blobs)
    write_frame(pipe, {"second": 1})
    pipe.seek(0)

    first, second = read_frame(pipe, limit_bytes=2000), read_frame(pipe, limit_bytes=0)

    assert first is not None
    assert second is not None
    assert dict(first.head) == head
    assert first.blobs == tuple(blobs)
    assert dict(second.head) == {"second": 1}
    assert read_frame(pipe, limit_bytes=0) is None


@given(st.integers(min_value=1, max_value=60))
@settings(deadline=None)
def test_a_frame_that_is_cut_anywhere_is_broken(cut: int) -> None:
    pipe = io.BytesIO()
    write_frame(pipe, {"kind": "x"}, [bytes(20), bytes(20)])
    whole = pipe.getvalue()

    with pytest.raises(BrokenFrameError, match="the end after"):
        read_frame(io.BytesIO(whole[: min(cut, len(whole) - 1)]), limit_bytes=100)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (struct.pack("<I", HEAD_LIMIT_BYTES + 1), f"a head of {HEAD_LIMIT_BYTES + 1} bytes"),
        (framed(b"\xff{").getvalue(), "not JSON"),
        (framed(b"[" * 100_000).getvalue(), "not JSON"),
        (framed(b"[1]").getvalue(), "not an object"),
        (framed(b"{}").getvalue(), "without lengths"),
        (framed(b'{"blobs":[-1]}').getvalue(), "without lengths"),
        (framed(b'{"blobs":[true]}').getvalue(), "without lengths"),
        (framed(b'{"blobs":[1.5]}').getvalue(), "without lengths"),
        (framed(json.dumps({"blobs": [60, 41]}).encode()).getvalue(), "101 bytes where at most 100 belong"),
    ],
)
def test_a_frame_that_lies_is_refused_before_anything_is_read(data: bytes, said: str) -> None:
    with pytest.raises(BrokenFrameError, match=said):
        read_frame(io.BytesIO(data), limit_bytes=100)
