import re
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from changeover_validators.golden.report.chart import draw, interval
from changeover_validators.golden.report.model import Curve, Gate, Line

VALUES = st.lists(st.none() | st.decimals(min_value=0, max_value=1, places=9, allow_nan=False), min_size=1, max_size=40)


def curve(*values: Decimal | None) -> Curve:
    return Curve("mad:rvm", "MAD", "", False, (Line("candidate", values),))


def points(path: str) -> list[tuple[float, float]]:
    """The corners of a path, read as SVG does; a line without length is its one point."""
    numbers = [float(word) for word in re.findall(r"[-0-9.]+", path.replace("h0", ""))]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def test_a_curve_that_is_defined_nowhere_is_not_drawn() -> None:
    assert draw(curve(None, None)) is None


def test_a_gap_is_a_gap_and_a_frame_alone_is_a_dot() -> None:
    drawn = draw(curve(Decimal(0), None, Decimal(1), Decimal("0.5")))

    assert drawn is not None
    assert drawn.paths == (("candidate", "M0 95.5h0M2 4.5 3 50"),)


def test_one_frame_lies_in_the_middle() -> None:
    drawn = draw(curve(Decimal("0.25")))

    assert drawn is not None
    assert points(drawn.paths[0][1]) == [(0.5, 50)]


@given(VALUES)
def test_every_defined_frame_is_drawn_where_its_value_lies(values: list[Decimal | None]) -> None:
    drawn = draw(curve(*values))
    defined = [(place, float(value)) for place, value in enumerate(values) if value is not None]
    if drawn is None:
        assert defined == []
        return

    found = points(drawn.paths[0][1])
    low, high = float(drawn.axis.low), float(drawn.axis.high)

    assert [x for x, _ in found] == [0.5 if len(values) == 1 else place for place, _ in defined]
    assert all(abs(y - 100 * (high - v) / (high - low)) < 0.06 for (_, y), (_, v) in zip(found, defined, strict=True))
    assert all(0 < y < 100 for _, y in found)


def test_a_gate_lies_on_one_scale_with_zero_and_its_margin() -> None:
    gate = Gate(
        metric="mad:rvm",
        label="MAD",
        unit="",
        shots=5,
        margin=Decimal("0.01"),
        mean=Decimal("-0.002"),
        lower=Decimal("-0.02"),
        upper=Decimal("0.016"),
        state="open",
    )

    at = interval(gate)

    assert 0 < at.low < at.margin < at.mean < at.zero < at.high < 100
    assert abs(at.zero - at.margin - (at.zero - at.low) / 2) <= Decimal("0.1")
