"""A shot's numbers against an oracle of fractions that looks at every window there is."""

import itertools
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.records.verdict import ShotScore
from changeover_validators.golden.catalogue import METRICS
from changeover_validators.golden.gates import JACCARD, MAD
from changeover_validators.golden.summary import shot_scores

HIGHER = {metric.name: metric.higher_is_better for metric in METRICS}


def one(scores: tuple[ShotScore, ...], metric: str) -> ShotScore:
    (found,) = (score for score in scores if score.metric == metric)
    return found


def mean(values: list[Fraction]) -> Fraction:
    return sum(values, Fraction(0)) / len(values)


def neighbours(frames: list[int], window: int, step: int) -> list[list[int]]:
    """Every run of positions whose frames are a step apart, as long as the window or as it can be."""
    runs = []
    for start in range(len(frames)):
        for length in range(1, window + 1):
            run = list(range(start, start + length))
            if run[-1] < len(frames) and all(frames[b] - frames[a] == step for a, b in itertools.pairwise(run)):
                runs.append(run)
    whole = [run for run in runs if len(run) == window]
    maximal = [r for r in runs if not any(set(r) < set(other) for other in runs)]
    return [*whole, *(run for run in maximal if len(run) < window)]


values = st.integers(0, 10**9).map(lambda n: f"{n // 10**9}.{n % 10**9:09d}")


@given(
    st.lists(st.tuples(values | st.none(), values, st.integers(1, 3)), min_size=1, max_size=14),
    st.integers(1, 8),
    st.sampled_from([JACCARD, MAD]),
)
@settings(deadline=None, max_examples=200)
def test_mean_and_worst_window_are_what_fractions_say(
    build: Any, rows: list[tuple[str | None, str, int]], window: int, metric: str
) -> None:
    frames, frame = [], 1000
    for _, _, gap in rows:
        frame += gap
        frames.append(frame)
    undefined = [candidate is None for candidate, _, _ in rows]
    candidate = [row[0] for row in rows]
    current = [None if gone else row[1] for gone, row in zip(undefined, rows, strict=True)]
    result = build.result({(metric, "candidate"): candidate, (metric, "current"): current}, frames=frames)
    found = [score for score in shot_scores([result], window) if score.metric == metric]
    if all(undefined):
        assert found == []
        return
    (score,) = found
    kept = [(f, Fraction(c), Fraction(o or 0)) for f, c, o in zip(frames, candidate, current, strict=True) if c]
    step = min((b - a for a, b in itertools.pairwise(frames)), default=1)
    sign = 1 if HIGHER[metric] else -1
    losses = [sign * (other - mine) for _, mine, other in kept]
    windows = neighbours([f for f, _, _ in kept], window, step)
    means = [mean([losses[i] for i in run]) for run in windows]
    assert score.frames == len(kept)
    assert abs(Fraction(score.candidate) - mean([mine for _, mine, _ in kept])) <= Fraction(1, 2 * 10**9)
    assert abs(Fraction(score.window_loss or 99) - max(means)) <= Fraction(1, 2 * 10**9)
    firsts = [kept[run[0]][0] for run, found_mean in zip(windows, means, strict=True) if found_mean == max(means)]
    assert score.window_first == min(firsts)


def test_collapse_of_a_moment_is_found_where_the_mean_is_fine(build: Any) -> None:
    current = ["0.9"] * 300
    candidate = ["0.91"] * 140 + ["0.6"] * 12 + ["0.91"] * 148
    result = build.result({(JACCARD, "candidate"): candidate, (JACCARD, "current"): current})
    score = one(shot_scores([result], 12), JACCARD)
    assert (score.candidate, score.current) == ("0.897600000", "0.900000000")
    assert (score.window_loss, score.window_first) == ("0.300000000", 1141)


