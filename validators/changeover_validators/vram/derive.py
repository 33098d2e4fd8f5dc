"""A trace at a size that nobody recorded, derived from recordings at small ones, and refused where that cannot be.

Only requested bytes are derived, event by event: what a net of convolutions asks for is a polynomial in the tensor's
width and height without squares, which four recordings fix. A fifth, larger one must then come out to the byte, with
the same events in the same order; a model whose attention compares every place with every other one does not, and a
kernel that changes its way with the size does not either. The allocator is applied afterwards, as to any trace.
"""

from dataclasses import dataclass, replace

from changeover_validators.vram.trace import Allocation, Call, Trace

__all__ = ["Anchors", "anchors", "derive"]

_STEP = 128


@dataclass(frozen=True, slots=True)
class Anchors:
    """Two widths and two heights in pixels, whose four pairs are recorded, and the larger size that must come out."""

    low: int
    high: int
    proof: int

    def sizes(self) -> tuple[tuple[int, int], ...]:
        """What to record, (width, height): the four pairs, then the proof."""
        low, high = self.low, self.high
        return ((low, low), (high, low), (low, high), (high, high), (self.proof, self.proof))


def anchors(multiple: int) -> Anchors:
    """The sizes to record for tensors that are padded to `multiple`: 256, 384 and 512 pixels, or as near as it allows.

    Smaller ones would be other evidence: torch's convolutions take another way for images of a few thousand values.
    """
    step = -(-_STEP // multiple) * multiple
    return Anchors(2 * step, 3 * step, 4 * step)


def derive(recorded: tuple[Trace, ...], at: Anchors, width: int, height: int) -> Trace | None:
    """The trace at `width` by `height`; None where it does not follow from `recorded`, which are at `at.sizes()`."""
    *corners, proof = recorded
    if any(not _is_alike(trace, proof) for trace in corners):
        return None
    if _at(tuple(corners), at, at.proof, at.proof) != proof.calls:
        return None
    calls = _at(tuple(corners), at, width, height)
    return None if calls is None else replace(proof, width=width, height=height, calls=calls, counters=())


def _is_alike(one: Trace, other: Trace) -> bool:
    """Whether both do the same in the same order, sizes apart."""
    same = (one.torch, one.device, one.weights, one.libraries) == (
        other.torch,
        other.device,
        other.weights,
        other.libraries,
    )
    return same and [_shape(call) for call in one.calls] == [_shape(call) for call in other.calls]


def _shape(call: Call) -> tuple[tuple[int, ...], list[Allocation]]:
    return call.order, [replace(made, size=0) for made in call.allocations]


def _at(corners: tuple[Trace, ...], at: Anchors, width: int, height: int) -> tuple[Call, ...] | None:
    calls = []
    for number, call in enumerate(corners[0].calls):
        sizes = [
            _bilinear(values, at, width, height)
            for values in zip(
                *([made.size for made in trace.calls[number].allocations] for trace in corners), strict=True
            )
        ]
        if any(size is None or size <= 0 for size in sizes):
            return None
        made = zip(call.allocations, sizes, strict=True)
        calls.append(Call(tuple(replace(one, size=size) for one, size in made if size is not None), call.order))
    return tuple(calls)


def _bilinear(values: tuple[int, ...], at: Anchors, width: int, height: int) -> int | None:
    """The value at (width, height) of the polynomial 1, w, h, wh through the four; None where it is no whole number."""
    low, right, down, both = values
    span = at.high - at.low
    across, along = width - at.low, height - at.low
    scaled = low * span * span + (right - low) * across * span + (down - low) * along * span
    scaled += (both - right - down + low) * across * along
    whole, rest = divmod(scaled, span * span)
    return whole if rest == 0 else None
