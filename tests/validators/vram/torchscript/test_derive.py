"""Traces at sizes that nobody recorded: equal to recordings at those sizes, or none at all."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from changeover_validators.vram.derive import Anchors, anchors, derive
from changeover_validators.vram.trace import Allocation, Call, Trace

AT = Anchors(128, 192, 256)
Make = Callable[..., Trace]
Recorded = Callable[..., tuple[Trace, ...]]


@pytest.mark.parametrize("name", ["conv", "unet", "convgru"])
def test_a_derived_trace_is_what_a_recording_at_that_size_is(name: str, recorded: Recorded) -> None:
    at = anchors(32)
    *small, real = recorded(name, *at.sizes(), (640, 448))

    derived = derive(tuple(small), at, 640, 448)

    assert derived is not None
    assert derived == real


def test_attention_of_every_place_to_every_other_one_is_not_derived(recorded: Recorded) -> None:
    at = anchors(32)

    assert derive(recorded("vit", *at.sizes()), at, 640, 448) is None


@pytest.mark.parametrize(
    ("multiple", "expected"),
    [(1, (256, 384, 512)), (32, (256, 384, 512)), (48, (288, 432, 576)), (512, (1024, 1536, 2048))],
)
def test_anchors_are_multiples_of_what_tensors_are_padded_to(multiple: int, expected: tuple[int, int, int]) -> None:
    at = anchors(multiple)

    assert (at.low, at.high, at.proof) == expected
    assert len(set(at.sizes())) == 5
    assert all(side % multiple == 0 for size in at.sizes() for side in size)


@given(st.tuples(*[st.integers(0, 50)] * 4), st.integers(1, 5000), st.integers(1, 5000))
def test_polynomials_without_squares_come_out_exactly(parts: tuple[int, ...], width: int, height: int) -> None:
    one, across, along, both = parts

    def size(w: int, h: int) -> int:
        return 1 + one + across * w + along * h + both * w * h

    found = derive(tuple(_trace(size(*at)) for at in AT.sizes()), AT, width, height)

    assert found == replace(_trace(size(width, height)), width=width, height=height)


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param((100, 100, 100, 100, 101), id="the proof differs"),
        pytest.param((100, 50, 100, 100, 100), id="shrinks to nothing"),
        pytest.param((100, 101, 100, 101, 102), id="no whole bytes"),
    ],
)
def test_what_does_not_follow_is_not_derived(sizes: tuple[int, ...]) -> None:
    assert derive(tuple(_trace(size) for size in sizes), AT, 1000, 129) is None


def test_other_events_or_other_weights_at_another_size_are_not_derived(made: Make) -> None:
    same = made([8], [(64, "aten::relu", ""), 0])

    for other in (
        made([9], [(64, "aten::relu", ""), 0]),
        made([8], [(64, "aten::relu", "scratch"), 0]),
        made([8], [(64, "aten::tanh", ""), 0]),
        made([8], [(64, "aten::relu", ""), (64, "aten::relu", ""), 0, 1]),
        made([8], [(64, "aten::relu", ""), 0], torch="2.1.1"),
    ):
        assert derive((same, same, other, same, same), AT, 256, 128) is None
    assert derive((same,) * 5, AT, 128, 640) == replace(same, width=128, height=640)


def _trace(size: int) -> Trace:

    return Trace("2.13.0", "cpu", AT.proof, AT.proof, (8,), (Call((Allocation(size, "aten::relu"),), (0, -1)),))