def test_no_window_crosses_a_missing_frame(build: Any) -> None:
    """Four bad frames in a row, were it not for the gap between them."""
    candidate = ["0.9", "0.9", "0.5", "0.5", "0.5", "0.5", "0.9", "0.9"]
    frames = [1, 2, 3, 4, 11, 12, 13, 14]
    result = build.result({(JACCARD, "candidate"): candidate, (JACCARD, "current"): ["0.9"] * 8}, frames=frames)
    assert one(shot_scores([result], 4), JACCARD).window_loss == "0.200000000"
    whole = build.result({(JACCARD, "candidate"): candidate, (JACCARD, "current"): ["0.9"] * 8})
    assert one(shot_scores([whole], 4), JACCARD).window_loss == "0.400000000"


def test_shot_of_which_every_tenth_frame_is_scored_has_windows_too(build: Any) -> None:
    frames = [1001, 1011, 1021, 1031]
    curves = {(MAD, "candidate"): ["0.1", "0.1", "0.3", "0.3"], (MAD, "current"): ["0.1"] * 4}
    score = one(shot_scores([build.result(curves, frames=frames)], 2), MAD)
    assert (score.window_loss, score.window_first) == ("0.200000000", 1021)


def test_shot_shorter_than_the_window_counts_whole(build: Any) -> None:
    curves = {(JACCARD, "candidate"): ["0.8", "0.9"], (JACCARD, "current"): ["0.9", "0.9"]}
    score = one(shot_scores([build.result(curves)], 12), JACCARD)
    assert (score.window_loss, score.window_first) == ("0.050000000", 1001)


def test_shot_without_a_current_release_has_no_window_and_no_current_mean(build: Any) -> None:
    score = one(shot_scores([build.result({(JACCARD, "candidate"): ["0.8", "0.9"]})], 12), JACCARD)
    assert (score.candidate, score.current, score.window_loss, score.window_first) == ("0.850000000", None, None, None)


@pytest.mark.parametrize("count", [1, 4, 256, 257, 1000])
def test_recall_and_decay_stand_beside_the_means(build: Any, count: int) -> None:
    curve = [f"{1 - index / 1000:.9f}" for index in range(count)]
    scores = shot_scores([build.result({(JACCARD, "candidate"): curve, (JACCARD, "current"): curve})], 12)
    quarter = [round(part * (count - 1) / 4 + 1e-9) for part in range(5)]
    first, last = curve[: quarter[1] + 1], curve[quarter[3] : quarter[4] + 1]
    decay = mean(list(map(Fraction, first))) - mean(list(map(Fraction, last)))
    recall = Fraction(sum(Fraction(value) > Fraction(1, 2) for value in curve), count)
    assert abs(Fraction(one(scores, "jaccard-decay:davis2017").candidate) - decay) < Fraction(1, 10**8)
    assert abs(Fraction(one(scores, "jaccard-recall:davis2017").candidate) - recall) < Fraction(1, 10**8)
    assert one(scores, "jaccard-decay:davis2017").current == one(scores, "jaccard-decay:davis2017").candidate


def test_a_second_artist_counts_in_nothing(build: Any) -> None:
    curves = {(JACCARD, "candidate"): ["0.8", "0.9"], (JACCARD, "current"): ["0.9", "0.9"]}
    other = curves | {(JACCARD, "second"): ["0.1", None]}
    assert shot_scores([build.result(other)], 12) == shot_scores([build.result(curves)], 12)


def test_scores_come_in_the_order_of_the_shots_and_of_the_catalogue(build: Any) -> None:
    curves = {(MAD, "candidate"): ["0.1"], (JACCARD, "candidate"): ["0.9"]}
    scores = shot_scores([build.result(curves, shot="s2"), build.result(curves, shot="s1")], 12)
    assert [(score.shot, score.metric) for score in scores if "-" not in score.metric] == [
        ("s2", JACCARD),
        ("s2", MAD),
        ("s1", JACCARD),
        ("s1", MAD),
    ]


def test_width_of_the_band_stands_with_the_metrics_that_look_only_there(build: Any) -> None:
    curves = {("mad:truth-band", "candidate"): ["0.1"], (MAD, "candidate"): ["0.1"]}
    scores = shot_scores([build.result(curves, band_px=7)], 12)
    assert (one(scores, "mad:truth-band").band_px, one(scores, MAD).band_px) == (7, None)
