"""Situations with a name: what is refused, what is not defined, what a known mistake of a model costs."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from changeover_validators.golden import metrics
from changeover_validators.golden.catalogue import METRICS
from changeover_validators.golden.metrics import FrameScorer, Measured, NotAvailable, score_frame

Array = np.ndarray[Any, Any]

EMPTY_REGION = NotAvailable("no pixel is scored: the region is empty")
FIRST_FRAME = NotAvailable("the frame before is not scored, so there is no change to compare")
NO_BAND = NotAvailable("the truth has no pixel between 0 and 1, so it has no band")
ALONE = (
    metrics.jaccard,
    metrics.boundary_f,
    metrics.boundary_iou,
    metrics.empty,
    metrics.mad,
    metrics.mse,
    metrics.sad,
    metrics.grad,
    metrics.conn,
    metrics.mad_band,
    metrics.grad_band,
    metrics.flicker,
)
PAIRED = (metrics.dtssd, metrics.dtssd_band)


def square(shape: tuple[int, int], top: int, left: int, side: int, value: float = 1) -> Array:
    matte = np.zeros(shape, np.float32)
    matte[top : top + side, left : left + side] = value
    return matte


def noise(seed: int, shape: tuple[int, int] = (90, 150)) -> Any:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def value(score: Any) -> float:
    assert isinstance(score, Measured)
    return score.value


@pytest.mark.parametrize("function", ALONE)
def test_another_size_is_refused_with_both_sizes(function: Any) -> None:
    with pytest.raises(ValueError, match="of one size, found 854 x 480 and 853 x 480"):
        function(np.zeros((480, 854), np.float32), np.zeros((480, 853), np.float32))
    with pytest.raises(ValueError, match="of one size, found 5 x 4 and 4 x 5"):
        function(*np.zeros((2, 4, 5), np.float32), region=np.ones((5, 4), np.bool_))


@pytest.mark.parametrize("function", PAIRED)
def test_another_size_of_the_frame_before_is_refused(function: Any) -> None:
    with pytest.raises(ValueError, match="of one size"):
        function(*np.zeros((2, 4, 5), np.float32), *np.zeros((2, 4, 4), np.float32))


def test_a_shot_does_not_change_its_size() -> None:
    scorer = FrameScorer(threshold=0.5)
    scorer.score(noise(1), noise(2))
    with pytest.raises(ValueError, match="the size of the frame before, 150 x 90, found 149 x 90"):
        scorer.score(noise(1)[:, :-1], noise(2)[:, :-1])


def test_an_image_with_channels_is_not_a_matte() -> None:
    with pytest.raises(ValueError, match=r"\[H, W\] of one size, found 1 x 4 x 4"):
        metrics.mad(np.zeros((4, 4, 1), np.float32), np.zeros((4, 4, 1), np.float32))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("place", "name"), [(0, "prediction"), (1, "truth")])
@pytest.mark.parametrize("pixel", [(0, 0), (89, 149), (40, 63), (40, 64)])
def test_what_is_not_finite_is_refused_wherever_it_is(
    bad: float, place: int, name: str, pixel: tuple[int, int]
) -> None:
    mattes = [np.zeros((90, 150), np.float32), np.ones((90, 150), np.float32)]
    mattes[place][pixel] = bad
    region = np.zeros((90, 150), np.bool_)
    region[10, 10] = True
    for where in (None, region):
        with pytest.raises(ValueError, match=f"found 1 pixels of NaN or infinity in the {name}"):
            score_frame(mattes[0], mattes[1], threshold=0.5, region=where)


def test_an_empty_region_leaves_every_metric_undefined() -> None:
    region = np.zeros((9, 9), np.bool_)
    scores = score_frame(noise(1, (9, 9)), noise(2, (9, 9)), threshold=0.5, region=region)
    assert scores.values == (EMPTY_REGION,) * len(METRICS)
    for function in ALONE:
        assert function(noise(1, (9, 9)), noise(2, (9, 9)), region=region) == EMPTY_REGION
    for paired in PAIRED:
        assert paired(*(noise(seed, (9, 9)) for seed in range(4)), region=region) == EMPTY_REGION


def test_a_frame_without_pixels_is_undefined() -> None:
    nothing = np.zeros((0, 7), np.float32)
    assert score_frame(nothing, nothing, threshold=0.5).values == (EMPTY_REGION,) * len(METRICS)


def test_the_first_frame_has_no_change_and_says_so() -> None:
    scorer = FrameScorer(threshold=0.5)
    needs = [metric.name for metric in METRICS if "neighbour" in metric.needs]
    first, second = (scorer.score(noise(seed), noise(9)) for seed in (1, 2))
    scorer.reset()
    after_a_gap = scorer.score(noise(3), noise(9))
    assert len(needs) == 4
    assert [first[name] for name in needs] == [FIRST_FRAME] * 4
    assert [after_a_gap[name] for name in needs] == [FIRST_FRAME] * 4
    assert all(isinstance(second[name], Measured) for name in needs)


def test_a_hard_truth_has_no_band() -> None:
    truth = square((40, 40), 10, 10, 12)
    scores = score_frame(noise(1, (40, 40)), truth, threshold=0.5)
    assert (scores["mad:truth-band"], scores["grad:truth-band"]) == (NO_BAND, NO_BAND)
    assert metrics.dtssd_band(noise(1, (40, 40)), truth, noise(2, (40, 40)), truth) == NO_BAND


@pytest.mark.parametrize(
    ("width", "pixels"), [(1, 1), (100, 1), (480, 3), (1920, 10), (2048, 11), (4096, 21), (8192, 43)]
)
def test_the_band_is_as_wide_as_the_frame_asks_and_says_so(width: int, pixels: int) -> None:
    truth = np.zeros((3, width), np.float32)
    truth[1, 0] = 0.5
    scores = score_frame(np.ones_like(truth), truth, threshold=0.5)
    assert metrics.band_width(width) == scores.band_px == pixels
    columns, rows = min(width, pixels + 1), min(3, pixels + 2)
    assert value(scores["mad:truth-band"]) == pytest.approx((rows * columns - 0.5) / (rows * columns))


def test_a_band_is_seeded_inside_the_region_only() -> None:
    truth, region = square((20, 20), 3, 3, 1, 0.5), np.ones((20, 20), np.bool_)
    region[3, 3] = False
    assert metrics.mad_band(truth, truth, region=region) == NO_BAND


def test_a_prediction_that_lost_its_subject_is_empty() -> None:
    truth, nothing = square((30, 30), 5, 5, 9), np.zeros((30, 30), np.float32)
    assert metrics.empty(nothing, truth) == Measured(1.0)
    assert metrics.empty(square((30, 30), 20, 20, 2), truth) == Measured(0.0)
    assert metrics.empty(truth, nothing) == NotAvailable("the truth's mask is empty, and so may the prediction's be")


def test_both_masks_empty_is_full_marks_and_one_alone_none() -> None:
    empty, full = np.zeros((20, 20), np.float32), square((20, 20), 5, 5, 5)
    for function in (metrics.jaccard, metrics.boundary_f, metrics.boundary_iou):
        assert function(empty, empty) == Measured(1.0)
        assert function(empty, full) == function(full, empty) == Measured(0.0)


def test_threshold_itself_is_outside_the_mask() -> None:
    half, full = np.full((4, 4), 0.5, np.float32), np.ones((4, 4), np.float32)
    assert metrics.jaccard(half, full) == Measured(0.0)
    assert metrics.jaccard(half, full, threshold=0.499) == Measured(1.0)


def test_a_mask_moved_by_no_more_than_the_tolerance_has_a_perfect_boundary() -> None:
    truth = square((100, 100), 30, 30, 30)
    assert metrics.boundary_reach(100, 100) == 2
    assert metrics.boundary_f(np.roll(truth, 2, axis=1), truth) == Measured(1.0)
    assert value(metrics.boundary_f(np.roll(truth, 3, axis=1), truth)) < 1


@pytest.mark.parametrize(
    ("height", "width", "reach", "band"),
    [(480, 854, 8, 20), (1080, 1920, 18, 44), (2160, 4096, 38, 93), (1, 1, 1, 1), (4320, 8192, 75, 185)],
)
def test_tolerances_are_shares_of_the_diagonal(height: int, width: int, reach: int, band: int) -> None:
    assert (metrics.boundary_reach(height, width), metrics.inner_band(height, width)) == (reach, band)


def test_a_gain_is_seen_by_mad_and_hidden_from_grad() -> None:
    """A flat loss of 2 % leaves masks and stretched gradients alone: why MAD stands beside Grad and Conn."""
    truth = square((50, 50), 10, 10, 20)
    scores = score_frame(truth * np.float32(0.98), truth, threshold=0.5)
    assert (scores["jaccard:davis2017"], scores["boundary_f:davis2017"]) == (Measured(1.0), Measured(1.0))
    assert value(scores["grad:rvm-lr"]) < 1e-9
    assert value(scores["mad:rvm"]) == pytest.approx(0.02 * 400 / 2500, rel=1e-5)


def test_a_matte_that_hardly_varies_is_flat_and_gives_a_number() -> None:
    """Stretching it would divide by next to nothing."""
    assert metrics.grad(square((20, 20), 3, 3, 5, 1e-40), np.zeros((20, 20), np.float32)) == Measured(0.0)


def test_the_worst_pixel_is_named_with_its_sign() -> None:
    truth = square((70, 200), 10, 10, 30)
    prediction = truth.copy()
    prediction[20, 150], prediction[15, 15] = 0.4, 0.25
    assert score_frame(prediction, truth, threshold=0.5).worst == (15, 15, -0.75)


def test_mad_is_summed_in_float64() -> None:
    """In float32 the small difference would vanish beside the large one."""
    assert metrics.mad(np.array([[2.0**24, 1.0]], np.float32), np.zeros((1, 2), np.float32)) == Measured(2.0**23 + 0.5)


def test_an_array_may_be_written_read_only_sliced_or_of_another_kind() -> None:
    wide, truth = noise(1, (90, 300)), noise(2)
    plain: Any = np.ascontiguousarray(wide[:, ::2])
    frozen: Any = plain.copy()
    frozen.flags.writeable = False
    expected = score_frame(plain, truth, threshold=0.5)
    same: Any
    for same in (frozen, wide[:, ::2], np.asfortranarray(plain), plain.astype(np.float64)):
        assert score_frame(same, truth, threshold=0.5) == expected
    half: Any = plain.astype(np.float16)
    assert score_frame(half, truth, threshold=0.5) == score_frame(half.astype(np.float32), truth, threshold=0.5)


def test_what_is_scored_is_neither_changed_nor_kept() -> None:
    """A caller may use one buffer for every frame."""
    buffer, copy = noise(1), noise(1)
    scorer = FrameScorer(threshold=0.5)
    scorer.score(buffer, noise(2))
    assert np.array_equal(buffer, copy)
    buffer[:] = 0
    change = value(scorer.score(copy, noise(2))["flicker:mean-abs"])
    assert change == 0


def test_a_region_is_taken_as_it_was_and_void_pixels_do_not_flicker() -> None:
    region = np.zeros((90, 150), np.bool_)
    region[20:40, 30:120] = True
    scorer = FrameScorer(threshold=0.5, region=region)
    still = [np.where(region, noise(5), noise(seed)) for seed in (1, 2, 3)]
    values = [scorer.score(matte, noise(9))["flicker:mean-abs"] for matte in still]
    assert values[1:] == [Measured(0.0), Measured(0.0)]


def test_two_threads_score_what_one_does() -> None:
    """Kernels run without Python's lock, so that nothing of one frame may reach another."""
    pairs = [(noise(seed, (200, 333)), noise(seed + 50, (200, 333))) for seed in range(8)]

    def score(pair: tuple[Array, Array]) -> Any:
        return score_frame(*pair, threshold=0.5)

    one_by_one = [score(pair) for pair in pairs]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(score, pairs)) == one_by_one


MEMORY = """
import resource
import numpy as np
from changeover_validators.golden.bench import figure
from changeover_validators.golden.metrics import FrameScorer
frames = figure(1920, 1080, noisy=True)
def peak(scorer, pairs):
    for number in range(pairs):
        scorer.score(*frames[:2])
        scorer.score(*frames[2:])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
scorer = FrameScorer(threshold=0.5)
print(peak(scorer, 2), peak(scorer, 12))
"""


def test_memory_does_not_grow_with_the_length_of_a_shot() -> None:
    """Peaks of a process of its own, in KiB; what 24 frames would leave behind is hundreds of MiB."""
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    short, long = map(int, done.stdout.split())
    assert long - short < 20 * 1024


def test_a_metric_is_asked_for_by_its_full_name() -> None:
    scores = score_frame(noise(1), noise(2), threshold=0.5)
    assert scores["mad:rvm"] == scores.values[3] == metrics.mad(noise(1), noise(2))
    with pytest.raises(KeyError, match="mad"):
        scores["mad"]
